"""Several starts of each sequence, so that no single one decides: OTB's robustness protocols, and a small one of ours.

- `sre`, spatial robustness evaluation: 12 boxes in the first frame, shifted by 10% of the object's size to the four
  sides and corners, and scaled by 0.8, 0.9, 1.1 and 1.2 about their middle.
- `tre`, temporal robustness evaluation: the true box of 20 frames spread evenly over the sequence.
- `robust`: nine starts of both kinds: the true box; shifted to the four sides; scaled by 0.9 and 1.1; and the true
  boxes at a quarter and at half of the sequence.

Source of the first two: Wu, Lim, Yang, Object Tracking Benchmark, PAMI 2015, Section 4.2. Each start tracks to the end
of the sequence and is scored against its true boxes.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as ListOf
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float32, UInt8

from roam_jax.data.sequences import DataError, Frames, Sequence
from roam_jax.evaluation.formats import Run
from roam_jax.evaluation.runner import Outcomes, track_sequence, try_one
from roam_jax.evaluation.trackers import TrackerLike

Experiment = Literal["ope", "sre", "tre", "robust"]
SHIFT = 0.1
"""of a shifted box, in the object's size"""
SIDES = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
CORNERS = {"left-up": (-1, -1), "right-up": (1, -1), "left-down": (-1, 1), "right-down": (1, 1)}
SEGMENTS = 20
"""of `tre`"""
MARK = "@"
"""between the name of a sequence and that of a start"""
MOST_BYTES = 1 << 30
"""of decoded frames that are kept while the starts of a sequence are tracked"""


@dataclass(frozen=True)
class Start:
    """Where a tracker is started."""

    name: str
    part: float = 0.0
    """of the sequence that lies before it"""
    shift: tuple[int, int] = (0, 0)
    """to the right and down, in tenths of the object's size"""
    scale: float = 1.0
    """of the box about its middle"""

    def box_of(self, true_xywh: Float32[np.ndarray, " 4"]) -> Float32[np.ndarray, " 4"]:
        """The box to start from, where the object's is known."""
        xy, wh = true_xywh[:2], true_xywh[2:]
        moved = xy + SHIFT * np.array(self.shift, np.float32) * wh + wh * (1 - self.scale) / 2
        return np.concatenate([moved, wh * self.scale]).astype(np.float32)


def _scaled(*factors: float) -> tuple[Start, ...]:
    return tuple(Start(str(factor), scale=factor) for factor in factors)


def _shifted(shifts: dict[str, tuple[int, int]]) -> tuple[Start, ...]:
    return tuple(Start(name, shift=shift) for name, shift in shifts.items())


STARTS: dict[Experiment, tuple[Start, ...]] = {
    "ope": (Start("true"),),
    "sre": (*_shifted(SIDES | CORNERS), *_scaled(0.8, 0.9, 1.1, 1.2)),
    "tre": tuple(Start(f"{1 + i:02d}", part=i / SEGMENTS) for i in range(SEGMENTS)),
    "robust": (
        Start("true"), *_shifted(SIDES), *_scaled(0.9, 1.1), Start("quarter", part=1 / 4), Start("half", part=1 / 2)
    ),
}  # fmt: skip


def starts_of(sequence: Sequence, experiment: Experiment, max_frames: int = 0) -> list[Sequence]:
    """The sequence from each start of the experiment, called NAME@START; for `ope`, the sequence itself.

    Where the object is not seen, a start is the next frame in which it is; one that is the same as another, or has
    no frame to track in, is left out.

    Args:
        sequence: whose true boxes are known.
        experiment: which starts.
        max_frames: frames from each start on that are kept; 0: all.

    Raises:
        DataError: of several starts, if the true boxes are secret or the object is never seen.
    """
    count = max_frames or len(sequence)
    if experiment == "ope":
        return [sequence.head(count)]
    if sequence.first_box_only:
        raise DataError(f"sequence {sequence.name} should have known boxes for {experiment}, but only its first is")
    seen = np.flatnonzero(sequence.visible)
    if not len(seen):
        raise DataError(f"sequence {sequence.name} should show its object, but never does")
    started: dict[tuple, Sequence] = {}
    for start in STARTS[experiment]:
        later = seen[seen >= int(start.part * len(sequence))]
        if not len(later) or (start.part and later[0] == len(sequence) - 1):
            continue
        cut = sequence.part(int(later[0]), count)
        key = (int(later[0]), start.shift, start.scale)
        box = start.box_of(cut.boxes_xywh[0])
        started.setdefault(key, replace(cut, name=f"{sequence.name}{MARK}{start.name}", given_xywh=box))
    return list(started.values())


def name_of(started: str) -> str:
    """Name of the sequence, from that of one of its starts."""
    return started.rpartition(MARK)[0] or started


@dataclass(eq=False)
class Kept(Frames):
    """Frames that are decoded once, as far as there is room for them."""

    frames: Frames

    def __post_init__(self) -> None:
        self._kept: dict[int, UInt8[np.ndarray, "h w 3"]] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self.frames)

    def read(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """One frame."""
        if index in self._kept:
            return self._kept[index]
        image = self.frames.read(index)
        if self._bytes + image.nbytes <= MOST_BYTES:
            self._kept[index], self._bytes = image, self._bytes + image.nbytes
        return image


@dataclass(frozen=True, eq=False)
class Starts:
    """Starts of one sequence, which are tracked one after the other."""

    sequence: Sequence
    experiment: Experiment
    max_frames: int
    names: frozenset[str]
    """of those that are to be tracked"""

    @property
    def name(self) -> str:
        """That of the sequence."""
        return self.sequence.name

    def __len__(self) -> int:
        return len(self.sequence) * len(self.names)


def track_starts(tracker: TrackerLike, starts: Starts) -> dict[str, Run | str]:
    """Track a sequence from its starts; what came of each, or one sentence on what went wrong."""
    kept = replace(starts.sequence, frames=Kept(starts.sequence.frames))
    chosen = [each for each in starts_of(kept, starts.experiment, starts.max_frames) if each.name in starts.names]
    return {each.name: try_one(track_sequence, tracker, each) for each in chosen}


def track_by_sequence(
    sequences: ListOf[Sequence],
    experiment: Experiment,
    max_frames: int,
    track: Callable[[ListOf[Starts]], Outcomes[dict[str, Run | str]]],
) -> Callable[[ListOf[Sequence]], Outcomes[Run]]:
    """Function that tracks any of the starts, those of one sequence together.

    Args:
        sequences: what the starts are of.
        experiment: as for `starts_of`.
        max_frames: as for `starts_of`.
        track: tracks groups of starts, as `runner.track_in_processes` does with `track_starts`.
    """

    def track_pending(pending: ListOf[Sequence]) -> Outcomes[Run]:
        names: dict[str, set[str]] = {}
        for each in pending:
            names.setdefault(name_of(each.name), set()).add(each.name)
        groups = [
            Starts(sequence, experiment, max_frames, frozenset(names[sequence.name]))
            for sequence in sequences
            if sequence.name in names
        ]
        for name, outcome in track(groups):
            yield from ((each, outcome) for each in names[name]) if isinstance(outcome, str) else outcome.items()

    return track_pending
