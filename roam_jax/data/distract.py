"""What makes clips hard (ours): look-alikes beside the object, things that pass in front of it, frames without it.

Objects are pasted into patches, on smooth paths relative to the object. Their edges are soft, their light and
resolution those of the patch, and they come before the colours and blurs of the whole clip: a seam would be a mark
that no real picture has.
"""

from __future__ import annotations

from collections.abc import Sequence as ListOf
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float32, Float64, UInt8

from roam_jax.data.mix import whole_name
from roam_jax.data.motion import smooth_path
from roam_jax.data.sequences import DataError, Sequence

LEAST_VISIBLE = 0.35
"""share of its box below which an object counts as not visible"""
MOST_LOOKALIKES = 3
NEAREST, FARTHEST = 0.85, 2.2
"""distance of a look-alike, over that at which its box and the object's touch"""
SHORTEST, LONGEST = 0.1, 0.5
"""of an occlusion, over the later frames of a clip: 3 to 15 of the official 30"""
TINT, TINT_WITH_GROUND = 0.25, 0.08
"""largest change of colour of what is pasted; less where some of the background is pasted too, which would show"""
TRIES = 8
"""places that are tried for a part of a picture without the object"""
LEAST_INSIDE = 0.6
"""share of such a part that must lie in the picture"""


class Material(NamedTuple):
    """What a clip may show besides its own sequence."""

    sequences: ListOf[Sequence] = ()
    """for their pictures and objects"""
    cutouts: ListOf[UInt8[np.ndarray, "h w 4"]] = ()
    """objects without their background, RGB and opacity"""


class Cut(NamedTuple):
    """Something to paste."""

    rgb: UInt8[np.ndarray, "h w 3"]
    alpha: Float32[np.ndarray, "h w"]
    """opacity, 0 to 1"""
    aspect: float
    """width over height in a picture that is not stretched"""


class Scene(NamedTuple):
    """The patches of a clip that is being made, and where its object is."""

    patches: UInt8[np.ndarray, "n p p 3"]
    """RGB; pasted into"""
    boxes_cxcywh: Float32[np.ndarray, "n 4"]
    """relative to the patch centre, patch pixels"""
    patch_per_px: Float64[np.ndarray, "n 2"]
    """patch pixels for each pixel of the picture"""
    seen: Float64[np.ndarray, " n"]
    """share of the object that can be seen; 0 for frames without it, which are left as they are"""
    first: int
    """how many patches show the first frame"""


def add_lookalikes(scene: Scene, sequence: Sequence, material: Material, *, rng: np.random.Generator) -> None:
    """Paste one or more objects that move beside the object, copies of it or others; from the first frame on or not."""
    for _ in range(rng.integers(1, MOST_LOOKALIKES + 1)):
        kind = rng.choice(["first", "own", "other", "cutout"], p=[0.35, 0.2, 0.2, 0.25])
        other = None
        if kind == "other":
            other = cut_other(sequence, material, rng=rng)
        elif kind == "cutout" and material.cutouts:
            other = cut_out(material.cutouts[int(rng.integers(len(material.cutouts)))])
        cuts = [other] if other else cut_object(scene, every_frame=kind == "own")
        variation = draw_variation(TINT if other and kind == "cutout" else TINT_WITH_GROUND, rng=rng)
        cuts = [vary(cut, *variation) for cut in cuts]
        count = len(scene.patches) - scene.first
        start = rng.uniform(-1, 1)
        turn = 2 * np.pi * rng.random() + 0.7 * np.pi * np.r_[start, smooth_path(count, rng=rng, start=start)]
        start = rng.uniform(-1, 1)
        far = (1 + np.r_[start, smooth_path(count, rng=rng, start=start)]) / 2 * (FARTHEST - NEAREST) + NEAREST
        size = np.exp(rng.uniform(-0.3, 0.3) + 0.15 * np.r_[0, smooth_path(count, rng=rng, start=0.0)])
        from_start = rng.random() < 0.5
        for i in range(0 if from_start else scene.first, len(scene.patches)):
            at = max(i - scene.first + 1, 0)
            cut = cuts[min(i, len(cuts) - 1)]
            wh = object_side(scene, i) * size[at] * np.sqrt([cut.aspect, 1 / cut.aspect]) * scene.patch_per_px[i]
            touching = (scene.boxes_cxcywh[i, 2:] + wh) / 2
            offset = far[at] * touching * np.array([np.cos(turn[at]), np.sin(turn[at])])
            if scene.seen[i] > 0:
                paste(scene, i, cut, offset, wh)


