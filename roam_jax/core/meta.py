"""The unroll of Algorithm 1 and its meta loss (Eq. 13, 14)."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from roam_jax.config import Config
from roam_jax.core.losses import Losses, Samples, meta_loss, tracking_losses
from roam_jax.core.model import Theta
from roam_jax.core.scaling import divide, multiply
from roam_jax.core.update import MetaParams, first_update, update

QUANTILES = 101


class Episode(NamedTuple):
    """One clip, cut for T updates: what each update sees, and the future frame that it is judged by."""

    first: Samples
    """first-frame samples"""
    updates: Samples
    """samples of the T - 1 recurrent updates, stacked on a leading axis"""
    tests: Samples
    """the future frame(s) after each of the T updates, stacked on a leading axis (Eq. 13)"""
    phis: Float[Array, "t *g 2"]
    """filter size at each of the T updates"""


class MetaLoss(NamedTuple):
    """What an unroll gives; everything but `total` is for the log."""

    total: Float[Array, ""]
    """meta loss averaged over the T updates (Eq. 14)"""
    update: Float[Array, "t"]
    """update loss before each update (Eq. 12)"""
    response: Float[Array, "t"]
    """response term of each meta loss (Eq. 13)"""
    box: Float[Array, "t"]
    """box term of each meta loss (Eq. 13)"""
    peak: Float[Array, "t"]
    """peak term of each meta loss (ours)"""
    giou: Float[Array, "t"]
    """overlap term of each meta loss (ours)"""
    rates: Float[Array, "t"]
    """mean learning rate of each update"""
    spread: Float[Array, "t q"]
    """evenly spaced quantiles of the learning rates of each update, from the smallest to the largest"""


def unroll(meta: MetaParams, episode: Episode, config: Config, scale: Theta | None = None) -> MetaLoss:
    """(Algorithm 1, lines 5-11; Eq. 13, 14) T updates of one model, each tested on a future frame.

    Args:
        meta: theta0, lambda0, omega; differentiable.
        episode: the clip; its arrays have a group axis where several clips share the model.
        config: model, loss, optimizer; `train.full_gradient` differentiates through the whole unroll.
        scale: epsilon of the random filter scaling (Eq. 15).
    """

    def judge(state, test, phi) -> Losses:
        return tracking_losses(multiply(state.theta, scale), test, phi, config.model, config.loss)

    at = lambda tree, index: jax.tree.map(lambda x: x[index], tree)  # noqa: E731
    if config.train.scale_first:
        theta0 = divide(meta.theta0, scale)
        state, first_loss = first_update(meta, theta0, episode.first, episode.phis[0], config, scale)
    else:
        state, first_loss = first_update(meta, meta.theta0, episode.first, episode.phis[0], config)
        # A rate is a parameter over a gradient: it shrinks with the square of the scale.
        state = state._replace(theta=divide(state.theta, scale), rates=divide(divide(state.rates, scale), scale))
    first_test = judge(state, at(episode.tests, 0), episode.phis[0])
    first_rates = _summarise(state.rates)

    def body(state, inputs):
        samples, test, phi = inputs
        state, loss = update(
            meta.omega, state, samples, phi, config, scale, truncate=not config.train.full_gradient
        )  # fmt: skip
        return state, (loss, judge(state, test, phi), _summarise(state.rates))

    seen = jax.tree.map(lambda x: x[None], (first_loss, first_test, first_rates))
    if len(episode.phis) > 1:
        later = (episode.updates, at(episode.tests, slice(1, None)), episode.phis[1:])
        # Truncated, an update keeps little for the backward pass; the full gradient recomputes it instead.
        step = jax.checkpoint(body) if config.train.full_gradient else body
        seen = jax.tree.map(lambda one, many: jnp.concatenate([one, many]), seen, jax.lax.scan(step, state, later)[1])
    losses, test, (mean, spread) = seen
    return MetaLoss(
        jnp.mean(meta_loss(test, config.loss)),
        losses,
        *test,
        rates=mean,
        spread=spread,
    )


def _summarise(rates: Theta) -> tuple[Float[Array, ""], Float[Array, "q"]]:
    """Mean and quantiles, for the log."""
    flat = jnp.sort(jax.lax.stop_gradient(ravel_pytree(rates)[0]))
    return jnp.mean(flat), flat[np.linspace(0, flat.size - 1, QUANTILES).astype(int)]
