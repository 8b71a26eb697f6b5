"""Layers that several trunks share. Kernels are called `w`, biases `b`."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

he_normal = nn.initializers.variance_scaling(2.0, "fan_in", "normal")
"""start of every kernel that is not read from a file; input channels next to last"""
zeros = nn.initializers.zeros


class Conv(nn.Module):
    """Convolution with zero padding that keeps the size, but for the stride."""

    features: int
    kernel: int = 3
    stride: int = 1
    scale: float = 1.0
    """of the kernel at the start, over that of He"""

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b H W f"]:
        shape = (self.kernel, self.kernel, x.shape[-1], self.features)
        w = self.param("w", lambda key, shape: self.scale * he_normal(key, shape), shape)
        b = self.param("b", zeros, (self.features,))
        strides = (self.stride, self.stride)
        y = lax.conv_general_dilated(x.astype(w.dtype), w, strides, "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return y + b[None, None, None]


class Pointwise(nn.Module):
    """1x1 convolution, as a matrix product."""

    features: int

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w f"]:
        w = self.param("w", he_normal, (x.shape[-1], self.features))
        b = self.param("b", zeros, (self.features,))
        y = x.reshape(-1, x.shape[-1]) @ w + b[None]
        return y.reshape(*x.shape[:-1], self.features)


def relu6(x: Float[Array, "*a"]) -> Float[Array, "*a"]:
    """x between 0 and 6."""
    return jnp.clip(x, 0.0, 6.0)
