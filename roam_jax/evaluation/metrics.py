"""Metrics of one-pass evaluation, numerically those of the got10k toolkit (0.1.3).

Conventions of the toolkit that are kept:

- OTB: the first frame counts, as if it were predicted perfectly; success is `overlap > threshold` over 21 thresholds
  0, 0.05, ..., 1, and its AUC is their mean; precision is `centre error <= threshold` over 51 thresholds 0, ..., 50 px.
- GOT-10k: the first frame does not count; boxes are first confined to the image (`confine_xywh`); average overlap, and
  the part of frames with `overlap > 0.5` (or 0.75).
- Sizes are w and h, no pixel is added to them. Where the toolkit says that a centre is x + (w - 1) / 2, we say
  x + w / 2: the errors are the same, and so are those of boxes that are 0-based or 1-based, if both are.

Differences: frames whose true box is not finite, or empty, are left out for every benchmark (the toolkit does so for
NaN in UAV123, and by the label `cover` in GOT-10k); a prediction that is not finite counts as an overlap of 0 and an
infinite error (the toolkit's curves agree, its average overlap becomes NaN); float32 boxes are computed in float64. The
normalised precision, which the toolkit lacks, is that of TrackingNet.
"""

from __future__ import annotations

from dataclasses import dataclass

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
    """part of frames with an overlap above `SUCCESS_THRESHOLDS`"""
    precision: Float[np.ndarray, " 51"]
    """part of frames with a centre error of at most `PRECISION_THRESHOLDS_PX`"""
    normalised_precision: Float[np.ndarray, " 51"]
    """part of frames with a normalised centre error of at most `NORMALISED_THRESHOLDS`"""
    ao: float
    """average overlap without the first frame (GOT-10k)"""
    sr50: float
    """part of frames with an overlap above 0.5, without the first (GOT-10k)"""
    sr75: float
    """part of frames with an overlap above 0.75, without the first (GOT-10k)"""

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


def overlap_xywh(a_xywh: Boxes, b_xywh: Boxes) -> Float[np.ndarray, " n"]:
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


def success_curve(overlaps: Float[np.ndarray, " n"]) -> Float[np.ndarray, " 21"]:
    """Part of the frames with an overlap above each of `SUCCESS_THRESHOLDS`."""
    return (overlaps[:, None] > SUCCESS_THRESHOLDS).mean(axis=0)


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
) -> Scores:
    """All metrics of one sequence.

    Args:
        predicted_xywh: one box per frame; the first is replaced by the true one, which the tracker was given.
        true_xywh: one box per frame; frames where it is not finite, or empty, do not count.
        visible: frames that count, if not all that have a box.
        size_wh: of the image: GOT-10k's metrics are then of boxes confined to it, as its toolkit's are.

    Raises:
        ValueError: the numbers of boxes differ, the first frame has no box, or no other frame has one.
    """
    if np.shape(predicted_xywh) != np.shape(true_xywh):
        raise ValueError(f"{len(predicted_xywh)} predicted boxes do not fit {len(true_xywh)} true ones")
    predicted, true = _as_boxes(predicted_xywh, true_xywh)
    counts = has_box(true) if visible is None else has_box(true) & visible
    if not counts[:1].all() or counts.sum() < 2:
        raise ValueError("a sequence needs a true box in its first frame and in at least one more")
    predicted = np.concatenate([true[:1], predicted[1:]])[counts]
    true = true[counts]
    if size_wh is None:
        later = overlap_xywh(predicted[1:], true[1:])
    else:
        later = overlap_xywh(confine_xywh(predicted[1:], size_wh), confine_xywh(true[1:], size_wh))
    return Scores(
        frames=len(true),
        success=success_curve(overlap_xywh(predicted, true)),
        precision=precision_curve(centre_error_px(predicted, true)),
        normalised_precision=normalised_precision_curve(normalised_centre_error(predicted, true)),
        ao=float(later.mean()),
        sr50=float((later > 0.5).mean()),
        sr75=float((later > 0.75).mean()),
    )


def _as_boxes(a_xywh: Boxes, b_xywh: Boxes) -> tuple[Float[np.ndarray, "n 4"], Float[np.ndarray, "n 4"]]:
    return np.asarray(a_xywh, float).reshape(-1, 4), np.asarray(b_xywh, float).reshape(-1, 4)


def _centre_shift(a_xywh: Boxes, b_xywh: Boxes) -> Float[np.ndarray, "n 2"]:
    a, b = _as_boxes(a_xywh, b_xywh)
    return a[:, :2] + a[:, 2:] / 2 - b[:, :2] - b[:, 2:] / 2


def _distance(shift: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, " n"]:
    with np.errstate(over="ignore"):
        return np.nan_to_num(np.hypot(shift[:, 0], shift[:, 1]), nan=np.inf, posinf=np.inf)
