"""VOT, the short-term challenges from 2013 on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from roam_jax.data.readers.common import listed_folders, pair, sequence_folders
from roam_jax.data.readers.text import parse_names, parse_rows
from roam_jax.data.readers.tree import Tree
from roam_jax.data.sequences import DataError, Sequence

TAG_SUFFIXES = (".tag", ".label")
"""files with a 0 or 1 per frame, since 2018 and before"""


def read_vot(root: Path | str | Tree, source: str = "vot") -> list[Sequence]:
    """VOT: `NAME/color/%08d.jpg` or `NAME/%08d.jpg` with `NAME/groundtruth.txt`, 0-based.

    A line of the annotation is a polygon of four corners (8 numbers; 2014 to 2019), a box x,y,w,h, or a mask (from
    2020 on). `boxes_xywh` holds `polygons_to_boxes` of polygons and the tight box of masks; the label `polygon_xy`
    holds the four corners (n, 8), for those who measure overlap with the region itself. Frame attributes
    (`occlusion.tag`, `camera_motion.label`, ...) become labels under their names; files that end early are 0
    afterwards, as in the toolkit.

    Args:
        root: the folder with `list.txt` (all folders of sequences without), or one sequence.
        source: the sequences' source.

    Raises:
        DataError: no such layout there, a sequence of the list is missing, a line that is no region, or not one region
            per picture.
    """
    tree = Tree.of(root)

    def read(folder: Path) -> Iterator[Sequence]:
        text = folder / "groundtruth.txt"
        regions = parse_regions(tree.text(text, "one region per line"), text)
        polygons = np.array([_corners(row) if len(row) == 4 else row for row in regions], float)
        rectangles = np.array([row if len(row) == 4 else [np.nan] * 4 for row in regions], float)
        boxes = np.where([[len(row) == 4] for row in regions], rectangles, polygons_to_boxes(polygons))
        colour = folder / "color"
        pictures = tree.pictures(colour if colour.is_dir() else folder)
        labels: dict[str, np.ndarray] = {"polygon_xy": polygons.astype(np.float32)}
        for name in tree.names(folder):
            path = folder / name
            if path.suffix in TAG_SUFFIXES:
                labels[path.stem] = _parse_tag(tree.text(path, "flags"), path, len(polygons))
        yield pair(folder.name, pictures, boxes.astype(np.float32), text, source, labels=labels)

    listed = tree.find_text(tree.root / "list.txt")
    if listed is None:
        return tree.each(read, sequence_folders(tree, tree.root, "groundtruth.txt"))
    return tree.each(read, listed_folders(tree, tree.root, parse_names(listed), "list.txt"))


def parse_regions(text: str, path: Path) -> list[list[float]]:
    """Corners x1,y1,...,x4,y4 or box x,y,w,h of each line; of masks the tight box, NaN for an empty one.

    Raises:
        DataError: a line that is neither 8 or 4 numbers nor a mask.
    """
    lines = text.rstrip().splitlines()
    boxes = [_mask_box(line, path) if line.lstrip().startswith("m") else line for line in lines]
    return parse_rows("\n".join(boxes), path, "x1,y1,...,x4,y4 or x,y,w,h", (4, 8))


def polygons_to_boxes(polygons_xy: Float[np.ndarray, "n 8"]) -> Float[np.ndarray, "n 4"]:
    """Axis-aligned boxes `xywh` of polygons, by the rule of those who take part in the VOT.

    The rule (`get_axis_aligned_bbox` of the trackers in the challenges, and the got10k toolkit): the box about the mean
    corner with the proportions of the tight box and the area of the rectangle that the first three corners span, its
    sides enlarged by the one pixel by which corners at the centres of pixels fall short. The toolkit itself, asked for
    rectangles, takes the tight box.

    Args:
        polygons_xy: four corners in their order, 0-based.
    """
    corners = polygons_xy.reshape(-1, 4, 2)
    low, high = corners.min(axis=1), corners.max(axis=1)
    size = high - low
    area = np.linalg.norm(corners[:, 0] - corners[:, 1], axis=1) * np.linalg.norm(corners[:, 1] - corners[:, 2], axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = np.sqrt(area / size.prod(axis=1))[:, None]
    box_size = scale * size + 1
    return np.concatenate([corners.mean(axis=1) - box_size / 2, box_size], axis=1)


def _corners(box_xywh: list[float]) -> list[float]:
    x, y, w, h = box_xywh
    return [x, y, x + w, y, x + w, y + h, x, y + h]


def _mask_box(line: str, path: Path) -> str:
    """Tight box, as text, of a mask `mX,Y,W,H,run,run,...`: runs of zeros and ones in turn, row by row."""
    try:
        x, y, width, height, *runs = (int(part) for part in line.strip()[1:].split(","))
        mask = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
        mask = np.pad(mask, (0, width * height - len(mask))).reshape(height, width)
    except ValueError as error:
        raise DataError(f"{path} should hold masks mX,Y,W,H,run,..., but one cannot be read: {error}") from error
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return "nan,nan,nan,nan"
    return f"{x + columns[0]},{y + rows[0]},{columns[-1] - columns[0] + 1},{rows[-1] - rows[0] + 1}"


def _parse_tag(text: str, path: Path, count: int) -> Bool[np.ndarray, " n"]:
    flags = text.split()
    if len(flags) > count or set(flags) - {"0", "1"}:
        raise DataError(f"{path} should hold one 0 or 1 for each of the {count} frames")
    return np.array([flag == "1" for flag in flags] + [False] * (count - len(flags)), bool)
