"""VOT's supervised experiment over a data set: skips what is done, survives what breaks, writes the toolkit's files."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping
from collections.abc import Sequence as ListOf
from dataclasses import asdict
from pathlib import Path
from typing import Any

from roam_jax.data.sequences import DataError, Sequence
from roam_jax.evaluation.formats import write_whole
from roam_jax.evaluation.report import write_json
from roam_jax.evaluation.runner import Outcomes
from roam_jax.evaluation.vot.metrics import INTERVALS, VotScores, format_vot_table, score_vot
from roam_jax.evaluation.vot.protocol import Trajectory, read_results, write_results

REPETITIONS = 3
"""the same trajectory thrice: how the toolkit knows a deterministic tracker"""


def evaluate_supervised(
    sequences: ListOf[Sequence],
    track: Callable[[ListOf[Sequence]], Outcomes[Trajectory]],
    output: Path,
    *,
    dataset: str,
    tracker: str,
    report: Callable[[str, Trajectory], None] | None = None,
) -> tuple[VotScores | None, dict[str, str]]:
    """Run the tracker where it has no complete results yet, and score all.

    Args:
        sequences: their names must differ.
        track: as for `runner.evaluate`, with trajectories.
        output: gets TRACKER/baseline/SEQUENCE/SEQUENCE_001.txt, as the `results` of a workspace of the toolkit.
        dataset: its name gives the interval of the EAO, if VOT fixed one.
        tracker: its name in the files.
        report: called with each sequence that was tracked.

    Returns:
        The scores of the sequences that have results, None if none has; what went wrong with the others, by name.

    Raises:
        ValueError: no sequences, or two of the same name.
        DataError: a result file that is not as it should be.
        OSError: results cannot be written.
    """
    by_name = {sequence.name: sequence for sequence in sequences}
    if not sequences or len(by_name) < len(sequences):
        raise ValueError("the sequences to evaluate should be at least one, and have different names")
    results = {name: runs for name, runs in read_done(output, tracker).items() if name in by_name}
    results = {n: runs for n, runs in results.items() if all(len(run) == len(by_name[n]) for run in runs)}
    broken: dict[str, str] = {}
    pending = [sequence for sequence in sequences if len(results.get(sequence.name, [])) < REPETITIONS]
    with contextlib.closing(track(pending)) as outcomes:
        for name, outcome in outcomes:
            if isinstance(outcome, str):
                broken[name] = outcome
                continue
            write_results(output, tracker, {name: [outcome] * REPETITIONS})
            if report:
                report(name, outcome)
    done = read_done(output, tracker)
    tracked = [sequence for sequence in sequences if sequence.name not in broken]
    if not tracked:
        return None, broken
    return score_vot(done, tracked, interval=INTERVALS.get(dataset)), broken


def write_report(folder: Path, title: str, scores: VotScores, broken: Mapping[str, str]) -> None:
    """Write `report.json` and `report.md`.

    Args:
        folder: of the tracker's results.
        title: of the report.
        scores: of the sequences that have results.
        broken: what went wrong with the others, by name.

    Raises:
        OSError: a file cannot be written.
    """
    write_whole(folder / "report.md", f"# {title}\n\n{format_vot_table(scores)}\n")
    numbers = ("accuracy", "robustness", "failures", "mean_failures", "reliability")
    content: dict[str, Any] = {key: getattr(scores, key) for key in numbers}
    content |= {"eao": scores.eao if math.isfinite(scores.eao) else None, "interval": list(scores.interval)}
    parts = {"sequences": scores.sequences, "attributes": scores.attributes}
    content |= {key: {part: asdict(values) for part, values in found.items()} for key, found in parts.items()}
    write_json(folder / "report.json", {**content, "broken": broken})


def read_done(output: Path, tracker: str) -> dict[str, list[Trajectory]]:
    """Trajectories that are there; none if nothing is."""
    try:
        return read_results(output, tracker)
    except DataError:
        if any((output / tracker).rglob("*.txt")):
            raise
        return {}
