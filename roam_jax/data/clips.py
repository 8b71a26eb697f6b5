"""Clips: the nine first-frame samples and the frames after them that one meta-training example consists of (Section 5).

Boxes of a clip are relative to the patch centre, in patch pixels. Every function is pure given its `rng`.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64, UInt8

from roam_jax.config import ClipsConfig, Config
from roam_jax.data.distract import LEAST_VISIBLE, Material, Scene, add_lookalikes, add_occluder, look_elsewhere
from roam_jax.data.motion import QUALITIES, View, compress, film, take_view, warp_box
from roam_jax.data.sequences import DataError, Sequence, outside_image
from roam_jax.patches.crop import FILL_RGB, crop_host
from roam_jax.patches.geometry import roi_side
from roam_jax.patches.stretch import stretch_factors

LUMA = np.array([0.299, 0.587, 0.114])
"""weights of red, green and blue in grey (ITU-R BT.601)"""
STILL_BRIGHTNESS = 0.1
"""largest relative brightness change from frame to frame of a repeated still"""
BLUR_LENGTHS_PATCH = (3, 9)
"""shortest and longest motion blur"""
MOST_DOWNSAMPLED = 3.0
"""how much smaller than in its picture the object of a clip may look at the most"""
FARTHEST_SHIFT = 0.45
"""largest shift after a jump over the patch side: most of the object is still in the patch"""
NOTHING = Material()


class Clip(NamedTuple):
    """Samples of one object: first those of the first frame, then one per frame."""

    patches: UInt8[np.ndarray, "n p p 3"]
    """RGB"""
    boxes_cxcywh: Float32[np.ndarray, "n 4"]
    """relative to the patch centre, patch pixels"""
    visible: Bool[np.ndarray, " n"]
    """the object can be seen"""


class Windows(NamedTuple):
    """Parts of images that become patches."""

    centers_xy: Float64[np.ndarray, "n 2"]
    """image pixels"""
    sizes_wh_px: Float64[np.ndarray, "n 2"]
    """image pixels"""
    boxes_cxcywh: Float32[np.ndarray, "n 4"]
    """the object, relative to the patch centre, patch pixels"""


def sample_clip(sequence: Sequence, config: Config, material: Material = NOTHING, *, rng: np.random.Generator) -> Clip:
    """Random clip of a sequence: all pairs of `model.aspects` on its first frame, then T times look-ahead frames.

    Frames whose box lies outside of their image altogether are left out. What makes a clip hard is taken from
    `material`, as `config.clips` says.

    Raises:
        DataError: the object is visible in no frame, or a frame cannot be read.
    """
    m, t, later = config.model, config.clips, config.unroll.clip_frames
    visible = sequence.visible.copy()
    while True:
        if not visible.any():
            raise DataError(f"sequence {sequence.name} should show its object in one frame at least, but never does")
        indices = choose_frames(visible, later, t.max_stride, rng=rng)
        images = sequence.frames.get(indices.tolist())
        sizes = np.array([image.shape[1::-1] for image in images], np.float32)
        outside = outside_image(sequence.boxes_xywh[indices], sizes)
        if not outside.any():
            break
        visible[indices[outside]] = False  # a box beside the image: nothing can be learned from it
    boxes_xywh = sequence.boxes_xywh[indices].astype(np.float64)
    boxes = np.concatenate([boxes_xywh[:, :2] + boxes_xywh[:, 2:] / 2, boxes_xywh[:, 2:]], axis=1)

    first = stretch_factors(config.model.aspects)
    zooms = np.concatenate([first, random_zooms(t, later, rng=rng)])
    shifts = np.zeros((len(zooms), 2))
    shifts[len(first) :] = rng.uniform(-t.shift, t.shift, (later, 2)) * m.patch_size
    if t.jump:
        jumps = len(first) + np.flatnonzero(rng.random(later) < t.jump)
        shifts[jumps] = far_shifts(t.shift, len(jumps), rng=rng) * m.patch_size
        zooms[jumps] **= 2
    frames = np.concatenate([np.zeros(len(first), int), np.arange(1, later + 1)])
    shown = [images[frame] for frame in frames]

    windows = place_windows(boxes[frames], zooms, shifts, m.roi_scale, m.patch_size)
    seen = np.ones(len(frames))
    if t.absent:
        for i in len(first) + np.flatnonzero(rng.random(later) < t.absent):
            size = windows.sizes_wh_px[i]
            if elsewhere := look_elsewhere(sequence, shown[i], boxes[frames[i]], size, material, rng=rng):
                shown[i], windows.centers_xy[i], windows.sizes_wh_px[i] = elsewhere
                seen[i] = 0
    views = film(later, t.still_motion, rng=rng) if sequence.still and t.still_motion else []
    patches = np.empty((len(frames), m.patch_size, m.patch_size, 3), np.uint8)
    for i in range(len(first) if views else len(frames)):
        patches[i] = crop_host(shown[i], windows.centers_xy[i], windows.sizes_wh_px[i], m.patch_size)
    outside_view: dict[int, Bool[np.ndarray, "p p"]] = {}
    for i, view in enumerate(views, len(first)):
        patches[i], outside_view[i] = take_view(
            shown[i], windows.centers_xy[i], windows.sizes_wh_px[i], windows.boxes_cxcywh[i], view.warp, m.patch_size
        )
        windows.boxes_cxcywh[i] = warp_box(windows.boxes_cxcywh[i], view.warp, m.patch_size)
    scene = Scene(patches, windows.boxes_cxcywh, m.patch_size / windows.sizes_wh_px, seen, len(first))
    if t.lookalikes and rng.random() < t.lookalikes:
        add_lookalikes(scene, sequence, material, rng=rng)
    if t.occlusion and rng.random() < t.occlusion:
        add_occluder(scene, sequence, material, rng=rng)
    patches = augment(patches, t, len(first), sequence.still, rng=rng)
    for i, view in enumerate(views, len(first)):
        patches[i] = degrade(patches[i], view)
    for i, (image, center, size) in enumerate(zip(shown, windows.centers_xy, windows.sizes_wh_px, strict=True)):
        if i in outside_view:
            patches[i][outside_view[i]] = FILL_RGB
        else:
            fill_outside(patches[i], image.shape, center, size)
    clip = Clip(patches, windows.boxes_cxcywh, seen >= LEAST_VISIBLE)
    return hflip(clip) if rng.random() < t.flip else clip


def choose_frames(
    visible: Bool[np.ndarray, " n"], count: int, max_stride: int, *, rng: np.random.Generator
) -> Int64[np.ndarray, " k"]:
    """Indices of the first frame and of `count` frames after it, among the visible ones, at a random stride.

    A sequence that is too short for stride 1 is run forwards and backwards; a single frame is repeated.

    Raises:
        DataError: no frame is visible.
    """
    seen = np.flatnonzero(visible)
    if not len(seen):
        raise DataError("a sequence should show its object in one frame at least, but it never does")
    longest = (len(seen) - 1) // count
    if longest < 1:
        turn = max(2 * len(seen) - 2, 1)
        at = (rng.integers(turn) + np.arange(count + 1)) % turn
        return seen[np.minimum(at, turn - at)] if len(seen) > 1 else seen[at]
    stride = rng.integers(1, min(max_stride, longest) + 1)
    start = rng.integers(len(seen) - stride * count)
    return seen[start + stride * np.arange(count + 1)]


def random_zooms(config: ClipsConfig, count: int, *, rng: np.random.Generator) -> Float64[np.ndarray, "n 2"]:
    """Random factors of the object's width and height: a common scale and opposite stretches, uniform in logarithm."""
    scale = rng.uniform(-config.scale, config.scale, count)
    stretch = rng.uniform(-config.stretch, config.stretch, count)
    return np.exp(np.stack([scale + stretch, scale - stretch], axis=1))


