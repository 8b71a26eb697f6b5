"""Recurrent neural optimizer (Eq. 10, 11): one small network, shared by all coordinates of theta.

An optimizer is a pair of pure functions, as in optax: `init` makes omega, `start` the recurrent state, `apply` maps the
input stack to learning rates. The variants of Section 6.2 are in `variants.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from roam_jax.config import OptimizerConfig

Omega = Any
"""parameters of the optimizer: a dict of arrays"""
Carry = Any
"""recurrent state of all coordinates: pytree of (hidden, n) arrays; coordinates last: a CPU vectorises over them"""


TINY_RATE = 1e-10
"""added to rates before their logarithm"""


class CoordinateOptimizer(NamedTuple):
    """What every optimizer variant provides; n is the number of coordinates of theta."""

    init: Callable[..., Omega]
    """init(n, key=) -> omega"""
    start: Callable[[int], Carry]
    """start(n) -> state before the first update"""
    apply: Callable[[Omega, Float[Array, "d n"], Carry], tuple[Float[Array, "n"], Carry]]
    """apply(omega, inputs, carry) -> (learning rates, carry)"""


def preprocess_gradient(gradient: Float[Array, "n"], p: float) -> Float[Array, "2 n"]:
    """Gradient as (log magnitude / p, sign), or (-1, e^p g) where it is tiny, so that all scales are seen."""
    size = jnp.abs(gradient)
    large = size >= jnp.exp(-p)
    log = jnp.where(large, jnp.log(size + 1e-6) / p, -1.0)
    sign = jnp.where(large, jnp.sign(gradient), jnp.exp(p) * gradient)
    return jnp.stack([log, sign])


def stack_inputs(
    rates: Float[Array, "n"],
    gradient: Float[Array, "n"],
    theta: Float[Array, "n"],
    loss: Float[Array, ""],
    config: OptimizerConfig,
) -> Float[Array, "d n"]:
    """(Eq. 10) I = [lambda, gradient, theta, loss] per coordinate: 4 numbers (paper), 5 (official), or 6 (ours).

    Rates and parameters may differ by many powers of ten between the parts of theta. As they are, the network cannot
    tell small ones apart; the `log` form shows it all magnitudes alike.
    """
    signed = lambda x: preprocess_gradient(x, config.gradient_p)  # noqa: E731
    parts = {
        "paper": lambda: (rates[None], gradient[None], theta[None]),
        "official": lambda: (rates[None], signed(gradient), theta[None]),
        "log": lambda: (jnp.log(rates + TINY_RATE)[None] / config.gradient_p, signed(gradient), signed(theta)),
    }[config.inputs]()
    return jnp.concatenate([*parts, jnp.broadcast_to(loss, rates.shape)[None]])


def input_width(config: OptimizerConfig) -> int:
    """Numbers per coordinate."""
    return {"paper": 4, "official": 5, "log": 6}[config.inputs]


def dense_init(key: Array, inputs: int, outputs: int, hidden: int) -> dict[str, Array]:
    """Uniform in +-1/sqrt(hidden), the usual start of recurrent layers."""
    bound = 1 / jnp.sqrt(hidden)
    key_w, key_b = jax.random.split(key)
    return {
        "w": jax.random.uniform(key_w, (inputs, outputs), minval=-bound, maxval=bound),
        "b": jax.random.uniform(key_b, (outputs,), minval=-bound, maxval=bound),
    }


def head_init(key: Array, config: OptimizerConfig) -> dict[str, Array]:
    """Output layer: small rates at the start through a very negative bias."""
    head = dense_init(key, config.hidden, 1, config.hidden)
    return {"w": head["w"], "b": jnp.full((1,), config.output_bias)}


def head_apply(head: dict[str, Array], hidden: Float[Array, "h n"]) -> Float[Array, "n"]:
    """(Eq. 11) Sigmoid of a linear map: a rate in (0, 1)."""
    return jax.nn.sigmoid(head["w"].T @ hidden + head["b"][:, None])[0]


def with_coordinate_rates(inner: CoordinateOptimizer, start_rate: float) -> CoordinateOptimizer:
    """(ours) What `inner` emits, times 2, multiplies one learned rate per coordinate, stored as its logarithm.

    One network serves all coordinates, but their curvatures differ by many powers of ten: the learned rates are for
    these, and the network for what changes while it tracks. Its output bias should be 0: a factor of 1.
    """

    def init(n: int, *, key: Array) -> Omega:
        return {"inner": inner.init(n, key=key), "log_rates": jnp.full((n,), jnp.log(start_rate))}

    def apply(omega: Omega, inputs: Float[Array, "d n"], carry: Carry) -> tuple[Float[Array, "n"], Carry]:
        factors, carry = inner.apply(omega["inner"], inputs, carry)
        return 2 * factors * jnp.exp(omega["log_rates"]), carry

    return CoordinateOptimizer(init, inner.start, apply)


def lstm(config: OptimizerConfig) -> CoordinateOptimizer:
    """(Eq. 11) Two stacked LSTM layers, then the output layer. Gates in the order input, forget, cell, output."""
    h = config.hidden

    def init(n: int, *, key: Array) -> Omega:
        del n
        keys = jax.random.split(key, 5)
        layers = [
            {"x": dense_init(keys[0], input_width(config), 4 * h, h), "h": dense_init(keys[1], h, 4 * h, h)["w"]},
            {"x": dense_init(keys[2], h, 4 * h, h), "h": dense_init(keys[3], h, 4 * h, h)["w"]},
        ]
        return {"layer0": layers[0], "layer1": layers[1], "head": head_init(keys[4], config)}

    def start(n: int) -> Carry:
        zeros = jnp.zeros((h, n))
        return ((zeros, zeros), (zeros, zeros))

    def apply(omega: Omega, inputs: Float[Array, "d n"], carry: Carry) -> tuple[Float[Array, "n"], Carry]:
        x, after = inputs, []
        for layer, (hidden, cell) in zip((omega["layer0"], omega["layer1"]), carry, strict=True):
            gates = layer["x"]["w"].T @ x + layer["h"].T @ hidden + layer["x"]["b"][:, None]
            i, f, g, o = jnp.split(gates, 4)
            cell = jax.nn.sigmoid(f) * cell + jax.nn.sigmoid(i) * jnp.tanh(g)
            x = jax.nn.sigmoid(o) * jnp.tanh(cell)
            after.append((x, cell))
        return head_apply(omega["head"], x), tuple(after)

    return CoordinateOptimizer(init, start, apply)
