"""What the host does for the compiled programs: checks boxes, and cuts patches with OpenCV."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from roam_jax.config import Config
from roam_jax.patches.crop import crop_host
from roam_jax.patches.geometry import Roi
from roam_jax.pictures import LARGEST, Image
from roam_jax.tracking.online import first_rois, search_rois


class FirstPatches(NamedTuple):
    """The arguments of `Online.start_patches` after the parameters."""

    patches: UInt8[np.ndarray, "n p p 3"]
    box_cxcywh: Float[np.ndarray, " 4"]
    image_wh: Float[np.ndarray, " 2"]


@dataclass(frozen=True)
class HostCrop:
    """Cuts the patches of one configuration."""

    config: Config

    def first(self, image: Image, box_xywh: Float[np.ndarray, " 4"]) -> FirstPatches:
        """Patches of the first-frame samples around a box in image pixels."""
        box_cxcywh = np.concatenate([box_xywh[:2] + box_xywh[2:] / 2, box_xywh[2:]])
        image_wh = np.array([image.shape[1], image.shape[0]], np.float32)
        return FirstPatches(self._cut(image, first_rois(box_cxcywh, self.config)), box_cxcywh, image_wh)

    def search(self, image: Image, roi: Roi) -> UInt8[np.ndarray, "s p p 3"]:
        """Patches that are searched, of `TrackerState.roi`."""
        return self._cut(image, search_rois(Roi(*map(np.asarray, roi)), self.config))

    def _cut(self, image: Image, rois: Roi) -> UInt8[np.ndarray, "n p p 3"]:
        centers, sizes = np.asarray(rois.center_xy, np.float64), np.asarray(rois.size_wh, np.float64)
        side = self.config.model.patch_size
        return np.stack([crop_host(image, *roi, side) for roi in zip(centers, sizes, strict=True)])


def check_box(box: Any, image: Image) -> Float[np.ndarray, " 4"]:
    """The box as an array, if it is one and overlaps the image.

    Raises:
        ValueError: it does not.
    """
    array = np.array(box, np.float32).ravel()  # a copy: the caller's own may change
    if array.shape != (4,) or not np.isfinite(array).all():
        raise ValueError(f"a box must be four finite numbers x, y, w, h; this one is {box}")
    x, y, w, h = array.tolist()
    height, width = image.shape[:2]
    if w <= 0 or h <= 0:
        raise ValueError(f"a box must have a positive width and height; this one has {w:g} x {h:g}")
    if max(abs(value) for value in (x, y, w, h)) > LARGEST:
        raise ValueError(f"a box must be within {LARGEST:,} pixels; this one is {x:g},{y:g},{w:g},{h:g}")
    if x >= width or y >= height or x + w <= 0 or y + h <= 0:
        raise ValueError(f"the box {x:g},{y:g},{w:g},{h:g} lies outside the image of {width} x {height} pixels")
    return array
