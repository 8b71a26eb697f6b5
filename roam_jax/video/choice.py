"""Which frames of an input are tracked: from one to another, and every so many."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass

import numpy as np

from roam_jax.errors import InputError, UsageError
from roam_jax.evaluation.metrics import has_box
from roam_jax.video.source import Frame, FrameSource

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Moment:
    """A place in the input."""

    index: int = 0
    """of a frame, from 0"""
    seconds: float | None = None
    """after the first frame; if given, the first frame not before it is meant"""

    def is_reached(self, frame: Frame) -> bool:
        """Whether the frame is this one, or after it."""
        return frame.number >= self.index if self.seconds is None else frame.seconds >= self.seconds - 1e-6

    def __str__(self) -> str:
        return f"frame {self.index}" if self.seconds is None else f"{self.seconds:g} s"


class Chosen(FrameSource):
    """Some frames of another source, with the numbers, times and true boxes that they have there."""

    def __init__(self, source: FrameSource, start: Moment, stop: Moment | None, step: int) -> None:
        self.source, self.start, self.stop, self.step = source, start, stop, step
        self.name, self.size_hw, self.live = source.name, source.size_hw, source.live
        self.fps, self.groundtruth_xywh, self.again = source.fps / step, source.groundtruth_xywh, source.again
        self.sound = source.sound
        if source.n_frames is not None:
            first, last = (self._index_of(moment, source.n_frames) for moment in (start, stop))
            self.n_frames = len(range(first, max(first, last), step))

    def _index_of(self, moment: Moment | None, count: int) -> int:
        """Where a moment is, about, if there are so many frames."""
        if moment is None:
            return count
        return min(
            count, moment.index if moment.seconds is None else math.ceil(moment.seconds * self.source.fps - 1e-6)
        )

    def read(self) -> Iterator[Frame]:
        """The chosen frames."""
        return self.timed()

    def timed(self) -> Generator[Frame, None, None]:
        """The chosen frames.

        Raises:
            InputError: there is none.
        """
        count = 0
        for frame in self.source.timed():
            if self.stop is not None and self.stop.is_reached(frame):
                break
            if self.start.is_reached(frame):
                if count % self.step == 0:
                    yield frame
                count += 1
        if not count:
            raise InputError(f"{self.name} has no frame to track from {self.start} on: it ends before")

    def note(self) -> str:
        """As the other source."""
        return self.source.note()

    def close(self) -> None:
        """Let go of what the other source holds."""
        self.source.close()


def choose_frames(source: FrameSource, start: str, stop: str, step: int) -> FrameSource:
    """The frames from `start` to before `stop`, every `step`-th.

    A sequence whose object is not there in its first frames starts, without `start`, where it appears.

    Args:
        source: all frames.
        start: number or time of the first one, see `parse_moment`; empty: see above.
        stop: in the same way; empty: the end.
        step: 1 at least.

    Raises:
        UsageError: one of them is written wrongly, or there would be no frame.
    """
    if step < 1:
        raise UsageError(f"--step must be at least 1, but is {step}")
    first = parse_moment(start, "--start") if start else Moment()
    last = parse_moment(stop, "--stop") if stop else None
    truth = source.groundtruth_xywh
    if truth is not None and not start:
        seen = np.flatnonzero(has_box(truth))
        if len(seen) and seen[0]:
            log.warning("%s: its object appears in frame %d, where tracking starts", source.name, seen[0])
            first = Moment(int(seen[0]))
    if last is not None and (first.seconds is None) == (last.seconds is None):
        ends = (last.index, first.index) if last.seconds is None else (last.seconds, first.seconds)
        if ends[0] <= ends[1]:  # type: ignore[operator]
            raise UsageError(f"--stop must be after the first frame, but is {last}, and the first one {first}")
    if first == Moment() and last is None and step == 1:
        return source
    return Chosen(source, first, last, step)


def parse_moment(text: str, option: str) -> Moment:
    """Moment of a text: the number of a frame, `120`, or a time, `12.5s` or `1:02.5`.

    Args:
        text: it.
        option: where it comes from, for the message.

    Raises:
        UsageError: it is neither.
    """
    if re.fullmatch(r"[0-9]{1,9}", text):
        return Moment(int(text))
    if match := re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)s", text):
        return Moment(seconds=float(match[1]))
    if re.fullmatch(r"([0-9]+:)?[0-9]+:[0-9]{2}(\.[0-9]+)?", text):
        seconds = 0.0
        for part in text.split(":"):
            seconds = 60 * seconds + float(part)
        return Moment(seconds=seconds)
    raise UsageError(
        f"{option} is the number of a frame, from 0, or a time such as 12.5s or 1:02.5, but {text!r} was given"
    )
