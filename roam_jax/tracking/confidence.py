"""How sure the tracker is: the probability that its box is on the object, in place of a bare response (ours).

The response alone does not say it: a filter answers to a look-alike or an occluder nearly as it does to its object, and
how high it answers differs from video to video. So a frame is judged by several signs, each relative to the first frame
or to what has been usual since: `signs_of` measures them, `judge` weighs them by logistic regression
(`online.confidence`; `experiments/confidence.py` fits the weights on clips whose object is hidden for a while).
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from roam_jax.core.boxes import cell_centers, iou

GRID = 3
"""parts per side that the object's look is averaged over"""
SIGNS = ("response", "usual response", "first look", "usual look", "margin", "agreement", "size")
"""what `signs_of` measures, in this order"""
LATE = 0.05
"""weight of a new frame in what is usual"""


class Usual(NamedTuple):
    """What a sure frame is like."""

    first_look: Float[Array, "g g c"]
    """the object in the first frame"""
    look: Float[Array, "g g c"]
    """the object of late"""
    response: Float[Array, ""]
    """its response of late, relative to the first frame's"""


def look_at(features: Float[Array, "m m c"], box_cxcywh: Float[Array, "4"], stride: int) -> Float[Array, "g g c"]:
    """Mean features of the parts of a box, less those of the whole patch, of norm 1.

    Args:
        features: of the patch.
        box_cxcywh: patch pixels from the patch centre.
        stride: patch pixels per cell.
    """
    at = cell_centers(features.shape[0], stride)
    low = box_cxcywh[:2] - box_cxcywh[2:] / 2
    edges = low[:, None] + box_cxcywh[2:, None] * jnp.linspace(0, 1, GRID + 1)[None]
    # cells count by the length of theirs that lies inside a part
    inside = jnp.minimum(edges[:, 1:, None], at[None, None] + stride / 2) - jnp.maximum(
        edges[:, :-1, None], at[None, None] - stride / 2
    )
    weights = jnp.maximum(inside, 0.0)
    weights = weights / jnp.maximum(jnp.sum(weights, axis=-1, keepdims=True), 1e-6)
    parts = jnp.einsum("xj,yi,ijc->yxc", weights[0], weights[1], features)
    parts = parts - jnp.mean(features, axis=(0, 1))[None, None]
    return parts / jnp.maximum(jnp.sqrt(jnp.sum(parts**2)), 1e-6)


def begin(features: Float[Array, "m m c"], box_cxcywh: Float[Array, "4"], stride: int) -> Usual:
    """What is usual after the first frame, of which these are the features and the box in its patch."""
    look = look_at(features, box_cxcywh, stride)
    return Usual(look, look, jnp.ones(()))


def signs_of(
    usual: Usual,
    look: Float[Array, "g g c"],
    response: Float[Array, "k"],
    boxes_cxcywh: Float[Array, "k 4"],
    scores: Float[Array, "k"],
    box_cxcywh: Float[Array, "4"],
    previous_wh: Float[Array, "2"],
    reference: Float[Array, ""],
) -> Float[Array, "7"]:
    """Signs, as `SIGNS` names them, that the box is on the object; all but the size are larger where it is.

    Args:
        usual: what a sure frame is like.
        look: of the box, by `look_at`.
        response: of all cells.
        boxes_cxcywh: theirs, patch pixels.
        scores: theirs, with penalties and motion map.
        box_cxcywh: the one that was chosen.
        previous_wh: size before, patch pixels.
        reference: response of the first frame.
    """
    relative = scores / jnp.maximum(reference, 1e-6)
    best = jnp.max(relative)
    overlap = iou(boxes_cxcywh, box_cxcywh[None])
    others = jnp.where(overlap < 0.3, response / jnp.maximum(reference, 1e-6), 0.0)
    near = jnp.where(scores > 0.5 * jnp.max(scores), jnp.maximum(scores, 0.0), 0.0)
    agreement = jnp.sum(near * overlap) / jnp.maximum(jnp.sum(near), 1e-6)
    change = jnp.abs(jnp.log(jnp.maximum(box_cxcywh[2:], 1e-3) / previous_wh))
    return jnp.stack([
        best,
        best / jnp.maximum(usual.response, 0.1),
        jnp.sum(look * usual.first_look),
        jnp.sum(look * usual.look),
        best - jnp.max(others),
        agreement,
        jnp.sum(change),
    ])  # fmt: skip


def judge(signs: Float[Array, "7"], weights: tuple[float, ...]) -> Float[Array, ""]:
    """Probability that the IoU with the object is above 0.5: logistic regression, the constant first."""
    return 1 / (1 + jnp.exp(-(weights[0] + signs @ jnp.array(weights[1:]))))


def remember_usual(usual: Usual, look: Float[Array, "g g c"], best: Float[Array, ""], sure: Bool[Array, ""]) -> Usual:
    """What is usual after one more frame, if that was sure."""
    rate = LATE * sure.astype(jnp.float32)
    return Usual(
        usual.first_look,
        (1 - rate) * usual.look + rate * look,
        (1 - rate) * usual.response + rate * best,
    )
