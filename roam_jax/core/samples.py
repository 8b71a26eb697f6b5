"""Updating samples (F_j, M_j, B_j) of Eq. 12, and the filter size that goes with them."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from roam_jax.core.labels import label_of_box
from roam_jax.core.model import Geometry
from roam_jax.core.warp import filter_size


class Samples(NamedTuple):
    """n updating samples."""

    features: Float[Array, "n m m c"]
    """feature maps F"""
    labels: Float[Array, "n m m"]
    """label maps M (Eq. 8)"""
    boxes_cxcywh: Float[Array, "n 4"]
    """boxes B, patch pixels from the patch centre"""
    weights: Float[Array, "n"]
    """1 for a sample that counts, 0 for an empty place"""
    visible: Float[Array, "n"]
    """1 where the object can be seen; 0 where the response shall be zero instead of M, and B says nothing (ours)"""

    @property
    def targets(self) -> Float[Array, "n m m"]:
        """What the response shall be: M where the object can be seen."""
        return self.visible[..., None, None] * self.labels


def make_samples(
    features: Float[Array, "n m m c"],
    boxes_cxcywh: Float[Array, "n 4"],
    geometry: Geometry,
    visible: Bool[Array, "n"] | None = None,
) -> Samples:
    """Updating samples with the label maps that belong to the boxes, all of weight 1; by default all visible."""
    labels = label_of_box(boxes_cxcywh, geometry.map_size, geometry.stride, geometry.alpha)
    ones = jnp.ones(boxes_cxcywh.shape[:1])
    return Samples(features, labels, boxes_cxcywh, ones, ones if visible is None else visible.astype(jnp.float32))


def filter_size_of(box_wh_patch: Float[Array, "*b 2"], geometry: Geometry) -> Float[Array, "*b 2"]:
    """phi of an object of that size (Eq. 4, 5)."""
    g = geometry
    return filter_size(box_wh_patch, g.target_side, g.filter_scale, g.stride, g.canvas)


def nearest_first(box_wh_patch: Float[Array, "n 2"], count: int) -> Int[Array, "k"]:
    """Which `count` first-frame samples take part in every update: those least stretched, the nearest first; or all."""
    if count >= len(box_wh_patch):
        return jnp.arange(len(box_wh_patch))
    middle = jnp.exp(jnp.mean(jnp.log(box_wh_patch), axis=0, keepdims=True))
    return jnp.argsort(jnp.sum(jnp.log(box_wh_patch / middle) ** 2, axis=1))[:count]
