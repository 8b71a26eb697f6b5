from __future__ import annotations

import numpy as np
import pytest

from roam_jax.evaluation.vot.longterm import Judged, long_term_f


def judged(ious: list[float], scores: list[float], visible: list[int]) -> Judged:
    return Judged(np.array(ious), np.array(scores), np.array(visible, bool))


def test_a_perfect_tracker_says_when_the_object_is_gone() -> None:
    best = long_term_f([judged([1, 1, 0, 0], [0.9, 0.8, 0.2, 0.1], [1, 1, 0, 0])])
    assert best == (1, 1, 1, pytest.approx(0.8))


def test_one_that_does_not_say_it_loses_precision() -> None:
    best = long_term_f([judged([1, 1, 0, 0], [1, 1, 1, 1], [1, 1, 0, 0])])
    assert (best.precision, best.recall) == (0.5, 1)
    assert best.f == pytest.approx(2 / 3)


def test_overlaps_without_the_object_count_nothing() -> None:
    best = long_term_f([judged([0.8, 0.9], [1, 1], [1, 0])])
    assert (best.precision, best.recall) == (pytest.approx(0.4), pytest.approx(0.8))


def test_sequences_count_equally_at_one_threshold() -> None:
    """A long one that is tracked surely, and a short one that is lost: it has neither precision nor recall."""
    long, short = judged([1] * 90, [0.9] * 90, [1] * 90), judged([0] * 10, [0.5] * 10, [1] * 10)
    best = long_term_f([long, short])
    assert (best.precision, best.recall) == (0.5, 0.5)


def test_the_threshold_is_the_best_one() -> None:
    rng = np.random.default_rng(0)
    visible = rng.random(500) < 0.7
    scores = np.where(visible, rng.normal(0.7, 0.2, 500), rng.normal(0.3, 0.2, 500))
    sequence = Judged(np.where(visible, 0.8, 0.0), scores, visible)
    best = long_term_f([sequence])

    def f_at(threshold: float) -> float:
        hits = 0.8 * (visible & (scores >= threshold)).sum()
        precision, recall = hits / (scores >= threshold).sum(), hits / visible.sum()
        return 2 * precision * recall / (precision + recall)

    assert best.f == pytest.approx(f_at(best.threshold))
    assert best.f >= max(f_at(threshold) for threshold in np.linspace(0, 0.9, 50)) - 1e-3


@pytest.mark.parametrize("sequences", [[], [judged([0.5], [1.0], [0])]])
def test_what_has_no_f_score(sequences: list[Judged]) -> None:
    with pytest.raises(ValueError, match="the F-score is of one sequence at least"):
        long_term_f(sequences)
