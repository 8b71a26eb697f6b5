"""A clip with exact boxes, rendered from two photographs: what `python -m roam_jax.track --demo` tracks.

A round sticker with a cat's face slides over a table with a coffee cup on it, while the camera moves. The sticker
grows and shrinks, tilts away and turns, the light changes, a wooden slat passes over it, and a second sticker crosses
its way.
`python -m roam_jax.demo --output DIR` writes the clip as a sequence folder in the layout of OTB.

Frames are averages over the time that the shutter is open, so that fast motion blurs. Box and picture come from the
same affine map of the unit disc into the image: the box is the exact extent of the disc in the middle of the exposure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from importlib import resources
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float32, Float64, UInt8

FPS = Fraction(30)
SHUTTER = (-0.25, 0.0, 0.25)
"""instants that a frame is the average of, in frames"""
STICKER_PX = 160
"""diameter of the stickers' textures, in pixels"""
NOISE = 2.5
"""standard deviation of the grain, in grey levels"""
INVERSE = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP

Affine = Float64[np.ndarray, "2 3"]
Texture = Float32[np.ndarray, "t t 4"]
"""RGB times alpha, and alpha, in 0 to 1"""
Motion = Callable[[float], Affine]
"""map from the unit disc to the image, as a function of the time from 0 to 1 and beyond"""


@dataclass(frozen=True)
class Scene:
    """Everything that a frame is made of; coordinates are image pixels, counted from the corner of the first."""

    size_hw: tuple[int, int]
    table: Float32[np.ndarray, "h w 3"]
    """photograph in the background, in 0 to 1"""
    camera: Motion
    """from the image to the photograph of the table"""
    layers: tuple[tuple[Texture, Motion], ...]
    """what lies on the table, from the bottom up"""
    target: Motion
    """motion of the tracked sticker"""
    light: Callable[[float], float]
    """brightness over time"""


def render_demo(
    n_frames: int = 120, size: tuple[int, int] = (270, 480), seed: int = 0
) -> tuple[Iterator[UInt8[np.ndarray, "h w 3"]], Float32[np.ndarray, "n 4"]]:
    """Clip of a sticker on a table: a pure function of its arguments.

    Args:
        n_frames: length.
        size: height and width of the frames in pixels.
        seed: of the paths and the noise.

    Returns:
        An iterator over RGB frames, rendered one by one when they are asked for, and the exact box of the sticker in
        every frame, xywh, 0-based image pixels; where the slat covers it, the box is that of the whole sticker.
    """
    if n_frames < 1 or min(size) < 32:
        raise ValueError(f"a clip needs a frame and 32 pixels a side, not {n_frames} frames of {size[1]} x {size[0]}")
    rng = np.random.default_rng(seed)
    scene = make_scene(size, rng)
    times = np.linspace(0.0, 1.0, n_frames)
    boxes = np.stack([disc_box(scene.target(time)) for time in times]).astype(np.float32)
    step = 1.0 / max(n_frames - 1, 1)
    return (render_frame(scene, time, step, rng) for time in times), boxes


def make_scene(size_hw: tuple[int, int], rng: np.random.Generator) -> Scene:
    """The table, two stickers with their shadows, and the slat, with paths drawn from `rng`."""
    cat, table = load_photograph("chelsea.jpg"), load_photograph("coffee.jpg")
    phases = rng.uniform(-0.3, 0.3, 4)
    unit = size_hw[0] / 270.0
    target = _target_motion(size_hw, phases)
    rival = _rival_motion(size_hw, phases)
    face = cut_disc(cat, center_xy=(238.0, 148.0), radius=132.0)
    mirrored = cut_disc(cat[:, ::-1] * np.array([0.8, 0.92, 1.05], np.float32), center_xy=(214.0, 160.0), radius=118.0)
    shadow = cut_shadow()
    slat, slat_motion = cut_slat(table), _slat_motion(size_hw)
    slat_shadow = slat * np.array([0, 0, 0, 0.4], np.float32)
    return Scene(
        size_hw,
        table,
        _camera_motion(size_hw, table.shape[:2], phases),
        (
            (shadow, _shifted(rival, 4 * unit)),
            (mirrored, rival),
            (shadow, _shifted(target, 4 * unit)),
            (face, target),
            (slat_shadow, _shifted(slat_motion, 5 * unit)),
            (slat, slat_motion),
        ),
        target,
        lambda time: 1.0 + 0.18 * float(np.sin(2 * np.pi * (0.9 * time + phases[3]))),
    )


