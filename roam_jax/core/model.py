"""The tracking model theta = (cf, reg) (Eq. 1): response generation G and box regression R (Section 3.2)."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from roam_jax.core.boxes import anchor_boxes, anchor_size
from roam_jax.core.correlate import correlate


class Geometry(NamedTuple):
    """Sizes of the feature map, the filters and the label, with the paper's symbols."""

    map_size: int
    """cells per side of the (square) feature map"""
    stride: int
    """c: patch pixels per cell"""
    filter_scale: float
    """rho: filter size over object size"""
    canvas: int
    """odd size in cells that bounds every warped filter"""
    target_side: float
    """side of the square with the area that any object has in its patch, patch pixels"""
    alpha: float
    """sharpness of the label map"""


class Branch(NamedTuple):
    """One branch: 1x1 reduction, then a resizable filter."""

    reduce_w: Float[Array, "c r"]
    reduce_b: Float[Array, "r"]
    filters: Float[Array, "k k r o"]
    bias: Float[Array, "o"]


class Theta(NamedTuple):
    """theta = [theta_cf, theta_reg] (Eq. 1). Learning rates and scalings have the same structure."""

    cf: Branch
    reg: Branch


class Predictions(NamedTuple):
    """What the model says of n feature maps."""

    response: Float[Array, "n m m"]
    """G: score of each cell's anchor"""
    deltas: Float[Array, "n m m 4"]
    """R: box shifts from each cell's anchor, to be read by `boxes.decode`"""
    anchors: Float[Array, "m m 4"]
    """centre and size in patch pixels from the patch centre"""


def init_theta(
    channels: int, *, base_filter: int, reduced_channels: int, init_scale: float, key: Array
) -> Theta:  # fmt: skip
    """(Eq. 1) Random theta0 = [theta_cf, theta_reg]: N(0, 1) / sqrt(fan-in), zero biases.

    Args:
        channels: of the feature map.
        base_filter: odd side of the fixed-shape filters, cells.
        reduced_channels: outputs of each branch's 1x1 reduction.
        init_scale: factor of the filters.
        key: random key.
    """

    def branch(key: Array, outputs: int) -> Branch:
        key_w, key_f = jax.random.split(key)
        k, r = base_filter, reduced_channels
        return Branch(
            jax.random.normal(key_w, (channels, r)) / jnp.sqrt(channels),
            jnp.zeros(r),
            jax.random.normal(key_f, (k, k, r, outputs)) * init_scale / jnp.sqrt(k * k * r),
            jnp.zeros(outputs),
        )

    key_cf, key_reg = jax.random.split(key)
    return Theta(branch(key_cf, 1), branch(key_reg, 4))


def respond(
    features: Float[Array, "n m m c"], cf: Branch, phi: Float[Array, "2"], canvas: int
) -> Float[Array, "n m m"]:
    """G(F; theta_cf, phi) (Section 3.2): score of each cell's anchor."""
    return _apply(features, cf, phi, canvas)[..., 0]


def regress(
    features: Float[Array, "n m m c"], reg: Branch, phi: Float[Array, "2"], canvas: int
) -> Float[Array, "n m m 4"]:
    """R(F; theta_reg, phi) (Section 3.2): box shifts from each cell's anchor."""
    return _apply(features, reg, phi, canvas)


def predict(
    theta: Theta, features: Float[Array, "n m m c"], phi: Float[Array, "2"], geometry: Geometry
) -> Predictions:  # fmt: skip
    """G and R of n feature maps, with the anchors that R counts from (Section 3.1, 3.2)."""
    g = geometry
    return Predictions(
        respond(features, theta.cf, phi, g.canvas),
        regress(features, theta.reg, phi, g.canvas),
        anchor_boxes(features.shape[-2], g.stride, anchor_size(phi, g.filter_scale, g.stride)),
    )


def _apply(
    features: Float[Array, "n h w c"], branch: Branch, phi: Float[Array, "2"], canvas: int
) -> Float[Array, "n h w o"]:
    reduced = features @ branch.reduce_w + branch.reduce_b[None, None, None]
    return correlate(reduced, branch.filters, phi, canvas) + branch.bias[None, None, None]
