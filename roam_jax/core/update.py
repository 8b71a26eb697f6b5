"""The inner update (Eq. 9): the one function that the meta-training unroll and the online tracker both call."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from roam_jax.config import Config, OptimizerConfig
from roam_jax.core.implicit import implicit_box_step, implicit_response_step
from roam_jax.core.losses import Samples, tracking_loss
from roam_jax.core.model import Branch, Theta, init_theta
from roam_jax.core.optimizer import Carry, Omega, stack_inputs
from roam_jax.core.scaling import multiply
from roam_jax.core.variants import make_optimizer


class MetaParams(NamedTuple):
    """What meta-training learns."""

    theta0: Theta
    """initial tracking model"""
    lambda0: Theta
    """learning rates of the first-frame step; their logarithms when `optimizer.log_lambda0`"""
    omega: Omega
    """recurrent neural optimizer"""


class ModelState(NamedTuple):
    """The tracking model between two updates."""

    theta: Theta
    rates: Theta
    """lambda of the last update, fed back to the optimizer (Eq. 10)"""
    carry: Carry
    """recurrent state of the optimizer"""


def init_meta(config: Config, channels: int, *, key: Array) -> MetaParams:
    """Meta-parameters before training, for feature maps with that many channels."""
    key_theta, key_omega = jax.random.split(key)
    theta0 = init_theta(config.model, channels, key=key_theta)
    o = config.optimizer
    rates = _constant_rates(theta0, o.lambda0, implicit_branches(o))
    count = sum(leaf.size for leaf in jax.tree.leaves(theta0))
    omega = make_optimizer(config.optimizer).init(count, key=key_omega)
    if o.coordinate_rates and o.implicit_updates:
        start = _constant_rates(theta0, o.coordinate_rates, {"cf": o.implicit_lambda0})
        omega["log_rates"] = jnp.log(ravel_pytree(start)[0])
    return MetaParams(theta0, jax.tree.map(jnp.log, rates) if o.log_lambda0 else rates, omega)


def implicit_branches(config: OptimizerConfig) -> dict[str, float]:
    """Names of the branches whose filters take an implicit first-frame step, with their lambda0 before training."""
    if not config.implicit_iterations:
        return {}
    boxes = {"reg": config.implicit_box_lambda0} if config.implicit_boxes else {}
    return {"cf": config.implicit_lambda0, **boxes}


def _put_filters(theta: Theta, branches: dict[str, Branch]) -> Theta:
    """`theta` with the filters and biases, in which a branch is linear, of the branches that are named."""
    put = lambda name, new: getattr(theta, name)._replace(filters=new.filters, bias=new.bias)  # noqa: E731
    return theta._replace(**{name: put(name, new) for name, new in branches.items()})


def _filled(branch: Branch, value: float) -> Branch:
    """A branch of that value."""
    return jax.tree.map(lambda leaf: jnp.full_like(leaf, value), branch)


def _constant_rates(theta: Theta, explicit: float, implicit: dict[str, float]) -> Theta:
    """Rates of one value, and of another for the filters and biases of each branch that is named."""
    rates = jax.tree.map(lambda leaf: jnp.full(leaf.shape, explicit), theta)
    return _put_filters(rates, {name: _filled(getattr(rates, name), value) for name, value in implicit.items()})


def implicit_step(
    name: str, theta: Theta, rates: Theta, samples: Samples, phi: Float[Array, "*g 2"], config: Config,
    scale: Theta | None,
) -> Branch:  # fmt: skip
    """The branch of that name after an implicit step of its filters from `theta` with `rates` (`implicit.py`)."""
    branch, lam = getattr(theta, name), getattr(rates, name)
    iterations, epsilon = config.optimizer.implicit_iterations, None if scale is None else getattr(scale, name)
    if name == "cf":
        return implicit_response_step(branch, lam, samples, phi, config.model, iterations, epsilon)
    return implicit_box_step(branch, lam, samples, phi, config.model, config.loss, iterations, epsilon)


def initial_rates(meta: MetaParams, config: Config) -> Theta:
    """lambda0 itself, whether it is stored as such or as its logarithm."""
    return jax.tree.map(jnp.exp, meta.lambda0) if config.optimizer.log_lambda0 else meta.lambda0


def loss_and_gradient(
    theta: Theta, samples: Samples, phi: Float[Array, "*g 2"], config: Config, scale: Theta | None
) -> tuple[Float[Array, ""], Theta]:
    """Update loss (Eq. 12) of `theta` times `scale`, and its gradient with respect to `theta`."""

    def loss(theta):
        return tracking_loss(multiply(theta, scale), samples, phi, config.model, config.loss)

    return jax.value_and_grad(loss)(theta)


def first_update(
    meta: MetaParams,
    theta0: Theta,
    samples: Samples,
    phi: Float[Array, "*g 2"],
    config: Config,
    scale: Theta | None = None,
) -> tuple[ModelState, Float[Array, ""]]:
    """(Eq. 9, t = 1) From theta0 with lambda0 on the first-frame samples; also the update loss before.

    One step, or `optimizer.first_steps` of them with the same rates. With `optimizer.implicit_iterations` the filter
    and bias of the response take one implicit step before (`implicit.py`), and with `optimizer.implicit_boxes` those of
    the box regression; they take none with the others: where they have not fitted yet, the others' gradients can be
    huge. The optimizer is handed their rates if later updates are implicit too, and zeros otherwise.

    Args:
        meta: lambda0 and the optimizer, whose recurrent state starts here.
        theta0: `meta.theta0`, divided by `scale` if there is one.
        samples: first-frame samples.
        phi: filter size(s), (rows, columns) in cells.
        config: model, loss and optimizer.
        scale: epsilon of the random filter scaling (Eq. 15).
    """
    rates = initial_rates(meta, config)
    stepped = {
        name: implicit_step(name, theta0, rates, samples, phi, config, scale)
        for name in implicit_branches(config.optimizer)
    }
    theta0 = _put_filters(theta0, stepped)
    explicit = _put_filters(rates, {name: _filled(branch, 0.0) for name, branch in stepped.items()})

    def step(theta, _):
        loss, gradient = loss_and_gradient(theta, samples, phi, config, scale)
        return jax.tree.map(lambda t, r, g: t - r * g, theta, explicit, gradient), loss

    # A loop, not repeated code: a fraction of the time to compile.
    theta, losses = jax.lax.scan(step, theta0, length=config.optimizer.first_steps)
    count = sum(leaf.size for leaf in jax.tree.leaves(theta))
    handed_on = explicit._replace(cf=rates.cf) if config.optimizer.implicit_updates else explicit
    return ModelState(theta, handed_on, make_optimizer(config.optimizer).start(count)), losses[0]


def update(
    omega: Omega,
    state: ModelState,
    samples: Samples,
    phi: Float[Array, "*g 2"],
    config: Config,
    scale: Theta | None = None,
    truncate: bool = True,
) -> tuple[ModelState, Float[Array, ""]]:
    """(Eq. 9-11) One recurrent step: loss and gradient, learning rates from the optimizer, gradient descent.

    With `optimizer.implicit_updates` filter and bias of the response step implicitly here too, with the rates that the
    optimizer emits for them. The box regression does not: what it learned from the first frame is better than what it
    would from boxes that the tracker itself found.

    Args:
        omega: parameters of the optimizer.
        state: model before the step.
        samples: updating samples (Eq. 12).
        phi: filter size(s), (rows, columns) in cells.
        config: model, loss and optimizer.
        scale: epsilon of the random filter scaling (Eq. 15).
        truncate: parameters, fed-back rates, loss and gradient are constants for the meta-gradient (official).

    Returns:
        The model after the step, and the update loss before it.
    """
    theta, rates = state.theta, state.rates
    loss, gradient = loss_and_gradient(theta, samples, phi, config, scale)
    if truncate:
        theta, rates, loss, gradient = jax.lax.stop_gradient((theta, rates, loss, gradient))
    flat_theta, unravel = ravel_pytree(theta)
    flat_rates, flat_gradient = ravel_pytree(rates)[0], ravel_pytree(gradient)[0]
    inputs = stack_inputs(flat_rates, flat_gradient, flat_theta, loss, config.optimizer)
    new_rates, carry = make_optimizer(config.optimizer).apply(omega, inputs, state.carry)
    new_theta, new_rates = unravel(flat_theta - new_rates * flat_gradient), unravel(new_rates)
    if config.optimizer.implicit_updates:
        stepped = implicit_step("cf", theta, new_rates, samples, phi, config, scale)
        new_theta = _put_filters(new_theta, {"cf": stepped})
    return ModelState(new_theta, new_rates, carry), loss


def is_finite(tree: Any) -> Array:
    """Whether every number of a pytree is finite."""
    return jnp.all(jnp.isfinite(ravel_pytree(tree)[0]))  # at once: leaf by leaf takes long to compile
