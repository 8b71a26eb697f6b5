"""Meta-training: the unroll of Algorithm 1 over one clip."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int

from roam_jax.core.losses import Loss, averaged_meta_loss, meta_loss, update_loss
from roam_jax.core.model import Geometry, Theta
from roam_jax.core.optimizer import CoordinateOptimizer, Omega
from roam_jax.core.samples import Samples
from roam_jax.core.scaling import divide, multiply
from roam_jax.core.update import ModelState, Step, first_update, gradient_step, update

QUANTILES = 101

MakeStep = Callable[[Samples, Float[Array, "2"], Theta | None], Step]
"""(samples, phi, epsilon of Eq. 15 or None) -> the step of an update on these samples"""

ChooseBox = Callable[[Float[Array, "k 4"], Float[Array, "k"], Int[Array, ""]], Float[Array, "4"]]
"""(boxes of all cells, their scores, index of the best one) -> box"""


def plain_step(samples: Samples, phi: Float[Array, "2"], scale: Theta | None) -> Step:
    """Eq. 9, whatever the samples."""
    del samples, phi, scale
    return gradient_step


def as_they_are(rates: Theta) -> Theta:
    """The rates themselves."""
    return rates


def box_of_best(
    boxes_cxcywh: Float[Array, "k 4"], scores: Float[Array, "k"], best: Int[Array, ""]
) -> Float[Array, "4"]:
    """The box at the highest score (Section 4)."""
    del scores
    return boxes_cxcywh[best]


class MetaParams(NamedTuple):
    """What meta-training learns of the method."""

    theta0: Theta
    """initial tracking model"""
    lambda0: Theta
    """learning rates of the first-frame step, or what `Method.first_rates` makes them of"""
    omega: Omega
    """recurrent neural optimizer"""


class Method(NamedTuple):
    """The choices that the equations leave open; training and the online tracker are given the same ones."""

    geometry: Geometry
    loss: Loss
    """of the updates (Eq. 12)"""
    meta: Loss
    """of the future frames (Eq. 13)"""
    optimizer: CoordinateOptimizer
    first_step: MakeStep = plain_step
    """the step on the first frame"""
    update_step: MakeStep = plain_step
    """the step of every later update"""
    first_rates: Callable[[Theta], Theta] = as_they_are
    """lambda0 from what is learned of it"""
    fed_back: Callable[[Theta], Theta] = as_they_are
    """lambda0 as it is shown to the optimizer (Eq. 10)"""
    choose_box: ChooseBox = box_of_best
    """the tracker's box from those of all cells (Section 4)"""

    def start(
        self, meta: MetaParams, theta0: Theta, samples: Samples, phi: Float[Array, "2"], scale: Theta | None = None
    ) -> tuple[ModelState, Float[Array, ""]]:
        """The first-frame step on `samples`, and the update loss before it.

        Args:
            meta: lambda0 is taken from it.
            theta0: `meta.theta0`, divided by `scale` if there is one.
            samples: first-frame samples.
            phi: filter size (rows, columns), cells.
            scale: epsilon of the random filter scaling (Eq. 15): the model in use is theta times this.
        """
        rates, step = self.first_rates(meta.lambda0), self.first_step(samples, phi, scale)
        state, loss = first_update(self.optimizer, theta0, rates, self.loss_on(samples, phi, scale), step)
        return state._replace(rates=self.fed_back(rates)), loss

    def update(
        self,
        omega: Omega,
        state: ModelState,
        samples: Samples,
        phi: Float[Array, "2"],
        scale: Theta | None = None,
        truncate: bool = True,
    ) -> tuple[ModelState, Float[Array, ""]]:
        """One recurrent update on `samples` (`core.update.update`), and the update loss before it."""
        step = self.update_step(samples, phi, scale)
        return update(self.optimizer, omega, state, self.loss_on(samples, phi, scale), step, truncate)

    def loss_on(
        self, samples: Samples, phi: Float[Array, "2"], scale: Theta | None
    ) -> Callable[[Theta], Float[Array, ""]]:
        """The update loss as a function of theta."""
        return lambda theta: update_loss(multiply(theta, scale), samples, phi, self.loss)


