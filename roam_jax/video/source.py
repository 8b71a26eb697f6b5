"""Frames of video files, picture files and cameras, decoded when they are asked for.

Every frame is uint8 RGB (height, width, 3): grey becomes RGB, alpha is dropped, 16 bits are scaled to 8, and the
rotation that a phone notes in its files is applied. All frames of a source have one size. With each comes the time at
which it is shown, in seconds from the first one on.
"""

from __future__ import annotations

import glob
import itertools
import logging
import re
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple, TypeVar

import av
import av.logging
import cv2
from av.container import InputContainer
from av.error import FFmpegError

from roam_jax.data.readers.otb import select_range
from roam_jax.data.readers.tree import IMAGE_SUFFIXES, is_picture
from roam_jax.errors import InputError
from roam_jax.evaluation.metrics import has_box
from roam_jax.pictures import Image, read_image, read_pages, upright
from roam_jax.video.formats import Box, Boxes, read_boxes
from roam_jax.video.truncation import ends_whole

T = TypeVar("T")

DEFAULT_FPS = Fraction(30)
MOST_FPS = 500
"""what claims more frames per second is a file without a rate, whose clock ticks so often: as browsers record"""
GIF_FPS = Fraction(10)
"""of an animated GIF that says nothing, as browsers show it"""
GROUND_TRUTHS = {"groundtruth_rect.txt": True, "groundtruth.txt": False}
"""name of a folder's annotation file: whether its boxes are 1-based (OTB) or 0-based (GOT-10k, own)"""

log = logging.getLogger(__name__)


class Frame(NamedTuple):
    """A frame, and when it is shown."""

    image: Image
    seconds: float
    """after the first frame of the input"""
    number: int = 0
    """in the input, from 0"""


class FrameSource(ABC):
    """Frames in their order: iterate over it or over `timed()`, inside `with`.

    Iteration raises InputError where the input breaks off; the frames before that have been given.
    """

    name: str
    """short name for messages"""
    size_hw: tuple[int, int]
    """height and width of every frame"""
    fps: Fraction = DEFAULT_FPS
    """frames per second"""
    n_frames: int | None = None
    """number of frames that the input declares; None if it does not say"""
    groundtruth_xywh: Boxes | None = None
    """boxes that come with the frames, 0-based image pixels"""
    live: bool = False
    """frames are lost when nobody takes them: a camera"""

    def true_box(self, number: int) -> Box | None:
        """x, y, w, h beside the frame of that number in the input; None if there is none."""
        boxes = self.groundtruth_xywh
        known = boxes is not None and number < len(boxes) and has_box(boxes[number, None])[0]
        return boxes[number] if known else None  # type: ignore[index]

    @abstractmethod
    def read(self) -> Iterator[Image | Frame]:
        """Frames of whatever size they are; those without a time follow each other at `fps`."""

    def close(self) -> None:  # noqa: B027 (most sources hold nothing)
        """Let go of devices."""

    def __iter__(self) -> Generator[Image, None, None]:
        for frame in self.timed():
            yield frame.image

    def timed(self) -> Generator[Frame, None, None]:
        """Frames with their times."""
        for index, given in enumerate(self.read()):
            image, seconds, _ = given if isinstance(given, Frame) else Frame(given, float(index / self.fps))
            if image.shape[:2] != self.size_hw:
                (height, width), (first_height, first_width) = image.shape[:2], self.size_hw
                raise InputError(
                    f"{self.name} changes its size: frame {index} is {width} x {height} pixels, "
                    f"the frames before it are {first_width} x {first_height}"
                )
            yield Frame(image, seconds, index)

    def __enter__(self) -> FrameSource:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class MemoryFrames(FrameSource):
    """Frames that are in memory already."""

    def __init__(
        self,
        name: str,
        images: Sequence[Image],
        fps: Fraction = DEFAULT_FPS,
        groundtruth_xywh: Boxes | None = None,
    ) -> None:
        self.name, self.images, self.fps, self.groundtruth_xywh = name, images, fps, groundtruth_xywh
        self.n_frames, self.size_hw = len(images), _size_hw(images[0])

    def read(self) -> Iterator[Image]:
        """Frames as they are."""
        return iter(self.images)


