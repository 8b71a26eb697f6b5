"""Tracking loss L (Eq. 7) and update loss (Eq. 12), as the paper writes them and as the official code computes them."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from roam_jax.config import LossConfig, ModelConfig
from roam_jax.core.boxes import anchor_boxes, decode, encode, generalised_overlap, overlap
from roam_jax.core.correlate import Method
from roam_jax.core.model import Theta, regress, respond

NO_LABEL = 1e-12
"""label of a place that is nowhere near the object, in the peak term"""


class Samples(NamedTuple):
    """Updating samples (F_j, M_j, B_j) of Eq. 12; a leading axis g is there where g clips share one theta."""

    features: Float[Array, "*g n m m c"]
    labels: Float[Array, "*g n m m"]
    """label maps M (Eq. 8)"""
    boxes_cxcywh: Float[Array, "*g n 4"]
    """boxes B, patch pixels from the patch centre"""
    weights: Float[Array, "*g n"]
    """1 for a sample that counts, 0 for an empty place"""
    anchors: Float[Array, "*g n m m"] | None = None
    """weights of the anchors in the box loss; None: chosen by overlap"""


class Losses(NamedTuple):
    """The two terms of Eq. 7, and two more that only the meta loss may use."""

    response: Float[Array, ""]
    box: Float[Array, ""]
    peak: Float[Array, ""]
    giou: Float[Array, ""]


def smooth_l1(x: Float[Array, "*a"]) -> Float[Array, "*a"]:
    """0.5 x^2 below 1, |x| - 0.5 above."""
    size = jnp.abs(x)
    return jnp.where(size < 1, 0.5 * size**2, size - 0.5)


def response_loss(
    response: Float[Array, "n m m"], labels: Float[Array, "n m m"], weights: Float[Array, "n"], config: LossConfig
) -> Float[Array, ""]:
    """First term of Eq. 7, averaged over the samples (Eq. 12).

    The `paper` form is the squared error of all cells over the squared norm of the label, so that 1 is the loss of an
    empty response whatever the map's size. The `official` form leaves out cells with an error below `ignore_below`,
    weights the others by exp(label) and divides by their number plus one.
    """
    error = response - labels
    counts = jnp.broadcast_to(weights[:, None, None], error.shape)
    if config.response_form == "paper":
        return jnp.sum(counts * error**2) / jnp.maximum(jnp.sum(counts * labels**2), 1e-6)
    counts = counts * (jnp.abs(error) >= config.ignore_below)
    return jnp.sum(counts * jnp.exp(labels) * error**2) / (jnp.sum(counts) + 1.0)


def peak_loss(
    response: Float[Array, "n m m"], labels: Float[Array, "n m m"], weights: Float[Array, "n"], sharpness: float
) -> Float[Array, ""]:
    """(ours) How badly the place of the maximum is known, in nats: 0 is best.

    Minus the logarithm of the label that one expects at a cell drawn from the softmax of `sharpness` x response,
    averaged over the samples. Unlike a squared error it goes on pushing all look-alikes below the object; unlike the
    divergence from the label map it does not punish a response for being high where it should be.
    """
    rows = lambda maps: maps.reshape(maps.shape[0], -1)  # noqa: E731
    logs = jax.nn.log_softmax(sharpness * rows(response), axis=1)
    expected = jax.nn.logsumexp(logs, axis=1, b=rows(labels) + NO_LABEL)
    return -jnp.sum(weights * expected) / jnp.maximum(jnp.sum(weights), 1.0)


def choose_anchors(
    boxes_cxcywh: Float[Array, "n 4"],
    anchors: Float[Array, "n m m 4"],
    weights: Float[Array, "n"],
    config: LossConfig,
    frames: int | None = None,
) -> Float[Array, "n m m"]:
    """Weights, 0 or 1, of the anchors near the object: those that the second term of Eq. 7 is taken over.

    The `official` form takes the `top_anchors` x `frames` anchors with the largest overlap over all samples together
    (`frames`: n, or the samples of one clip where several share theta); the `paper` form, which leaves the choice
    open, those with an overlap of at least 0.5, or the best one.
    """
    counted = weights[:, None, None] > 0
    found = jnp.where(counted, overlap(anchors, boxes_cxcywh[:, None, None]), -1.0)
    if config.box_form == "paper":
        best = jnp.max(found, axis=(1, 2), keepdims=True)
        return (counted & ((found >= 0.5) | (found == best))).astype(jnp.float32)
    # Ties are frequent (anchors inside the object) and go to the later anchor, as in the official sort.
    count = min(config.top_anchors * (frames or found.shape[0]), found.size)
    values, places = jax.lax.top_k(jax.lax.stop_gradient(found.ravel()[::-1]), count)
    chosen = jnp.zeros(found.size).at[places].set((values >= 0).astype(jnp.float32))
    return chosen[::-1].reshape(found.shape)


def mean_over(values: Float[Array, "n m m"], chosen: Float[Array, "n m m"]) -> Float[Array, ""]:
    """Mean over the chosen anchors; 0 without any."""
    return jnp.sum(chosen * values) / jnp.maximum(jnp.sum(chosen), 1.0)


def box_loss(
    deltas: Float[Array, "n m m 4"],
    boxes_cxcywh: Float[Array, "n 4"],
    anchors: Float[Array, "n m m 4"],
    chosen: Float[Array, "n m m"],
) -> Float[Array, ""]:
    """Second term of Eq. 7: smooth L1 between predicted and true shifts, averaged over the chosen anchors."""
    targets = encode(boxes_cxcywh[:, None, None], anchors)
    errors = jnp.mean(smooth_l1(deltas - targets), axis=-1)
    return mean_over(errors, chosen)


def giou_loss(
    deltas: Float[Array, "n m m 4"],
    boxes_cxcywh: Float[Array, "n 4"],
    anchors: Float[Array, "n m m 4"],
    chosen: Float[Array, "n m m"],
) -> Float[Array, ""]:
    """(ours) 1 - GIoU of the predicted boxes and the true ones, averaged over the chosen anchors."""
    found = generalised_overlap(decode(deltas, anchors), boxes_cxcywh[:, None, None])
    return mean_over(1 - found, chosen)


def predict(
    theta: Theta,
    features: Float[Array, "*g n m m c"],
    phi: Float[Array, "*g 2"],
    model: ModelConfig,
    method: Method = "auto",
) -> tuple[Float[Array, "*g n m m"], Float[Array, "*g n m m 4"], Float[Array, "*g m m 4"]]:
    """Responses G, shifts R and anchors (Eq. 6) of all samples; `phi` has the groups' leading axis, if there is one."""
    if phi.ndim == 2:
        return jax.vmap(lambda f, p: predict(theta, f, p, model, method))(features, phi)
    return (
        respond(features, theta.cf, phi, model.max_filter, method),
        regress(features, theta.reg, phi, model.max_filter, method),
        anchors_of_size(phi, features.shape[-2], model),
    )


