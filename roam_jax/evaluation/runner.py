"""One-pass evaluation: each sequence is tracked once from its first true box, timed, written and scored."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from collections.abc import Sequence as ListOf
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from roam_jax.data.sequences import DataError, Sequence
from roam_jax.evaluation.metrics import Scores, has_box, score
from roam_jax.evaluation.trackers import TrackerLike

COLUMNS = ("AUC", "P@20", "NP", "AO", "SR.50", "SR.75", "fps")


@dataclass(frozen=True, eq=False)
class Run:
    """What a tracker did in one sequence."""

    boxes_xywh: Float[np.ndarray, "n 4"]
    """image pixels, 0-based; the first is the one that was given"""
    seconds: Float[np.ndarray, " n"]
    """time in the tracker alone, without reading the frames; the first is that of `init`"""

    @property
    def fps(self) -> float:
        """Frames per second, without `init` and the first update, where compiled trackers compile."""
        return float(1 / self.seconds[2:].mean()) if len(self.seconds) > 2 else float("nan")


@dataclass(frozen=True, eq=False)
class Row:
    """One sequence of the table."""

    name: str
    scores: Scores
    fps: float

    @property
    def values(self) -> tuple[float, ...]:
        """Numbers in the order of `COLUMNS`."""
        s = self.scores
        return s.auc, s.precision20, s.normalised_auc, s.ao, s.sr50, s.sr75, self.fps


def track_sequence(tracker: TrackerLike, sequence: Sequence) -> Run:
    """Track one sequence from its first true box.

    Raises:
        DataError: the first frame has no true box, or a frame cannot be read.
    """
    if not has_box(sequence.boxes_xywh[:1]).all():
        raise DataError(f"sequence {sequence.name} should have a box in its first frame to start the tracker from")
    boxes, seconds = [np.asarray(sequence.boxes_xywh[0], float)], []
    for index, image in enumerate(sequence.frames):
        start = time.perf_counter()
        if index == 0:
            tracker.init(image, boxes[0])
        else:
            boxes.append(np.array(tracker.update(image), float))
        seconds.append(time.perf_counter() - start)
    return Run(np.stack(boxes), np.array(seconds))


def write_run(folder: Path, name: str, run: Run, *, origin: float = 0.0) -> None:
    """Write `NAME.txt` and `times/NAME_time.txt` as the got10k toolkit does.

    Args:
        folder: where to.
        name: of the sequence.
        run: its boxes and times.
        origin: coordinate of the first pixel in the file: 1 for OTB.
    """
    (folder / "times").mkdir(parents=True, exist_ok=True)
    np.savetxt(folder / f"{name}.txt", run.boxes_xywh + np.array([origin, origin, 0, 0]), fmt="%.3f", delimiter=",")
    np.savetxt(folder / "times" / f"{name}_time.txt", run.seconds, fmt="%.8f")


def evaluate(
    sequences: ListOf[Sequence],
    make_tracker: Callable[[], TrackerLike],
    *,
    output: Path | None = None,
    origin: float = 0.0,
    workers: int = 1,
    report: Callable[[Row], None] | None = None,
) -> list[Row]:
    """Run a tracker over sequences.

    Args:
        sequences: their names must differ.
        make_tracker: gives a tracker; one is made per process and started anew for every sequence.
        output: folder for the boxes of each sequence, written as soon as it is finished.
        origin: coordinate of the first pixel in these files: 1 for OTB.
        workers: processes that share the sequences. With more than one, `make_tracker` and `report` must be functions
            that pickle can name, and times are those of processes that compete.
        report: called with each row as soon as it is known, in the process that found it.

    Returns:
        One row per sequence, in their order.

    Raises:
        ValueError: no sequences, two of the same name, or less than one worker.
        DataError: a first frame without a true box, or a frame that cannot be read.
    """
    if workers < 1:
        raise ValueError(f"the number of workers should be at least 1, but is {workers}")
    names = [sequence.name for sequence in sequences]
    if not names or len(set(names)) < len(names):
        raise ValueError("the sequences to evaluate should be at least one, and have different names")
    shares = _deal(sequences, min(workers, len(names)))
    arguments = [(share, make_tracker, output, origin, report) for share in shares]
    if len(shares) == 1:
        results = [_evaluate_share(*arguments[0])]
    else:
        # forked processes would inherit JAX's threads in an unknown state
        with ProcessPoolExecutor(len(shares), mp_context=multiprocessing.get_context("spawn")) as pool:
            results = [job.result() for job in [pool.submit(_evaluate_share, *a) for a in arguments]]
    rows = {row.name: row for share in results for row in share}
    return [rows[name] for name in names]


def format_table(rows: ListOf[Row]) -> str:
    """Markdown table of the rows, and their mean: every sequence weighs the same."""
    mean = np.mean([row.values for row in rows], axis=0)
    lines = [(row.name, row.scores.frames, row.values) for row in rows]
    lines.append(("mean", sum(row.scores.frames for row in rows), mean))
    cells = [["sequence", "frames", *COLUMNS]]
    cells += [[name, str(n), *(f"{x:.3f}" for x in values[:-1]), f"{values[-1]:.1f}"] for name, n, values in lines]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    # the names to the left, the numbers to the right
    text = [[name.ljust(widths[0]), *map(str.rjust, numbers, widths[1:])] for name, *numbers in cells]
    text.insert(1, ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])])
    return "\n".join(f"| {' | '.join(row)} |" for row in text)


def _evaluate_share(
    sequences: ListOf[Sequence],
    make_tracker: Callable[[], TrackerLike],
    output: Path | None,
    origin: float,
    report: Callable[[Row], None] | None,
) -> list[Row]:
    """The part of one process."""
    tracker = make_tracker()
    rows = []
    for sequence in sequences:
        run = track_sequence(tracker, sequence)
        if output:
            write_run(output, sequence.name, run, origin=origin)
        scores = score(run.boxes_xywh, sequence.boxes_xywh, visible=sequence.visible)
        rows.append(Row(sequence.name, scores, run.fps))
        if report:
            report(rows[-1])
    return rows


def _deal(sequences: ListOf[Sequence], count: int) -> list[list[Sequence]]:
    """`count` shares of about the same length: the longest sequence first, each to the share that has least."""
    shares: list[list[Sequence]] = [[] for _ in range(count)]
    for sequence in sorted(sequences, key=len, reverse=True):
        min(shares, key=lambda share: sum(map(len, share))).append(sequence)
    return shares
