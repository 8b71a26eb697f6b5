"""Updating samples and filter sizes with a configuration's constants, for the unroll and the online tracker alike."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from roam_jax.config import Config
from roam_jax.core.labels import label_of_box
from roam_jax.core.losses import Samples
from roam_jax.core.warp import filter_size


def samples_of(features: Float[Array, "n m m c"], boxes_cxcywh: Float[Array, "n 4"], config: Config) -> Samples:
    """Updating samples of Eq. 12 with the label maps that belong to the boxes."""
    m = config.model
    labels = label_of_box(boxes_cxcywh, m.map_size, m.stride, config.loss.alpha)
    return Samples(features, labels, boxes_cxcywh, jnp.ones(boxes_cxcywh.shape[:1]))


def filter_size_of(box_wh_patch: Float[Array, "*b 2"], config: Config) -> Float[Array, "*b 2"]:
    """(Eq. 4, 5) phi with the model's constants."""
    m = config.model
    return filter_size(box_wh_patch, m.target_side_patch, m.filter_scale, m.stride, m.max_filter)


def nearest_first(box_wh_patch: Float[Array, "n 2"], count: int) -> Int[Array, "k"]:
    """Which `count` first-frame samples take part in every update: those least stretched, the nearest first; or all."""
    if count >= len(box_wh_patch):
        return jnp.arange(len(box_wh_patch))
    middle = jnp.exp(jnp.mean(jnp.log(box_wh_patch), axis=0))
    return jnp.argsort(jnp.sum(jnp.log(box_wh_patch / middle) ** 2, axis=1))[:count]
