"""Tables and `report.json` of an evaluation, and of a comparison of trackers."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from collections.abc import Sequence as ListOf
from pathlib import Path
from typing import Any

import numpy as np

from roam_jax.evaluation.formats import write_whole
from roam_jax.evaluation.metrics import (
    NORMALISED_THRESHOLDS,
    PRECISION_THRESHOLDS_PX,
    SUCCESS_THRESHOLDS,
    Scores,
    mean_scores,
)
from roam_jax.evaluation.protocols import Protocol
from roam_jax.evaluation.runner import Row

SCORE_COLUMNS = ("AUC", "P@20", "NP", "AO", "SR.50", "SR.75")
CURVES = {
    "success": ("overlap threshold", "success rate", SUCCESS_THRESHOLDS, "AUC"),
    "precision": ("centre error threshold (px)", "precision", PRECISION_THRESHOLDS_PX, "P@20"),
    "normalised_precision": ("normalised centre error threshold", "precision", NORMALISED_THRESHOLDS, "NP"),
}
"""curve -> what is on its axes, its thresholds, and the column that sums it up"""


def score_values(scores: Scores) -> dict[str, float]:
    """Numbers of `SCORE_COLUMNS`."""
    s = scores
    numbers = (s.auc, s.precision20, s.normalised_auc, s.ao, s.sr50, s.sr75)
    return dict(zip(SCORE_COLUMNS, numbers, strict=True))


def mean_of_rows(rows: Iterable[Row], protocol: Protocol) -> Scores | None:
    """Scores of all rows together; None if none has any."""
    scores = [row.scores for row in rows if row.scores]
    return mean_scores(scores, pooled=protocol.pooled) if scores else None


def mean_of_attributes(rows: Iterable[Row], protocol: Protocol) -> dict[str, tuple[int, Scores]]:
    """Number of sequences that have an attribute, and their scores together, in alphabetical order."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        for attribute in row.attributes if row.scores else ():
            groups.setdefault(attribute, []).append(row)
    scores = {name: (len(group), mean_of_rows(group, protocol)) for name, group in sorted(groups.items())}
    return {name: (count, mean) for name, (count, mean) in scores.items() if mean}


def format_table(header: ListOf[str], lines: Iterable[ListOf[str]]) -> str:
    """Markdown table: the first column to the left, the others to the right."""
    cells = [list(header), *map(list, lines)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    text = [[name.ljust(widths[0]), *map(str.rjust, numbers, widths[1:])] for name, *numbers in cells]
    text.insert(1, ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])])
    return "\n".join(f"| {' | '.join(row)} |" for row in text)


def format_rows(rows: ListOf[Row], protocol: Protocol) -> str:
    """Table of the sequences, and of all together."""
    lines = [[row.name, str(row.frames), *_score_cells(row.scores), _cell(row.fps, 1)] for row in rows]
    mean = mean_of_rows(rows, protocol)
    name = "mean (AO, SR: of frames)" if protocol.pooled else "mean"
    lines.append([name, str(sum(row.frames for row in rows)), *_score_cells(mean), _cell(mean_fps(rows), 1)])
    return format_table(["sequence", "frames", *SCORE_COLUMNS, "fps"], lines)


def format_attributes(rows: ListOf[Row], protocol: Protocol) -> str:
    """Table of the attributes; empty if there are none."""
    groups = mean_of_attributes(rows, protocol)
    lines = [[name, str(count), *_score_cells(scores)] for name, (count, scores) in groups.items()]
    return format_table(["attribute", "sequences", *SCORE_COLUMNS], lines) if lines else ""


