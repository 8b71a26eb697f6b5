"""Box conventions, IoU, anchors (Eq. 6) and the R-CNN parameterisation of Section 3.2."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float


def xywh_to_cxcywh(box_xywh: Float[Array, "*b 4"]) -> Float[Array, "*b 4"]:
    """Top-left corner and size to centre and size."""
    return jnp.concatenate([box_xywh[..., :2] + box_xywh[..., 2:] / 2, box_xywh[..., 2:]], axis=-1)


def cxcywh_to_xywh(box_cxcywh: Float[Array, "*b 4"]) -> Float[Array, "*b 4"]:
    """Centre and size to top-left corner and size."""
    return jnp.concatenate([box_cxcywh[..., :2] - box_cxcywh[..., 2:] / 2, box_cxcywh[..., 2:]], axis=-1)


def iou(a_cxcywh: Float[Array, "*a 4"], b_cxcywh: Float[Array, "*b 4"]) -> Float[Array, "*c"]:
    """Intersection over union of boxes, broadcast over the leading axes; 0 for empty boxes.

    Rounds as plain float32 arithmetic does, whatever the compiler fuses: anchors inside an object tie exactly, and the
    official choice among them rests on these ties.
    """
    a_low, b_low = a_cxcywh[..., :2] - a_cxcywh[..., 2:] / 2, b_cxcywh[..., :2] - b_cxcywh[..., 2:] / 2
    sides = jnp.minimum(a_low + a_cxcywh[..., 2:], b_low + b_cxcywh[..., 2:]) - jnp.maximum(a_low, b_low)
    sides = jnp.maximum(sides, 0.0)
    # The maximum keeps the products out of fused multiply-adds, in which XLA contracts them; it drops a barrier before.
    inter, area_a, area_b = (
        jnp.maximum(wh[..., 0] * wh[..., 1], 0.0) for wh in (sides, a_cxcywh[..., 2:], b_cxcywh[..., 2:])
    )
    union = area_a + area_b - inter
    return jnp.where(union > 0, inter / jnp.where(union > 0, union, 1.0), 0.0)


def cell_centers(map_size: int, stride: float) -> Float[Array, "m"]:
    """Positions of the cells along one axis, in patch pixels from the patch centre."""
    return (jnp.arange(map_size, dtype=jnp.float32) - (map_size - 1) / 2) * stride


def anchor_size(phi: Float[Array, "*b 2"], filter_scale: float, stride: float) -> Float[Array, "*b 2"]:
    """(Eq. 6) (a_w, a_h) = (f_c, f_r) / rho, times c: the object that filters of size phi are for, in patch pixels."""
    return phi[..., ::-1] / filter_scale * stride


def anchor_boxes(map_size: int, stride: float, size_wh: Float[Array, "*b 2"]) -> Float[Array, "*b m m 4"]:
    """The one anchor of each cell: (cx, cy, w, h) in patch pixels from the patch centre, rows first (Section 3.1)."""
    at = cell_centers(map_size, stride)
    cy, cx = jnp.meshgrid(at, at, indexing="ij")
    shape = (*size_wh.shape[:-1], map_size, map_size, 2)
    centers = jnp.broadcast_to(jnp.stack([cx, cy], axis=-1), shape)
    return jnp.concatenate([centers, jnp.broadcast_to(size_wh[..., None, None, :], shape)], axis=-1)


def encode(box_cxcywh: Float[Array, "*b 4"], anchor_cxcywh: Float[Array, "*c 4"]) -> Float[Array, "*d 4"]:
    """Box as shifts from an anchor: centre over anchor size, logarithm of the size ratio (R-CNN, Section 3.2)."""
    shift = (box_cxcywh[..., :2] - anchor_cxcywh[..., :2]) / anchor_cxcywh[..., 2:]
    ratio = jnp.log(jnp.maximum(box_cxcywh[..., 2:], 1e-6) / anchor_cxcywh[..., 2:])
    shift, ratio = jnp.broadcast_arrays(shift, ratio)
    return jnp.concatenate([shift, ratio], axis=-1)


def decode(deltas: Float[Array, "*b 4"], anchor_cxcywh: Float[Array, "*c 4"]) -> Float[Array, "*d 4"]:
    """Inverse of `encode`; size ratios are limited to exp(4) so that a bad update cannot overflow."""
    center = deltas[..., :2] * anchor_cxcywh[..., 2:] + anchor_cxcywh[..., :2]
    size = jnp.exp(jnp.clip(deltas[..., 2:], -4.0, 4.0)) * anchor_cxcywh[..., 2:]
    return jnp.concatenate([center, size], axis=-1)
