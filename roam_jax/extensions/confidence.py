"""How sure the tracker is: the probability that its box is on the object, in place of a bare response (ours).

The response alone does not say it: a filter answers to what covers its object nearly as it does to the object, and how
high it answers differs from video to video. So a frame is compared with what has been usual of late in this video, by
its response and by its look, and logistic regression makes a probability of the two (`online.confidence`).

Measured (experiments/LOG.md, seventh round; `experiments/confidence.py` measures, and fits the weights): against a
fixed share of the first frame's response, ten times as many frames with a hidden object are reported.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from roam_jax.core.boxes import cell_centers
from roam_jax.trees import is_finite

GRID = 3
"""parts per side of the box that its look is averaged over"""
SIGNS = ("response", "look")
"""what `signs_of` measures, in this order"""
SURE_WEIGHT, UNSURE_WEIGHT = 0.2, 0.02
"""of a new frame in what is usual, where the object is surely found and where not"""
FIRST_FRAMES = 5
"""that count equally, whether they are sure or not: nothing is usual yet"""
LEAST_RESPONSE = 0.02
"""over the first frame's; lower ones count as this"""


class Usual(NamedTuple):
    """What the object's frames have been like of late."""

    look: Float[Array, "g g c"]
    """mean features of the parts of its box, over `spread`"""
    log_response: Float[Array, ""]
    """logarithm of its response over the first frame's"""
    spread: Float[Array, "c"]
    """standard deviation of each channel in the first frame"""


def look_at(features: Float[Array, "m m c"], box_cxcywh: Float[Array, "4"], stride: int) -> Float[Array, "g g c"]:
    """Mean features of the parts of a box.

    Args:
        features: of the patch.
        box_cxcywh: patch pixels from the patch centre.
        stride: patch pixels per cell.
    """
    at, half = cell_centers(features.shape[0], stride)[None, None], stride / 2
    edges = (box_cxcywh[:2] - box_cxcywh[2:] / 2)[:, None] + box_cxcywh[2:, None] * jnp.linspace(0, 1, GRID + 1)[None]
    # a cell counts by how much of it lies inside a part, on each axis
    inside = jnp.minimum(edges[:, 1:, None], at + half) - jnp.maximum(edges[:, :-1, None], at - half)
    weights = jnp.maximum(inside, 0.0)
    across, down = weights / jnp.maximum(jnp.sum(weights, axis=-1, keepdims=True), 1e-6)
    return jnp.einsum("yi,xj,ijc->yxc", down, across, features)


def begin(features: Float[Array, "m m c"], box_cxcywh: Float[Array, "4"], stride: int) -> Usual:
    """What is usual after the first frame, of which these are the features and the box, as for `look_at`."""
    spread = jnp.std(features, axis=(0, 1)) + 1e-3
    return Usual(look_at(features, box_cxcywh, stride) / spread[None, None], jnp.zeros(()), spread)


class Seen(NamedTuple):
    """One frame, to be compared with what is usual."""

    look: Float[Array, "g g c"]
    log_response: Float[Array, ""]


def see(usual: Usual, look: Float[Array, "g g c"], response: Float[Array, ""]) -> Seen:
    """A frame by the look of its box (`look_at`) and by its response over the first frame's."""
    return Seen(look / usual.spread[None, None], jnp.log(jnp.maximum(response, LEAST_RESPONSE)))


def signs_of(usual: Usual, seen: Seen) -> Float[Array, "2"]:
    """Logarithm of the response over the usual one; and 1 less the cosine of look and usual look."""
    norms = jnp.sum(seen.look**2) * jnp.sum(usual.look**2)
    cosine = jnp.sum(seen.look * usual.look) / jnp.sqrt(jnp.maximum(norms, 1e-12))
    return jnp.stack([seen.log_response - usual.log_response, 1 - cosine])


def judge(signs: Float[Array, "2"], weights: tuple[float, ...]) -> Float[Array, ""]:
    """Probability that the IoU with the object is above 0.5: logistic regression, the constant first."""
    return 1 / (1 + jnp.exp(-(weights[0] + signs @ jnp.array(weights[1:]))))


def update_usual(usual: Usual, seen: Seen, sure: Bool[Array, ""], frame: Int[Array, ""]) -> Usual:
    """What is usual after one more frame, of that number (the first one's is 0); one that is not finite is left out."""
    weight = jnp.where(sure, SURE_WEIGHT, UNSURE_WEIGHT)
    weight = jnp.where(frame <= FIRST_FRAMES, jnp.maximum(weight, 1 / (frame.astype(jnp.float32) + 1)), weight)
    finite = is_finite(seen)

    def mix(old: Array, new: Array) -> Array:
        return jnp.where(finite, (1 - weight) * old + weight * new, old)

    return usual._replace(look=mix(usual.look, seen.look), log_response=mix(usual.log_response, seen.log_response))