def add_occluder(scene: Scene, sequence: Sequence, material: Material, *, rng: np.random.Generator) -> None:
    """Something passes in front of the object once, partly or wholly; `scene.seen` says how much of it is left."""
    count = len(scene.patches) - scene.first
    kind = rng.choice(["cutout", "texture", "bar"], p=[0.4, 0.35, 0.25])
    picture = read_other(sequence, material, rng=rng) if kind == "texture" else None
    turn, size = rng.uniform(0, 2 * np.pi), np.exp(rng.uniform(np.log(0.7), np.log(1.8)))
    if kind == "cutout" and material.cutouts:
        cut = vary(cut_out(material.cutouts[int(rng.integers(len(material.cutouts)))]), *draw_variation(TINT, rng=rng))
        half = size / 2
    elif picture is not None:
        cut, half = cut_texture(picture[0], rng=rng), size / 2
    else:
        size, thickness = 8.0, rng.uniform(0.03, 0.14)
        cut, half = draw_bar(turn, thickness, rng=rng), 8.0 * thickness / 2
    length = max(rng.uniform(SHORTEST, LONGEST) * count, 1.0)
    middle, dwell = rng.uniform(0, count - 1), rng.uniform(1, 3)
    time = (np.arange(count) - middle) / (length / 2)
    slow = np.where(np.abs(time) < 1, np.abs(time) ** dwell, 1 + dwell * (np.abs(time) - 1))
    aside = 0.5 * rng.uniform(-1, 1)
    along, across = np.array([np.cos(turn), np.sin(turn)]), np.array([-np.sin(turn), np.cos(turn)])
    for later in range(count):
        i = scene.first + later
        if scene.seen[i] == 0:
            continue
        side = object_side(scene, i)
        reach = np.abs(along) @ (scene.boxes_cxcywh[i, 2:] / scene.patch_per_px[i]) / 2 + half * side
        offset_px = np.sign(time[later]) * slow[later] * reach * along + aside * side * across
        wh = side * size * np.sqrt([cut.aspect, 1 / cut.aspect]) * scene.patch_per_px[i]
        scene.seen[i] *= 1 - paste(scene, i, cut, offset_px * scene.patch_per_px[i], wh)


def look_elsewhere(
    sequence: Sequence, image: UInt8[np.ndarray, "h w 3"], box_cxcywh: np.ndarray, size_wh_px: np.ndarray,
    material: Material, *, rng: np.random.Generator,
) -> tuple[UInt8[np.ndarray, "h w 3"], np.ndarray, np.ndarray] | None:  # fmt: skip
    """Picture, centre and size of a window without the object: in its own picture, or about another object in another.

    Args:
        sequence: whose object shall not be seen.
        image: a frame of it.
        box_cxcywh: the object there, image pixels.
        size_wh_px: of the window that would show the object.
        material: the other pictures.
        rng: source of randomness.

    Returns:
        None where there is neither.
    """
    if rng.random() < 0.5:
        limits = np.array(image.shape[1::-1], float)
        for center in rng.uniform(0, 1, (TRIES, 2)) * limits:
            low, high = center - size_wh_px / 2, center + size_wh_px / 2
            inside = np.prod(np.clip(np.minimum(high, limits) - np.maximum(low, 0), 0, None)) / np.prod(size_wh_px)
            apart = (np.abs(center - box_cxcywh[:2]) > (size_wh_px + box_cxcywh[2:]) / 2).any()
            if apart and inside >= LEAST_INSIDE:
                return image, center, size_wh_px
    other = read_other(sequence, material, rng=rng)
    if other is None:
        return None
    picture, box_xywh = other
    scale = np.sqrt(np.prod(box_xywh[2:]) / np.prod(box_cxcywh[2:]))
    return picture, box_xywh[:2] + box_xywh[2:] * rng.uniform(0, 1, 2), size_wh_px * scale


def read_other(
    sequence: Sequence, material: Material, *, rng: np.random.Generator
) -> tuple[UInt8[np.ndarray, "h w 3"], Float64[np.ndarray, "4"]] | None:
    """Picture and box (xywh, image pixels) of another random sequence; None if it cannot be read or is the same."""
    if not material.sequences:
        return None
    other = material.sequences[int(rng.integers(len(material.sequences)))]
    if whole_name(other) == whole_name(sequence) or not other.visible.any():
        return None
    index = int(np.argmax(other.visible))
    try:
        return other.frames.read(index), other.boxes_xywh[index].astype(float)
    except DataError:  # it will be left out when its own turn comes
        return None