def far_shifts(nearest: float, count: int, *, rng: np.random.Generator) -> Float64[np.ndarray, "n 2"]:
    """Random shifts over the patch side of which one coordinate is larger than `nearest`."""
    shifts = rng.uniform(-FARTHEST_SHIFT, FARTHEST_SHIFT, (count, 2))
    far = rng.uniform(min(nearest, FARTHEST_SHIFT), FARTHEST_SHIFT, count) * rng.choice([-1, 1], count)
    shifts[np.arange(count), rng.integers(0, 2, count)] = far
    return shifts


def place_windows(
    boxes_cxcywh: np.ndarray, zooms_wh: np.ndarray, shifts_patch: np.ndarray, roi_scale: float, patch_size: int
) -> Windows:
    """Windows of the image in which each object appears stretched, and off the centre.

    Args:
        boxes_cxcywh: (n, 4) the objects, image pixels.
        zooms_wh: (n, 2) factors of the width and height that the object has in its own square ROI.
        shifts_patch: (n, 2) where its centre shall be, relative to the patch centre.
        roi_scale: side of the square ROI over sqrt(w h).
        patch_size: side of the patch.
    """
    sizes = np.asarray(roi_side(boxes_cxcywh[:, 2:], roi_scale))[:, None] / zooms_wh
    patch_per_px = patch_size / sizes
    centers = boxes_cxcywh[:, :2] - shifts_patch / patch_per_px
    in_patch = np.concatenate([shifts_patch, boxes_cxcywh[:, 2:] * patch_per_px], axis=1)
    return Windows(centers, sizes, in_patch.astype(np.float32))