def anchors_of_size(phi: Float[Array, "*g 2"], map_size: int, model: ModelConfig) -> Float[Array, "*g m m 4"]:
    """(Eq. 6) Anchors of all cells, of the size of the object that filters of size phi are for."""
    return anchor_boxes(map_size, model.stride, phi[..., ::-1] / model.filter_scale * model.stride)


def anchors_of(
    samples: Samples, phi: Float[Array, "*g 2"], model: ModelConfig, loss: LossConfig
) -> tuple[Float[Array, "*g n m m 4"], Float[Array, "*g n m m"]]:
    """Anchors of every sample, and which of them count in the box loss; grouped samples are pooled (official)."""
    per_clip = anchors_of_size(phi, samples.features.shape[-2], model)[..., None, :, :, :]
    anchors = jnp.broadcast_to(per_clip, (*samples.labels.shape, 4))
    if samples.anchors is not None:
        return anchors, samples.anchors
    flat = lambda x, keep: x.reshape(-1, *x.shape[x.ndim - keep :])  # noqa: E731
    chosen = choose_anchors(
        flat(samples.boxes_cxcywh, 1), flat(anchors, 3), samples.weights.ravel(), loss, samples.weights.shape[-1]
    )
    return anchors, chosen.reshape(samples.labels.shape)


def tracking_losses(
    theta: Theta, samples: Samples, phi: Float[Array, "*g 2"], model: ModelConfig, loss: LossConfig
) -> Losses:
    """(Eq. 7, 12) The terms of the loss of one theta on all samples; grouped samples are pooled (official)."""
    response, deltas, _ = predict(theta, samples.features, phi, model)
    anchors, chosen = anchors_of(samples, phi, model, loss)
    flat = lambda x, keep: x.reshape(-1, *x.shape[x.ndim - keep :])  # noqa: E731
    response, labels, weights = flat(response, 2), flat(samples.labels, 2), samples.weights.ravel()
    near = (flat(deltas, 3), flat(samples.boxes_cxcywh, 1), flat(anchors, 3), flat(chosen, 2))
    return Losses(
        response_loss(response, labels, weights, loss),
        box_loss(*near),
        peak_loss(response, labels, weights, loss.peak_sharpness),
        giou_loss(*near),
    )


def meta_loss(terms: Losses, loss: LossConfig) -> Float[Array | np.ndarray, "*t"]:
    """(Eq. 13) Weighted sum of all terms; in numpy for numpy's arrays."""
    return (
        terms.response
        + loss.box_weight * terms.box
        + loss.peak_weight * terms.peak
        + loss.giou_weight * terms.giou
    )  # fmt: skip


def tracking_loss(
    theta: Theta, samples: Samples, phi: Float[Array, "*g 2"], model: ModelConfig, loss: LossConfig
) -> Float[Array, ""]:
    """(Eq. 7, 12) Update loss: the response term, and the box term times `box_weight`."""
    terms = tracking_losses(theta, samples, phi, model, loss)
    return terms.response + loss.box_weight * terms.box
