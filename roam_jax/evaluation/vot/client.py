"""Tracker for the VOT toolkit, or any program that speaks TraX: `python -m roam_jax.evaluation.vot`.

The toolkit starts this program and sends it frames and regions over pipes or a socket; boxes are sent back as
rectangles, with the tracker's score as `confidence` where it has one. Regions may be rectangles or polygons; frames may
be file names, raw pixels, or encoded JPEG or PNG. Each object has a tracker of its own; objects may also come in later
frames. Needs the package `vot-trax` (`pip install roam-jax[vot]`). `python -m roam_jax.evaluate --vot-init DIR` writes
a workspace of the toolkit with the command in it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8

from roam_jax.cli import parse, run_command
from roam_jax.data.readers.vot import polygons_to_boxes
from roam_jax.data.sequences import DataError, ImageFiles
from roam_jax.errors import usage_errors
from roam_jax.evaluation.trackers import TrackerChoice, TrackerLike, TrackerName
from roam_jax.extras import require


@dataclass(frozen=True)
class Arguments:
    """Serve a tracker over TraX, the protocol of the VOT toolkit, which starts this program itself.

    Exit codes: 0 the other side ended the session, 2 wrong arguments, a region that cannot be tracked, or the extra
    `vot` is not installed, 3 an image that cannot be read, 5 no usable checkpoint.
    """

    tracker: TrackerName = "roam"
    """this package's, or one of those that the installed OpenCV has"""
    checkpoint: str = "lite"
    """of the tracker `roam`: a name or a directory"""
    nano_dir: Path | None = None
    """of the tracker `cv2:nano`: the folder with nanotrack_v2_backbone.onnx and nanotrack_v2_head.onnx"""


class Objects:
    """Trackers of the objects of a session, in the order in which they were given; a new session uses them again."""

    def __init__(self, make: Callable[[], TrackerLike]) -> None:
        self._make = make
        self._trackers: list[TrackerLike] = []
        self._count = 0

    def start(self, image: UInt8[np.ndarray, "h w 3"], boxes_xywh: list[np.ndarray]) -> list[tuple[np.ndarray, dict]]:
        """Track these objects and no others; returns boxes and properties, as `update`."""
        self._count = 0
        return self._add(image, boxes_xywh)

    def update(
        self, image: UInt8[np.ndarray, "h w 3"], new_boxes_xywh: list[np.ndarray]
    ) -> list[tuple[np.ndarray, dict]]:
        """Box and properties of each object in the next frame, those that are new in it at the end."""
        states = []
        for tracker in self._trackers[: self._count]:
            box = np.asarray(tracker.update(image), float)
            states.append((box, {} if math.isnan(tracker.score) else {"confidence": f"{tracker.score:.5f}"}))
        return states + self._add(image, new_boxes_xywh)

    def _add(self, image: UInt8[np.ndarray, "h w 3"], boxes_xywh: list[np.ndarray]) -> list[tuple[np.ndarray, dict]]:
        for box in boxes_xywh:
            if self._count == len(self._trackers):
                self._trackers.append(self._make())
            self._trackers[self._count].init(image, box)
            self._count += 1
        return [(box, {}) for box in boxes_xywh]


def serve(make: Callable[[], TrackerLike], *, name: str = "ROAM-JAX") -> None:
    """Track for the program at the other end until it ends the session.

    Args:
        make: gives a tracker; called once for each object of the session with the most of them.
        name: of the tracker, for the other side.

    Raises:
        MissingExtra: vot-trax is not installed.
        ValueError: a region that cannot be tracked, or what the tracker raises.
        DataError: an image that cannot be read.
    """
    require("trax")
    import trax

    server = trax.Server(
        [trax.Region.RECTANGLE, trax.Region.POLYGON],
        [trax.Image.PATH, trax.Image.MEMORY, trax.Image.BUFFER],
        tracker_name=name,
        tracker_description="Recurrently optimized tracking model, in JAX",
        multiobject=True,
    )
    try:
        _answer(server, Objects(make))
    except Exception as error:
        server.quit(str(error).replace("\n", " "))
        raise
    server.quit()


def read_image(image: Any) -> UInt8[np.ndarray, "h w 3"]:
    """RGB pixels of an image that came over TraX.

    Raises:
        DataError: it cannot be read, or its kind is not one of file, memory and buffer.
    """
    kind = image.type()
    if kind == "path":
        return ImageFiles((Path(image.path()),)).read(0)
    if kind == "buffer":
        pixels = cv2.imdecode(np.frombuffer(image.buffer(), np.uint8), cv2.IMREAD_COLOR)
        if pixels is None:
            raise DataError("an image that was sent encoded should be JPEG or PNG, but it cannot be decoded")
        return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
    if kind == "memory":
        pixels = image.array()
        if pixels.dtype == np.uint16:
            pixels = (pixels >> 8).astype(np.uint8)
        return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))
    raise DataError(f"an image should be sent as a file name, raw or encoded, but is sent as {kind}")


def read_region(region: Any) -> np.ndarray:
    """x, y, w, h to start a tracker from, of a rectangle or polygon that came over TraX.

    Polygons of four corners become boxes by the rule of `polygons_to_boxes`, others the tight box.

    Raises:
        ValueError: it is neither.
    """
    if region.type == "rectangle":
        return _as_sent(region.bounds())
    if region.type == "polygon":
        corners = _as_sent(list(region))
        if len(corners) == 4:
            return polygons_to_boxes(corners.reshape(1, 8))[0]
        low, high = corners.min(axis=0), corners.max(axis=0)
        return np.concatenate([low, high - low + 1])
    raise ValueError(f"an object should be given as a rectangle or polygon, but is given as a {region.type}")


def _as_sent(numbers: Any) -> np.ndarray:
    """Numbers as they were before TraX made float32 of them: it sends four decimals.

    A tracker that is started by hand from the same annotation then says the same to the last digit.
    """
    return np.round(np.array(numbers, float), 4)


def _answer(server: Any, objects: Objects) -> None:
    """Reply to each request until the one to quit."""
    import trax

    while True:
        request = server.wait()
        if request.type == trax.TraxStatus.QUIT:
            return
        image = read_image(request.image["color"])
        boxes = [read_region(region) for region, _ in request.objects or ()]
        if request.type == trax.TraxStatus.INITIALIZE:
            states = objects.start(image, boxes)
        else:
            states = objects.update(image, boxes)
        server.status([(trax.Rectangle.create(*box.tolist()), properties) for box, properties in states])


def main(args: list[str] | None = None) -> int:
    """The command line; returns its exit code."""
    return run_command(lambda: run(parse(Arguments, "python -m roam_jax.evaluation.vot", args)))


def run(arguments: Arguments) -> None:
    """Serve the tracker; raises what `serve` does, with a `UsageError` for wrong arguments and regions."""
    make = TrackerChoice(arguments.tracker, arguments.checkpoint, arguments.nano_dir)
    with usage_errors(ValueError):
        serve(make, name=arguments.tracker.replace(":", "-"))