def fill_outside(
    patch: UInt8[np.ndarray, "p p 3"], image_shape: tuple[int, ...], center_xy: np.ndarray, size_wh_px: np.ndarray
) -> None:
    """Give the part of a patch that lies outside the image its constant colour back, in place.

    The tracker sees that colour and no other there, whatever the light in the picture.
    """
    side = len(patch)
    per_px = side / size_wh_px
    low = np.floor((0 - center_xy) * per_px + side / 2)
    high = np.ceil((np.array([image_shape[1], image_shape[0]]) - center_xy) * per_px + side / 2)
    x0, y0 = np.clip(low, 0, side).astype(int)
    x1, y1 = np.clip(high, 0, side).astype(int)
    for left, top, right, bottom in ((0, 0, side, y0), (0, y1, side, side), (0, 0, x0, side), (x1, 0, side, side)):
        if left < right and top < bottom:
            cv2.rectangle(patch, (int(left), int(top)), (int(right) - 1, int(bottom) - 1), FILL_RGB, cv2.FILLED)


def hflip(clip: Clip) -> Clip:
    """The clip with left and right exchanged."""
    return clip._replace(
        patches=clip.patches[:, :, ::-1], boxes_cxcywh=clip.boxes_cxcywh * np.array([-1, 1, 1, 1], np.float32)
    )


def augment(
    patches: UInt8[np.ndarray, "n p p 3"], config: ClipsConfig, first: int, still: bool, *, rng: np.random.Generator
) -> UInt8[np.ndarray, "n p p 3"]:
    """Colours and resolution of the whole clip changed alike; some frames after the first blurred, as by a movement.

    Args:
        patches: RGB.
        config: strengths and probabilities.
        first: how many patches show the first frame; they stay sharp.
        still: also change the brightness from frame to frame, as the clip would be constant otherwise.
        rng: source of randomness.
    """
    brightness, contrast, saturation = np.exp(rng.uniform(-config.colour, config.colour, 3))
    saturation = 0.0 if rng.random() < config.grey else saturation
    flicker = np.ones(len(patches))
    if still:
        flicker[first:] += rng.uniform(-STILL_BRIGHTNESS, STILL_BRIGHTNESS, len(patches) - first)
    blurred = (rng.random(len(patches)) < config.blur) & (np.arange(len(patches)) >= first)
    low, high = BLUR_LENGTHS_PATCH
    lengths, angles = rng.uniform(low, high, len(patches)), rng.uniform(0, np.pi, len(patches))

    if rng.random() < config.coarse:
        patches = downsample(patches, np.exp(rng.uniform(0, np.log(MOST_DOWNSAMPLED))))

    grey = float(patches[:first].mean())
    out = np.empty(patches.shape, np.uint8)
    for i, patch in enumerate(patches):
        if blurred[i]:
            patch = cv2.filter2D(patch, -1, motion_kernel(lengths[i], angles[i]), borderType=cv2.BORDER_REPLICATE)
        matrix = colour_matrix(brightness * flicker[i], contrast, saturation, grey)
        cv2.transform(np.ascontiguousarray(patch), matrix, dst=out[i])
    return out


def downsample(patches: UInt8[np.ndarray, "n p p 3"], factor: float) -> UInt8[np.ndarray, "n p p 3"]:
    """Patches as if the object had been `factor` times smaller in the image."""
    side = patches.shape[1]
    small = (max(round(side / factor), 1),) * 2
    return np.stack([
        cv2.resize(cv2.resize(patch, small, interpolation=cv2.INTER_AREA), (side, side)) for patch in patches
    ])  # fmt: skip


def degrade(patch: UInt8[np.ndarray, "p p 3"], view: View) -> UInt8[np.ndarray, "p p 3"]:
    """A patch with the blur, resolution, light and compression of a view."""
    if view.blur_patch > 1:
        kernel = motion_kernel(view.blur_patch, view.blur_angle)
        patch = cv2.filter2D(patch, -1, kernel, borderType=cv2.BORDER_REPLICATE)
    if view.downsampled > 1:
        patch = downsample(patch[None], view.downsampled)[0]
    patch = cv2.convertScaleAbs(patch, alpha=view.light)  # type: ignore[assignment]
    return patch if view.quality == QUALITIES[0] else compress(patch, view.quality)


def colour_matrix(brightness: float, contrast: float, saturation: float, grey: float) -> Float64[np.ndarray, "3 4"]:
    """Affine map of RGB: saturation about each pixel's luma, contrast about `grey`, then brightness as a factor."""
    mix = saturation * np.eye(3) + (1 - saturation) * LUMA
    offset = np.full((3, 1), (1 - contrast) * grey)
    return brightness * np.concatenate([contrast * mix, offset], axis=1)


def motion_kernel(length_patch: float, angle: float) -> Float32[np.ndarray, "k k"]:
    """Filter of a straight movement: a line of that length and angle (radians), with weights that sum to 1."""
    half = int(np.ceil(length_patch / 2))
    across = np.arange(-half, half + 1)
    x, y = np.meshgrid(across, across)
    along, away = x * np.cos(angle) + y * np.sin(angle), -x * np.sin(angle) + y * np.cos(angle)
    kernel = np.clip(1 - np.abs(away), 0, 1) * np.clip(length_patch / 2 + 0.5 - np.abs(along), 0, 1)
    return (kernel / kernel.sum()).astype(np.float32)