def render_frame(scene: Scene, time: float, step: float, rng: np.random.Generator) -> UInt8[np.ndarray, "h w 3"]:
    """RGB frame whose exposure has its middle at `time`; `step` is the time from frame to frame."""
    exposures = [_expose(scene, time + part * step) for part in SHUTTER]
    image = sum(exposures) * np.float32(scene.light(time) * 255.0 / len(exposures))
    grain = 0.5 + NOISE * rng.standard_normal(image.shape[:2], np.float32)
    return np.clip(image + cv2.cvtColor(grain, cv2.COLOR_GRAY2RGB), 0, 255).astype(np.uint8)


def disc_box(disc: Affine) -> Float64[np.ndarray, " 4"]:
    """Exact box xywh around the image of the unit disc: an ellipse reaches as far as its map's rows are long."""
    half = np.hypot(disc[:, 0], disc[:, 1])
    return np.concatenate([disc[:, 2] - half, 2 * half])


def load_photograph(name: str) -> Float32[np.ndarray, "h w 3"]:
    """RGB photograph of the package's assets, in 0 to 1."""
    data = (resources.files("roam_jax") / "assets" / name).read_bytes()
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None, f"the package's {name} is damaged"
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(np.float32) / 255.0


def cut_disc(photograph: Float32[np.ndarray, "h w 3"], center_xy: tuple[float, float], radius: float) -> Texture:
    """Round cutout with a white rim; the edge of the disc is where alpha is one half."""
    scale = 2 * radius / STICKER_PX
    to_photograph = np.array([[scale, 0, center_xy[0] - radius], [0, scale, center_xy[1] - radius]])
    smooth = cv2.GaussianBlur(photograph, (0, 0), max(scale / 2, 0.1))  # against aliasing of the smaller picture
    colour = cv2.warpAffine(smooth, _to_centers(to_photograph), (STICKER_PX, STICKER_PX), flags=INVERSE)
    distance = _distance_from_center()
    rim = np.clip((distance - 0.93) * STICKER_PX / 4, 0, 1)[..., None]
    alpha = np.clip((1.0 - distance) * STICKER_PX / 4 + 0.5, 0, 1)[..., None]
    return np.concatenate([(colour * (1 - rim) + 0.94 * rim) * alpha, alpha], axis=-1).astype(np.float32)


def cut_shadow() -> Texture:
    """Soft dark disc."""
    alpha = 0.45 * np.clip((1.0 - _distance_from_center()) * 6, 0, 1)[..., None]
    return np.concatenate([np.zeros((STICKER_PX, STICKER_PX, 3)), alpha], axis=-1).astype(np.float32)


def cut_slat(table: Float32[np.ndarray, "h w 3"]) -> Texture:
    """Strip of the table's wood with dark edges, drawn over the square that encloses the unit disc."""
    wood = cv2.resize(table[60:280, 480:560], (STICKER_PX, STICKER_PX))
    across = np.abs(np.linspace(-1, 1, STICKER_PX))[None, :, None]
    shade = 1.35 - 0.6 * across**6
    alpha = np.clip((0.97 - across) * 30, 0, 1) * np.ones((STICKER_PX, 1, 1))
    return np.concatenate([np.clip(wood * shade, 0, 1) * alpha, alpha], axis=-1).astype(np.float32)


def _expose(scene: Scene, time: float) -> Float32[np.ndarray, "h w 3"]:
    """The scene at one instant, in 0 to 1, before light and noise."""
    height, width = scene.size_hw
    to_table = _to_centers(scene.camera(time))
    image = cv2.warpAffine(scene.table, to_table, (width, height), flags=INVERSE, borderMode=cv2.BORDER_REFLECT_101)
    for texture, motion in scene.layers:
        _lay(image, texture, motion(time))
    return image


def _lay(image: Float32[np.ndarray, "h w 3"], texture: Texture, square: Affine) -> None:
    """Paint a texture onto the image of the square from -1 to 1; only the pixels around it are touched."""
    reach = np.abs(square[:, :2]).sum(axis=1) + 1
    limit = (image.shape[1], image.shape[0])
    left, top = (int(v) for v in np.clip(np.floor(square[:, 2] - reach), 0, limit))
    right, bottom = (int(v) for v in np.clip(np.ceil(square[:, 2] + reach), 0, limit))
    if left < right and top < bottom:
        to_part = _to_centers(_texture_to_image(square)) - np.array([[0, 0, left], [0, 0, top]])
        layer = cv2.warpAffine(texture, to_part, (right - left, bottom - top), flags=cv2.INTER_LINEAR)
        part = image[top:bottom, left:right]
        part *= cv2.cvtColor(1 - layer[..., 3], cv2.COLOR_GRAY2RGB)  # ten times as fast as broadcasting
        part += cv2.cvtColor(layer, cv2.COLOR_RGBA2RGB)