def format_ranking(trackers: Mapping[str, ListOf[Row]], protocol: Protocol, *, places: bool = True) -> str:
    """Table of trackers, the best first, with the paper's figures for ROAM beneath."""
    lines = []
    for place, (name, rows) in enumerate(rank(trackers, protocol).items(), 1):
        label = f"{place}. {name}" if places else name
        lines.append([label, *_score_cells(mean_of_rows(rows, protocol)), _cell(mean_fps(rows), 1)])
    for name, figures in protocol.paper.items():
        cells = [_cell(figures.get(column)) for column in SCORE_COLUMNS]
        lines.append([f"{name} in the paper ({protocol.paper_on})", *cells, "-"])
    return format_table(["tracker", *SCORE_COLUMNS, "fps"], lines)


def rank(trackers: Mapping[str, ListOf[Row]], protocol: Protocol) -> dict[str, ListOf[Row]]:
    """The trackers by the column that the benchmark ranks by, the best first."""

    def key(name: str) -> float:
        mean = mean_of_rows(trackers[name], protocol)
        return -score_values(mean)[protocol.ranked_by] if mean else math.inf

    return {name: trackers[name] for name in sorted(trackers, key=key)}


def mean_fps(rows: Iterable[Row]) -> float:
    """Mean of the sequences' frames per second, of those that know theirs."""
    known = [row.fps for row in rows if math.isfinite(row.fps)]
    return float(np.mean(known)) if known else math.nan


def describe_rows(rows: ListOf[Row], broken: Mapping[str, str], protocol: Protocol) -> dict[str, Any]:
    """What `report.json` says of one tracker: all scores and curves, by sequence and by attribute."""
    mean = mean_of_rows(rows, protocol)
    groups = mean_of_attributes(rows, protocol)
    return {
        "overall": {**_describe(mean, curves=True), "fps": _number(mean_fps(rows)), "sequences": len(rows)},
        "attributes": {name: {"sequences": n, **_describe(scores)} for name, (n, scores) in groups.items()},
        "sequences": {
            row.name: {
                "length": row.frames,
                "fps": _number(row.fps),
                "attributes": list(row.attributes),
                **_describe(row.scores, curves=True),
            }
            for row in rows
        },
        "broken": dict(broken),
    }


def format_report(
    title: str, rows: ListOf[Row], broken: Mapping[str, str], protocol: Protocol, plots: Iterable[Path] = ()
) -> str:
    """`report.md`: the overall line beside the paper's, attributes, sequences, what broke, and the plots."""
    parts = [f"# {title}", format_ranking({"this run": rows}, protocol, places=False) if protocol.paper else ""]
    if any(row.scores is None for row in rows):
        parts.append("The true boxes are secret: the benchmark's server gives the scores.")
    parts += [format_attributes(rows, protocol), format_rows(rows, protocol)]
    if broken:
        parts.append("Not evaluated:\n\n" + "\n".join(f"- {name}: {why}" for name, why in broken.items()))
    parts += [f"![{plot.stem}]({plot.name})" for plot in plots]
    return "\n\n".join(part for part in parts if part) + "\n"


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file at once or not at all.

    Raises:
        OSError: it cannot be written.
    """
    write_whole(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def _describe(scores: Scores | None, curves: bool = False) -> dict[str, Any]:
    if scores is None:
        return {}
    numbers = score_values(scores)
    values: dict[str, Any] = {
        "frames": scores.frames,
        "success_auc": numbers["AUC"],
        "precision_20px": numbers["P@20"],
        "normalised_precision_auc": numbers["NP"],
        "normalised_precision_0.2": scores.normalised20,
        "ao": numbers["AO"],
        "sr_0.5": numbers["SR.50"],
        "sr_0.75": numbers["SR.75"],
    }
    return values | ({f"{key}_curve": getattr(scores, key).tolist() for key in CURVES} if curves else {})


def _score_cells(scores: Scores | None) -> list[str]:
    return [_cell(x) for x in score_values(scores).values()] if scores else ["-"] * len(SCORE_COLUMNS)


def _cell(number: float | None, digits: int = 3) -> str:
    return f"{number:.{digits}f}" if number is not None and math.isfinite(number) else "-"


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
