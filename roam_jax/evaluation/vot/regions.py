"""Regions of the VOT benchmarks: rectangles, polygons and codes, their text and binary files, and their overlap.

A region is an array: four numbers are a rectangle x, y, w, h; v rows of two are a polygon's corners x, y. A whole
number in its place is a code: see `Code`.

The overlap is that of the VOT toolkit (vot-toolkit 0.7.2, the successor of the MATLAB toolkit's compiled function): not
the continuous area of polygons, but a count of pixels.

- Coordinates are float32 and rounded to whole numbers, halves to the even one; x, y, w and h each for themselves.
- A rectangle covers the pixels x .. x + w - 1: in continuous coordinates, [x, x + w), as everywhere in this package.
- A polygon's corners are pixel *centres* and belong to it: one from 10 to 20 covers 11 pixels. In each row, the
  crossings of the edges are cut to whole numbers, sorted, and the pixels from the first to the second, the third to the
  fourth and so on are filled, both ends included; of two equal crossings the first is left out, unless they are the
  last two.
- Only pixels inside the image count. Regions whose common bounds are a single row or column have an overlap of 1, and
  those whose part inside the image is one have 0: faults of the toolkit at sizes that do not occur, kept to agree.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from pathlib import Path
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float

from roam_jax.data.sequences import DataError

Region: TypeAlias = np.ndarray | int
"""x, y, w, h of shape (4,); or corners of shape (v, 2), v >= 3; or a `Code`"""
Bounds: TypeAlias = tuple[int, int, int, int]
"""left, top, right, bottom in whole pixels, all four included"""


class Code(IntEnum):
    """What stands in a trajectory where no region does."""

    UNKNOWN = 0
    """not tracked: between a failure and the next start"""
    START = 1
    """the tracker was given the true region"""
    FAILURE = 2
    """the overlap was 0"""


def parse_region(text: str) -> Region:
    """Region of one line: one number is a code, four are x, y, w, h, six or more are corners; with a NaN: unknown.

    Raises:
        ValueError: it is none of these, a mask for example.
    """
    numbers = np.array([float(part) for part in text.split(",")], np.float32)
    if numbers.size > 1 and np.isnan(numbers).any():
        return Code.UNKNOWN
    if numbers.size == 1:
        return int(numbers[0])
    if numbers.size == 4:
        return numbers
    if numbers.size < 6 or numbers.size % 2:
        raise ValueError(f"a region should be 1, 4, or an even number of at least 6 numbers, not {numbers.size}")
    return numbers.reshape(-1, 2)


def format_region(region: Region) -> str:
    """The line of a region; reading it gives the same float32 numbers."""
    if not isinstance(region, np.ndarray):
        return str(int(region))
    return ",".join(np.format_float_positional(x, trim="-") for x in region.astype(np.float32).ravel())


def read_regions(path: Path) -> list[Region]:
    """Regions of a text file, one per line, or of one of the toolkit's binary files (`.bin`).

    Raises:
        DataError: no such file, or one that is not as it should be.
    """
    if not path.is_file():
        raise DataError(f"{path} should hold one region per line, but there is no such file")
    if path.suffix == ".bin":
        return _read_binary(path)
    regions = []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").rstrip().splitlines(), start=1):
        try:
            regions.append(parse_region(line))
        except ValueError as error:
            raise DataError(f"{path} line {number} should be a rectangle, polygon or code, but {error}") from error
    if not regions:
        raise DataError(f"{path} should hold one region per line, but it is empty")
    return regions


def write_regions(path: Path, regions: list[Region]) -> None:
    """Write a text file of one line per region."""
    path.write_text("".join(format_region(region) + "\n" for region in regions), encoding="utf-8")


def overlap(a: Region, b: Region, size_wh: tuple[int, int]) -> float:
    """Intersection over union in pixels of the image; 0 where one is a code or not finite.

    Args:
        a: region in image coordinates.
        b: the other one.
        size_wh: width and height of the image.
    """
    if not (isinstance(a, np.ndarray) and isinstance(b, np.ndarray) and np.isfinite(a).all() and np.isfinite(b).all()):
        return 0.0
    a, b = (np.round(region.astype(np.float32)).astype(float) for region in (a, b))
    (l1, t1, r1, b1), (l2, t2, r2, b2) = _bounds(a), _bounds(b)
    left, top, right, bottom = min(l1, l2), min(t1, t2), max(r1, r2), max(b1, b2)
    if left >= right or top >= bottom:
        return 1.0
    window = max(left, 0), max(top, 0), min(right, size_wh[0] - 1), min(bottom, size_wh[1] - 1)
    if window[0] >= window[2] or window[1] >= window[3]:
        return 0.0
    first, second = _fill(a, window), _fill(b, window)
    union = np.count_nonzero(first | second)
    return np.count_nonzero(first & second) / union if union else 0.0


def _bounds(region: np.ndarray) -> Bounds:
    """Bounds of a region with whole coordinates."""
    if region.shape == (4,):
        x, y, w, h = (int(value) for value in region)
        return x, y, x + w - 1, y + h - 1
    left, top, right, bottom = (int(value) for value in (*region.min(axis=0), *region.max(axis=0)))
    return left, top, right, bottom


def _fill(region: np.ndarray, window: Bounds) -> Bool[np.ndarray, "h w"]:
    """Pixels of the window that a region with whole coordinates covers."""
    left, top, right, bottom = window
    height, width = bottom - top + 1, right - left + 1
    if region.shape != (4,):
        return _fill_polygon(region - (left, top), height, width)
    mask = np.zeros((height, width), bool)
    x0, y0, x1, y1 = _bounds(region)
    mask[max(y0 - top, 0) : max(y1 - top + 1, 0), max(x0 - left, 0) : max(x1 - left + 1, 0)] = True
    return mask


def _fill_polygon(corners: Float[np.ndarray, "v 2"], height: int, width: int) -> Bool[np.ndarray, "h w"]:
    """Pixels that a polygon covers, all rows at once."""
    rows = np.arange(height)[:, None]
    (x, y), (x_before, y_before) = corners.T, np.roll(corners, 1, axis=0).T
    crossed = (np.minimum(y, y_before) <= rows) & (rows <= np.maximum(y, y_before))
    rise = np.where(y_before == y, np.inf, y_before - y)  # a horizontal edge gives its own corner
    crossings = np.sort(np.where(crossed, np.trunc(x + (rows - y) / rise * (x_before - x)), np.inf), axis=1)
    count = crossed.sum(axis=1)
    change = np.zeros((height, width + 1), int)  # +1 where a run of pixels begins, -1 behind its end
    at = np.zeros(height, int)  # index of the crossing that comes next, in each row
    for k in range(len(corners) - 1):
        first, second = crossings[:, k], crossings[:, k + 1]
        here = (at == k) & (k < count - 1)
        skipped = here & (first == second) & (k < count - 2)
        filled = np.flatnonzero(here & ~skipped & (first < width) & (second >= 0))
        change[filled, np.maximum(first[filled], 0).astype(int)] += 1
        change[filled, np.minimum(second[filled], width - 1).astype(int) + 1] -= 1
        at += skipped + 2 * (here & ~skipped)
    return change[:, :-1].cumsum(axis=1) > 0


def _read_binary(path: Path) -> list[Region]:
    """Regions of a file that begins with the number 1 and the count; each region has its kind in front of it."""
    data, regions = path.read_bytes(), []
    try:
        version, count = struct.unpack_from("<hI", data)
        if version != 1:
            raise ValueError(f"its version is {version}")
        at = struct.calcsize("<hI")
        for _ in range(count):
            kind, at = data[at], at + 1
            if kind == 0:
                regions.append(struct.unpack_from("<I", data, at)[0])
                at += 4
                continue
            if kind not in (1, 2):
                raise ValueError("it has a mask")
            corners = None if kind == 1 else struct.unpack_from("<H", data, at)[0]
            at += 0 if corners is None else 2
            numbers = np.frombuffer(data, "<f4", 2 * corners if corners else 4, at)
            regions.append(numbers.reshape(-1, 2) if corners else numbers)
            at += numbers.nbytes
    except (struct.error, ValueError, IndexError) as error:
        raise DataError(f"{path} should be a trajectory of rectangles, polygons and codes, but {error}") from error
    return regions
