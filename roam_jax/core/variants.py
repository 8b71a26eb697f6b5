"""Variants of the neural optimizer (Section 6.2), with the interface of the LSTM."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from roam_jax.config import OptimizerConfig
from roam_jax.core.optimizer import (
    Carry,
    CoordinateOptimizer,
    Omega,
    dense_init,
    head_apply,
    head_init,
    input_width,
    lstm,
    with_coordinate_rates,
)


def gru(config: OptimizerConfig) -> CoordinateOptimizer:
    """ROAM-GRU: two stacked gated recurrent units."""
    h = config.hidden

    def init(n: int, *, key: Array) -> Omega:
        del n
        keys = jax.random.split(key, 5)
        return {
            "layer0": {"x": dense_init(keys[0], input_width(config), 3 * h, h), "h": dense_init(keys[1], h, 3 * h, h)},
            "layer1": {"x": dense_init(keys[2], h, 3 * h, h), "h": dense_init(keys[3], h, 3 * h, h)},
            "head": head_init(keys[4], config),
        }

    def start(n: int) -> Carry:
        return (jnp.zeros((h, n)), jnp.zeros((h, n)))

    def apply(omega: Omega, inputs: Float[Array, "d n"], carry: Carry) -> tuple[Float[Array, "n"], Carry]:
        x, after = inputs, []
        for layer, hidden in zip((omega["layer0"], omega["layer1"]), carry, strict=True):
            xr, xz, xn = jnp.split(layer["x"]["w"].T @ x + layer["x"]["b"][:, None], 3)
            hr, hz, hn = jnp.split(layer["h"]["w"].T @ hidden + layer["h"]["b"][:, None], 3)
            update = jax.nn.sigmoid(xz + hz)
            x = (1 - update) * jnp.tanh(xn + jax.nn.sigmoid(xr + hr) * hn) + update * hidden
            after.append(x)
        return head_apply(omega["head"], x), tuple(after)

    return CoordinateOptimizer(init, start, apply)


def fc(config: OptimizerConfig) -> CoordinateOptimizer:
    """ROAM-FC: two fully connected layers with tanh, no memory."""
    h = config.hidden

    def init(n: int, *, key: Array) -> Omega:
        del n
        keys = jax.random.split(key, 3)
        return {
            "layer0": dense_init(keys[0], input_width(config), h, h),
            "layer1": dense_init(keys[1], h, h, h),
            "head": head_init(keys[2], config),
        }

    def apply(omega: Omega, inputs: Float[Array, "d n"], carry: Carry) -> tuple[Float[Array, "n"], Carry]:
        x = inputs
        for layer in (omega["layer0"], omega["layer1"]):
            x = jnp.tanh(layer["w"].T @ x + layer["b"][:, None])
        return head_apply(omega["head"], x), carry

    return CoordinateOptimizer(init, lambda n: (), apply)


def constant(config: OptimizerConfig) -> CoordinateOptimizer:
    """ROAM-ConstLR: one learned rate per coordinate, the same at every update."""

    def init(n: int, *, key: Array) -> Omega:
        del key
        return {"logit": jnp.full((n,), config.output_bias)}

    def apply(omega: Omega, inputs: Float[Array, "d n"], carry: Carry) -> tuple[Float[Array, "n"], Carry]:
        return jax.nn.sigmoid(omega["logit"]), carry

    return CoordinateOptimizer(init, lambda n: (), apply)


def sgd(config: OptimizerConfig) -> CoordinateOptimizer:
    """Plain gradient descent with one fixed rate: the baseline of Section 6.2."""

    def apply(omega: Omega, inputs: Float[Array, "d n"], carry: Carry) -> tuple[Float[Array, "n"], Carry]:
        return jnp.full(inputs.shape[1:], config.sgd_rate), carry

    return CoordinateOptimizer(lambda n, *, key: {}, lambda n: (), apply)


OPTIMIZERS = {"lstm": lstm, "gru": gru, "fc": fc, "constant": constant, "sgd": sgd}


def make_optimizer(config: OptimizerConfig) -> CoordinateOptimizer:
    """The variant that `config.kind` names.

    Raises:
        ValueError: there is no such variant.
    """
    if config.kind not in OPTIMIZERS:
        raise ValueError(f"no optimizer is called {config.kind!r}; there are {', '.join(OPTIMIZERS)}")
    made = OPTIMIZERS[config.kind](config)
    return with_coordinate_rates(made, config.coordinate_rates) if config.coordinate_rates else made
