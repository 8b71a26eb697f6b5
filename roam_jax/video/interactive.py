"""Tracking that a user looks at, corrects where it went wrong, and goes on with from there."""

from __future__ import annotations

import copy
from collections.abc import Callable, Generator
from contextlib import closing

from roam_jax.errors import UsageError
from roam_jax.evaluation.trackers import TrackerLike
from roam_jax.video.backwards import MEMORY, MOST
from roam_jax.video.follow import follow
from roam_jax.video.formats import Box, Given, Observation, check_box
from roam_jax.video.source import Frame, FrameSource, prefetch

KEPT = 24
"""frames whose trackers are kept, some megabytes an object"""


class Interactive:
    """Boxes that the user gives in any frames, and what trackers make of them.

    What is said of a frame depends on the boxes that are given up to there and on nothing else: after a correction the
    trackers go on from how they were before it, as if nothing had been tracked beyond.

    Args:
        source: frames that can be read again.
        make_tracker: a new tracker, which `copy.copy` takes a copy of.

    Attributes:
        count: frames of the source.
        given: the user's boxes, by frame and object, both from 0: x, y, w, h in image pixels.
        said: what was said of each frame; what lies beyond `next` is out of date.
        next: number of the frame that tracking goes on with.

    Raises:
        UsageError: the source can be read once only.
        InputError: it breaks off.
    """

    def __init__(self, source: FrameSource, make_tracker: Callable[[], TrackerLike]) -> None:
        if not source.again:
            raise UsageError(f"{source.name} can be read once only, and so not go back to a frame to correct it")
        self.source, self.make_tracker, self.count = source, make_tracker, source.count()
        self.given: dict[tuple[int, int], Box] = {}
        self.said: dict[int, tuple[Observation, ...]] = {}
        self.next = 0
        self._kept: dict[int, list[TrackerLike]] = {}
        """trackers as they were after a frame"""
        self._spacing = 1

    @property
    def targets(self) -> int:
        """Number of objects."""
        return 1 + max((target for _, target in self.given), default=-1)

    def give(self, frame: int, target: int, box_xywh: Box) -> None:
        """Say where an object is in a frame: the first box starts its tracker, later ones correct it.

        Raises:
            UsageError: there is no such frame or object, or no tracker can start from the box.
        """
        if not 0 <= frame < self.count:
            raise UsageError(f"{self.source.name} has the frames 0 to {self.count - 1}, and no frame {frame}")
        if not 0 <= target <= self.targets:
            raise UsageError(f"objects are numbered from 0: the next one is {self.targets}, not {target}")
        self.given[frame, target] = check_box(box_xywh, self.source.size_hw)
        self._begin_again(frame)

    def take_back(self, frame: int, target: int) -> None:
        """Undo `give`, if it was. The other objects keep their numbers."""
        if self.given.pop((frame, target), None) is not None:
            self._begin_again(frame)

    def run(self) -> Generator[tuple[Frame, tuple[Observation, ...]], None, None]:
        """Go on to the last frame, or until it is closed; what is said comes frame by frame.

        It begins some frames before `next` where the trackers are not kept for that one.

        Raises:
            UsageError: no box is given.
            InputError: the source breaks off.
        """
        if not self.given:
            raise UsageError("draw a box around the object first")
        return self._go_on()

    def _go_on(self) -> Generator[tuple[Frame, tuple[Observation, ...]], None, None]:
        first = min(frame for frame, _ in self.given)
        last = max(self._kept, default=-1)
        begin, trackers = max(last + 1, first), [copy.copy(tracker) for tracker in self._kept.get(last, ())]
        started = {target for frame, target in self.given if frame < begin}
        trackers += [self.make_tracker() for _ in range(len(trackers), self.targets)]
        later = [Given(*key, box) for key, box in self.given.items() if key[0] >= begin]
        self.said = {frame: said for frame, said in self.said.items() if frame < self.next}
        with closing(prefetch(onwards(self.source, begin, self.count))) as frames:
            for frame, observations in follow(frames, trackers, later, started=started):
                self.said[frame.number] = tuple(observations)
                self.next = max(self.next, frame.number + 1)
                self._keep(frame.number, trackers)
                yield frame, self.said[frame.number]

    def _begin_again(self, frame: int) -> None:
        self.next = min(self.next, frame)
        self._kept = {number: trackers for number, trackers in self._kept.items() if number < frame}

    def _keep(self, number: int, trackers: list[TrackerLike]) -> None:
        """Keep the trackers as they are: the last two, where a user will stop, and some at equal distances."""
        self._kept[number] = [copy.copy(tracker) for tracker in trackers]
        for old in [old for old in self._kept if old < number - 1 and old % self._spacing]:
            del self._kept[old]
        if len(self._kept) > KEPT:
            self._spacing *= 2


def onwards(source: FrameSource, start: int, stop: int) -> Generator[Frame, None, None]:
    """The frames with numbers in start .. stop - 1, read a piece at a time."""
    height, width = source.size_hw
    piece = max(1, min(MOST, MEMORY // (3 * height * width)))
    for low in range(start, stop, piece):
        yield from source.between(low, min(stop, low + piece))


class Browser:
    """Frames by number, for somebody who leaps about and then watches what follows."""

    AHEAD = 48
    """frames that are read at once when one follows the other"""

    def __init__(self, source: FrameSource, count: int) -> None:
        self.source, self.count = source, count
        self._held: dict[int, Frame] = {}
        self._last = -1

    def __getitem__(self, number: int) -> Frame:
        """The frame.

        Raises:
            InputError: it cannot be read.
        """
        if number not in self._held:
            ahead = self.AHEAD if number == self._last + 1 and number else 1
            stop = min(self.count, number + ahead)
            self._held = {frame.number: frame for frame in self.source.between(number, stop)}
        self._last = number
        return self._held[number]
