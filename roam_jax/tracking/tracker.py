"""The friendly tracker: init(image, box), update(image), in the protocol that users of the got10k toolkit know."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import cv2
import jax
import numpy as np
from jaxtyping import Float

from roam_jax.checkpoints import Checkpoint, load_checkpoint
from roam_jax.config import Config
from roam_jax.devices import choose_backend, in_float32, refuse_fork
from roam_jax.errors import InputError
from roam_jax.pictures import Image, as_rgb, read_image
from roam_jax.tracking.host import HostCrop, check_box
from roam_jax.tracking.online import Online, TrackerState, search_roi
from roam_jax.tracking.params import Params, params_of
from roam_jax.tracking.programs import (
    Programs,
    Shapes,
    compile_correction,
    compile_programs,
    enable_compilation_cache,
    programs_are_kept,
)
from roam_jax.tracking.saved import Saved, load_state, save_state


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
        score: probability that the box of the last frame is on the object, 1 in the first frame; of a checkpoint
            without `online.confidence`, its response over the first frame's.
        lost: whether the object was not found in the last frame.
        signs: what the score is made of (`roam_jax.extensions.confidence.SIGNS`); empty before the second frame.
    """

    name = "ROAM-JAX"
    is_deterministic = True
    """the same frames on the same machine give the same boxes bitwise; another number of threads rounds differently,
    and moves no box by 0.01 px in 60 frames of each of 22 sequences (`experiments/threads.py`)"""

    @in_float32()
    def __init__(
        self,
        checkpoint: str | Path | Checkpoint = "lite",
        config: Config | None = None,
        crop: Literal["auto", "host", "device"] = "auto",
    ) -> None:
        """Load a checkpoint.

        Args:
            checkpoint: name of one that ships with the package, a directory, or one that is already loaded.
            config: instead of the checkpoint's configuration; it may name the trunk's file, where that holds none.
            crop: where patches are cut; `auto`: on the host where the device is its CPU.

        Raises:
            CheckpointError: the checkpoint cannot be read, or does not fit the configuration.
            WeightsError: the checkpoint has no trunk, and its weights are not found.
            ValueError: a setting is out of its range, or settings do not fit together.
            UsageError: JAX has no device of the kind that it is told to use.
        """
        backend = choose_backend()
        enable_compilation_cache()
        weights = config.check().backbone.weights if config else ""
        loaded = checkpoint if isinstance(checkpoint, Checkpoint) else load_checkpoint(checkpoint, weights=weights)
        self.config = config or loaded.config.check()
        self.online = Online(self.config)
        on_host = crop == "host" or (crop == "auto" and backend == "cpu")
        self._host_crop = HostCrop(self.config) if on_host else None
        self.params = params_of(loaded, self.config, known=self._programs_are_kept)
        self._state: TrackerState | None = None
        self._shape = (0, 0, 3)
        self.box: Float[np.ndarray, " 4"] = np.zeros(4, np.float32)
        self.score = 1.0
        self.lost = False
        self.signs: Float[np.ndarray, " k"] = np.zeros(0, np.float32)

    @in_float32()
    def init(self, image: Any, box: Any) -> None:
        """Start on the object in `box` (x, y, w, h) of an image.

        Raises:
            ValueError: not an RGB image, or a box that is empty, not finite, or outside the image.
            RuntimeError: the process was forked after the tracker was made.
        """
        refuse_fork()
        image = as_rgb(image)
        box_xywh = check_box(box, image)
        self._shape = image.shape
        self._programs = self._compile()
        if self._host_crop:
            self._state = self._programs.start(self.params, *self._host_crop.first(image, box_xywh))
        else:
            self._state = self._programs.start(self.params, image, box_xywh)
        self.box, self.score, self.lost = box_xywh, 1.0, False

    @in_float32()
    def update(self, image: Any) -> Float[np.ndarray, " 4"]:
        """The object's x, y, w, h in the next image.

        Raises:
            RuntimeError: `init` was not called, or the process was forked after the tracker was made.
            ValueError: not an RGB image of the first one's size.
        """
        if self._state is None:
            raise RuntimeError("Tracker.update needs Tracker.init(image, box) first")
        image = self._next(image)
        seen: Any = self._host_crop.search(image, self._state.roi) if self._host_crop else image
        self._state, prediction = self._programs.step(self.params, self._state, seen)
        box, score, lost, self.signs = jax.device_get(prediction)
        self.box = np.concatenate([box[:2] - box[2:] / 2, box[2:]]).astype(np.float32)
        self.score, self.lost = float(score), bool(lost)
        return self.box

    @in_float32()
    def correct(self, image: Any, box: Any) -> None:
        """Take the object's box in the next image from the user, instead of `update`.

        The model learns from it, as from a frame that it has tracked, and the search goes on from there.

        Raises:
            RuntimeError: as `update`.
            ValueError: not an RGB image of the first one's size, or a box as `init` does not take it.
        """
        state, image = self.state, self._next(image)
        box_xywh = check_box(box, image)
        apply = compile_correction(self.online, self._host_crop is not None)
        if self._host_crop:
            box_cxcywh = np.concatenate([box_xywh[:2] + box_xywh[2:] / 2, box_xywh[2:]])
            patches = self._host_crop.search(image, search_roi(box_cxcywh, self.config))
            self._state = apply(self.params, state, patches, box_cxcywh)
        else:
            self._state = apply(self.params, state, image, box_xywh)
        self.box, self.score, self.lost = box_xywh, 1.0, False

    def _next(self, image: Any) -> Image:
        refuse_fork()
        image = as_rgb(image)
        if image.shape != self._shape:
            raise ValueError(
                f"an image must have the first one's size; this one is {image.shape[1]} x {image.shape[0]} pixels"
            )
        return image

    @property
    def state(self) -> TrackerState:
        """Everything that changes from frame to frame, as `Online.step` takes it.

        Raises:
            RuntimeError: `init` was not called.
        """
        if self._state is None:
            raise RuntimeError("Tracker.state needs Tracker.init(image, box) first")
        return self._state

    @in_float32()
    def save(self, directory: str | Path) -> None:
        """Write the tracker as it is now, with its parameters; `restore` makes it again.

        Args:
            directory: where to; a tracker that is already there is replaced.

        Raises:
            RuntimeError: `init` was not called.
            CheckpointError: the directory holds something else.
        """
        crop = "host" if self._host_crop else "device"
        about = Saved(self.config, crop, self._shape, self.score, self.lost)
        save_state(directory, about, self.params, self.state, self.box)

    @classmethod
    @in_float32()
    def restore(cls, directory: str | Path) -> Tracker:
        """The tracker that `save` wrote; it goes on bitwise alike on the same machine.

        Raises:
            CheckpointError: nothing there, damaged, or not a tracker that was saved.
        """
        about, checkpoint, state, box_xywh = load_state(directory)
        tracker = cls(checkpoint, crop=about.crop)
        tracker._state, tracker._shape = jax.device_put(state), about.image_shape
        tracker.box, tracker.score, tracker.lost = box_xywh, about.score, about.lost
        tracker._programs = tracker._compile()
        return tracker

    def __copy__(self) -> Tracker:
        """A tracker that goes on by itself from here; what does not change is shared."""
        copied = object.__new__(type(self))
        copied.__dict__.update(self.__dict__)
        return copied

    def __getstate__(self) -> dict[str, Any]:
        """For pickle: arrays of the host, and no compiled programs."""
        kept = {name: value for name, value in self.__dict__.items() if name not in ("_programs", "online")}
        return {**kept, **jax.device_get({name: kept[name] for name in ("params", "_state")})}

    @in_float32()
    def __setstate__(self, values: dict[str, Any]) -> None:
        refuse_fork()
        enable_compilation_cache()
        self.__dict__.update(values)
        self.online = Online(self.config)
        self.params = jax.device_put(self.params)
        if self._state is not None:
            self._state = jax.device_put(self._state)
            self._programs = self._compile()

    def _compile(self) -> Programs:
        """Programs for images of `_shape`."""
        return compile_programs(self.online, Shapes.of(self.params), None if self._host_crop else self._shape)

    def _programs_are_kept(self, params: Params) -> bool:
        """Whether nothing needs to be traced: parameters of these shapes have been found to fit before."""
        return self._host_crop is not None and programs_are_kept(self.online, Shapes.of(params))

    def track(
        self, img_files: Sequence[str | Path], box: Any, visualize: bool = False
    ) -> tuple[Float[np.ndarray, "n 4"], Float[np.ndarray, " n"]]:
        """Track through image files: what the experiments of the got10k toolkit call.

        Args:
            img_files: one file per frame.
            box: x, y, w, h in the first; counted from where the caller counts from.
            visualize: also show the frames in a window.

        Returns:
            Boxes of all frames, the first as given, and the seconds that each took without reading its file.

        Raises:
            ValueError: a file is no image, or as `init` and `update`.
        """
        boxes, seconds = np.zeros((len(img_files), 4)), np.zeros(len(img_files))
        for index, file in enumerate(img_files):
            try:
                image = read_image(Path(file), whole=False)
            except InputError as error:
                raise ValueError(str(error)) from error
            began = time.perf_counter()
            if index == 0:
                self.init(image, box)
            boxes[index] = self.update(image) if index else box
            seconds[index] = time.perf_counter() - began
            if visualize:
                low, high = np.round([boxes[index, :2], boxes[index, :2] + boxes[index, 2:]]).astype(int).tolist()
                picture = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
                cv2.imshow(self.name, cv2.rectangle(picture, low, high, (0, 255, 255), 2))
                cv2.waitKey(1)
        return boxes, seconds
