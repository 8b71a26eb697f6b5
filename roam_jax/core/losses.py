"""The losses: L (Eq. 7), update loss (Eq. 12), meta loss (Eq. 13), averaged meta loss (Eq. 14); and the terms of L.

The paper writes L for one sample and averages over n of them; the official code takes each term over all n samples at
once, which is not the mean of the single ones. So a term is a function of all samples here, and says how it averages.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from roam_jax.core.boxes import encode, iou
from roam_jax.core.model import Predictions, Theta
from roam_jax.core.samples import Samples

Term = Callable[[Predictions, Samples], Float[Array, ""]]
"""a part of L, averaged over the samples"""
ChooseAnchors = Callable[[Float[Array, "n m m"]], Float[Array, "n m m"]]
"""weights of the anchors that the box term is taken over, from their IoU with the object; -1 where there is none"""
ChooseCells = Callable[[Float[Array, "n m m"]], Float[Array, "n m m"]]
"""weights of the cells that the official response term is taken over, from their absolute error"""


class Loss(NamedTuple):
    """What a loss is made of: the model's predictions, and the terms that measure them."""

    predict: Callable[[Theta, Float[Array, "n m m c"], Float[Array, "2"]], Predictions]
    """(theta, features, phi) -> predictions"""
    terms: Mapping[str, Term]
    """by name; the paper's are `response` and `box`"""
    weights: Mapping[str, float]
    """of each term; 1 in the paper"""


def tracking_loss(terms: Mapping[str, Array], weights: Mapping[str, float]) -> Float[Array, "*t"]:
    """(Eq. 7) L: the weighted sum of its terms, ||G - M||^2 and ||R - B||_s in the paper."""
    return sum(weights[name] * value for name, value in terms.items())  # type: ignore[return-value]


def update_loss(theta: Theta, samples: Samples, phi: Float[Array, "2"], loss: Loss) -> Float[Array, ""]:
    """(Eq. 12) l: L averaged over the updating samples."""
    return tracking_loss(measure_terms(theta, samples, phi, loss), loss.weights)


def meta_loss(
    theta: Theta, tests: Samples, phi: Float[Array, "2"], loss: Loss
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """(Eq. 13) L of the updated model on future frames; also its terms, for the log."""
    terms = measure_terms(theta, tests, phi, loss)
    return tracking_loss(terms, loss.weights), terms


def averaged_meta_loss(meta_losses: Float[Array, "*n t"]) -> Float[Array, ""]:
    """(Eq. 14) Mean of the meta losses over all clips and updates."""
    return jnp.mean(meta_losses)


def measure_terms(theta: Theta, samples: Samples, phi: Float[Array, "2"], loss: Loss) -> dict[str, Float[Array, ""]]:
    """Every term of a loss, unweighted."""
    predictions = loss.predict(theta, samples.features, phi)
    return {name: term(predictions, samples) for name, term in loss.terms.items()}


def response_l2(predictions: Predictions, samples: Samples) -> Float[Array, ""]:
    """First term of Eq. 7 in the paper's form, over the squared norm of the labels: so 1 is an empty response.

    The paper does not say how the squared error is scaled (ours). The norm is that of the labels of all samples, also
    where the object cannot be seen; Eq. 12's mean over samples is the quotient of both sums.
    """
    weights = samples.weights[:, None, None]
    error = predictions.response - samples.targets
    return jnp.sum(weights * error**2) / jnp.maximum(jnp.sum(weights * samples.labels**2), 1e-6)


def masked_response_l2(predictions: Predictions, samples: Samples, *, choose: ChooseCells) -> Float[Array, ""]:
    """First term of Eq. 7 (official): squared error times exp(label), over the number of cells that count plus one."""
    error = predictions.response - samples.targets
    weights = samples.weights[:, None, None] * choose(jnp.abs(error))
    return jnp.sum(weights * jnp.exp(samples.targets) * error**2) / (jnp.sum(weights) + 1.0)


def cells_above(errors: Float[Array, "n m m"], ignore_below: float) -> Float[Array, "n m m"]:
    """Cells with an error of at least `ignore_below` (official)."""
    return (errors >= ignore_below).astype(errors.dtype)


def box_smooth_l1(predictions: Predictions, samples: Samples, *, choose: ChooseAnchors) -> Float[Array, ""]:
    """Second term of Eq. 7: smooth L1 between predicted and true shifts, averaged over the chosen anchors."""
    targets = encode(samples.boxes_cxcywh[:, None, None], predictions.anchors[None])
    errors = jnp.mean(smooth_l1(predictions.deltas - targets), axis=-1)
    return mean_over(errors, near_anchors(predictions.anchors, samples, choose))


def smooth_l1(x: Float[Array, "*a"]) -> Float[Array, "*a"]:
    """0.5 x^2 below 1, |x| - 0.5 above."""
    size = jnp.abs(x)
    return jnp.where(size < 1, 0.5 * size**2, size - 0.5)


def near_anchors(anchors: Float[Array, "m m 4"], samples: Samples, choose: ChooseAnchors) -> Float[Array, "n m m"]:
    """Weights of the anchors near the object, of which a box term is the mean."""
    ious = iou(anchors[None], samples.boxes_cxcywh[:, None, None])
    return choose(jnp.where((samples.weights * samples.visible)[:, None, None] > 0, ious, -1.0))


def anchors_above_half(ious: Float[Array, "n m m"]) -> Float[Array, "n m m"]:
    """Anchors with an IoU of at least 0.5, or the best one of their sample (ours: the paper leaves the choice open)."""
    best = jnp.max(ious, axis=(1, 2), keepdims=True)
    return ((ious >= 0) & ((ious >= 0.5) | (ious == best))).astype(jnp.float32)


def best_anchors(ious: Float[Array, "n m m"], count: int) -> Float[Array, "n m m"]:
    """The `count` anchors with the largest IoU over all samples together (official).

    Ties are frequent (anchors inside the object) and go to the later anchor, as in the official sort.
    """
    values, places = jax.lax.top_k(jax.lax.stop_gradient(ious.ravel()[::-1]), min(count, ious.size))
    chosen = jnp.zeros(ious.size).at[places].set((values >= 0).astype(jnp.float32))
    return chosen[::-1].reshape(ious.shape)


def mean_over(values: Float[Array, "n m m"], weights: Float[Array, "n m m"]) -> Float[Array, ""]:
    """Mean over the anchors that count; 0 without any."""
    return jnp.sum(weights * values) / jnp.maximum(jnp.sum(weights), 1.0)
