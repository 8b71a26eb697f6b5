"""Pictures of every kind as RGB arrays: files that OpenCV decodes, decoded video frames, PIL images.

One home, so that tracking, evaluation, and training see the same pixels: turned as the camera noted it (EXIF, the
display matrix of a video), alpha dropped, grey repeated, 16 bits scaled to 8. What has no known range is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from jaxtyping import UInt8

from roam_jax.errors import InputError

if TYPE_CHECKING:
    import av

Image = UInt8[np.ndarray, "h w 3"]
"""RGB image"""
FLAGS = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH
LARGEST = 1_000_000
"""pixels that a box may reach to: positions and sizes beyond are a mistake, and their squares lose what counts"""


def read_image(path: Path, *, whole: bool = True) -> Image:
    """Picture of a file.

    Args:
        path: the file.
        whole: refuse a picture that is cut short; otherwise what is missing is grey, where the format allows it.

    Raises:
        InputError: no such file, or no picture in it.
    """
    data = _read(path)
    try:
        return _decode(str(path), data, _only_page)[0]
    except InputError:
        if whole or not data:
            raise
    return _decode(str(path), data, lambda _: [cv2.imread(str(path), FLAGS)])[0]  # which is less strict


def read_pages(path: Path) -> list[Image]:
    """All pictures of a file that may hold several, as TIFF, GIF, PNG, WebP and AVIF do, each as `read_image` gives it.

    Raises:
        InputError: no such file, or no whole picture in it.
    """
    return _decode(str(path), _read(path), _all_pages)


def decode_image(data: bytes, name: str) -> Image:
    """Picture of a file's bytes.

    Raises:
        InputError: there is no whole picture in them; with the name in the message.
    """
    return _decode(name, data, _only_page)[0]


def upright(frame: av.VideoFrame) -> Image:
    """Picture of a decoded video frame, turned as its file says."""
    return np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90)))


def as_rgb(image: Any) -> Image:
    """Picture of an array, which is one already, or of a PIL image.

    Raises:
        ValueError: it is neither, or a PIL image with pixels of no known range.
    """
    array = _from_pil(image) if hasattr(image, "convert") else np.asarray(image)
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8 or 0 in array.shape:
        raise ValueError(
            f"an image must be RGB, uint8, of shape (height, width, 3); this one is {array.dtype} {array.shape}"
        )
    return array


def _from_pil(image: Any) -> np.ndarray:
    from PIL import ImageOps  # who has a PIL image has PIL

    image = ImageOps.exif_transpose(image)
    if image.mode in ("I", "F") or image.mode.startswith("I;"):  # `convert` would cut them off at 255
        grey = _as_bytes(np.asarray(image))
        if grey is None:
            raise ValueError(f"a PIL image of mode {image.mode} has pixels of no known range: convert it to RGB first")
        return np.repeat(grey[..., None], 3, axis=2)
    return np.asarray(image.convert("RGB"))


def _read(path: Path) -> bytes:
    """Not left to cv2.imread, which prints its own warnings and cannot open every path on Windows."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"the picture {path} cannot be read: {error.strerror}") from error


def _only_page(data: np.ndarray) -> Sequence[np.ndarray | None]:
    return [cv2.imdecode(data, FLAGS)]


def _all_pages(data: np.ndarray) -> Sequence[np.ndarray | None]:
    return cv2.imdecodemulti(data, FLAGS)[1] or [None]


def _decode(name: str, data: bytes, decode: Callable[[np.ndarray], Sequence[np.ndarray | None]]) -> list[Image]:
    if not data:
        raise InputError(f"the picture {name} is empty")
    try:
        return [_as_rgb(name, image) for image in decode(np.frombuffer(data, np.uint8))]
    except cv2.error as error:
        raise InputError(f"the picture {name} cannot be decoded: {error.err}") from error


def _as_rgb(name: str, image: np.ndarray | None) -> Image:
    if image is None:
        raise InputError(f"the picture {name} cannot be decoded: it is damaged, cut short, or no picture")
    pixels = _as_bytes(image)
    if pixels is None:
        raise InputError(f"the picture {name} has pixels of type {image.dtype} and of no known range")
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def _as_bytes(image: np.ndarray) -> UInt8[np.ndarray, "..."] | None:
    """The same pixels in 0..255; None if their range is not known.

    That of floating-point pixels is 0..1, which highlights may exceed, but not most of the picture.
    """
    if image.dtype == np.uint8:
        return image
    if image.dtype.kind == "u" and image.dtype.itemsize == 2:
        return (image // 257).astype(np.uint8)
    if np.issubdtype(image.dtype, np.floating):
        image = np.nan_to_num(image)
        inside = np.clip(image, 0, 1)
        return (inside * 255 + 0.5).astype(np.uint8) if np.mean(inside == image) >= 0.5 else None
    return None
