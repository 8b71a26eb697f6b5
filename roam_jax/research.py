"""`roam_jax.train` and `roam_jax.evaluate`: what the commands of these names do, from Python and notebooks."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as ListOf
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from roam_jax.cli import ExitCode
from roam_jax.config import Config
from roam_jax.data.layouts import read_layout
from roam_jax.data.sequences import Sequence
from roam_jax.evaluation.formats import Run
from roam_jax.evaluation.protocols import Protocol
from roam_jax.evaluation.report import format_rows
from roam_jax.evaluation.robust import Interval, bootstrap, format_spread, group_aucs, paired_difference
from roam_jax.evaluation.runner import Outcomes, Row, count_cores, score_run, track_here, track_in_processes
from roam_jax.evaluation.starts import Experiment, starts_of, track_by_sequence, track_starts
from roam_jax.evaluation.trackers import TrackerChoice, TrackerLike
from roam_jax.extras import require
from roam_jax.train import TrainArgs, check
from roam_jax.train import run as run_training
from roam_jax.training.runs import open_run

if TYPE_CHECKING:
    import pandas

PLAIN = Protocol("own")
"""no benchmark's rules"""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Scores of a tracker; printed, they are a table."""

    rows: tuple[Row, ...]
    """one for each start of each sequence"""
    broken: dict[str, str]
    """what went wrong, by start"""

    @cached_property
    def aucs(self) -> dict[str, dict[str, float]]:
        """Success AUC by sequence and start."""
        return group_aucs(self.rows)

    @property
    def auc(self) -> Interval:
        """Mean success AUC over starts, then over sequences, with the interval of a bootstrap over both.

        Raises:
            ValueError: nothing was tracked.
        """
        return bootstrap([np.array(list(starts.values())) for starts in self.aucs.values()])

    def minus(self, other: Evaluation) -> Interval:
        """Mean difference of the AUC from another tracker's over the starts that both have; `certain`: not by chance.

        Raises:
            ValueError: they have none in common.
        """
        return paired_difference(self.aucs, other.aucs)

    def to_pandas(self) -> pandas.DataFrame:
        """A row for each start: sequence, start, frames, auc, precision20, ao, sr50, sr75, fps.

        Raises:
            MissingExtra: pandas is not installed.
        """
        require("pandas")
        import pandas

        names = {start: name for name, starts in self.aucs.items() for start in starts}
        scored = [(row, row.scores) for row in self.rows if row.scores]
        rows = [
            (names[row.name], row.name, row.frames, s.auc, s.precision20, s.ao, s.sr50, s.sr75, row.fps)
            for row, s in scored
        ]
        columns = ["sequence", "start", "frames", "auc", "precision20", "ao", "sr50", "sr75", "fps"]
        return pandas.DataFrame(rows, columns=columns)

    def __str__(self) -> str:
        if len(self.rows) > len(self.aucs):
            return format_spread(self.rows)
        return format_rows(self.rows, PLAIN)


def evaluate(
    sequences: str | Path | ListOf[Sequence],
    make_tracker: Callable[[], TrackerLike] | None = None,
    *,
    layout: str = "otb",
    protocol: Experiment = "ope",
    max_frames: int = 0,
    workers: int = 1,
    report: Callable[[Row], None] | None = None,
) -> Evaluation:
    """Track sequences with known boxes, and score what comes of it; nothing is written.

    Args:
        sequences: folder of them, or what `roam_jax.data.layouts.read_layout` gives.
        make_tracker: called once in each process; the shipped tracker by default. For several processes, it must be
            what pickle can name: a class, or a function of a module.
        layout: of the folder.
        protocol: starts of each sequence, see `python -m roam_jax.evaluate --help`.
        max_frames: tracked from each start; 0: all.
        workers: processes; 0: as many as there are cores.
        report: called with the row of each start as soon as it is known.

    Raises:
        DataError: the folder cannot be read.
        ValueError: there is no sequence, or no protocol or layout of that name.
    """
    if isinstance(sequences, str | Path):
        sequences = read_layout(layout, Path(sequences))
    started = {each.name: each for sequence in sequences for each in starts_of(sequence, protocol, max_frames)}
    if not started:
        raise ValueError("the sequences to evaluate should be at least one")
    make, workers = make_tracker or TrackerChoice("roam"), workers or count_cores()
    track = partial(track_here, make_tracker=make, run=track_starts)
    if workers > 1:
        track = partial(track_in_processes, make_tracker=make, workers=workers, run=track_starts)
    outcomes: Outcomes[Run] = track_by_sequence(sequences, protocol, max_frames, track)(list(started.values()))
    rows: dict[str, Row] = {}
    broken: dict[str, str] = {}
    for name, outcome in outcomes:
        if isinstance(outcome, str):
            broken[name] = outcome
            continue
        rows[name] = score_run(started[name], outcome, PLAIN)
        if report:
            report(rows[name])
    return Evaluation(tuple(rows[name] for name in started if name in rows), broken)


def train(
    config: Config,
    data: str | ListOf[str],
    output: str | Path,
    *,
    seed: int = 0,
    start: str | Path = "",
    cutouts: str | Path = "",
    track: ListOf[str] = (),
    resume: bool = False,
    tensorboard: bool = False,
) -> Path:
    """Meta-train a tracker; `Ctrl-C`, or a notebook's interrupt, saves and ends it.

    Args:
        config: model and training, from `roam_jax.presets` for instance; `config.meta.steps` is the length.
        data: sources, as `--data` of `python -m roam_jax.train`; `synthetic`: drawn videos.
        output: folder of the run, which must be new or empty.
        seed: of all random choices.
        start: checkpoint to begin from, a name or a folder.
        cutouts: folder of objects without background for hard clips.
        track: sources of sequences that every validation measures the tracker on.
        resume: go on with the run in `output`, whose settings are kept but for the length.
        tensorboard: write its events too.

    Returns:
        Folder of the best tracker, for `Tracker`.

    Raises:
        UsageError: settings do not fit together, or the folder holds something else.
        DataError, CheckpointError, Diverged, MissingExtra: as the command explains them.
        KeyboardInterrupt: it was stopped, and saved.
    """
    require("grain")
    if tensorboard:
        require("tensorboardX")
    sources, folder = (data,) if isinstance(data, str) else tuple(data), Path(output)
    args = TrainArgs(
        data=sources, output=None if resume else folder, resume=folder if resume else None, seed=seed, start=str(start),
        cutouts=str(cutouts), track=tuple(track), tensorboard=tensorboard,
    )  # fmt: skip
    if resume:
        kept, _ = open_run(folder)
        config = replace(kept, meta=replace(kept.meta, steps=config.meta.total_steps))
    check(args, config)
    if run_training(args, config) != ExitCode.SUCCESS:
        raise KeyboardInterrupt(f"stopped and saved: go on with resume=True and output={str(folder)!r}")
    return folder / "tracker"
