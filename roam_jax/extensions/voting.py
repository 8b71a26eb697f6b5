"""The box as a mean over cells that mean the same object, in place of the one of the best cell (Section 4).

Measured (experiments/LOG.md, fifth round): mean AUC on ten sequences / 17 held-out videos 0.644 / 0.677, without it
0.622 / 0.658.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from roam_jax.core.boxes import iou

LEAST_IOU = 0.5
"""with the best candidate's box; others below do not count"""


def vote(
    boxes_cxcywh: Float[Array, "k 4"], scores: Float[Array, "k"], best: Int[Array, ""], *, sharpness: float
) -> Float[Array, "4"]:
    """Mean box of the candidates that mean the same object as the best one, the better ones counting more.

    Args:
        boxes_cxcywh: of all candidates.
        scores: of all candidates.
        best: index of the best one.
        sharpness: a candidate has the weight exp(sharpness (score / best score - 1)).
    """
    excess = scores / jnp.maximum(scores[best], 1e-6) - 1
    same = iou(boxes_cxcywh, boxes_cxcywh[best][None]) >= LEAST_IOU
    weights = jnp.where(same, jnp.exp(sharpness * jnp.minimum(excess, 0.0)), 0.0)
    mean = weights @ boxes_cxcywh / jnp.maximum(jnp.sum(weights), 1e-6)
    return jnp.where(jnp.sum(weights) > 0, mean, boxes_cxcywh[best])
