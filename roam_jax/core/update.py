"""The inner step (Eq. 9-11): what training and the online tracker do to the tracking model at every update."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from roam_jax.core.model import Theta
from roam_jax.core.optimizer import Carry, CoordinateOptimizer, Omega, stack_inputs
from roam_jax.core.variants import given_rates

Tree = TypeVar("Tree")
"""theta, and what has its structure; any pytree of arrays will do"""
Step = Callable[[Tree, Tree, Tree], Tree]
"""step(theta, rates, gradient) -> theta"""


class ModelState(NamedTuple):
    """The tracking model between two updates."""

    theta: Theta
    rates: Theta
    """lambda of the last update, fed back to the optimizer (Eq. 10)"""
    carry: Carry
    """recurrent state of the optimizer"""


def gradient_step(theta: Tree, rates: Tree, gradient: Tree) -> Tree:
    """(Eq. 9) theta - lambda * gradient, coordinate by coordinate."""
    return jax.tree.map(lambda t, r, g: t - r * g, theta, rates, gradient)


def update(
    optimizer: CoordinateOptimizer,
    omega: Omega,
    state: ModelState,
    loss: Callable[[Any], Float[Array, ""]],
    step: Step[Any] = gradient_step,
    truncate: bool = True,
) -> tuple[ModelState, Float[Array, ""]]:
    """One recurrent update: gradient of the update loss, rates from the optimizer (Eq. 10, 11), a step (Eq. 9).

    Args:
        optimizer: emits the learning rates.
        omega: its parameters.
        state: model before the update.
        loss: update loss of theta (Eq. 12).
        step: what is done with rates and gradient.
        truncate: theta, fed-back rates, loss and gradient are constants for the meta-gradient (official).

    Returns:
        The model after the update, and the update loss before it.
    """
    theta, rates = state.theta, state.rates
    value, gradient = jax.value_and_grad(loss)(theta)
    if truncate:
        theta, rates, value, gradient = jax.lax.stop_gradient((theta, rates, value, gradient))
    flat_theta, unravel = ravel_pytree(theta)
    inputs = stack_inputs(ravel_pytree(rates)[0], ravel_pytree(gradient)[0], flat_theta, value)
    flat_rates, carry = optimizer.apply(omega, inputs, state.carry)
    rates = unravel(flat_rates)
    return ModelState(step(theta, rates, gradient), rates, carry), value


def first_update(
    optimizer: CoordinateOptimizer,
    theta0: Theta,
    lambda0: Theta,
    loss: Callable[[Any], Float[Array, ""]],
    step: Step[Any] = gradient_step,
) -> tuple[ModelState, Float[Array, ""]]:
    """The first-frame step (Eq. 9, t = 1): `update` with lambda0 for rates; `optimizer` begins after it.

    Args:
        optimizer: of the later updates.
        theta0: learned initial model.
        lambda0: learned initial rates.
        loss: update loss of theta on the first-frame samples.
        step: as in `update`.

    Returns:
        The model after the step, and the loss before it.
    """
    before = ModelState(theta0, lambda0, ())
    state, value = update(given_rates(), ravel_pytree(lambda0)[0], before, loss, step, truncate=False)
    return state._replace(carry=optimizer.start(theta0)), value
