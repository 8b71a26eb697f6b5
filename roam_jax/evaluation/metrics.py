"""Metrics of one-pass evaluation, numerically those of the got10k toolkit (0.1.3).

What the benchmarks' own programs do, and what is done here:

| question              | others                                            | here                                    |
|-----------------------|---------------------------------------------------|-----------------------------------------|
| success               | `IoU > t`, 21 thresholds 0, 0.05, ..., 1          | the same                                |
| its area (AUC)        | mean (OTB, LaSOT, got10k); trapezium (TrackingNet)| mean: most do so                        |
| precision             | `error <= t`, 51 thresholds 0, ..., 50 px; at 20  | the same                                |
| normalised precision  | error in true widths and heights, up to 0.5; its  | 51 thresholds, mean; the value at 0.2   |
|                       | area (TrackingNet), its value at 0.2 (on LaSOT)   | is reported beside it                   |
| AO, SR                | mean IoU; `IoU > 0.5`, 0.75 (GOT-10k)             | the same                                |
| first frame           | counts as perfect (all); left out (GOT-10k)       | the same: curves with, AO, SR without   |
| mean                  | over sequences (all); over all frames (GOT-10k)   | the same                                |
| first pixel           | 1 (OTB, UAV123, TColor-128), else 0               | 0; files count as the annotations do:   |
|                       |                                                   | the scores do not depend on it          |
| extent of a box       | w; or from x to x + w - 1, plus 1 (OTB, LaSOT)    | w: both are the same number             |
| centre                | x + (w - 1) / 2; x + (w + 1) / 2 (TrackingNet)    | x + w / 2: the same differences         |
| rounding              | to whole pixels (TrackingNet's server)            | none: its server does it                |
| boxes over the border | as they are; confined to the image (GOT-10k)      | the same, see `confine_xywh`            |
| absent object         | frame left out (got10k: NaN, or `cover` of 0);    | the same: left out, but for LaSOT, see  |
|                       | counted, hence lost (LaSOT)                       | `score(absent_is_lost=True)`            |
| empty true box        | a box like others (got10k)                        | absent: its IoU with any box is 0       |
| prediction not finite | IoU 0, but AO is NaN (got10k); the last box       | IoU 0, infinite error: a tracker        |
|                       | stands for it (LaSOT)                             | should not gain by it                   |

Boxes in float32 are computed in float64.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Shaped

SUCCESS_THRESHOLDS = np.linspace(0, 1, 21)
PRECISION_THRESHOLDS_PX = np.arange(51)
NORMALISED_THRESHOLDS = np.arange(51) / 100

Boxes = Shaped[np.ndarray, "n 4"]
"""x, y of the top-left corner, w, h in image pixels, of any real dtype"""


@dataclass(frozen=True, eq=False)
class Scores:
    """What one sequence was tracked with; all but the curves' axes are in 0..1."""

    frames: int
    """frames with a true box, the first one included"""
    success: Float[np.ndarray, " 21"]
    """part of frames with an IoU above `SUCCESS_THRESHOLDS`"""
    precision: Float[np.ndarray, " 51"]
    """part of frames with a centre error of at most `PRECISION_THRESHOLDS_PX`"""
    normalised_precision: Float[np.ndarray, " 51"]
    """part of frames with a normalised centre error of at most `NORMALISED_THRESHOLDS`"""
    ao: float
    """average overlap, which is the mean IoU, without the first frame (GOT-10k)"""
    sr50: float
    """part of frames with an IoU above 0.5, without the first (GOT-10k)"""
    sr75: float
    """part of frames with an IoU above 0.75, without the first (GOT-10k)"""

    @property
    def auc(self) -> float:
        """Area under the success curve (OTB)."""
        return float(self.success.mean())

    @property
    def precision20(self) -> float:
        """Precision at 20 pixels (OTB)."""
        return float(self.precision[20])

    @property
    def normalised_auc(self) -> float:
        """Area under the curve of normalised precision (TrackingNet)."""
        return float(self.normalised_precision.mean())

    @property
    def normalised20(self) -> float:
        """Normalised precision at 0.2 (as papers report it for LaSOT)."""
        return float(self.normalised_precision[20])


def iou_xywh(a_xywh: Boxes, b_xywh: Boxes) -> Float[np.ndarray, " n"]:
    """Intersection over union, row by row; 0 where a box is not finite."""
    a, b = _as_boxes(a_xywh, b_xywh)
    low = np.maximum(a[:, :2], b[:, :2])
    high = np.minimum(a[:, :2] + a[:, 2:], b[:, :2] + b[:, 2:])
    shared = np.maximum(high - low, 0).prod(axis=1)
    union = a[:, 2:].prod(axis=1) + b[:, 2:].prod(axis=1) - shared
    return np.nan_to_num(np.clip(shared / (union + np.finfo(float).eps), 0, 1), nan=0.0)


def centre_error_px(a_xywh: Boxes, b_xywh: Boxes) -> Float[np.ndarray, " n"]:
    """Distance of the centres in pixels, row by row; infinite where a box is not finite."""
    return _distance(_centre_shift(a_xywh, b_xywh))


