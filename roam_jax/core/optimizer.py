"""The recurrent neural optimizer (Eq. 10, 11): a small network, shared by all coordinates of theta, emits their rates.

An optimizer is a few pure functions, as in optax: `init` makes omega, `start` the recurrent state, `apply` maps the
input stack to learning rates. The networks are linen modules (`networks.py`), imported when they are first used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Omega = Any
"""parameters of the optimizer: a dict of arrays"""
Carry = Any
"""recurrent state of all coordinates: pytree of (hidden, n) arrays; coordinates last: a CPU vectorises over them"""


class CoordinateOptimizer(NamedTuple):
    """What every optimizer provides; theta is a pytree with n coordinates in all."""

    init: Callable[..., Omega]
    """init(theta, key=) -> omega"""
    start: Callable[[Any], Carry]
    """start(theta) -> recurrent state before the first update"""
    apply: Callable[[Omega, Float[Array, "4 n"], Carry], tuple[Float[Array, "n"], Carry]]
    """apply(omega, inputs, carry) -> (learning rates, carry), inputs as `stack_inputs` makes them"""
    network: Callable[[], Any] | None = None
    """gives its linen module, if it has one"""
    width: int = 0
    """inputs of that per coordinate"""


class Inputs(NamedTuple):
    """How a network is shown the input stack."""

    width: int
    """numbers per coordinate"""
    prepare: Callable[[Float[Array, "4 n"]], Float[Array, "d n"]]
    """of the stack"""


def stack_inputs(
    rates: Float[Array, "n"], gradient: Float[Array, "n"], theta: Float[Array, "n"], loss: Float[Array, ""]
) -> Float[Array, "4 n"]:
    """(Eq. 10) I = [lambda, gradient, theta, loss] per coordinate; the loss is the same for all."""
    return jnp.stack([rates, gradient, theta, jnp.broadcast_to(loss, rates.shape)])


def bound_rates(logits: Float[Array, "n"]) -> Float[Array, "n"]:
    """(Eq. 11) lambda = sigma(O(I; omega)): rates between 0 and 1."""
    return jax.nn.sigmoid(logits)


def raw_inputs() -> Inputs:
    """The four numbers as they are (paper)."""
    return Inputs(4, lambda inputs: inputs)


def signed_log_inputs(p: float = 10.0) -> Inputs:
    """Five numbers: the gradient as (log magnitude, sign) (official)."""

    def prepare(inputs: Float[Array, "4 n"]) -> Float[Array, "5 n"]:
        rates, gradient, theta, loss = inputs
        return jnp.concatenate([rates[None], signed_log(gradient, p), theta[None], loss[None]])

    return Inputs(5, prepare)


def signed_log(x: Float[Array, "n"], p: float) -> Float[Array, "2 n"]:
    """Numbers as (log magnitude / p, sign), or (-1, e^p x) where tiny, so that all scales are seen (official)."""
    size = jnp.abs(x)
    large = size >= jnp.exp(-p)
    log = jnp.where(large, jnp.log(size + 1e-6) / p, -1.0)
    sign = jnp.where(large, jnp.sign(x), jnp.exp(p) * x)
    return jnp.stack([log, sign])


def count(theta: Any) -> int:
    """Coordinates of a pytree."""
    return sum(leaf.size for leaf in jax.tree.leaves(theta))


def network_optimizer(make_network: Callable[[], Any], inputs: Inputs) -> CoordinateOptimizer:
    """Optimizer of a linen module that maps (recurrent state, (d, n) inputs) to (recurrent state, (n,) logits).

    Args:
        make_network: gives the module, when it is first needed; it has a method `start(n)` for the recurrent state.
        inputs: how it is shown the stack.
    """

    def init(theta: Any, *, key: Array) -> Omega:
        network, n = make_network(), count(theta)
        return network.init(key, network.start(n), jnp.zeros((inputs.width, n)))["params"]

    def start(theta: Any) -> Carry:
        return make_network().start(count(theta))

    def apply(omega: Omega, stack: Float[Array, "4 n"], carry: Carry) -> tuple[Float[Array, "n"], Carry]:
        carry, logits = make_network().apply({"params": omega}, carry, inputs.prepare(stack))
        return bound_rates(logits), carry

    return CoordinateOptimizer(init, start, apply, make_network, inputs.width)
