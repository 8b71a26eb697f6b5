"""Boxes as text: the command line's `x,y,w,h`, boxes files in the style of OTB, and JSON lines.

In memory boxes are `xywh` in continuous 0-based image coordinates. OTB counts the first pixel as (1, 1): text of that
kind is read and written with `one_based=True`, which shifts x and y by one and leaves w and h alone.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from roam_jax.data.readers import text as annotations
from roam_jax.data.sequences import DataError
from roam_jax.errors import InputError, UsageError
from roam_jax.pictures import LARGEST

Box = Float32[np.ndarray, " 4"]
Boxes = Float32[np.ndarray, "n 4"]


@dataclass(frozen=True)
class Observation:
    """What one tracker says about one frame."""

    frame: int
    """0-based index of the frame in the input"""
    target: int
    """0-based index of the object"""
    box_xywh: Box
    """image pixels, 0-based"""
    score: float
    """response relative to that of the first frame; 1 in the first frame"""
    lost: bool
    """the tracker does not believe that this is the object"""
    seconds: float
    """time that the tracker took for this object in this frame"""
    time: float = 0.0
    """when the frame is shown, in seconds after the first one of the input"""


def parse_box(text: str, *, one_based: bool = False) -> Box:
    """Box of a text such as `10,20,30,40` (x, y, w, h between commas, semicolons or spaces).

    Raises:
        UsageError: the text is not four numbers.
    """
    parts = [part for part in re.split(r"[,;\s]+", text.strip()) if part]
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        numbers = []
    if len(numbers) != 4:
        raise UsageError(f"a box is four numbers x,y,w,h, for example 10,20,30,40, but {text!r} was given")
    return np.asarray(numbers, np.float32) - _origin(one_based)


def read_boxes(path: Path, *, one_based: bool = False) -> Boxes:
    """Boxes of a text file, one x,y,w,h per line, between commas, tabs or spaces.

    Raises:
        InputError: no file that can be read, no box in it, or a line that is not four numbers (`nan` is a number).
    """
    try:
        return annotations.read_boxes(path) - _origin(one_based)
    except DataError as error:
        raise InputError(str(error)) from error


@dataclass(frozen=True)
class Given:
    """A box that the user gives."""

    frame: int | None
    """number in the input; None: the first frame that is tracked"""
    target: int
    """0-based index of the object"""
    box_xywh: Box


def read_starts(path: Path, *, one_based: bool = False) -> list[Given]:
    """First boxes of several objects: lines `x,y,w,h`, or `frame,x,y,w,h` of those that appear later.

    Raises:
        InputError: no file that can be read, no line, or one of another kind.
    """
    rows = _read_rows(path, "x,y,w,h or frame,x,y,w,h", (4, 5))
    return [
        Given(_whole(row[0], path) if len(row) == 5 else None, target, _box_of(row[-4:], one_based))
        for target, row in enumerate(rows)
    ]


def read_corrections(path: Path, *, one_based: bool = False) -> list[Given]:
    """Boxes of later frames: lines `frame,x,y,w,h`, or `frame,object,x,y,w,h` with the object's number from 1.

    Raises:
        InputError: no file that can be read, no line, or one of another kind.
    """
    rows = _read_rows(path, "frame,x,y,w,h or frame,object,x,y,w,h", (5, 6))
    return [
        Given(_whole(row[0], path), _whole(row[1], path) - 1 if len(row) == 6 else 0, _box_of(row[-4:], one_based))
        for row in rows
    ]


def _read_rows(path: Path, what: str, lengths: tuple[int, ...]) -> list[list[float]]:
    try:
        return annotations.read_rows(path, what, lengths)
    except DataError as error:
        raise InputError(str(error)) from error


def _whole(value: float, path: Path) -> int:
    if not (value >= 0 and value.is_integer()):
        raise InputError(f"{path} should count frames and objects by whole numbers, but has {value:g}")
    return int(value)


def _box_of(row: list[float], one_based: bool) -> Box:
    return np.array(row, np.float32) - _origin(one_based)


def format_box(box_xywh: Box, *, one_based: bool = False) -> str:
    """Line `x,y,w,h` of a boxes file, to a hundredth of a pixel."""
    return ",".join(f"{value:.2f}" for value in box_xywh + _origin(one_based))


def format_observation(observation: Observation) -> str:
    """Line of JSON about one object in one frame; null stands for a number that is not finite.

    Keys: `frame`, from 0; `time`, when it is shown, in seconds after the first frame of the input; `target`, the
    object's number, from 1 as in the names of the boxes files and in the video; `box`; `score`; `lost`;
    `compute_seconds`, the time that the tracker took.
    """
    return json.dumps(
        {
            "frame": observation.frame,
            "time": _finite(observation.time, 6),
            "target": observation.target + 1,
            "box": [_finite(value, 3) for value in observation.box_xywh.tolist()],
            "score": _finite(observation.score, 5),
            "lost": observation.lost,
            "compute_seconds": _finite(observation.seconds, 6),
        }
    )


def read_observations(path: Path) -> list[dict[str, Any]]:
    """Lines of a `track.jsonl`; a last line that a crash cut short is left out.

    Raises:
        InputError: no such file, or a line before the last is no JSON.
    """
    try:
        lines = annotations.decode_text(path.read_bytes()).splitlines()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(json.loads(line))
        except (ValueError, RecursionError) as error:
            if number < len(lines):
                raise InputError(f"{path} line {number} should be JSON, but is {line[:60]!r}") from error
    return rows


def check_box(box_xywh: Box, size_hw: tuple[int, int]) -> Box:
    """The same box, if a tracker can start from it; it may stick out of the image, but not lie outside.

    Raises:
        UsageError: a number is not finite or beyond `LARGEST`, a side is shorter than a pixel, or no pixel of the image
            is inside.
    """
    height, width = size_hw
    x, y, w, h = (float(value) for value in box_xywh)
    text = f"the box x={x:g}, y={y:g}, w={w:g}, h={h:g}"
    if not all(map(math.isfinite, (x, y, w, h))):
        raise UsageError(f"{text} has a number that is not finite")
    if min(w, h) < 1:
        raise UsageError(f"{text} is empty: its width and height must be at least one pixel")
    if max(abs(x), abs(y), w, h) > LARGEST:
        raise UsageError(f"{text} reaches beyond {LARGEST:,} pixels, which no image does")
    if min(x + w, width) - max(x, 0) < 1 or min(y + h, height) - max(y, 0) < 1:
        raise UsageError(f"{text} lies outside the image, which is {width} pixels wide and {height} high")
    return box_xywh


def _origin(one_based: bool) -> Box:
    """Coordinates of the first pixel's corner in a text, as a box."""
    return np.asarray([1, 1, 0, 0] if one_based else [0, 0, 0, 0], np.float32)


def _finite(value: float, digits: int) -> float | None:
    """JSON has no word for numbers that are not finite."""
    return round(float(value), digits) if math.isfinite(value) else None
