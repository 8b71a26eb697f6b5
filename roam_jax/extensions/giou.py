"""The GIoU term of the meta loss, beside the box term of Eq. 7.

Trackers are judged by the IoU of their boxes; the smooth L1 of shifts weighs a pixel of a small side like one of a
large side and does not see that errors of position and size can cancel.

Measured (experiments/LOG.md, fourth round): trained with it and with a learned upper trunk, SR.75 on ten sequences 0.34
instead of 0.27 (not told apart from the trunk).
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from roam_jax.core.boxes import decode, iou
from roam_jax.core.losses import ChooseAnchors, mean_over, near_anchors
from roam_jax.core.model import Predictions
from roam_jax.core.samples import Samples


def giou(a_cxcywh: Float[Array, "*a 4"], b_cxcywh: Float[Array, "*b 4"]) -> Float[Array, "*c"]:
    """Generalised IoU: the IoU minus the share of the smallest common box that neither covers; 1 for equal boxes.

    In (-1, 1]. Unlike the IoU it has a gradient where boxes do not touch.
    """
    low = jnp.minimum(a_cxcywh[..., :2] - a_cxcywh[..., 2:] / 2, b_cxcywh[..., :2] - b_cxcywh[..., 2:] / 2)
    high = jnp.maximum(a_cxcywh[..., :2] + a_cxcywh[..., 2:] / 2, b_cxcywh[..., :2] + b_cxcywh[..., 2:] / 2)
    hull = jnp.prod(high - low, axis=-1)
    both = iou(a_cxcywh, b_cxcywh)
    union = (jnp.prod(a_cxcywh[..., 2:], axis=-1) + jnp.prod(b_cxcywh[..., 2:], axis=-1)) / (1 + both)
    return both - (hull - union) / jnp.maximum(hull, 1e-6)


def giou_term(predictions: Predictions, samples: Samples, *, choose: ChooseAnchors) -> Float[Array, ""]:
    """1 - GIoU of the predicted boxes and the true ones, averaged over the chosen anchors."""
    predicted = decode(predictions.deltas, predictions.anchors[None])
    errors = 1 - giou(predicted, samples.boxes_cxcywh[:, None, None])
    return mean_over(errors, near_anchors(predictions.anchors, samples, choose))
