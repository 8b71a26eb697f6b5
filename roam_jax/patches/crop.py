"""Crop, resize and pad: one definition, on the device inside a compiled program and on the host with OpenCV.

The image is first averaged over blocks of n x n pixels (n = the rounded reduction, anchored at the image origin), then
sampled bilinearly at the centres of the patch pixels; outside the image lies a constant colour. Block means make it
free of aliasing at any reduction, and both versions exact to the rounding of 8-bit intermediates.
"""

from __future__ import annotations

from typing import Any

import cv2
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from roam_jax.patches.geometry import Roi

FILL_RGB = (124, 116, 104)
"""colour outside the image: the mean of ImageNet, so that it is about zero after any backbone's normalisation"""


def block_size(extent_px: float, patch_size: int) -> int:
    """Side of the averaged blocks for a ROI of that extent."""
    return max(1, int(np.floor(extent_px / patch_size + 0.5)))


def axis_matrix(
    center: Float[Array, ""], extent: Float[Array, ""], length: Any, patch_size: int
) -> Float[Array, "p length"]:
    """Weights of `length` image pixels, a number or a symbol of `jax.export`, for each patch pixel along one axis."""
    n = jnp.maximum(1.0, jnp.floor(extent / patch_size + 0.5))
    at = (center + ((jnp.arange(patch_size, dtype=jnp.float32) + 0.5) / patch_size - 0.5) * extent) / n - 0.5
    block = jnp.floor(jnp.arange(length, dtype=jnp.float32) / n)
    return jnp.maximum(0.0, 1.0 - jnp.abs(at[:, None] - block[None, :])) / n


def crop_device(image: UInt8[Array, "h w 3"], roi: Roi, patch_size: int) -> Float[Array, "p p 3"]:
    """Patch of a ROI, computed under `jit` with a traced ROI; values in 0..255."""
    rows = axis_matrix(roi.center_xy[1], roi.size_wh[1], image.shape[0], patch_size)
    columns = axis_matrix(roi.center_xy[0], roi.size_wh[0], image.shape[1], patch_size)
    fill = jnp.asarray(FILL_RGB, jnp.float32)[None, None]
    return fill + jnp.einsum("ph,hwc,qw->pqc", rows, image.astype(jnp.float32) - fill, columns)


def crop_host(
    image: UInt8[np.ndarray, "h w 3"], center_xy: np.ndarray, size_wh_px: np.ndarray, patch_size: int
) -> UInt8[np.ndarray, "p p 3"]:
    """Patch of a ROI, by OpenCV; equal to `crop_device` up to two grey levels.

    Args:
        image: RGB.
        center_xy: centre of the ROI, image pixels.
        size_wh_px: width and height of the ROI, image pixels.
        patch_size: side of the patch.
    """
    height, width = image.shape[:2]
    origin, blocks = [], []
    for axis, length in ((0, width), (1, height)):
        n = block_size(float(size_wh_px[axis]), patch_size)
        low = int(np.floor((center_xy[axis] - size_wh_px[axis] / 2) / n)) - 1
        high = int(np.ceil((center_xy[axis] + size_wh_px[axis] / 2) / n)) + 1
        origin.append((max(low, 0) * n, max(min(high * n, length), 0)))
        blocks.append(n)
    (x0, x1), (y0, y1) = origin
    part = image[y0:y1, x0:x1]
    if part.size == 0:
        return np.full((patch_size, patch_size, 3), FILL_RGB, np.uint8)
    if blocks != [1, 1]:
        bottom, right = -part.shape[0] % blocks[1], -part.shape[1] % blocks[0]
        if bottom or right:
            part = cv2.copyMakeBorder(part, 0, bottom, 0, right, cv2.BORDER_CONSTANT, value=FILL_RGB)
        reduced = (part.shape[1] // blocks[0], part.shape[0] // blocks[1])
        part = cv2.resize(part, reduced, interpolation=cv2.INTER_AREA)
    step = [size_wh_px[axis] / patch_size / blocks[axis] for axis in (0, 1)]
    start = [
        (center_xy[axis] - size_wh_px[axis] / 2 - low) / blocks[axis] + 0.5 * step[axis] - 0.5
        for axis, low in ((0, x0), (1, y0))
    ]
    matrix = np.array([[step[0], 0.0, start[0]], [0.0, step[1], start[1]]], np.float64)
    return cv2.warpAffine(
        np.ascontiguousarray(part), matrix, (patch_size, patch_size),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_CONSTANT, borderValue=FILL_RGB,
    )  # fmt: skip
