"""Procedural videos with exact boxes: a textured shape moves over a textured background that moves too.

For tests, examples and demonstrations without data. A sequence is a pure function of its seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from jaxtyping import Float32, Float64, UInt8

from roam_jax.data.sequences import Frames, Sequence

SUBPIXELS = 4
"""samples per pixel and axis from which a shape's edge is averaged"""
TEXTURE_SIDE = 96
"""texture pixels over a shape"""


@dataclass(frozen=True)
class Track:
    """A shape and its way through the frames."""

    outline: Float64[np.ndarray, "v 2"]
    """corners (x, y) of the convex shape at size 1 around the origin"""
    texture: UInt8[np.ndarray, "t t 3"]
    centers_xy: Float64[np.ndarray, "n 2"]
    """image pixels"""
    sizes_px: Float64[np.ndarray, " n"]
    angles: Float64[np.ndarray, " n"]
    """radians"""

    def motion(self, index: int) -> Float64[np.ndarray, "2 2"]:
        """Matrix from the shape at size 1 to offsets in the image."""
        cosine, sine = np.cos(self.angles[index]), np.sin(self.angles[index])
        return self.sizes_px[index] * np.array([[cosine, -sine], [sine, cosine]])

    def corners(self, index: int) -> Float64[np.ndarray, "v 2"]:
        """Corners of the shape in the image, continuous coordinates."""
        return self.centers_xy[index] + self.outline @ self.motion(index).T

    def box_xywh(self, index: int) -> Float32[np.ndarray, 4]:
        """Smallest box around the shape."""
        corners = self.corners(index)
        low, high = corners.min(axis=0), corners.max(axis=0)
        return np.concatenate([low, high - low]).astype(np.float32)


@dataclass(frozen=True, eq=False)
class SyntheticFrames(Frames):
    """Frames that are drawn when asked for."""

    height: int
    width: int
    length: int
    distractors: int
    seed: int

    def __len__(self) -> int:
        return self.length

    @cached_property
    def tracks(self) -> tuple[Track, ...]:
        """The distractors, then the object: later ones cover earlier ones."""
        rng = np.random.default_rng([self.seed, 1])
        return tuple(_random_track(self.height, self.width, self.length, rng) for _ in range(self.distractors + 1))

    @cached_property
    def background(self) -> tuple[UInt8[np.ndarray, "h w 3"], Float64[np.ndarray, "n 2"]]:
        """A picture larger than the frames, and where in it each frame lies."""
        rng = np.random.default_rng([self.seed, 2])
        picture = random_texture(2 * self.height, 2 * self.width, rng=rng)
        room = np.array([self.width, self.height], np.float64) - 2
        return picture, 1 + room * _smooth_walk(self.length, 2, rng)

    def read(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """One frame."""
        picture, offsets = self.background
        move = np.array([[1, 0, offsets[index, 0]], [0, 1, offsets[index, 1]]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        frame = cv2.warpAffine(picture, move, (self.width, self.height), flags=flags).astype(np.float32)
        for track in self.tracks:
            _draw(frame, track, index)
        return np.round(frame).astype(np.uint8)


def synthetic_sequence(
    seed: int, *, length: int = 60, height: int = 240, width: int = 320, distractors: int = 2
) -> Sequence:
    """One sequence; its object is always in the image, whole, and nothing covers it.

    Args:
        seed: shape, textures and motion follow from it.
        length: frames.
        height: of a frame, pixels.
        width: of a frame, pixels.
        distractors: other shapes, which move behind the object.
    """
    frames = SyntheticFrames(height, width, length, distractors, seed)
    boxes = np.stack([frames.tracks[-1].box_xywh(index) for index in range(length)])
    return Sequence(f"synthetic_{seed}", frames, boxes, source="synthetic")


def random_texture(height: int, width: int, *, rng: np.random.Generator) -> UInt8[np.ndarray, "h w 3"]:
    """Picture with random structure at several sizes, in random colours."""
    total = np.zeros((height, width, 3), np.float32)
    for cells, strength in ((3, 0.5), (9, 0.3), (27, 0.2)):
        noise = rng.random((cells, max(2, cells * width // height), 3), np.float32)
        total += strength * cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    low, high = total.min(axis=(0, 1)), total.max(axis=(0, 1))
    return np.round(255 * (total - low) / (high - low)).astype(np.uint8)


def _random_track(height: int, width: int, length: int, rng: np.random.Generator) -> Track:
    corners = rng.choice([3, 4, 5, 40])
    turns = 2 * np.pi * (np.arange(corners) + rng.random()) / corners
    outline = np.stack([np.cos(turns), np.sin(turns)], axis=1) * (1.0, rng.uniform(0.5, 1.0))
    largest = min(height, width) / 6
    sizes = largest * np.exp(-0.8 * _smooth_walk(length, 1, rng)[:, 0])
    room = np.array([width, height]) - 2 * largest
    return Track(
        outline=outline,
        texture=random_texture(TEXTURE_SIDE, TEXTURE_SIDE, rng=rng),
        centers_xy=largest + room * _smooth_walk(length, 2, rng),
        sizes_px=sizes,
        angles=np.pi * _smooth_walk(length, 1, rng)[:, 0],
    )


def _smooth_walk(length: int, dimensions: int, rng: np.random.Generator) -> Float64[np.ndarray, "n d"]:
    """Smooth curve inside the unit cube: each coordinate a sine of random phase and a period of 60 to 150 frames."""
    at = np.arange(length)[:, None]
    phases, periods = rng.uniform(0, 2 * np.pi, dimensions), rng.uniform(60, 150, dimensions)
    return 0.5 + 0.5 * np.sin(2 * np.pi * at / periods + phases)


def _draw(frame: Float32[np.ndarray, "h w 3"], track: Track, index: int) -> None:
    """Lay a shape over a frame, in place."""
    corners = track.corners(index)
    left, top = np.floor(corners.min(axis=0)).astype(int)
    right, bottom = np.ceil(corners.max(axis=0)).astype(int)
    wide, high = int(right - left), int(bottom - top)
    # fillPoly counts from the centre of the first pixel and takes fixed-point coordinates with 8 fractional bits
    points = np.round(((corners - (left, top)) * SUBPIXELS - 0.5) * 256).astype(np.int32)
    mask = cv2.fillPoly(np.zeros((high * SUBPIXELS, wide * SUBPIXELS), np.float32), [points], 1.0, shift=8)  # type: ignore
    alpha = cv2.resize(mask, (wide, high), interpolation=cv2.INTER_AREA)[..., None]
    to_unit = np.linalg.inv(track.motion(index)) * (TEXTURE_SIDE - 1) / 2
    shift = to_unit @ (np.array([left, top]) + 0.5 - track.centers_xy[index]) + (TEXTURE_SIDE - 1) / 2
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    matrix = np.concatenate([to_unit, shift[:, None]], axis=1)
    colour = cv2.warpAffine(track.texture, matrix, (wide, high), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    y0, x0 = max(top, 0), max(left, 0)
    part = frame[y0:bottom, x0:right]
    inner = np.s_[y0 - top : y0 - top + part.shape[0], x0 - left : x0 - left + part.shape[1]]
    part += alpha[inner] * (colour[inner].astype(np.float32) - part)
