"""Region of interest, and the way from image to patch to cell and back (Section 5).

Image coordinates are continuous: pixel (row i, column j) covers [j, j + 1) x [i, i + 1). Patch coordinates are
relative to the patch centre, in pixels of the resized patch. All functions are pure, accept traced values, and compute
in numpy on numpy's arrays, for hosts that crop.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


class Roi(NamedTuple):
    """Square or stretched window of the image that becomes the patch."""

    center_xy: Float[Array | np.ndarray, "2"]
    """centre, image pixels"""
    size_wh: Float[Array | np.ndarray, "2"]
    """width and height, image pixels"""


def roi_side(box_wh: Float[Array | np.ndarray, "*b 2"], roi_scale: float) -> Float[Array | np.ndarray, "*b"]:
    """Side gamma sqrt(w h) of an object's square ROI, image pixels (Section 5); as if it had one pixel at least."""
    xp = box_wh.__array_namespace__()
    return xp.asarray(roi_scale * xp.sqrt(xp.maximum(box_wh[..., 0] * box_wh[..., 1], 1.0)))


def roi_of_box(box_cxcywh: Float[Array | np.ndarray, "4"], roi_scale: float) -> Roi:
    """Square ROI around a box (Section 5)."""
    side = roi_side(box_cxcywh[2:], roi_scale)
    return Roi(box_cxcywh[:2], box_cxcywh.__array_namespace__().stack([side, side]))


def on_whole_pixels(roi: Roi) -> Roi:
    """The window with its edges moved to the nearest pixels' edges (ours).

    Windows around boxes that differ by rounding are then the same one. Cropping would turn the difference into one of a
    grey value, a ten thousand times larger one, from which the tracker parts within a few dozen frames.
    """
    xp = roi.size_wh.__array_namespace__()
    size = xp.maximum(xp.round(roi.size_wh), xp.ones_like(roi.size_wh))
    return Roi(xp.round(roi.center_xy - size / 2) + size / 2, size)


def box_to_patch(box_cxcywh: Float[Array, "4"], roi: Roi, patch_size: int) -> Float[Array, "4"]:
    """Image box to patch box, relative to the patch centre."""
    scale = patch_size / roi.size_wh
    return jnp.concatenate([(box_cxcywh[:2] - roi.center_xy) * scale, box_cxcywh[2:] * scale])


def box_to_image(box_cxcywh: Float[Array, "4"], roi: Roi, patch_size: int) -> Float[Array, "4"]:
    """Patch box, relative to the patch centre, to image box."""
    scale = roi.size_wh / patch_size
    return jnp.concatenate([box_cxcywh[:2] * scale + roi.center_xy, box_cxcywh[2:] * scale])
