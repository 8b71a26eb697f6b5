"""First-frame samples: the object stretched to several scales and aspect ratios (Section 4)."""

from __future__ import annotations

import itertools

import numpy as np
from jaxtyping import Array, Float

from roam_jax.patches.geometry import Roi, roi_of_box


def stretch_factors(aspects: tuple[float, ...]) -> Float[np.ndarray, "n 2"]:
    """Factors (s r, s / r) of the object's width and height, for all pairs of a scale s and a ratio r in `aspects`."""
    return np.array([(s * r, s / r) for s, r in itertools.product(aspects, aspects)])


def stretched_rois(
    box_cxcywh: Float[Array | np.ndarray, "4"], roi_scale: float, aspects: tuple[float, ...]
) -> Roi:  # fmt: skip
    """ROIs in whose patches the object is stretched by `stretch_factors`; n in one `Roi`."""
    sizes = roi_of_box(box_cxcywh, roi_scale).size_wh[None] / stretch_factors(aspects).astype(np.float32)
    return Roi(box_cxcywh[None, :2] + 0 * sizes, sizes)