class Episode(NamedTuple):
    """One clip, cut for T updates: what each update sees, and the future frame that it is judged by."""

    first: Samples
    """first-frame samples"""
    updates: Samples
    """samples of the T - 1 recurrent updates, stacked on a leading axis"""
    tests: Samples
    """the future frame(s) after each of the T updates, stacked on a leading axis (Eq. 13)"""
    phis: Float[Array, "t 2"]
    """filter size (rows, columns) at each of the T updates, cells"""


class Unrolled(NamedTuple):
    """What an unroll gives; everything but `total` is for the log."""

    total: Float[Array, ""]
    """meta loss averaged over the T updates (Eq. 14)"""
    update: Float[Array, "t"]
    """update loss before each update (Eq. 12)"""
    meta: Float[Array, "t"]
    """meta loss after each update (Eq. 13)"""
    terms: dict[str, Float[Array, "t"]]
    """its terms, unweighted"""
    rates: Float[Array, "t"]
    """mean learning rate of each update"""
    spread: Float[Array, "t q"]
    """evenly spaced quantiles of the learning rates of each update, from the smallest to the largest"""


def unroll(
    meta: MetaParams,
    episode: Episode,
    method: Method,
    scale: Theta | None = None,
    *,
    scale_first: bool = True,
    truncate: bool = True,
) -> Unrolled:
    """(Algorithm 1) Lines 5 to 11: T updates of one model, each tested on a future frame.

    Args:
        meta: theta0, lambda0, omega; differentiable.
        episode: the clip.
        method: losses, optimizer and steps.
        scale: epsilon of the random filter scaling (Eq. 15).
        scale_first: scale the first-frame step too (official), or only the recurrent ones (ours).
        truncate: cut the meta-gradient between updates, as the official code does.
    """

    def judge(state: ModelState, test: Samples, phi: Array) -> tuple[Array, dict[str, Array]]:
        return meta_loss(multiply(state.theta, scale), test, phi, method.meta)

    def body(state: ModelState, inputs: tuple[Samples, Samples, Array]):
        samples, test, phi = inputs
        state, loss = method.update(meta.omega, state, samples, phi, scale, truncate)
        return state, (loss, *judge(state, test, phi), *_summarise(state.rates))

    first_test, later_tests = (jax.tree.map(lambda x, at=at: x[at], episode.tests) for at in (0, slice(1, None)))
    if scale_first:
        state, loss = method.start(meta, divide(meta.theta0, scale), episode.first, episode.phis[0], scale)
    else:
        state, loss = method.start(meta, meta.theta0, episode.first, episode.phis[0])
        # A rate is a parameter over a gradient: it shrinks with the square of the scale.
        state = state._replace(theta=divide(state.theta, scale), rates=divide(divide(state.rates, scale), scale))
    first = (loss, *judge(state, first_test, episode.phis[0]), *_summarise(state.rates))
    seen = jax.tree.map(lambda x: x[None], first)
    if len(episode.phis) > 1:
        # Truncated, an update keeps little for the backward pass; the full gradient recomputes it instead.
        step = body if truncate else jax.checkpoint(body)
        later = jax.lax.scan(step, state, (episode.updates, later_tests, episode.phis[1:]))[1]
        seen = jax.tree.map(lambda one, many: jnp.concatenate([one, many]), seen, later)
    return Unrolled(averaged_meta_loss(seen[1]), *seen)


def _summarise(rates: Theta) -> tuple[Float[Array, ""], Float[Array, "q"]]:
    """Mean and quantiles, for the log."""
    flat = jnp.sort(jax.lax.stop_gradient(ravel_pytree(rates)[0]))
    return jnp.mean(flat), flat[np.linspace(0, flat.size - 1, QUANTILES).astype(int)]
