"""Frames with their times, one after the other: what every input is to the commands.

Every frame is uint8 RGB (height, width, 3): grey becomes RGB, alpha is dropped, 16 bits are scaled to 8, and the
rotation that a phone notes in its files is applied. All frames of a source have one size. With each comes the time at
which it is shown, in seconds from the first one on.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple, TypeVar

from roam_jax.errors import InputError
from roam_jax.evaluation.metrics import has_box
from roam_jax.pictures import Image
from roam_jax.video.formats import Box, Boxes

T = TypeVar("T")

DEFAULT_FPS = Fraction(30)
MOST_FPS = 500
"""what claims more frames per second is a file without a rate, whose clock ticks so often: as browsers record"""


class Frame(NamedTuple):
    """A frame, and when it is shown."""

    image: Image
    seconds: float
    """after the first frame of the input"""
    number: int = 0
    """in the input, from 0"""


class Sound(NamedTuple):
    """Sound of a file."""

    path: Path
    begins: float
    """second of the file at which the first frame is shown"""


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
    sound: Sound | None = None
    """what is heard with the frames, where they come from a file"""
    again: bool = True
    """the frames can be read more than once"""

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

    def note(self) -> str:
        """What a progress bar says besides the count."""
        return ""

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

    def count(self) -> int:
        """Frames that there really are; they are read for it where nothing else tells.

        Raises:
            InputError: the input breaks off.
        """
        return sum(1 for _ in self.timed())

    def between(self, start: int, stop: int) -> list[Frame]:
        """The frames with numbers in start .. stop - 1.

        Raises:
            InputError: the input breaks off before.
        """
        return list(itertools.islice(self.timed(), start, stop))

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
        self.n_frames, self.size_hw = len(images), size_of(images[0])

    def read(self) -> Iterator[Image]:
        """Frames as they are."""
        return iter(self.images)

    def count(self) -> int:
        """Frames."""
        return len(self.images)


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


def believable(*rates: Fraction | None) -> Fraction:
    """The first rate, in frames per second, that can be one."""
    return next((rate for rate in rates if rate and rate <= MOST_FPS), DEFAULT_FPS)


def size_of(image: Image) -> tuple[int, int]:
    """Height and width."""
    return int(image.shape[0]), int(image.shape[1])
