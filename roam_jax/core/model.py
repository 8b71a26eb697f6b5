"""The tracking model theta = (cf, reg) (Eq. 1): response generation G and box regression R (Section 3.2)."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from roam_jax.config import ModelConfig
from roam_jax.core.correlate import Method, correlate


class Branch(NamedTuple):
    """One branch: 1x1 reduction, then a resizable filter."""

    reduce_w: Float[Array, "c r"]
    reduce_b: Float[Array, "r"]
    filters: Float[Array, "k k r o"]
    bias: Float[Array, "o"]


class Theta(NamedTuple):
    """(Eq. 1) theta = [theta_cf, theta_reg]. Learning rates and scalings have the same structure."""

    cf: Branch
    reg: Branch


def init_theta(config: ModelConfig, channels: int, *, key: Array) -> Theta:
    """Random theta0: N(0, 1) / sqrt(fan-in) for the reductions, times `init_scale` for the filters, zero biases."""

    def branch(key, outputs):
        key_w, key_f = jax.random.split(key)
        k, r = config.base_filter, config.reduced_channels
        return Branch(
            jax.random.normal(key_w, (channels, r)) / jnp.sqrt(channels),
            jnp.zeros(r),
            jax.random.normal(key_f, (k, k, r, outputs)) * config.init_scale / jnp.sqrt(k * k * r),
            jnp.zeros(outputs),
        )

    key_cf, key_reg = jax.random.split(key)
    return Theta(branch(key_cf, 1), branch(key_reg, 4))


def _apply(
    features: Float[Array, "n h w c"], branch: Branch, phi: Float[Array, "2"], canvas: int, method: Method
) -> Float[Array, "n h w o"]:
    reduced = features @ branch.reduce_w + branch.reduce_b
    return correlate(reduced, branch.filters, phi, canvas, method) + branch.bias


def respond(
    features: Float[Array, "n m m c"], cf: Branch, phi: Float[Array, "2"], canvas: int, method: Method = "auto"
) -> Float[Array, "n m m"]:
    """G(F; theta_cf, phi) (Section 3.2): score of each cell's anchor."""
    return _apply(features, cf, phi, canvas, method)[..., 0]


def regress(
    features: Float[Array, "n m m c"], reg: Branch, phi: Float[Array, "2"], canvas: int, method: Method = "auto"
) -> Float[Array, "n m m 4"]:
    """R(F; theta_reg, phi) (Section 3.2): box shifts from each cell's anchor, to be read by `boxes.decode`."""
    return _apply(features, reg, phi, canvas, method)