def normalised_centre_error(predicted_xywh: Boxes, true_xywh: Boxes) -> Float[np.ndarray, " n"]:
    """Distance of the centres with x in true widths and y in true heights; infinite where a box is not finite."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return _distance(_centre_shift(predicted_xywh, true_xywh) / np.asarray(true_xywh, float)[:, 2:])


def success_curve(ious: Float[np.ndarray, " n"]) -> Float[np.ndarray, " 21"]:
    """Part of the frames with an IoU above each of `SUCCESS_THRESHOLDS`."""
    return (ious[:, None] > SUCCESS_THRESHOLDS).mean(axis=0)


def success_auc(predicted_xywh: Boxes, true_xywh: Boxes) -> float:
    """Mean of the success curve, as OTB counts: the first frame is perfect, frames without a true box are left out.

    Raises:
        ValueError: as `score`.
    """
    return score(predicted_xywh, true_xywh).auc


def precision_curve(errors_px: Float[np.ndarray, " n"]) -> Float[np.ndarray, " 51"]:
    """Part of the frames with a centre error of at most each of `PRECISION_THRESHOLDS_PX`."""
    return (errors_px[:, None] <= PRECISION_THRESHOLDS_PX).mean(axis=0)


def normalised_precision_curve(errors: Float[np.ndarray, " n"]) -> Float[np.ndarray, " 51"]:
    """Part of the frames with a normalised centre error of at most each of `NORMALISED_THRESHOLDS` (TrackingNet)."""
    return (errors[:, None] <= NORMALISED_THRESHOLDS).mean(axis=0)


def has_box(true_xywh: Boxes) -> Bool[np.ndarray, " n"]:
    """Frames that count: their true box is finite and not empty."""
    boxes = np.asarray(true_xywh)
    return np.asarray(np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] > 0).all(axis=1))


def confine_xywh(boxes_xywh: Boxes, size_wh: tuple[int, int]) -> Float[np.ndarray, "n 4"]:
    """Boxes inside an image, as GOT-10k confines them.

    The corner is moved inside first, and the size is cut to what is left from there: a box that sticks out on the right
    is cut, one that sticks out on the left is moved.
    """
    boxes = np.array(boxes_xywh, float)
    boxes[:, :2] = np.clip(boxes[:, :2], 0, size_wh)
    boxes[:, 2:] = np.clip(boxes[:, 2:], 0, np.asarray(size_wh) - boxes[:, :2])
    return boxes


def score(
    predicted_xywh: Boxes,
    true_xywh: Boxes,
    *,
    visible: Bool[np.ndarray, " n"] | None = None,
    size_wh: tuple[int, int] | None = None,
    absent_is_lost: bool = False,
) -> Scores:
    """All metrics of one sequence.

    Args:
        predicted_xywh: one box per frame; the first is replaced by the true one, which the tracker was given.
        true_xywh: one box per frame; frames where it is not finite, or empty, do not count.
        visible: frames that count, if not all that have a box.
        size_wh: of the image: GOT-10k's metrics are then of boxes confined to it, as its toolkit's are.
        absent_is_lost: the curves are parts of all frames, as LaSOT's are; without it, of those that count.

    Raises:
        ValueError: the numbers of boxes differ, the first frame has no box, or no other frame has one.
    """
    if np.shape(predicted_xywh) != np.shape(true_xywh):
        raise ValueError(f"{len(predicted_xywh)} predicted boxes do not fit {len(true_xywh)} true ones")
    predicted, true = _as_boxes(predicted_xywh, true_xywh)
    valid = has_box(true) if visible is None else has_box(true) & visible
    if not valid[:1].all() or valid.sum() < 2:
        raise ValueError("a sequence needs a true box in its first frame and in at least one more")
    predicted = np.concatenate([true[:1], predicted[1:]])[valid]
    true = true[valid]
    if size_wh is None:
        later = iou_xywh(predicted[1:], true[1:])
    else:
        later = iou_xywh(confine_xywh(predicted[1:], size_wh), confine_xywh(true[1:], size_wh))
    share = valid.mean() if absent_is_lost else 1.0
    return Scores(
        frames=len(true),
        success=share * success_curve(iou_xywh(predicted, true)),
        precision=share * precision_curve(centre_error_px(predicted, true)),
        normalised_precision=share * normalised_precision_curve(normalised_centre_error(predicted, true)),
        ao=float(later.mean()),
        sr50=float((later > 0.5).mean()),
        sr75=float((later > 0.75).mean()),
    )


def mean_scores(scores: Iterable[Scores], *, pooled: bool = False) -> Scores:
    """Scores of a whole data set: every sequence weighs the same.

    Args:
        scores: of its sequences.
        pooled: every frame weighs the same in AO and SR, as in the GOT-10k toolkit.

    Raises:
        ValueError: no scores.
    """
    rows = list(scores)
    if not rows:
        raise ValueError("a mean needs the scores of at least one sequence")
    weights = [row.frames - 1 for row in rows] if pooled else None
    mean: dict[str, Any] = {
        key: float(np.average([getattr(row, key) for row in rows], weights=weights)) for key in ("ao", "sr50", "sr75")
    }
    curves = ("success", "precision", "normalised_precision")
    mean |= {key: np.mean([getattr(row, key) for row in rows], axis=0) for key in curves}
    return Scores(frames=sum(row.frames for row in rows), **mean)


def _as_boxes(a_xywh: Boxes, b_xywh: Boxes) -> tuple[Float[np.ndarray, "n 4"], Float[np.ndarray, "n 4"]]:
    return np.asarray(a_xywh, float).reshape(-1, 4), np.asarray(b_xywh, float).reshape(-1, 4)


def _centre_shift(a_xywh: Boxes, b_xywh: Boxes) -> Float[np.ndarray, "n 2"]:
    a, b = _as_boxes(a_xywh, b_xywh)
    return a[:, :2] + a[:, 2:] / 2 - b[:, :2] - b[:, 2:] / 2


def _distance(shift: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, " n"]:
    with np.errstate(over="ignore"):
        return np.nan_to_num(np.hypot(shift[:, 0], shift[:, 1]), nan=np.inf, posinf=np.inf)
