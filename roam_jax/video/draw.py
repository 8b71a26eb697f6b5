"""Boxes, scores and the lost state painted onto a frame, in line widths that suit its size."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np

from roam_jax.pictures import Image
from roam_jax.video.formats import Box, Observation

COLOURS = ((0, 230, 118), (64, 156, 255), (255, 193, 7), (224, 64, 251), (0, 229, 255), (255, 255, 255))
"""RGB colours of the objects, used in turn"""
LOST = (255, 45, 45)
GROUND_TRUTH = (255, 255, 255)
SUBPIXEL_BITS = 4
"""fractional bits of the coordinates that OpenCV draws lines between"""


def draw_observations(
    image: Image,
    observations: Iterable[Observation],
    groundtruth_xywh: Box | None = None,
) -> Image:
    """Copy of an RGB frame with every object's box and score; a lost object is dashed and red.

    Args:
        image: the frame.
        observations: one for each object.
        groundtruth_xywh: true box, drawn as a thin white line; not drawn if it is not finite.
    """
    canvas = np.ascontiguousarray(image).copy()
    thickness = line_width(image)
    if groundtruth_xywh is not None:
        draw_box(canvas, groundtruth_xywh, GROUND_TRUTH, max(1, thickness // 2))
    observations = list(observations)
    for observation in observations:
        colour = LOST if observation.lost else COLOURS[observation.target % len(COLOURS)]
        draw_box(canvas, observation.box_xywh, colour, thickness, dashed=observation.lost)
        words = [f"{observation.target + 1}:"] if len(observations) > 1 else []
        words += ["lost"] if observation.lost else []
        draw_label(canvas, " ".join([*words, f"{observation.score:.2f}"]), observation.box_xywh, colour)
    return canvas


def line_width(image: Image) -> int:
    """Width of a line in pixels: 2 in a frame of 480 lines, 5 in one of 1080."""
    return max(2, round(min(image.shape[:2]) / 216))


def draw_box(
    canvas: Image,
    box_xywh: Box,
    colour: tuple[int, int, int],
    thickness: int,
    *,
    dashed: bool = False,
) -> None:
    """Paint the outline of a box; nothing if it is not finite."""
    if not np.isfinite(box_xywh).all():
        return
    x, y, w, h = (float(value) for value in box_xywh)
    # A far-off box would overflow OpenCV's integers; nothing of it is visible beyond this.
    limit = 4.0 * max(canvas.shape)
    corners = np.clip([[x, y], [x + w, y], [x + w, y + h], [x, y + h]], -limit, limit)
    for start, end in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        for a, b in _dashes(start, end, 4.0 + 4.0 * thickness) if dashed else [(start, end)]:
            _draw_line(canvas, a, b, colour, thickness)


def draw_label(canvas: Image, text: str, box_xywh: Box, colour: tuple[int, int, int]) -> None:
    """Paint a small plate with a text above a box, or wherever near it there is room in the frame."""
    if not np.isfinite(box_xywh).all():
        return
    scale = max(0.4, min(canvas.shape[:2]) / 800)
    font, weight = cv2.FONT_HERSHEY_SIMPLEX, max(1, round(1.4 * scale))
    (width, height), baseline = cv2.getTextSize(text, font, scale, weight)
    pad = max(2, height // 3)
    plate_w, plate_h = width + 2 * pad, height + baseline + pad
    left = int(np.clip(box_xywh[0], 0, max(canvas.shape[1] - plate_w, 0)))
    top = int(np.clip(box_xywh[1] - plate_h - line_width(canvas), 0, max(canvas.shape[0] - plate_h, 0)))
    cv2.rectangle(canvas, (left, top), (left + plate_w, top + plate_h), colour, cv2.FILLED)
    ink = (0, 0, 0) if np.dot(colour, (0.299, 0.587, 0.114)) > 110 else (255, 255, 255)
    cv2.putText(canvas, text, (left + pad, top + pad // 2 + height), font, scale, ink, weight, cv2.LINE_AA)


def _draw_line(
    canvas: np.ndarray, start: np.ndarray, end: np.ndarray, colour: tuple[int, int, int], width: int
) -> None:
    # OpenCV counts from the centre of the first pixel, boxes from its corner.
    a, b = (tuple(int(v) for v in np.round((point - 0.5) * (1 << SUBPIXEL_BITS))) for point in (start, end))
    cv2.line(canvas, a, b, colour, width, cv2.LINE_AA, SUBPIXEL_BITS)


def _dashes(start: np.ndarray, end: np.ndarray, dash: float) -> list[tuple[np.ndarray, np.ndarray]]:
    """Parts of a line: dashes of about that length with gaps as long, beginning and ending with a dash."""
    count = max(1, int(np.hypot(*(end - start)) / dash) // 2 * 2 + 1)
    steps = np.linspace(start, end, count + 1)
    return [(steps[i], steps[i + 1]) for i in range(0, count, 2)]
