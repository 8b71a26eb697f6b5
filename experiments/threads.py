"""Whether the number of threads decides: `python experiments/threads.py ROOT ...`, folders in the layout of OTB.

The first frames of every sequence are tracked with several numbers of threads, each in a process of its own. Printed
for each sequence is how far the response filter after the first frame is from that with the first number of threads
(relative to its norm), and how far the boxes are, in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tyro
from jaxtyping import Float

from roam_jax.data.layouts import read_layout
from roam_jax.data.sequences import DataError, Sequence
from roam_jax.evaluation.runner import track_in_processes
from roam_jax.evaluation.trackers import TrackerLike
from roam_jax.tracking.tracker import Tracker


class Track(NamedTuple):
    """What one number of threads gives."""

    filters: Float[np.ndarray, " n"]
    """of the response after the first frame"""
    boxes_xywh: Float[np.ndarray, "t 4"]


@dataclass(frozen=True)
class Arguments:
    """Compare tracks with several numbers of threads."""

    roots: tyro.conf.Positional[tuple[Path, ...]]
    """folders of sequences in the layout of OTB"""
    checkpoint: str = "lite"
    """name or directory"""
    threads: tuple[int, ...] = (1, 2, 4)
    """numbers of threads"""
    frames: int = 60
    """of each sequence"""


@dataclass(frozen=True)
class Make:
    """The tracker of a checkpoint, for other processes."""

    checkpoint: str

    def __call__(self) -> Tracker:
        """It."""
        return Tracker(self.checkpoint)


def track(tracker: TrackerLike, sequence: Sequence) -> Track:
    """Track a sequence from its first true box."""
    assert isinstance(tracker, Tracker)
    frames = iter(sequence.frames)
    tracker.init(next(frames), sequence.first_xywh)
    filters = np.ravel(tracker.state.model.theta.cf.filters)
    return Track(filters, np.array([np.array(tracker.update(image)) for image in frames]))


def track_all(sequences: list[Sequence], checkpoint: str, threads: int) -> dict[str, Track]:
    """Tracks by sequence.

    Raises:
        DataError: a sequence cannot be tracked.
    """
    tracks = {}
    for name, outcome in track_in_processes(sequences, Make(checkpoint), 1, track, threads=threads):
        if isinstance(outcome, str):
            raise DataError(f"{name}: {outcome}")
        tracks[name] = outcome
    return tracks


def main() -> None:
    arguments = tyro.cli(Arguments, prog="python experiments/threads.py")
    read = [sequence for root in arguments.roots for sequence in read_layout("otb", root)]
    sequences = [sequence.head(arguments.frames) for sequence in read]
    tracks = [track_all(sequences, arguments.checkpoint, threads) for threads in arguments.threads]
    print(f"| sequence | {' | '.join(f'{n} threads: filter, boxes (px)' for n in arguments.threads[1:])} |")
    print("|---|" + "---:|" * (len(tracks) - 1))
    worst = np.zeros((len(tracks) - 1, 2))
    for name, first in tracks[0].items():
        apart = [
            (
                np.linalg.norm(other[name].filters - first.filters) / np.linalg.norm(first.filters),
                np.abs(other[name].boxes_xywh - first.boxes_xywh).max(),
            )
            for other in tracks[1:]
        ]
        worst = np.maximum(worst, apart)
        print(f"| {name} | {' | '.join(f'{theta:.1e}, {box:.4f}' for theta, box in apart)} |")
    print(f"| largest | {' | '.join(f'{theta:.1e}, {box:.4f}' for theta, box in worst)} |")


if __name__ == "__main__":
    main()
