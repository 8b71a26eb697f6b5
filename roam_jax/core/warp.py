"""Size of the resizable filters (Eq. 4, 5) and their bilinear warping W(theta, phi) (Eq. 2, 3).

The size phi is a traced value: warping is two interpolation matrices on a canvas of fixed size, zero outside the
centred phi window, so that one compiled program serves all sizes and everything is differentiable.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float


def filter_size(
    box_wh_patch: Float[Array, "*b 2"], target_side: float, filter_scale: float, stride: float, limit: int
) -> Float[Array, "*b 2"]:
    """(Eq. 4, 5) phi = (f_r, f_c): odd filter size in cells, as floats.

    Args:
        box_wh_patch: object's (w, h); only its aspect ratio matters, the area is normalised (official).
        target_side: side of the square of that normalised area, patch pixels.
        filter_scale: rho.
        stride: c, patch pixels per cell.
        limit: largest size (odd): that of the canvas.
    """
    w, h = box_wh_patch[..., 0], box_wh_patch[..., 1]
    scale = target_side / jnp.sqrt(jnp.maximum(w * h, 1e-6))
    # The small bias keeps a float32 product that should be an integer from being rounded up.
    cells = jnp.ceil(filter_scale * scale[..., None] * jnp.stack([h, w], axis=-1) / stride - 1e-4)
    return jnp.clip(cells - jnp.mod(cells, 2) + 1, 1, limit)


def interpolation_matrix(size: Float[Array, ""], base: int, canvas: int) -> Float[Array, "canvas base"]:
    """Align-corners linear interpolation from `base` points to the `size` (odd, traced) centre points of `canvas`."""
    offset = jnp.arange(canvas, dtype=jnp.float32) - canvas // 2
    inside = jnp.abs(offset) <= (size - 1) / 2
    step = (base - 1) / jnp.maximum(size - 1, 1)
    at = (offset + (size - 1) / 2) * step
    at = jnp.where(size > 1, at, 0.0)  # a single point: the first one, as align-corners resizing has it
    weights = jnp.maximum(0.0, 1.0 - jnp.abs(at[:, None] - jnp.arange(base, dtype=jnp.float32)[None]))
    return jnp.where(inside[:, None], weights, 0.0)


def warp(filters: Float[Array, "k k c o"], phi: Float[Array, "2"], canvas: int) -> Float[Array, "canvas canvas c o"]:
    """(Eq. 2, 3) W(theta, phi): filters resized to phi = (rows, columns), centred on a canvas of zeros."""
    rows = interpolation_matrix(phi[0], filters.shape[0], canvas)
    columns = interpolation_matrix(phi[1], filters.shape[1], canvas)
    return jnp.einsum("hk,wl,klco->hwco", rows, columns, filters)
