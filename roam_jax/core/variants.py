"""The optimizers of Section 6.2: the LSTM and what the paper compares it with."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from roam_jax.core.optimizer import Carry, CoordinateOptimizer, Inputs, Omega, bound_rates, count, network_optimizer


def lstm(inputs: Inputs, *, hidden: int = 20, output_bias: float = -10.0) -> CoordinateOptimizer:
    """ROAM: two stacked LSTM layers (Section 5); the bias makes the first rates small (official)."""

    def network():
        from roam_jax.core.networks import LSTM

        return LSTM(hidden, output_bias)

    return network_optimizer(network, inputs)


def gru(inputs: Inputs, *, hidden: int = 20, output_bias: float = -10.0) -> CoordinateOptimizer:
    """ROAM-GRU: two stacked gated recurrent units."""

    def network():
        from roam_jax.core.networks import GRU

        return GRU(hidden, output_bias)

    return network_optimizer(network, inputs)


def fc(inputs: Inputs, *, hidden: int = 20, output_bias: float = -10.0) -> CoordinateOptimizer:
    """ROAM-FC: two fully connected layers with tanh, no memory."""

    def network():
        from roam_jax.core.networks import FC

        return FC(hidden, output_bias)

    return network_optimizer(network, inputs)


def constant(output_bias: float = -10.0) -> CoordinateOptimizer:
    """ROAM-ConstLR: one learned rate per coordinate, the same at every update."""

    def init(theta: Any, *, key: Array) -> Omega:
        del key
        return {"logit": jnp.full((count(theta),), output_bias)}

    def apply(omega: Omega, inputs: Float[Array, "4 n"], carry: Carry) -> tuple[Float[Array, "n"], Carry]:
        del inputs
        return bound_rates(omega["logit"]), carry

    return CoordinateOptimizer(init, no_state, apply)


def sgd(rate: float) -> CoordinateOptimizer:
    """Plain gradient descent with one fixed rate: the baseline."""

    def apply(omega: Omega, inputs: Float[Array, "4 n"], carry: Carry) -> tuple[Float[Array, "n"], Carry]:
        del omega
        return jnp.full(inputs.shape[1:], rate), carry

    return CoordinateOptimizer(no_parameters, no_state, apply)


def given_rates() -> CoordinateOptimizer:
    """Rates that are given as omega: how the first-frame step takes lambda0."""

    def apply(omega: Omega, inputs: Float[Array, "4 n"], carry: Carry) -> tuple[Float[Array, "n"], Carry]:
        del inputs
        return omega, carry

    return CoordinateOptimizer(no_parameters, no_state, apply)


def no_parameters(theta: Any, *, key: Array) -> Omega:
    """Of an optimizer that learns nothing."""
    del theta, key
    return {}


def no_state(theta: Any) -> Carry:
    """Of an optimizer without memory."""
    del theta
    return ()
