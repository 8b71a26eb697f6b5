"""One video that is tracked by hand: boxes are drawn, tracked, corrected and tracked again."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from roam_jax.errors import InputError, UsageError
from roam_jax.evaluation.trackers import TrackerLike
from roam_jax.pictures import Image
from roam_jax.video.backwards import Backwards
from roam_jax.video.choice import Moment
from roam_jax.video.follow import follow
from roam_jax.video.formats import Box, Given, Observation, check_box
from roam_jax.video.inputs import open_source
from roam_jax.video.sink import ResultWriter
from roam_jax.video.source import Frame, FrameSource

PIECE = 32
"""frames that are decoded at once; the video itself is never in memory"""
MOVED_PX = 0.75
"""a box that differs by more from what the tracker said was moved by the user: pages round to whole pixels"""


class Point(NamedTuple):
    """A place of the timeline."""

    frame: int
    target: int
    score: float
    lost: bool


@dataclass
class Run:
    """A tracker on its way forwards."""

    tracker: TrackerLike
    first: int
    """frame in which it started"""
    last: int = -1
    """frame in which it was last"""


class Job:
    """A video, the boxes that the user has given, and what was tracked.

    Args:
        video: file, folder or pattern, as of `python -m roam_jax.track`.
        make_tracker: makes the tracker of an object.

    Raises:
        InputError: the video cannot be read.
        UsageError: it can be read once only.
    """

    def __init__(self, video: str, make_tracker: Callable[[], TrackerLike]) -> None:
        self.source: FrameSource = open_source([video])
        if not self.source.again:
            raise UsageError(f"{self.source.name} can be read once only: save it as a file first")
        self.count = self.source.count()
        self.make_tracker = make_tracker
        self.given: dict[tuple[int, int], Box] = {}
        """boxes of the user, by frame and object"""
        self.said: dict[tuple[int, int], Observation] = {}
        """what the trackers say, by frame and object"""
        self.stopping = False
        """set by another thread: `track` ends after the present frame"""
        self._runs: dict[int, Run] = {}
        """forwards, by object"""
        self._piece: list[Frame] = []

    @property
    def objects(self) -> list[int]:
        """Numbers of all objects, from 0."""
        return sorted({target for _, target in (*self.given, *self.said)})

    def frame(self, number: int) -> Image:
        """A frame.

        Raises:
            InputError: it is not there, or cannot be read.
        """
        if not 0 <= number < self.count:
            raise InputError(f"{self.source.name} has no frame {number}: it has {self.count}")
        if not self._piece or not self._piece[0].number <= number <= self._piece[-1].number:
            start = number // PIECE * PIECE
            self._piece = self.source.between(start, min(start + PIECE, self.count))
        return self._piece[number - self._piece[0].number].image

    def boxes(self, number: int) -> dict[int, Box]:
        """What is known of a frame, by object: the user's boxes before the trackers'."""
        known = {target: o.box_xywh for (frame, target), o in self.said.items() if frame == number}
        return known | {target: box for (frame, target), box in self.given.items() if frame == number}

    def give(self, number: int, boxes: Iterable[tuple[int | None, Box]]) -> None:
        """Take the boxes that the user leaves in a frame; those that were not moved change nothing.

        Args:
            number: of the frame.
            boxes: all of them, with the object's number, or None for a new one.

        Raises:
            UsageError: no tracker can start from one of them.
        """
        known, kept = self.boxes(number), set()
        fresh = 1 + max(self.objects, default=-1)
        for target, box in boxes:
            if target is None or target in kept:
                target, fresh = fresh, fresh + 1
            kept.add(target)
            if target not in known or np.abs(known[target] - box).max() > MOVED_PX:
                self.given[number, target] = check_box(np.asarray(box, np.float32), self.source.size_hw)
        for target in known.keys() - kept:  # the user has removed them
            self.given.pop((number, target), None)
            self.said.pop((number, target), None)

    def track(self, start: int, *, backwards: bool = False) -> Iterator[tuple[Frame, list[Observation]]]:
        """Track from a frame, in which boxes are known, to the end or until `stopping`; each frame as it is done.

        Forwards, a tracker that has run before learns from its object's box in that frame, and goes on with all that it
        knows; later boxes of the user correct it on the way.

        Raises:
            UsageError: there is no box in the frame.
            InputError: the video breaks off.
        """
        boxes = self.boxes(start)
        if not boxes:
            raise UsageError(f"there is no box in frame {start}: draw one around each object first")
        later = [
            Given(frame, target, box)
            for (frame, target), box in self.given.items()
            if (frame < start if backwards else frame > start)
        ]
        given = [*(Given(start, target, box) for target, box in boxes.items()), *later]
        kept = {} if backwards else {t: run for t, run in self._runs.items() if t in boxes and start > run.first}
        if kept.keys() == boxes.keys() and all(self._stopped_at(start, t) for t in kept):
            start, given = start + 1, later  # it was only stopped here
        needed = {each.target for each in given} - kept.keys()
        runs = kept | {target: Run(self.make_tracker(), start) for target in sorted(needed)}
        if not backwards:
            self._runs |= runs
        trackers = [runs[target].tracker if target in runs else None for target in range(1 + max(runs))]
        self.stopping = False
        frames = Backwards(self.source, Moment(start)).timed() if backwards else self._forwards(start)
        with closing(frames):
            for frame, observations in follow(frames, trackers, given, backwards=backwards, started=kept):  # type: ignore[arg-type]
                for each in observations:
                    self.said[frame.number, each.target] = each
                    runs[each.target].last = frame.number
                yield frame, observations
                if self.stopping:
                    return

    def _stopped_at(self, frame: int, target: int) -> bool:
        """Whether an object's tracker was last in that frame, and the user has left its box alone."""
        run, said = self._runs[target], self.said.get((frame, target))
        return run.last == frame and said is not None and np.array_equal(self.boxes(frame)[target], said.box_xywh)

    def _forwards(self, start: int) -> Generator[Frame, None, None]:
        for low in range(start, self.count, PIECE):
            yield from self.source.between(low, min(low + PIECE, self.count))

    def timeline(self, most: int = 500) -> list[Point]:
        """What is known of each object over time, at no more than so many frames each."""
        points = []
        for target in self.objects:
            frames = sorted(frame for frame, each in self.said if each == target)
            for frame in frames[:: 1 + len(frames) // most]:
                o = self.said[frame, target]
                points.append(Point(frame, target, o.score, o.lost))
        return points

    def export(self, path: Path, formats: Sequence[str] = (), *, video: bool = True) -> None:
        """Write a zip of what `python -m roam_jax.track` writes, for all frames from the first to the last known one.

        Raises:
            UsageError: nothing was tracked.
            OutputError: it cannot be written.
        """
        if not self.said:
            raise UsageError("there is nothing to export: track an object first")
        numbers = [frame for frame, _ in self.said]
        first, last = min(numbers), max(numbers)
        with tempfile.TemporaryDirectory() as folder:
            with ResultWriter(
                Path(folder), targets=1 + max(self.objects), size_hw=self.source.size_hw, fps=self.source.fps,
                video=video, formats=formats, name=self.source.name, sound=self.source.sound,
            ) as results, closing(self._forwards(first)) as frames:  # fmt: skip
                for frame in frames:
                    if frame.number > last:
                        break
                    known = [self.said.get((frame.number, target)) for target in self.objects]
                    results.write(frame, [each for each in known if each])
            with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
                for file in sorted(Path(folder).iterdir()):
                    archive.write(file, file.name)
