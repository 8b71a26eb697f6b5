"""The long-term F-score of VOT-LT: what a tracker is worth that must also say when the object is not there.

Source: Lukezic, Zajc, Vojir, Matas, Kristan, Now you see me: evaluating performance in long-term visual tracking, 2018,
Eq. 1 to 3. A frame is predicted if its score is at least a threshold. Precision is the mean overlap of the predicted
frames, recall that of the frames in which the object is seen; the overlap is 0 where the other is missing. Both are
means over sequences at the same threshold, and the F-score is that of the threshold for which it is largest.
"""

from __future__ import annotations

from collections.abc import Sequence as ListOf
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

MOST_THRESHOLDS = 200
"""of the score, at its quantiles"""


class LongTerm(NamedTuple):
    """The best threshold, and the scores there."""

    f: float
    precision: float
    recall: float
    threshold: float


class Judged(NamedTuple):
    """What a tracker said of the frames of one sequence, and whether it was right."""

    ious: Float[np.ndarray, " n"]
    """with the true box; whatever where there is none"""
    scores: Float[np.ndarray, " n"]
    """how sure it was of its box"""
    visible: Bool[np.ndarray, " n"]
    """the object can be seen"""


def long_term_f(sequences: ListOf[Judged]) -> LongTerm:
    """The F-score of several sequences.

    Raises:
        ValueError: there is no sequence, or one in which the object is never seen.
    """
    if not sequences or not all(each.visible.any() for each in sequences):
        raise ValueError("the F-score is of one sequence at least, and of such in which the object is seen")
    scores = np.concatenate([each.scores for each in sequences])
    thresholds = np.unique(np.quantile(scores, np.linspace(0, 1, MOST_THRESHOLDS), method="nearest"))
    return max((_at(sequences, threshold) for threshold in thresholds.tolist()), key=lambda each: each.f)


def _at(sequences: ListOf[Judged], threshold: float) -> LongTerm:
    precisions, recalls = [], []
    for each in sequences:
        predicted = each.scores >= threshold
        overlaps = np.where(predicted & each.visible, each.ious, 0.0)
        precisions.append(overlaps.sum() / max(predicted.sum(), 1))
        recalls.append(overlaps.sum() / each.visible.sum())
    precision, recall = float(np.mean(precisions)), float(np.mean(recalls))
    return LongTerm(2 * precision * recall / max(precision + recall, 1e-12), precision, recall, threshold)
