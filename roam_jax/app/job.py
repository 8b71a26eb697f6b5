"""One video that is tracked by hand: boxes are drawn, tracked, corrected and tracked again."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
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
from roam_jax.video.interactive import Browser, Interactive, onwards
from roam_jax.video.sink import ResultWriter

MOVED_PX = 0.75
"""a box that differs by more from what the tracker said was moved by the user: pages round to whole pixels"""


class Point(NamedTuple):
    """A place of the timeline."""

    frame: int
    target: int
    score: float
    lost: bool


class Job:
    """A video, the boxes that the user has given, and what was tracked.

    Args:
        video: file, folder or pattern, as of `python -m roam_jax.track`.
        make_tracker: makes the tracker of an object.

    Attributes:
        forwards: the boxes of the user, and what follows from them.
        before: what was said going backwards, by frame and object.
        stopping: set by another thread: `track` ends after the present frame.

    Raises:
        InputError: the video cannot be read.
        UsageError: it can be read once only.
    """

    def __init__(self, video: str, make_tracker: Callable[[], TrackerLike]) -> None:
        self.source = open_source([video])
        self.forwards = Interactive(self.source, make_tracker)
        self.count = self.forwards.count
        self.before: dict[tuple[int, int], Observation] = {}
        self.stopping = False
        self._frames = Browser(self.source, self.count)

    def frame(self, number: int) -> Image:
        """A frame.

        Raises:
            InputError: it is not there, or cannot be read.
        """
        if not 0 <= number < self.count:
            raise InputError(f"{self.source.name} has no frame {number}: it has {self.count}")
        return self._frames[number].image

    def said(self, number: int) -> dict[int, Observation]:
        """What the trackers say of a frame, by object."""
        known = {target: o for (frame, target), o in self.before.items() if frame == number}
        return known | {o.target: o for o in self.forwards.said.get(number, ())}

    def boxes(self, number: int) -> dict[int, Box]:
        """What is known of a frame, by object: the user's boxes before the trackers'."""
        known = {target: o.box_xywh for target, o in self.said(number).items()}
        return known | {target: box for (frame, target), box in self.forwards.given.items() if frame == number}

    def give(self, number: int, boxes: Iterable[tuple[int | None, Box]]) -> None:
        """Take the boxes that the user leaves in a frame; those that were not moved change nothing.

        Args:
            number: of the frame.
            boxes: all of them, with the object's number, or None for a new one. A box of the user that is missing is
                taken back.

        Raises:
            UsageError: no tracker can start from one of them.
        """
        known, kept = self.boxes(number), set()
        for target, box in boxes:
            if target is None or target in kept or target >= self.forwards.targets:
                target = self.forwards.targets
            kept.add(target)
            if target not in known or np.abs(known[target] - box).max() > MOVED_PX:
                box = check_box(np.asarray(box, np.float32), self.source.size_hw)
                self.forwards.give(number, target, box)
        for target in known.keys() - kept:
            self.forwards.take_back(number, target)

    def track(self) -> Iterator[int]:
        """Track forwards, from the first frame whose boxes have changed, to the end or until `stopping`.

        Yields:
            The number of each frame as it is done.

        Raises:
            UsageError: there is no box.
            InputError: the video breaks off.
        """
        self.stopping = False
        with closing(self.forwards.run()) as frames:
            for frame, _ in frames:
                yield frame.number
                if self.stopping:
                    return

    def track_back(self, start: int) -> Iterator[int]:
        """Track backwards, with new trackers, from a frame in which boxes are known; the user's boxes correct them.

        Yields:
            The number of each frame as it is done.

        Raises:
            UsageError: there is no box in that frame.
            InputError: the video breaks off.
        """
        boxes = self.boxes(start)
        if not boxes:
            raise UsageError(f"there is no box in frame {start}: draw one around each object first")
        given = [Given(start, target, box) for target, box in boxes.items()]
        given += [Given(frame, target, box) for (frame, target), box in self.forwards.given.items() if frame < start]
        trackers = [self.forwards.make_tracker() for _ in range(1 + max(each.target for each in given))]
        self.stopping = False
        with closing(Backwards(self.source, Moment(start)).timed()) as frames:
            for frame, observations in follow(frames, trackers, given, backwards=True):
                self.before |= {(frame.number, each.target): each for each in observations}
                yield frame.number
                if self.stopping:
                    return

    def timeline(self, most: int = 500) -> list[Point]:
        """What is known of each object over time, of no more than about so many frames."""
        numbers = sorted({*(frame for frame, _ in self.before), *self.forwards.said})
        return [
            Point(number, target, o.score, o.lost)
            for number in numbers[:: 1 + len(numbers) // most]
            for target, o in sorted(self.said(number).items())
        ]

    def export(self, path: Path, formats: Sequence[str] = (), *, video: bool = True) -> None:
        """Write a zip of what `python -m roam_jax.track` writes, for all frames from the first to the last known one.

        Raises:
            UsageError: nothing was tracked.
            OutputError: it cannot be written.
        """
        numbers = {*(frame for frame, _ in self.before), *self.forwards.said}
        if not numbers:
            raise UsageError("there is nothing to export: track an object first")
        with tempfile.TemporaryDirectory() as folder:
            with ResultWriter(
                Path(folder), targets=self.forwards.targets, size_hw=self.source.size_hw, fps=self.source.fps,
                video=video, formats=formats, name=self.source.name, sound=self.source.sound,
            ) as results, closing(onwards(self.source, min(numbers), max(numbers) + 1)) as frames:  # fmt: skip
                for frame in frames:
                    results.write(frame, [o for _, o in sorted(self.said(frame.number).items())])
            with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
                for file in sorted(Path(folder).iterdir()):
                    archive.write(file, file.name)
