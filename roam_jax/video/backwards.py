"""A source's frames from a later one to an earlier one, with the numbers and times that they have there."""

from __future__ import annotations

from collections.abc import Generator, Iterator

from roam_jax.errors import InputError, UsageError
from roam_jax.video.choice import Moment
from roam_jax.video.source import Frame, FrameSource

MEMORY = 256 * 2**20
"""bytes of frames that are decoded at once"""
MOST = 200
"""frames that are decoded at once"""


class Backwards(FrameSource):
    """Frames from `start` down to the one after `stop`; by default all of them.

    Videos are decoded forwards, a piece at a time, each from the last key frame before it.

    Raises:
        UsageError: the source can be read once only.
        InputError: there is no frame.
    """

    def __init__(self, source: FrameSource, start: Moment | None = None, stop: Moment | None = None, step: int = 1):
        if not source.again:
            raise UsageError(f"{source.name} can be read once only, and so not backwards")
        self.source, self.step = source, step
        self.name, self.size_hw, self.fps = source.name, source.size_hw, source.fps / step
        self.groundtruth_xywh = source.groundtruth_xywh
        last = source.count() - 1
        self.first = last if start is None else min(last, _number_of(start, source))
        self.end = -1 if stop is None else _number_of(stop, source)
        self.n_frames = len(range(self.first, self.end, -step))
        if not self.n_frames:
            raise InputError(f"{self.name} has no frame to track backwards between these")

    def read(self) -> Iterator[Frame]:
        """The frames, the last one first."""
        return self.timed()

    def timed(self) -> Generator[Frame, None, None]:
        """The frames, the last one first."""
        height, width = self.size_hw
        piece = max(1, min(MOST, MEMORY // (3 * height * width)))
        for high in range(self.first + 1, self.end + 1, -piece):
            for frame in reversed(self.source.between(max(self.end + 1, high - piece), high)):
                if (self.first - frame.number) % self.step == 0:
                    yield frame


def _number_of(moment: Moment, source: FrameSource) -> int:
    """Number of the last frame that is not after the moment."""
    if moment.seconds is None:
        return moment.index
    return max((frame.number for frame in source.timed() if frame.seconds <= moment.seconds + 1e-6), default=0)
