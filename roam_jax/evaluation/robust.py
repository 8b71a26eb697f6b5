"""How much a score depends on where a tracker is started, and on which sequences there are.

Intervals are of a bootstrap of clusters: sequences are drawn with replacement, and then starts within each, as the
starts of one sequence are not independent of each other. The score is the success AUC.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Sequence as ListOf
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from roam_jax.evaluation.report import format_table
from roam_jax.evaluation.runner import Row
from roam_jax.evaluation.starts import name_of

LOW = 0.3
"""a start whose AUC is below has failed"""
SAMPLES = 5000
"""of the bootstrap"""
COVERED = 0.95
"""probability of the interval"""

Starts = Float[np.ndarray, " k"]
"""a number for each start of a sequence"""


@dataclass(frozen=True)
class Interval:
    """A mean and the ends of its interval."""

    mean: float
    low: float
    high: float

    @property
    def certain(self) -> bool:
        """Zero lies outside: as a difference, it is more than chance."""
        return not self.low <= 0 <= self.high

    def __str__(self) -> str:
        """For tables."""
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def group_aucs(rows: Iterable[Row]) -> dict[str, dict[str, float]]:
    """Success AUC by sequence and start."""
    groups: dict[str, dict[str, float]] = {}
    for row in rows:
        if row.scores:
            groups.setdefault(name_of(row.name), {})[row.name] = row.scores.auc
    return groups


def bootstrap(values: ListOf[Starts], *, seed: int = 0) -> Interval:
    """Mean over sequences of their mean over starts, with its interval.

    Args:
        values: one array per sequence.
        seed: of the draws.

    Raises:
        ValueError: there is no sequence.
    """
    if not values:
        raise ValueError("there should be a sequence at least to take a mean over")
    rng = np.random.default_rng(seed)
    drawn = [each[rng.integers(0, len(each), (SAMPLES, len(each)))].mean(axis=1) for each in values]
    chosen = rng.integers(0, len(values), (SAMPLES, len(values)))
    means = np.stack(drawn, axis=1)[np.arange(SAMPLES)[:, None], chosen].mean(axis=1)
    low, high = np.quantile(means, [(1 - COVERED) / 2, (1 + COVERED) / 2])
    return Interval(float(np.mean([each.mean() for each in values])), float(low), float(high))


def describe_spread(rows: Iterable[Row]) -> dict[str, Any]:
    """For `report.json`: what each sequence's starts have in common and all together, in AUC."""
    groups = {name: np.array(list(starts.values())) for name, starts in group_aucs(rows).items()}
    if not groups:
        return {}
    mean, everything = bootstrap(list(groups.values())), np.concatenate(list(groups.values()))
    per_sequence = {name: _spread(values) for name, values in groups.items()}
    together = {key: float(np.mean([each[key] for each in per_sequence.values()])) for key in ("mean", "std", "worst")}
    return {
        "overall": {
            **together,
            "interval": [mean.low, mean.high],
            "below_0.3": float((everything < LOW).mean()),
            "starts": len(everything),
        },
        "sequences": per_sequence,
    }


def format_spread(rows: ListOf[Row]) -> str:
    """Table of the sequences: mean, standard deviation and worst AUC of the starts, share of those below 0.3."""
    spread = describe_spread(rows)
    if not spread:
        return ""
    lines = [[name, *_cells(values)] for name, values in spread["sequences"].items()]
    overall = spread["overall"]
    low, high = overall["interval"]
    lines.append([f"mean [{low:.3f}, {high:.3f}]", *_cells(overall)])
    return format_table(["sequence", "starts", "AUC", "std", "worst", "below 0.3"], lines)


def format_differences(trackers: Mapping[str, ListOf[Row]]) -> str:
    """Table of trackers, each with its interval, and its difference from the first one over the starts of both."""
    groups = {name: group_aucs(rows) for name, rows in trackers.items()}
    first = next(iter(groups))
    lines = []
    for name, aucs in groups.items():
        spread = describe_spread(trackers[name])["overall"]
        mean = bootstrap([np.array(list(starts.values())) for starts in aucs.values()])
        line = [name, str(mean), f"{spread['worst']:.3f}", f"{spread['below_0.3']:.1%}"]
        if name == first:
            lines.append([*line, "-", "-"])
            continue
        difference = paired_difference(aucs, groups[first])
        lines.append([*line, str(difference), "more than chance" if difference.certain else "may be chance"])
    return format_table(["tracker", "AUC", "worst", "below 0.3", f"less that of {first}", ""], lines)


def paired_difference(ours: Mapping[str, Mapping[str, float]], theirs: Mapping[str, Mapping[str, float]]) -> Interval:
    """Mean difference of the AUC over the starts that both have, with its interval.

    Raises:
        ValueError: they have none in common.
    """
    pairs = {
        name: np.array([auc - theirs[name][start] for start, auc in starts.items() if start in theirs[name]])
        for name, starts in ours.items()
        if name in theirs
    }
    return bootstrap([each for each in pairs.values() if len(each)])


def _spread(aucs: Starts) -> dict[str, float]:
    return {
        "mean": float(aucs.mean()),
        "std": float(aucs.std()),
        "worst": float(aucs.min()),
        "below_0.3": float((aucs < LOW).mean()),
        "starts": len(aucs),
    }


def _cells(values: Mapping[str, float]) -> list[str]:
    numbers = [f"{values[key]:.3f}" for key in ("mean", "std", "worst")]
    return [str(values["starts"]), *numbers, f"{values['below_0.3']:.1%}"]
