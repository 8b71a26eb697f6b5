from __future__ import annotations

import numpy as np
import pytest

from roam_jax.evaluation.metrics import score
from roam_jax.evaluation.robust import (
    bootstrap,
    describe_spread,
    format_differences,
    format_spread,
    group_aucs,
    paired_difference,
)
from roam_jax.evaluation.runner import Row


def rows_of(shifts: dict[str, float]) -> list[Row]:
    """Rows whose boxes are all moved to the side by a part of their width."""
    true = np.tile([50.0, 50.0, 20.0, 20.0], (6, 1))
    scores = {name: score(true + np.array([20 * shift, 0, 0, 0]), true) for name, shift in shifts.items()}
    return [Row(name, 6, each, 30.0) for name, each in scores.items()]


SHIFTS = {"A@true": 0.0, "A@left": 0.2, "A@half": 0.8, "B@true": 0.1, "B@left": 0.1}


def test_spread_of_the_starts() -> None:
    rows = rows_of(SHIFTS)
    auc = {row.name: row.scores.auc for row in rows if row.scores}
    assert auc["A@half"] < 0.3 < auc["A@left"] < auc["A@true"]
    spread = describe_spread(rows)
    a, b = spread["sequences"]["A"], spread["sequences"]["B"]
    values = [auc[f"A@{start}"] for start in ("true", "left", "half")]
    assert (a["mean"], a["std"]) == pytest.approx((np.mean(values), np.std(values)))
    assert (a["worst"], a["below_0.3"], a["starts"]) == (auc["A@half"], pytest.approx(1 / 3), 3)
    assert (b["std"], b["below_0.3"]) == (0, 0)
    overall = spread["overall"]
    assert overall["mean"] == pytest.approx((a["mean"] + b["mean"]) / 2)  # sequences count equally
    assert (overall["starts"], overall["below_0.3"]) == (5, pytest.approx(1 / 5))
    assert overall["interval"][0] < overall["mean"] < overall["interval"][1]
    table = format_spread(rows).splitlines()
    assert [line.split("|")[1].strip() for line in table[2:4]] == ["A", "B"]
    assert f"{overall['worst']:.3f}" in table[-1]


def test_without_true_boxes_there_is_no_spread() -> None:
    rows = [Row("A@true", 4, None, 30.0)]
    assert (describe_spread(rows), format_spread(rows), group_aucs(rows)) == ({}, "", {})


def test_interval() -> None:
    """Of many sequences whose means are normal: as wide as it should be, and the same again."""
    rng = np.random.default_rng(1)
    values = [rng.normal(rng.normal(0.6, 0.1), 1e-6, 9) for _ in range(100)]
    interval = bootstrap(values)
    means = np.array([each.mean() for each in values])
    half_width = 1.96 * means.std() / np.sqrt(len(values))
    assert interval.mean == pytest.approx(means.mean())
    assert interval.high - interval.mean == pytest.approx(half_width, rel=0.15)
    assert interval.mean - interval.low == pytest.approx(half_width, rel=0.15)
    assert bootstrap(values) == interval
    # the starts are drawn too
    assert bootstrap([np.array([0.0, 1.0])]).low == 0
    with pytest.raises(ValueError, match="a sequence at least"):
        bootstrap([])


def test_paired_difference() -> None:
    ours, theirs = ({name: {} for name in "ABCDEFGH"} for _ in range(2))
    rng = np.random.default_rng(0)
    for name in ours:  # sequences differ by far more than trackers
        for start in "xyz":
            ours[name][start] = rng.uniform(0, 1)
            theirs[name][start] = ours[name][start] - 0.02 + rng.normal(0, 0.005)
    better = paired_difference(ours, theirs)
    assert better.mean == pytest.approx(0.02, abs=0.005)
    assert better.certain
    assert not paired_difference(ours, ours).certain
    noisy = {name: {start: x + rng.normal(0, 0.2) for start, x in starts.items()} for name, starts in ours.items()}
    assert not paired_difference(noisy, ours).certain
    with pytest.raises(ValueError, match="a sequence at least"):
        paired_difference(ours, {"Z": {"x": 0.5}})


def test_table_of_differences() -> None:
    rows, worse = rows_of(SHIFTS), rows_of({name: shift + 0.3 for name, shift in SHIFTS.items()})
    first, second = format_differences({"ours": rows, "theirs": worse}).splitlines()[2:]
    assert first.split("|")[-3].strip() == "-"
    assert "more than chance" in second
    assert "-0." in second
