"""Picture files as RGB arrays: whatever OpenCV decodes, and one sentence about what it does not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from roam_jax.errors import InputError
from roam_jax.video.formats import Image

FLAGS = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH


def read_image(path: Path) -> Image:
    """RGB picture of a file; grey, alpha, 16-bit and floating-point pixels become 8-bit RGB.

    Raises:
        InputError: no such file, or no whole picture in it.
    """
    return _decode_pictures(path, lambda data: [cv2.imdecode(data, FLAGS)])[0]


def read_pages(path: Path) -> list[Image]:
    """All pictures of a file that may hold several, as TIFF, GIF, PNG, WebP and AVIF do, each as `read_image` gives it.

    Raises:
        InputError: no such file, or no whole picture in it.
    """
    return _decode_pictures(path, lambda data: cv2.imdecodemulti(data, FLAGS)[1] or [None])


def _decode_pictures(path: Path, decode: Callable[[np.ndarray], Sequence[np.ndarray | None]]) -> list[Image]:
    try:
        # Not cv2.imread: it prints its own warnings and cannot open every path on Windows.
        data = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise InputError(f"the picture {path} cannot be read: {error.strerror}") from error
    if not data.size:
        raise InputError(f"the picture {path} is empty")
    try:
        return [_as_rgb(path, image) for image in decode(data)]
    except cv2.error as error:
        raise InputError(f"the picture {path} cannot be decoded: {error.err}") from error


def _as_rgb(path: Path, image: np.ndarray | None) -> Image:
    if image is None:
        raise InputError(f"the picture {path} cannot be decoded: it is damaged, cut short, or no picture")
    if image.dtype == np.uint16:
        image = (image // 257).astype(np.uint8)
    elif np.issubdtype(image.dtype, np.floating):
        image = (np.clip(np.nan_to_num(image), 0, 1) * 255 + 0.5).astype(np.uint8)
    elif image.dtype != np.uint8:
        raise InputError(f"the picture {path} has pixels of type {image.dtype}, which have no known range")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
