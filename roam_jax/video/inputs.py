"""The source of frames that the arguments of a command name."""

from __future__ import annotations

import glob
import logging
import re
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from roam_jax.data.readers.otb import select_range
from roam_jax.data.readers.tree import IMAGE_SUFFIXES, is_picture
from roam_jax.errors import InputError
from roam_jax.pictures import read_pages
from roam_jax.video.files import ImageFiles, VideoFile
from roam_jax.video.formats import read_boxes
from roam_jax.video.live import Camera, Stream, is_stream
from roam_jax.video.source import FrameSource, MemoryFrames

GIF_FPS = Fraction(10)
"""of an animated GIF that says nothing, as browsers show it"""
GROUND_TRUTHS = {"groundtruth_rect.txt": True, "groundtruth.txt": False}
"""name of a folder's annotation file: whether its boxes are 1-based (OTB) or 0-based (GOT-10k, own)"""

log = logging.getLogger(__name__)


def open_source(inputs: Sequence[str]) -> FrameSource:
    """Frames of whatever the arguments name.

    Args:
        inputs: a video file, a folder of pictures, a sequence folder (`img/` and `groundtruth_rect.txt`, as OTB), a
            pattern with `*`, `?` or `[]`, the index of a camera, or a stream: an address such as `rtsp://camera/1`, a
            named pipe, or `-` for the standard input; or several picture files, which a shell makes of a pattern.

    Raises:
        InputError: nothing is there, or it cannot be read.
    """
    if len(inputs) > 1:
        return ImageFiles(f"the list {inputs[0]} ...", [Path(text) for text in inputs])
    text, path = inputs[0], Path(inputs[0])
    if path.is_dir():
        return _open_folder(path)
    if is_stream(text):
        return Stream(text)
    if path.exists():
        return _open_file(path)
    if re.fullmatch(r"[0-9]{1,9}", text):
        return Camera(int(text))
    if glob.has_magic(text):
        matches = sorted(glob.glob(text, recursive=True), key=natural_key)
        if not matches:
            raise InputError(f"no file matches {text}")
        return open_source(matches)
    raise InputError(f"there is no file or folder {text}")


def natural_key(name: str | Path) -> list[str | int]:
    """Sorting key by which frame2 comes before frame10."""
    return [int(part) if part.isdigit() else part.lower() for part in re.split(r"(\d+)", str(name))]


def _open_file(path: Path) -> FrameSource:
    """A file of one picture, of several, or of a video."""
    suffix = path.suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return MemoryFrames(str(path), read_pages(path))
    video = VideoFile(path)
    if suffix == ".gif" and video.shows_one():
        # FFmpeg stops at the first frame of an animation without times; a whole one may have more.
        pages = read_pages(path)
        if len(pages) > 1:
            return MemoryFrames(str(path), pages, GIF_FPS)
    return video


def _open_folder(folder: Path) -> ImageFiles:
    """Pictures of a folder, or of its `img/`, with the boxes that lie beside them."""
    pictures = _pictures(folder) or _pictures(folder / "img")
    for name, one_based in GROUND_TRUTHS.items():
        if (folder / name).is_file():
            boxes = read_boxes(folder / name, one_based=one_based)
            if one_based:
                inside, boxes = select_range(folder.name, [path.stem for path in pictures], boxes)
                pictures = [path for path, keep in zip(pictures, inside, strict=True) if keep]
            if len(boxes) != len(pictures):
                log.warning("%s holds %d boxes for %d pictures", folder / name, len(boxes), len(pictures))
            return ImageFiles(str(folder), pictures, boxes)
    return ImageFiles(str(folder), pictures)


def _pictures(folder: Path) -> list[Path]:
    """Picture files of a folder in natural order; none if there is no such folder."""
    files = folder.iterdir() if folder.is_dir() else ()
    return sorted((path for path in files if is_picture(path.name)), key=natural_key)