def object_side(scene: Scene, index: int) -> float:
    """sqrt(w h) of the object in the pixels of its picture."""
    return float(np.sqrt(np.prod(scene.boxes_cxcywh[index, 2:] / scene.patch_per_px[index])))


def cut_object(scene: Scene, *, every_frame: bool) -> list[Cut]:
    """The object with a soft edge: as the middle one of the first-frame samples shows it, or as each patch does."""
    chosen = range(len(scene.patches)) if every_frame else [scene.first // 2]
    cuts = []
    for i in chosen:
        half, (w, h) = len(scene.patches[i]) / 2, scene.boxes_cxcywh[i, 2:] / scene.patch_per_px[i]
        low = scene.boxes_cxcywh[i, :2] - scene.boxes_cxcywh[i, 2:] / 2 + half
        rgb = cut_part(scene.patches[i], low, scene.boxes_cxcywh[i, 2:])
        cuts.append(Cut(rgb, soft_ellipse(rgb.shape[:2]), float(w / h)))
    return cuts


def cut_other(sequence: Sequence, material: Material, *, rng: np.random.Generator) -> Cut | None:
    """The object of another sequence with a soft edge."""
    other = read_other(sequence, material, rng=rng)
    if other is None:
        return None
    picture, box_xywh = other
    rgb = cut_part(picture, box_xywh[:2], box_xywh[2:])
    return Cut(rgb, soft_ellipse(rgb.shape[:2]), float(box_xywh[2] / box_xywh[3]))


def cut_out(rgba: UInt8[np.ndarray, "h w 4"]) -> Cut:
    """A cut-out with its own edge."""
    alpha = rgba[..., 3].astype(np.float32) / 255
    return Cut(np.ascontiguousarray(rgba[..., :3]), alpha, rgba.shape[1] / rgba.shape[0])


def cut_texture(picture: UInt8[np.ndarray, "h w 3"], *, rng: np.random.Generator) -> Cut:
    """A random part of a picture with a soft, nearly rectangular edge."""
    limits = np.array(picture.shape[1::-1], float)
    wh = np.minimum(rng.uniform(0.15, 0.5) * limits.min() * np.exp(rng.uniform(-0.5, 0.5, 2)), limits)
    rgb = cut_part(picture, rng.uniform(0, 1, 2) * (limits - wh), wh)
    return Cut(rgb, soft_ellipse(rgb.shape[:2], power=rng.uniform(2, 8), softness=0.1), float(wh[0] / wh[1]))


def draw_bar(turn: float, thickness: float, *, rng: np.random.Generator, side: int = 192) -> Cut:
    """A straight bar across a square, like a pole or a stem: shaded from edge to edge, with some grain.

    Args:
        turn: direction across the bar in radians.
        thickness: over the side of the square.
        rng: source of randomness.
        side: of the square in pixels.
    """
    at = (np.arange(side) + 0.5) / side - 0.5
    across = (at[None] * np.cos(turn) + at[:, None] * np.sin(turn)).astype(np.float32)
    grain = cv2.resize(rng.normal(size=(24, 24)).astype(np.float32), (side, side), interpolation=cv2.INTER_CUBIC)
    light = 1 + rng.uniform(-0.5, 0.5) * across / thickness + rng.uniform(0, 0.15) * grain
    colour = rng.uniform(30, 220) + rng.uniform(-30, 30, 3)
    rgb = np.clip(light[..., None] * colour, 0, 255).astype(np.uint8)
    return Cut(rgb, np.clip((thickness / 2 - np.abs(across)) * side + 0.5, 0, 1), 1.0)


def cut_part(picture: UInt8[np.ndarray, "h w 3"], low_xy: np.ndarray, wh: np.ndarray) -> UInt8[np.ndarray, "b a 3"]:
    """The pixels of a box, as far as they are in the picture; one at least."""
    limits = np.array(picture.shape[1::-1])
    x0, y0 = np.clip(np.round(low_xy), 0, limits - 1).astype(int)
    x1, y1 = np.maximum(np.clip(np.round(low_xy + wh), 0, limits).astype(int), (x0 + 1, y0 + 1))
    return picture[y0:y1, x0:x1].copy()


def soft_ellipse(shape: tuple[int, int], *, power: float = 3.0, softness: float = 0.5) -> Float32[np.ndarray, "h w"]:
    """Opacity that is 1 in the middle and falls to 0 at the edge of an ellipse; near a rectangle at a high `power`."""
    y, x = (np.abs((np.arange(n) + 0.5) / n * 2 - 1) ** power for n in shape)
    radius = (x[None] + y[:, None]) ** (1 / power)
    t = np.clip((1 - radius) / softness, 0, 1)
    return (t * t * (3 - 2 * t)).astype(np.float32)


def draw_variation(tint: float, *, rng: np.random.Generator) -> tuple[bool, float, Float64[np.ndarray, "3"]]:
    """How a copy differs: flipped or not, its rotation in radians, factors of its colours in exp(+-tint)."""
    strength = rng.uniform(0, tint)
    return bool(rng.random() < 0.5), rng.uniform(-0.35, 0.35), np.exp(rng.uniform(-strength, strength, 3))


def vary(cut: Cut, flipped: bool, angle: float, gains_rgb: Float64[np.ndarray, "3"]) -> Cut:
    """A cut that is flipped, turned and of another colour; as large as its frame was."""
    rgb, alpha = (cut.rgb[:, ::-1], cut.alpha[:, ::-1]) if flipped else (cut.rgb, cut.alpha)
    height, width = alpha.shape
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), np.degrees(angle), 1.0)
    turned = cv2.warpAffine(np.ascontiguousarray(rgb), matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
    opacity = cv2.warpAffine(np.ascontiguousarray(alpha), matrix, (width, height))
    colour = np.concatenate([np.diag(gains_rgb), np.zeros((3, 1))], axis=1)
    return Cut(cv2.transform(turned, colour), opacity, cut.aspect)  # type: ignore[arg-type]


def paste(scene: Scene, index: int, cut: Cut, offset_patch: np.ndarray, wh_patch: np.ndarray) -> float:
    """Blend a cut into a patch, in place; returns the share of the object's box that it covers.

    Args:
        scene: its patch `index` is changed.
        index: of the patch.
        cut: what to paste.
        offset_patch: (x, y) of its centre from the object's, patch pixels.
        wh_patch: its width and height, patch pixels.
    """
    patch, (cx, cy, w, h) = scene.patches[index], scene.boxes_cxcywh[index].astype(float)
    side = len(patch)
    rgb, alpha = resize_cut(cut, wh_patch, scene.patch_per_px[index])
    x, y = np.round(side / 2 + np.array([cx, cy]) + offset_patch - wh_patch / 2).astype(int)
    x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + alpha.shape[1], side), min(y + alpha.shape[0], side)
    if x0 >= x1 or y0 >= y1:
        return 0.0
    rgb, alpha = rgb[y0 - y : y1 - y, x0 - x : x1 - x].astype(np.float32), alpha[y0 - y : y1 - y, x0 - x : x1 - x]
    part = patch[y0:y1, x0:x1]
    part[:] = np.round(part + alpha[..., None] * (rgb - part)).astype(np.uint8)
    left, right = np.clip(np.round(side / 2 + cx + np.array([-w, w]) / 2).astype(int), 0, side)
    top, bottom = np.clip(np.round(side / 2 + cy + np.array([-h, h]) / 2).astype(int), 0, side)
    covered = alpha[max(top - y0, 0) : max(bottom - y0, 0), max(left - x0, 0) : max(right - x0, 0)].sum()
    return float(covered / max((right - left) * (bottom - top), 1))


def resize_cut(
    cut: Cut, wh_patch: np.ndarray, patch_per_px: np.ndarray
) -> tuple[UInt8[np.ndarray, "b a 3"], Float32[np.ndarray, "b a"]]:
    """A cut at a size in patch pixels, with no more detail than the picture around it has."""
    size = np.maximum(np.round(wh_patch), 2).astype(int)
    taken = np.maximum(np.round(size / np.maximum(patch_per_px, 1)), 2).astype(int)
    parts = []
    for array in (cut.rgb, cut.alpha):
        height, width = array.shape[:2]
        small = cv2.resize(
            array, taken.tolist(),
            interpolation=cv2.INTER_AREA if width > taken[0] or height > taken[1] else cv2.INTER_LINEAR,
        )  # fmt: skip
        parts.append(cv2.resize(small, size.tolist(), interpolation=cv2.INTER_LINEAR))
    return parts[0], parts[1]