class ImageFiles(FrameSource):
    """Picture files in the given order.

    Raises:
        InputError: there is none, or the first cannot be read.
    """

    def __init__(self, name: str, paths: Sequence[Path], groundtruth_xywh: Boxes | None = None) -> None:
        if not paths:
            raise InputError(f"{name} holds no pictures ({', '.join(IMAGE_SUFFIXES)})")
        self.name, self.paths, self.groundtruth_xywh = name, tuple(paths), groundtruth_xywh
        self.n_frames, self.size_hw = len(paths), _size_hw(read_image(paths[0]))

    def read(self) -> Iterator[Image]:
        """Frames, one file after the other."""
        return map(read_image, self.paths)


class VideoFile(FrameSource):
    """Video file, decoded by FFmpeg.

    Frames that the decoder drops are counted out; damage that it conceals is reported once as a warning of this
    module's logger, as soon as frames follow it, so that the end of a truncated file is not called damage. A file that
    holds fewer frames than its header declares, or that was cut as far as its container tells (`ends_whole`), raises
    InputError after its last frame; where the container never tells, as in a stream of MPEG or of bare frames, a last
    frame that is damaged says so.

    Raises:
        InputError: the file is missing, empty, no video, or in a format that FFmpeg cannot decode.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.name = path, str(path)
        with self._open() as (container, stream):
            rates = (stream.average_rate, stream.guessed_rate)
            self.fps = next((rate for rate in rates if rate and rate <= MOST_FPS), DEFAULT_FPS)
            self.declared = stream.frames
            """frames in the file according to its header; 0: it does not say"""
            self.seconds = float(container.duration or 0) / av.time_base
            self.n_frames = self.declared or round(self.seconds * self.fps) or None
        first = next(self._decode(), None)
        if first is None:
            raise InputError(f"{self.name} is a video without a single frame that can be decoded")
        self.size_hw = _size_hw(first.image)

    def read(self) -> Iterator[Frame]:
        """Frames in the order in which they are shown, turned upright."""
        return self._decode(report=True)

    def shows_one(self) -> bool:
        """Whether FFmpeg finds one frame, and no more."""
        return len(list(itertools.islice(self._decode(), 2))) == 1

    def _decode(self, report: bool = False) -> Iterator[Frame]:
        """Frames of one pass over the file; `report` warns of damage and raises where frames are missing."""
        frames = packets = 0
        shown_until, begins = 0.0, None
        damage, told, broken, heard = "", not report, False, 0
        with self._open() as (container, stream), _ffmpeg_errors() as messages:
            kind = container.format.name
            # One thread: only then do FFmpeg's messages, the one sign of concealed damage, arrive in this thread.
            stream.codec_context.thread_count = 1
            for packet in _until_unreadable(container.demux(stream)):
                packets += packet.size > 0
                decoded, error = _decode_packet(packet)
                for frame in decoded:
                    frames += 1
                    if frame.time is None:  # a bare stream has no clock
                        at = float((frames - 1) / self.fps)
                    else:
                        shown_until = frame.time
                        begins = frame.time if begins is None else begins
                        at = frame.time - begins
                    yield Frame(upright(frame), at)
                corrupt = packet.is_corrupt or any(frame.is_corrupt for frame in decoded)
                # The empty packet at the end brings frames that the decoder has held back.
                broken = bool(corrupt or error or messages[heard:]) or (not packet.size and broken)
                heard = len(messages)
                if damage and decoded and packet.size and not told:  # there is more: this is not where the file ends
                    log.warning("%s; tracking goes on", damage)
                    told = True
                if broken and not damage:
                    reason = error or (messages[0][2].strip() if messages else "corrupt frame")
                    damage = f"{self.name} is damaged near frame {frames} ({reason})"
        if not report:
            return
        whole = ends_whole(self.path, kind)
        if packets < self.declared:
            raise InputError(f"{self.name} is truncated: it ends after {frames} of {self.declared} frames")
        if whole is False or (whole is None and broken and not self.declared):
            raise InputError(f"{self.name} is truncated: it breaks off after {frames} frames")
        if damage and not told:
            log.warning("%s", damage)
        if not self.declared and shown_until < self.seconds - 1:
            # Sound may be longer than the picture, so this is no error.
            log.warning("%s ends after %.1f of %.1f seconds", self.name, shown_until, self.seconds)

    @contextmanager
    def _open(self) -> Iterator[tuple[InputContainer, av.VideoStream]]:
        """The opened file and its video stream, for as long as the context lasts."""
        if self.path.is_file() and self.path.stat().st_size == 0:
            raise InputError(f"{self.name} is empty")
        try:
            # Old files have titles in Latin-1 and the like; nobody asks for them here.
            container = av.open(self.name, metadata_errors="replace")
        except (FFmpegError, OSError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"{self.name} is not a video that FFmpeg can read, or is cut short: {reason}") from error
        with container:
            stream = container.streams.best("video")
            if not isinstance(stream, av.VideoStream):
                raise InputError(f"{self.name} has no pictures in it, only {_kinds(container)}")
            if stream.codec_context is None:
                raise InputError(f"{self.name} is coded in a way that this build of FFmpeg has no decoder for")
            yield container, stream


class Camera(FrameSource):
    """Camera by its index; frames come until somebody stops taking them.

    Raises:
        InputError: there is no such camera, or it gives no frame.
    """

    live = True

    def __init__(self, index: int) -> None:
        self.name = f"camera {index}"
        with _quiet_opencv():
            self.capture = cv2.VideoCapture(index)
            first = self._take()
        if first is None:
            self.close()
            raise InputError(f"{self.name} cannot be opened or gives no frame")
        self.first, self.size_hw = Frame(first, 0.0), _size_hw(first)
        rate = self.capture.get(cv2.CAP_PROP_FPS)
        self.fps = Fraction(rate).limit_denominator(1001) if 1 <= rate <= 1000 else DEFAULT_FPS

    def read(self) -> Iterator[Frame]:
        """Frames as they come, beginning with the one that was taken when the camera was opened."""
        yield self.first
        began = time.monotonic()
        while (image := self._take()) is not None:
            yield Frame(image, time.monotonic() - began)
        raise InputError(f"{self.name} stopped giving frames")

    def _take(self) -> Image | None:
        _, frame = self.capture.read()
        return None if frame is None else cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)

    def close(self) -> None:
        """Let go of the camera."""
        self.capture.release()


def open_source(inputs: Sequence[str]) -> FrameSource:
    """Frames of whatever the arguments name.

    Args:
        inputs: a video file, a folder of pictures, a sequence folder (`img/` and `groundtruth_rect.txt`, as OTB), a
            pattern with `*`, `?` or `[]`, or the index of a camera; or several picture files, which a shell makes of
            a pattern.

    Raises:
        InputError: nothing is there, or it cannot be read.
    """
    if len(inputs) > 1:
        return ImageFiles(f"the list {inputs[0]} ...", [Path(text) for text in inputs])
    text, path = inputs[0], Path(inputs[0])
    if path.is_dir():
        return _open_folder(path)
    if path.exists():
        return _open_file(path)
    if re.fullmatch(r"\d+", text):
        return Camera(int(text))
    if glob.has_magic(text):
        matches = sorted(glob.glob(text, recursive=True), key=natural_key)
        if not matches:
            raise InputError(f"no file matches {text}")
        return open_source(matches)
    raise InputError(f"there is no file or folder {text}")


def prefetch(items: Iterable[T], depth: int = 3) -> Generator[T, None, None]:
    """The same items in the same order, with up to `depth` of them prepared ahead in one background thread."""
    iterator, end = iter(items), object()
    pool = ThreadPoolExecutor(1, thread_name_prefix="prefetch")
    try:
        pending = deque(pool.submit(next, iterator, end) for _ in range(depth))
        while (item := pending.popleft().result()) is not end:
            pending.append(pool.submit(next, iterator, end))
            yield item  # type: ignore[misc]
    finally:
        pool.shutdown(cancel_futures=True)


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


def _decode_packet(packet: av.Packet) -> tuple[list[av.VideoFrame], str]:
    """Frames of a packet, and what the decoder had against it."""
    try:
        return [frame for frame in packet.decode() if isinstance(frame, av.VideoFrame)], ""
    except FFmpegError as error:
        return [], str(error.strerror)


def _until_unreadable(packets: Iterator[av.Packet]) -> Iterator[av.Packet]:
    """Packets up to where the container cannot be read any further: the count of frames tells what is missing."""
    try:
        yield from packets
    except FFmpegError:
        return


@contextmanager
def _quiet_opencv() -> Iterator[None]:
    """No messages of OpenCV itself, which prints pages about a camera that is not there."""
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)


@contextmanager
def _ffmpeg_errors() -> Iterator[list[tuple[int, str, str]]]:
    """Messages of FFmpeg's error level, which it prints nowhere and raises nowhere when it conceals damage."""
    level = av.logging.get_level()
    av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture() as messages:
            yield messages
    finally:
        av.logging.set_level(level)


def _kinds(container: InputContainer) -> str:
    return " and ".join(sorted({stream.type for stream in container.streams})) or "nothing"


def _size_hw(image: Image) -> tuple[int, int]:
    return int(image.shape[0]), int(image.shape[1])
