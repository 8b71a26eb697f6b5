"""What `--resume` goes on from: beside the results, while a run goes on, its arguments and the state of its trackers.

`run.json` says what was asked for; `state.json` how far the run has come, and in which folder beside it
the trackers of that moment are. All of it is removed when the run is through.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from roam_jax.errors import InputError, OutputError, UsageError
from roam_jax.evaluation.formats import write_whole
from roam_jax.typed import parse
from roam_jax.video.formats import Given, Observation, read_observations
from roam_jax.video.source import Frame, FrameSource

FOLDER, RUN, STATE = ".roam_jax_resume", "run.json", "state.json"
EVERY, SHARE = 60.0, 0.01
"""seconds between two states, or more if writing one would take a larger share of the time"""


@runtime_checkable
class Savable(Protocol):
    """A tracker whose state can be kept."""

    def save(self, directory: str | Path, /) -> None:
        """Write it."""
        ...

    @classmethod
    def restore(cls, directory: str | Path, /) -> Any:
        """The tracker that was written."""
        ...


@dataclass(frozen=True)
class Asked:
    """What a run was started with."""

    arguments: tuple[str, ...]
    """of the command line"""
    directory: str
    """where it was started, which the files that are named there may depend on"""
    size_hw: tuple[int, ...]
    """of the frames"""
    n_frames: int | None
    """of the input; None: unknown"""
    boxes: tuple[tuple[float, ...], ...]
    """given: frame (-1: the first one), object (from 0), x, y, w, h"""

    @property
    def given(self) -> list[Given]:
        """The boxes that the objects are started from, and corrections."""
        return [
            Given(None if frame < 0 else int(frame), int(target), np.array(box, np.float32))
            for frame, target, *box in self.boxes
        ]

    @property
    def objects(self) -> int:
        """How many there are."""
        return 1 + max(int(box[1]) for box in self.boxes)


def asked_for(arguments: Sequence[str], source: FrameSource, given: Iterable[Given]) -> Asked:
    """What a run is started with, here and now."""
    boxes = tuple((-1.0 if g.frame is None else float(g.frame), float(g.target), *g.box_xywh.tolist()) for g in given)
    return Asked(tuple(arguments), os.getcwd(), tuple(source.size_hw), source.n_frames, boxes)


@dataclass(frozen=True)
class Progress:
    """How far a run has come."""

    frame: int = -1
    """number of the last frame"""
    frames: int = 0
    """that have been written"""
    lines: int = 0
    """of `track.jsonl`"""
    started: tuple[int, ...] = ()
    """objects whose trackers have started"""


class Keeper:
    """Keeps what a run can be resumed from.

    Args:
        output: folder of the results.
        asked: what the run is started with.
        resumed: the run that it goes on with, if it does: what is kept of that stays until there is more.

    Raises:
        OutputError: it cannot be written.
    """

    def __init__(self, output: Path, asked: Asked, resumed: Resumed | None = None) -> None:
        self.folder, self.due = output / FOLDER, time.monotonic() + EVERY
        self.reached = resumed.progress.frame if resumed else -1
        if not resumed:
            forget(output)
            _write_json(self.folder / RUN, asdict(asked))

    def keep_sometimes(self, trackers: Sequence[Any], progress: Progress) -> None:
        """`keep`, if it has been long enough."""
        if (began := time.monotonic()) >= self.due:
            self.keep(trackers, progress)
            self.due = time.monotonic() + max(EVERY, (time.monotonic() - began) / SHARE)

    def keep(self, trackers: Sequence[Any], progress: Progress) -> None:
        """Write the trackers' states, if they are newer; those of before are there until these are complete.

        Raises:
            OutputError, CheckpointError: they cannot be written.
        """
        if progress.frame <= self.reached:
            return
        states = self.folder / f"frame_{progress.frame}"
        for target in progress.started:
            trackers[target].save(states / f"tracker_{target + 1}")
        _write_json(self.folder / STATE, asdict(progress))
        for path in self.folder.glob("frame_*"):
            if path != states:
                shutil.rmtree(path, ignore_errors=True)
        self.reached = progress.frame

    def done(self) -> None:
        """There is nothing to resume."""
        forget(self.folder.parent)


@dataclass(frozen=True)
class Resumed:
    """A run that goes on."""

    asked: Asked
    progress: Progress
    observations: tuple[Observation, ...]
    """what was said of the frames until then"""
    states: Path
    """folder of the trackers"""

    def restore(self, trackers: Sequence[Any]) -> list[Any]:
        """Trackers, with those that had started where they were.

        Raises:
            CheckpointError: a state is damaged.
        """
        return [
            tracker.restore(self.states / f"tracker_{target + 1}") if target in self.progress.started else tracker
            for target, tracker in enumerate(trackers)
        ]

    def check(self, source: FrameSource) -> None:
        """Return if the frames are those of the run.

        Raises:
            UsageError: they are not, or it was started in another folder.
        """
        if self.asked.directory != os.getcwd():
            raise UsageError(f"the run was started in {self.asked.directory}: resume it from there")
        if (tuple(source.size_hw), source.n_frames) != (self.asked.size_hw, self.asked.n_frames):
            raise UsageError(f"{source.name} has changed since the run was started: it cannot be resumed")

    def waiting(self, given: Iterable[Given]) -> list[Given]:
        """Boxes that have not been used yet."""
        first = self.progress.frame < 0
        return [g for g in given if first or (g.frame is not None and g.frame > self.progress.frame)]

    def again(self, frames: Iterator[Frame]) -> Iterator[tuple[Frame, list[Observation]]]:
        """The frames until then, with what was said of them.

        Raises:
            InputError: the input does not have them any more.
        """
        said: dict[int, list[Observation]] = {}
        for observation in self.observations:
            said.setdefault(observation.frame, []).append(observation)
        for _ in range(self.progress.frames):
            frame = next(frames, None)
            if frame is None or frame.number > self.progress.frame:
                raise InputError("the input is not that of the run to resume: it has other frames")
            yield frame, said.get(frame.number, [])


def read_resumed(output: Path) -> Resumed:
    """What can be gone on with in a folder of results.

    Raises:
        UsageError: nothing, or it is damaged.
    """
    folder = output / FOLDER
    if not (folder / RUN).is_file():
        raise UsageError(f"{output} holds no run to resume: it was finished, or of a kind that cannot be resumed")
    try:
        asked = parse(Asked, json.loads((folder / RUN).read_text(encoding="utf-8")))
        progress = Progress()
        if (folder / STATE).is_file():
            progress = parse(Progress, json.loads((folder / STATE).read_text(encoding="utf-8")))
        rows = read_observations(output / "track.jsonl")[: progress.lines] if progress.lines else []
        observations = tuple(_observation(row) for row in rows)
    except (OSError, ValueError, KeyError, TypeError, InputError) as error:
        raise UsageError(f"the run in {output} cannot be resumed: {error}") from error
    return Resumed(asked, progress, observations, folder / f"frame_{progress.frame}")


def forget(output: Path) -> None:
    """Remove what a folder of results could be resumed from."""
    shutil.rmtree(output / FOLDER, ignore_errors=True)


def _observation(row: dict[str, Any]) -> Observation:
    def number(value: float | None) -> float:
        return math.nan if value is None else value

    box = np.array([number(value) for value in row["box"]], np.float32)
    return Observation(
        row["frame"], row["target"] - 1, box, number(row["score"]), row["lost"],
        number(row["compute_seconds"]), number(row["time"]),
    )  # fmt: skip


def _write_json(path: Path, content: Any) -> None:
    try:
        write_whole(path, json.dumps(content, indent=1) + "\n")
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}") from error
