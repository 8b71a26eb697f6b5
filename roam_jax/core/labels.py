"""Gaussian label maps (Eq. 8)."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float


def gaussian_label(
    center_xy_cell: Float[Array, "*b 2"], size_wh_cell: Float[Array, "*b 2"], map_size: int, alpha: float
) -> Float[Array, "*b m m"]:
    """(Eq. 8) exp(-alpha ((x - x0)^2 / sigma_x^2 + (y - y0)^2 / sigma_y^2)) on an m x m map.

    Args:
        center_xy_cell: object centre (x0, y0) in cells, 0 at the centre of the first cell.
        size_wh_cell: (sigma_x, sigma_y) = (w / c, h / c), the object's size in cells.
        map_size: m, cells per side.
        alpha: sharpness; 20 in the paper.
    """
    at = jnp.broadcast_to(jnp.arange(map_size, dtype=jnp.float32), (*center_xy_cell.shape, map_size))
    parts = jnp.exp(-alpha * ((at - center_xy_cell[..., None]) / size_wh_cell[..., None]) ** 2)
    return parts[..., 1, :, None] * parts[..., 0, None, :]


def label_of_box(
    box_cxcywh: Float[Array, "*b 4"], map_size: int, stride: float, alpha: float
) -> Float[Array, "*b m m"]:
    """Label map of a patch box relative to the patch centre; sizes are rounded up to whole cells (official, Eq. 8)."""
    center = box_cxcywh[..., :2] / stride + (map_size - 1) / 2
    return gaussian_label(center, jnp.ceil(jnp.maximum(box_cxcywh[..., 2:], 1e-3) / stride), map_size, alpha)
