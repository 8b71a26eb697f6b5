"""COCO: photographs with boxes, and own photographs in the same format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from roam_jax.data.readers.tree import Tree
from roam_jax.data.sequences import DataError, FolderPaths, ImageFiles, Sequence, outside_image


def read_coco(
    images_dir: Path | str,
    annotations: Path | str,
    *,
    main_only: bool = False,
    min_side_px: float = 12.0,
    max_aspect: float = 6.0,
    max_extent: float = 0.8,
    source: str = "coco",
    tree: Tree | None = None,
) -> list[Sequence]:
    """Still pictures with boxes in COCO's detection format: one sequence of one frame per usable annotation.

    Args:
        images_dir: where the pictures lie.
        annotations: the JSON file; boxes x, y, w, h, 0-based.
        main_only: keep only annotations with the extra key `main` equal to 1.
        min_side_px: boxes with a shorter side are dropped.
        max_aspect: boxes with a larger ratio of long to short side are dropped.
        max_extent: boxes that cover more than this part of the width or the height are dropped.
        source: the sequences' source.
        tree: what is to remember the files that were looked at.

    Raises:
        DataError: no such file, not COCO's format, or nothing usable in it.
    """
    folder, path = Path(images_dir), Path(annotations)
    tree = tree or Tree(folder)
    text = tree.text(path, "boxes in COCO's detection format")
    try:
        content = json.loads(text)
        images = {image["id"]: image for image in content["images"]}
        sequences = []
        for note in content["annotations"]:
            image = images[note["image_id"]]
            usable = not note.get("iscrowd", 0) and (not main_only or note.get("main", 0) == 1)
            box = usable_box(image, note["bbox"], min_side_px, max_aspect, max_extent)
            if usable and (fault := fault_of_box(image, note["bbox"])):
                tree.remark(f"{path}: the box of annotation {note['id']} should {fault}")
            if usable and box is not None:
                name = f"{Path(image['file_name']).stem}_{note['id']}"
                frames = ImageFiles(FolderPaths(folder, [image["file_name"]]))
                sequences.append(Sequence(name, frames, box, source, still=True))
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} should be in COCO's detection format, but it is not: {error!r}") from error
    if not sequences:
        raise DataError(f"{path} should hold boxes of at least {min_side_px:g} pixels a side, but none is usable")
    return sequences


def usable_box(
    image: dict[str, Any], box_xywh: list[float], min_side_px: float, max_aspect: float, max_extent: float
) -> np.ndarray | None:
    """Part (1, 4) of a box inside its image; None if it is too small, too thin or too large to learn from."""
    width, height = image["width"], image["height"]
    x, y, w, h = box_xywh
    left, right = (min(max(edge, 0.0), width) for edge in (x, x + w))
    top, bottom = (min(max(edge, 0.0), height) for edge in (y, y + h))
    short, long = sorted((right - left, bottom - top))
    inside = right - left <= max_extent * width and bottom - top <= max_extent * height
    fits = short >= min_side_px and long <= max_aspect * short and inside
    return np.array([[left, top, right - left, bottom - top]], np.float32) if fits else None


def fault_of_box(image: dict[str, Any], box_xywh: list[float]) -> str:
    """What a box should be and is not, beside being large enough; empty if it is fine."""
    box = np.array([box_xywh], np.float32)
    size = f"{image['width']:g} x {image['height']:g} pixels"
    if not np.isfinite(box).all():
        return f"be finite, but is {box_xywh}"
    if (box[:, 2:] <= 0).any():
        return f"have a width and a height, but is {box_xywh}"
    outside = outside_image(box, np.array([[image["width"], image["height"]]], np.float32))
    return f"lie inside of {size}, but is {box_xywh}" if outside.any() else ""


def read_coco_folder(root: Path | str | Tree, source: str = "coco", *, split: str | None = None) -> list[Sequence]:
    """COCO as downloaded: `train2017/*.jpg` (or `images/train2017/`) with `annotations/instances_train2017.json`.

    Args:
        root: the folder with `annotations`; without a split, one with `images` and `instances.json`.
        source: the sequences' source.
        split: such as `train2017` or `val2017`; None: own photographs.

    Raises:
        DataError: no such layout there, not COCO's format, or nothing usable in it.
    """
    tree = Tree.of(root)
    notes = tree.root / ("instances.json" if split is None else f"annotations/instances_{split}.json")
    folders = [tree.root / "images"] if split is None else [tree.root / split, tree.root / "images" / split]
    there = [folder for folder in folders if folder.is_dir()]
    if not there:
        raise DataError(f"{folders[0]} should be the folder of the photographs, but there is no such folder")
    return read_coco(there[0], notes, source=source, tree=tree)