def _texture_to_image(disc: Affine) -> Affine:
    """Map from a texture's pixels, whose middle is the disc's centre, to the image."""
    radius = STICKER_PX / 2
    return np.concatenate([disc[:, :2] / radius, (disc[:, 2] - disc[:, :2].sum(axis=1))[:, None]], axis=1)


def _to_centers(affine: Affine) -> Affine:
    """The same map for OpenCV, which counts from the centre of the first pixel and not from its corner."""
    return np.concatenate([affine[:, :2], (affine[:, :2].sum(axis=1) * 0.5 + affine[:, 2] - 0.5)[:, None]], axis=1)


def _distance_from_center() -> Float64[np.ndarray, "t t"]:
    """Distance of a sticker's pixels from its centre, in radii."""
    at = (np.arange(STICKER_PX) + 0.5) / (STICKER_PX / 2) - 1
    return np.hypot(at[:, None], at[None, :])


def _disc(center_xy: tuple[float, float], radii: tuple[float, float], tilt: float, turn: float) -> Affine:
    """Disc turned by `turn`, stretched to the radii, turned by `tilt` (radians), and moved to its centre."""
    matrix = _rotation(tilt) @ np.diag(radii) @ _rotation(turn)
    return np.concatenate([matrix, np.array(center_xy)[:, None]], axis=1)


def _rotation(angle: float) -> Float64[np.ndarray, "2 2"]:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _shifted(motion: Motion, shift: float) -> Motion:
    """Motion of a shadow: down and to the right."""
    return lambda time: motion(time) + np.array([[0, 0, shift], [0, 0, 1.5 * shift]])


def _target_motion(size_hw: tuple[int, int], phases: Float64[np.ndarray, " 4"]) -> Motion:
    """A loop through the image; the radius swings by a quarter, the sticker tilts and turns."""
    height, width = size_hw

    def motion(time: float) -> Affine:
        angle = 2 * np.pi * time
        center = (
            width * (0.5 + 0.30 * np.sin(angle - 1.2 + phases[0])),
            height * (0.5 + 0.22 * np.sin(2 * angle + phases[1])),
        )
        radius = height * (0.15 + 0.04 * np.sin(1.5 * angle + phases[2]))
        squeeze = 1.0 - 0.3 * np.sin(np.pi * time) ** 2
        return _disc(center, (radius, radius * squeeze), 0.5 * np.sin(angle), 0.4 * np.sin(angle + phases[1]))

    return motion


def _rival_motion(size_hw: tuple[int, int], phases: Float64[np.ndarray, " 4"]) -> Motion:
    """A slow path through the middle, past the target."""
    height, width = size_hw

    def motion(time: float) -> Affine:
        center = (width * (0.85 - 0.6 * time), height * (0.3 + 0.45 * time + 0.05 * np.sin(9 * time + phases[2])))
        return _disc(center, (0.13 * height, 0.12 * height), 0.3, 0.5 * np.sin(4 * time))

    return motion


def _slat_motion(size_hw: tuple[int, int]) -> Motion:
    """A narrow upright slat that crosses the image once."""
    height, width = size_hw
    return lambda time: np.array([[0.07 * height, 0.2 * height, width * (1.2 - 1.5 * time)], [0, height, height / 2]])


def _camera_motion(size_hw: tuple[int, int], table_hw: tuple[int, ...], phases: Float64[np.ndarray, " 4"]) -> Motion:
    """Slow pan, zoom and roll over the photograph of the table."""
    (height, width), (table_height, table_width) = size_hw, table_hw

    def motion(time: float) -> Affine:
        zoom = min(table_height / height, table_width / width) * (0.86 + 0.05 * np.sin(3 * time + phases[0]))
        matrix = zoom * _rotation(0.05 * np.sin(4 * time + phases[1]))
        look_at = np.array(
            [table_width * (0.5 + 0.04 * np.sin(3 * time)), table_height * (0.5 + 0.05 * np.cos(2 * time))]
        )
        return np.concatenate([matrix, (look_at - matrix @ np.array([width / 2, height / 2]))[:, None]], axis=1)

    return motion


def write_demo(folder: Path, n_frames: int = 120, size: tuple[int, int] = (270, 480), seed: int = 0) -> None:
    """Write the clip as a sequence folder in OTB's layout: `img/0001.jpg` ..., `groundtruth_rect.txt` (1-based)."""
    frames, boxes = render_demo(n_frames, size, seed)
    (folder / "img").mkdir(parents=True, exist_ok=True)
    np.savetxt(folder / "groundtruth_rect.txt", boxes + np.array([1, 1, 0, 0]), fmt="%.3f", delimiter=",")
    for number, frame in enumerate(frames, start=1):
        _, data = cv2.imencode(".jpg", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 92])
        (folder / "img" / f"{number:04d}.jpg").write_bytes(data.tobytes())
