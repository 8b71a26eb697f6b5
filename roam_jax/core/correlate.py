"""Correlation of a feature map with a warped filter: one contract, two ways to compute it.

`direct` convolves with the padded canvas; `fft` multiplies spectra. Both have zero padding and output maps of the
input's size, and agree to float32 rounding. On a CPU `fft` is faster, its gradient by more than ten times
(`benchmarks/correlate.py`).
"""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from roam_jax.core.warp import warp

Method = Literal["auto", "direct", "fft"]


def correlate(
    features: Float[Array, "n h w c"],
    filters: Float[Array, "k k c o"],
    phi: Float[Array, "2"],
    canvas: int,
    method: Method = "auto",
) -> Float[Array, "n h w o"]:
    """Correlation of `features` with W(`filters`, `phi`) (Eq. 2, 3), zero-padded, same size.

    Args:
        features: n maps.
        filters: base filters, k odd.
        phi: traced filter size (rows, columns), odd, at most `canvas`.
        canvas: odd size that bounds phi.
        method: `auto` takes `fft`, except for canvases so small that nothing is gained.
    """
    kernel = warp(filters, phi, canvas)
    if method == "direct" or (method == "auto" and canvas <= 3):
        return _direct(features, kernel)
    return _fft(features, kernel)


def _direct(features: Array, kernel: Array) -> Array:
    return jax.lax.conv_general_dilated(
        features, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )  # fmt: skip


def good_size(least: int) -> int:
    """Smallest even number of at least `least` whose only prime factors are 2, 3 and 5."""
    size = least + least % 2
    while True:
        rest = size
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return size
        size += 2


def _fft(features: Array, kernel: Array) -> Array:
    height, width = features.shape[1:3]
    canvas = kernel.shape[0]
    # Wrap-around may touch only what is cropped: the filter reaches canvas // 2 cells to each side.
    shape = tuple(good_size(max(side + canvas // 2, canvas)) for side in (height, width))
    padded = jnp.pad(kernel, ((0, shape[0] - canvas), (0, shape[1] - canvas), (0, 0), (0, 0)))
    centred = jnp.roll(padded, (-(canvas // 2), -(canvas // 2)), axis=(0, 1))
    product = jnp.einsum(
        "nhwc,hwco->nhwo",
        jnp.fft.rfft2(features, s=shape, axes=(1, 2)),
        jnp.conj(jnp.fft.rfft2(centred, axes=(0, 1))),
    )
    return jnp.fft.irfft2(product, s=shape, axes=(1, 2))[:, :height, :width]
