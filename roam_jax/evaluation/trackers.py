"""Trackers to evaluate, all with `init(image, box)` and `update(image)`: this package's, OpenCV's, and your own."""

from __future__ import annotations

import hashlib
import json
import math
import runpy
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from roam_jax.config import Config

TrackerName = Literal["roam", "cv2:csrt", "cv2:kcf", "cv2:mil", "cv2:nano"]
NANO_FILES = ("nanotrack_v2_backbone.onnx", "nanotrack_v2_head.onnx")


@runtime_checkable
class TrackerLike(Protocol):
    """A tracker of one object, for all that track: the protocol of the got10k toolkit, and how sure it is.

    Images are RGB, uint8, (height, width, 3); boxes are x, y, w, h, in image pixels that count from 0.
    """

    @property
    def box(self) -> Any:
        """The object's box in the last frame."""
        ...

    @property
    def score(self) -> float:
        """How sure the tracker is of the last frame's box, more is surer; NaN: it does not say."""
        ...

    @property
    def lost(self) -> bool:
        """The object was not found in the last frame."""
        ...

    def init(self, image: UInt8[np.ndarray, "h w 3"], box: Any, /) -> Any:
        """Start on the object in the box."""
        ...

    def update(self, image: UInt8[np.ndarray, "h w 3"], /) -> Any:
        """The object's box in the next frame."""
        ...


@runtime_checkable
class Correctable(Protocol):
    """A tracker that learns from a box that the user gives in a later frame."""

    def correct(self, image: UInt8[np.ndarray, "h w 3"], box: Any, /) -> Any:
        """Take the object's box in the next frame from the user, instead of `update`."""
        ...


@dataclass(frozen=True)
class TrackerChoice:
    """A tracker that other processes can make too: calling it is `make_tracker`."""

    name: str
    checkpoint: str = "lite"
    nano_dir: Path | None = None

    def __call__(self) -> TrackerLike:
        """A new tracker, as `make_tracker`."""
        return make_tracker(self.name, checkpoint=self.checkpoint, nano_dir=self.nano_dir)

    def describe(self) -> dict[str, str]:
        """What its results depend on, to tell them from those of other trackers.

        Raises:
            ValueError, CheckpointError: as `make_tracker`.
        """
        if self.name != "roam":
            self()
            if own := split_own(self.name):
                digest = hashlib.sha256(own[0].read_bytes()).hexdigest()
                return {"tracker": f"{own[0].name}:{own[1]}", "file": digest[:16]}
            return {"tracker": self.name, "opencv": cv2.__version__}
        from roam_jax.checkpoints import digest_tree, load_checkpoint

        checkpoint = load_checkpoint(self.checkpoint)
        config = json.dumps(checkpoint.config.to_dict(), sort_keys=True)
        digest = hashlib.sha256(config.encode()).hexdigest()
        return {"tracker": "roam", "parameters": digest_tree(checkpoint.params)[:16], "config": digest[:16]}


class OpenCVTracker:
    """A tracker of OpenCV, a `TrackerLike`. Where it reports that it lost the object, the last box stays.

    Args:
        create: gives a new one.
    """

    score = math.nan

    def __init__(self, create: Callable[[], Any]) -> None:
        self._create = create
        self.box: Float[np.ndarray, " 4"] = np.zeros(4)
        self.lost = False

    def init(self, image: UInt8[np.ndarray, "h w 3"], box: Any) -> None:
        """Start; OpenCV rounds the box to whole pixels."""
        self._tracker = self._create()
        self.box, self.lost = np.asarray(box, float), False
        self._tracker.init(_to_bgr(image), [round(value) for value in self.box.tolist()])

    def update(self, image: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, " 4"]:
        """The box in the next frame."""
        found, box = self._tracker.update(_to_bgr(image))
        self.lost = not found
        if found:
            self.box = np.asarray(box, float)
        return self.box


def make_tracker(
    name: str, *, checkpoint: str = "lite", config: Config | None = None, nano_dir: Path | None = None
) -> TrackerLike:
    """The tracker of that name.

    Args:
        name: `roam`, `cv2:` and the lower-case name of one of OpenCV's trackers, or `FILE.py:NAME` of your own.
        checkpoint: of `roam`: name or directory.
        config: of `roam`: a configuration instead of the checkpoint's.
        nano_dir: of `cv2:nano`: the folder with `NANO_FILES`.

    Raises:
        ValueError: no such tracker, the installed OpenCV lacks it, or its files are missing.
        CheckpointError: as `roam_jax.checkpoints.load_checkpoint`.
    """
    if name == "roam":
        from roam_jax.tracking.tracker import Tracker  # starts JAX, which OpenCV's trackers need not wait for

        return Tracker(checkpoint=checkpoint, config=config)
    if own := split_own(name):
        return load_own(*own)
    if not name.startswith("cv2:"):
        raise ValueError(
            f"no tracker is called {name!r}; there are roam, cv2:csrt, cv2:kcf, cv2:mil, cv2:nano, and FILE.py:NAME"
        )
    return OpenCVTracker(_find_opencv_factory(name.removeprefix("cv2:"), nano_dir))


def split_own(name: str) -> tuple[Path, str] | None:
    """File and name in it of a tracker of one's own; None for the name of another one."""
    file, mark, attribute = name.rpartition(":")
    return (Path(file), attribute) if mark and file.endswith(".py") else None


def load_own(file: Path, name: str) -> TrackerLike:
    """What `name` of a Python file gives when it is called without arguments.

    Raises:
        ValueError: the file cannot be run, has no such name, or that gives no object with `init` and `update`.
    """
    if (folder := str(file.resolve().parent)) not in sys.path:
        sys.path.insert(0, folder)  # as of a script: modules beside it can be imported
    try:
        names = runpy.run_path(str(file))
        tracker: Any = names[name]() if name in names else None
    except Exception as error:  # whatever the file does
        raise ValueError(f"{file}:{name} gives no tracker: {type(error).__name__}: {error}") from error
    if name not in names:
        raise ValueError(f"{file} should have a function or class {name!r} that gives the tracker")
    if missing := [method for method in ("init", "update") if not callable(getattr(tracker, method, None))]:
        raise ValueError(f"what {file}:{name} gives should have the method {' and '.join(missing)}")
    return tracker


def _find_opencv_factory(kind: str, nano_dir: Path | None) -> Callable[[], Any]:
    parts = {name.lower(): getattr(cv2, name) for name in dir(cv2) if name.startswith("Tracker")}
    if f"tracker{kind}_create" not in parts:
        raise ValueError(
            f"OpenCV {cv2.__version__} as it is installed here has no tracker {kind!r}; csrt and kcf come with "
            "opencv-contrib-python in the place of opencv-python: pip uninstall -y opencv-python, "
            "then pip install opencv-contrib-python"
        )
    create = parts[f"tracker{kind}_create"]
    if kind != "nano":
        return create
    files = [Path(nano_dir or ".") / name for name in NANO_FILES]
    if missing := [file.name for file in files if not file.is_file()]:
        raise ValueError(f"NanoTrack needs the folder of its networks, where {' and '.join(missing)} should lie")

    def create_nano() -> Any:
        params = parts["trackernano_params"]()
        params.backbone, params.neckhead = map(str, files)
        return create(params)

    return create_nano


def _to_bgr(image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    return cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
