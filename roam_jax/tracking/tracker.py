"""The friendly tracker: init(image, box), update(image), in the protocol that users of the got10k toolkit know."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import platformdirs
from jaxtyping import Float, UInt8

from roam_jax.backbones import make_backbone
from roam_jax.checkpoints import Checkpoint, load_checkpoint
from roam_jax.config import Config
from roam_jax.core.boxes import xywh_to_cxcywh
from roam_jax.tracking.crop import crop_host
from roam_jax.tracking.geometry import Roi
from roam_jax.tracking.online import Online, TrackerParams, TrackerState, first_rois, search_rois
from roam_jax.tracking.params import params_from_dict

Image = UInt8[np.ndarray, "h w 3"]


class Tracker:
    """ROAM on one object.

        tracker = Tracker()
        tracker.init(first_image, (x, y, w, h))
        for image in later_images:
            x, y, w, h = tracker.update(image)

    Images are RGB, uint8, (height, width, 3), or PIL images. Boxes are x, y, w, h of the top-left corner and the size,
    in image pixels; pixel (i, j) covers [j, j + 1) x [i, i + 1).

    Attributes:
        box: x, y, w, h in the last frame.
        score: of the last frame, relative to the first frame's.
        lost: whether the score is so low that the box should not be trusted.
    """

    name = "ROAM-JAX"
    is_deterministic = True

    def __init__(
        self,
        checkpoint: str | Path | Checkpoint = "lite",
        config: Config | None = None,
        crop: Literal["auto", "host", "device"] = "auto",
    ) -> None:
        """Load a checkpoint.

        Args:
            checkpoint: name of one that ships with the package, a directory, or one that is already loaded.
            config: instead of the checkpoint's configuration.
            crop: where patches are cut; `auto`: on the host where the device is its CPU.

        Raises:
            CheckpointError: the checkpoint cannot be read.
            ValueError: configuration and parameters do not fit together.
        """
        enable_compilation_cache()
        loaded = checkpoint if isinstance(checkpoint, Checkpoint) else load_checkpoint(checkpoint)
        self.config = (config or loaded.config).check()
        self.online = Online(self.config, make_backbone(self.config))
        self.params: TrackerParams = params_from_dict(loaded.params, self.config)
        self._on_host = crop == "host" or (crop == "auto" and jax.default_backend() == "cpu")
        self._state: TrackerState | None = None
        self._shape = (0, 0, 3)
        self.box: Float[np.ndarray, " 4"] = np.zeros(4, np.float32)
        self.score = 1.0
        self.lost = False

    def init(self, image: Any, box: Any) -> None:
        """Start on the object in `box` (x, y, w, h) of an image.

        Raises:
            ValueError: not an RGB image, or a box that is empty, not finite, or outside the image.
        """
        image = as_rgb(image)
        box_xywh = check_box(box, image)
        self._shape = image.shape
        box_cxcywh = xywh_to_cxcywh(jnp.asarray(box_xywh))
        programs = compile_programs(self.online, _shapes(self.params), None if self._on_host else image.shape)
        self._programs = programs
        if self._on_host:
            patches = self._crop(image, programs.first_rois(box_cxcywh))
            size = jnp.asarray([image.shape[1], image.shape[0]], jnp.float32)
            self._state = programs.start(self.params, patches, box_cxcywh, size)
        else:
            self._state = programs.start(self.params, image, jnp.asarray(box_xywh))
        self.box, self.score, self.lost = box_xywh, 1.0, False

    def update(self, image: Any) -> Float[np.ndarray, " 4"]:
        """The object's x, y, w, h in the next image.

        Raises:
            RuntimeError: `init` was not called.
            ValueError: not an RGB image of the first one's size.
        """
        if self._state is None:
            raise RuntimeError("Tracker.update needs Tracker.init(image, box) first")
        image = as_rgb(image)
        if image.shape != self._shape:
            raise ValueError(
                f"an image must have the first one's size; this one is {image.shape[1]} x {image.shape[0]} pixels"
            )
        if self._on_host:
            seen: Any = self._crop(image, self._programs.search_rois(self._state.box_cxcywh))
        else:
            seen = image
        self._state, prediction = self._programs.step(self.params, self._state, seen)
        box, score, lost = jax.device_get(prediction)
        self.box = np.concatenate([box[:2] - box[2:] / 2, box[2:]]).astype(np.float32)
        self.score, self.lost = float(score), bool(lost)
        return self.box

    def _crop(self, image: Image, rois: Roi) -> UInt8[np.ndarray, "n p p 3"]:
        centers, sizes = np.asarray(rois.center_xy, np.float64), np.asarray(rois.size_wh, np.float64)
        side = self.config.model.patch_size
        return np.stack([crop_host(image, *roi, side) for roi in zip(centers, sizes, strict=True)])


class Programs:
    """Compiled programs of one tracker configuration."""

    def __init__(self, start: Callable, step: Callable, online: Online) -> None:
        self.start, self.step = start, step
        self.first_rois = jax.jit(functools.partial(first_rois, config=online.config))
        self.search_rois = jax.jit(functools.partial(search_rois, config=online.config))


@functools.lru_cache(maxsize=16)
def compile_programs(online: Online, params: Any, image_shape: tuple[int, int, int] | None) -> Programs:
    """Compile start and step, both at once, ahead of time; they serve every tracker of that configuration.

    Args:
        online: the tracker's functions.
        params: its parameters as a hashable tree of shapes (`_shapes`).
        image_shape: (height, width, 3) for programs that crop on the device; None for those that take patches.
    """
    c = online.config
    params_like = jax.tree.unflatten(params[0], [jax.ShapeDtypeStruct(s, d) for s, d in params[1]])
    floats = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.float32)  # noqa: E731
    pixels = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.uint8)  # noqa: E731
    if image_shape is None:
        side = c.model.patch_size
        searched = 1 if c.online.regression else len(c.online.scales)
        start, step = online.start_patches, online.step_patches
        first = (pixels(len(c.online.aspects) ** 2, side, side, 3), floats(4), floats(2))
        later = pixels(searched, side, side, 3)
    else:
        start, step = online.start, online.step
        first, later = (pixels(*image_shape), floats(4)), pixels(*image_shape)
    lowered_start = jax.jit(start).lower(params_like, *first)
    with ThreadPoolExecutor(1) as pool:  # the compiler leaves Python free to trace the other program
        compiled_start = pool.submit(lowered_start.compile)
        state = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), lowered_start.out_info)
        compiled_step = jax.jit(step).lower(params_like, state, later).compile()
        return Programs(compiled_start.result(), compiled_step, online)


def _shapes(tree: Any) -> tuple[Any, tuple[tuple[tuple[int, ...], Any], ...]]:
    leaves, structure = jax.tree.flatten(tree)
    return structure, tuple((leaf.shape, leaf.dtype) for leaf in leaves)


def enable_compilation_cache() -> None:
    """Keep compiled programs in the user's cache folder, unless JAX was already told where to keep them."""
    if jax.config.values["jax_compilation_cache_dir"] is None and "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        folder = Path(platformdirs.user_cache_dir("roam_jax")) / "programs"
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def as_rgb(image: Any) -> Image:
    """uint8 RGB array of an array or a PIL image.

    Raises:
        ValueError: it is neither.
    """
    array = np.asarray(image.convert("RGB") if hasattr(image, "convert") else image)
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8 or 0 in array.shape:
        raise ValueError(
            f"an image must be RGB, uint8, of shape (height, width, 3); this one is {array.dtype} {array.shape}"
        )
    return array


def check_box(box: Any, image: Image) -> Float[np.ndarray, " 4"]:
    """The box as an array, if it is one and overlaps the image.

    Raises:
        ValueError: it does not.
    """
    array = np.asarray(box, np.float32).ravel()
    if array.shape != (4,) or not np.isfinite(array).all():
        raise ValueError(f"a box must be four finite numbers x, y, w, h; this one is {box}")
    x, y, w, h = array.tolist()
    height, width = image.shape[:2]
    if w <= 0 or h <= 0:
        raise ValueError(f"a box must have a positive width and height; this one has {w:g} x {h:g}")
    if x >= width or y >= height or x + w <= 0 or y + h <= 0:
        raise ValueError(f"the box {x:g},{y:g},{w:g},{h:g} lies outside the image of {width} x {height} pixels")
    return array
