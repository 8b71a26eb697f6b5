"""Stills that move (ours): a photograph as a shaking hand would film it, so that it is more than a repeated picture.

Zoom, rotation, perspective, light, motion blur, resolution and compression change smoothly from frame to frame. All
lengths are patch pixels; a view's warp is about the object's centre.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Float64, UInt8

from roam_jax.patches.crop import FILL_RGB, crop_host

MARGIN = 1.7
"""side of what is cut out for a view over the side of the patch, so that a turned patch is filled to its corners"""
ZOOM = 0.15
"""largest logarithm of a view's scale, at strength 1"""
TURN = 0.2
"""largest rotation in radians, at strength 1"""
TILT_PER_PATCH = 0.1
"""largest change of scale by perspective over half a patch, at strength 1"""
LIGHT = 0.2
"""largest relative change of brightness, at strength 1"""
BLUR_PATCH = 7.0
"""longest motion blur, at strength 1"""
MOST_DOWNSAMPLED = 1.0
"""largest logarithm of how much smaller than in its picture a view is taken, at strength 1"""
QUALITIES = (95, 20)
"""JPEG qualities, of the best frames, which are not compressed again, and of the worst at strength 1"""
KNOT_FRAMES = 4
"""frames between two random values of a smooth path, about"""
OUTLINE = np.stack([np.cos(at := np.linspace(0, 2 * np.pi, 64, endpoint=False)), np.sin(at)], axis=1) / 2
"""ellipse in a box of side 1"""


class View(NamedTuple):
    """How one frame of a filmed still is taken."""

    warp: Float64[np.ndarray, "3 3"]
    """from the picture about the object's centre to the view about it, homogeneous"""
    light: float
    """factor of the brightness"""
    blur_patch: float
    """length of the motion blur"""
    blur_angle: float
    """its direction in radians"""
    downsampled: float
    """how much smaller it is taken"""
    quality: int
    """of its JPEG file"""


def smooth_path(count: int, *, rng: np.random.Generator, start: float | None = None) -> Float64[np.ndarray, " n"]:
    """Values in [-1, 1] at `count` frames in a row, which turn smoothly about every few frames.

    Args:
        count: how many.
        rng: source of randomness.
        start: value one frame before the first; None: random.
    """
    knots = rng.uniform(-1, 1, max(count // KNOT_FRAMES, 1) + 1)
    if start is not None:
        knots[0] = start
    at = np.arange(1, count + 1) / count * (len(knots) - 1)
    left = np.minimum(at.astype(int), len(knots) - 2)
    ease = (1 - np.cos(np.pi * (at - left))) / 2
    return knots[left] * (1 - ease) + knots[left + 1] * ease


def film(count: int, strength: float, *, rng: np.random.Generator) -> list[View]:
    """Views of `count` frames that follow a first frame which is the picture as it is."""
    zoom, turn, tilt_x, tilt_y, light, blur, size, loss = (
        strength * smooth_path(count, rng=rng, start=0.0) for _ in range(8)
    )
    angle = rng.uniform(0, np.pi)
    tilts = TILT_PER_PATCH * np.stack([tilt_x, tilt_y], axis=1)
    best, worst = QUALITIES
    quality = np.maximum(best + (worst - best) * np.maximum(loss, 0), worst)
    return [
        View(
            warp_about_object(np.exp(ZOOM * zoom[i]), TURN * turn[i], tilts[i]),
            1 + LIGHT * light[i],
            BLUR_PATCH * max(blur[i], 0),
            angle,
            np.exp(MOST_DOWNSAMPLED * max(size[i], 0)),
            round(quality[i]),
        )
        for i in range(count)
    ]


def warp_about_object(scale: float, turn: float, tilt_xy: Float64[np.ndarray, "2"]) -> Float64[np.ndarray, "3 3"]:
    """Rotation, scale and perspective of a plane; coordinates in half patches, so that `tilt_xy` is a relative size."""
    cos, sin = scale * np.cos(turn), scale * np.sin(turn)
    return np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [*tilt_xy, 1.0]])


def warp_box(
    box_cxcywh: Float32[np.ndarray, "4"], warp: Float64[np.ndarray, "3 3"], patch_size: int
) -> Float32[np.ndarray, "4"]:
    """Box of a warped object, as if the object were the ellipse in its box: the hull of a turned box is too large."""
    outline = OUTLINE * box_cxcywh[2:] / (patch_size / 2)
    moved = np.concatenate([outline, np.ones((len(outline), 1))], axis=1) @ warp.T
    points = moved[:, :2] / moved[:, 2:] * (patch_size / 2)
    low, high = points.min(axis=0), points.max(axis=0)
    return np.concatenate([box_cxcywh[:2] + (low + high) / 2, high - low]).astype(np.float32)


def take_view(
    image: UInt8[np.ndarray, "h w 3"],
    center_xy: Float64[np.ndarray, "2"],
    size_wh_px: Float64[np.ndarray, "2"],
    box_cxcywh: Float32[np.ndarray, "4"],
    warp: Float64[np.ndarray, "3 3"],
    patch_size: int,
) -> tuple[UInt8[np.ndarray, "p p 3"], Bool[np.ndarray, "p p"]]:
    """The patch of a window, warped about an object; and which of its pixels are not of the picture.

    Args:
        image: RGB.
        center_xy: of the window, image pixels.
        size_wh_px: of the window, image pixels.
        box_cxcywh: of the object in the patch that is not warped.
        warp: of a `View`.
        patch_size: side of the patch.
    """
    wide_side = round(MARGIN * patch_size)
    per_px = patch_size / size_wh_px
    wide = crop_host(image, center_xy, wide_side / per_px, wide_side)
    corners = (np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * image.shape[1::-1] - center_xy) * per_px
    corners = np.clip(corners, -wide_side / 2, wide_side / 2)

    def about(side: int) -> Float64[np.ndarray, "3 3"]:
        """From pixels, counted at their centres, to half patches from the object."""
        unit = 2 / patch_size
        middle = (side - 1) / 2 + box_cxcywh[:2].astype(float)
        return np.array([[unit, 0, -middle[0] * unit], [0, unit, -middle[1] * unit], [0, 0, 1]])

    matrix = np.linalg.inv(about(patch_size)) @ warp @ about(wide_side)
    shape = (patch_size, patch_size)
    patch = cv2.warpPerspective(wide, matrix, shape, borderMode=cv2.BORDER_CONSTANT, borderValue=FILL_RGB)
    moved = cv2.perspectiveTransform((corners + (wide_side - 1) / 2)[None], matrix)
    outside = np.ones(shape, np.uint8)
    cv2.fillConvexPoly(outside, np.round(moved[0]).astype(np.int32), 0)  # type: ignore[call-overload]
    return patch, outside.astype(bool)  # type: ignore[return-value]


def compress(patch: UInt8[np.ndarray, "p p 3"], quality: int) -> UInt8[np.ndarray, "p p 3"]:
    """The patch as a JPEG file of that quality shows it."""
    _, data = cv2.imencode(".jpg", patch, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cv2.imdecode(data, cv2.IMREAD_COLOR)  # type: ignore[return-value]
