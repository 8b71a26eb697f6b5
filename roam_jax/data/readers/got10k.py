"""GOT-10k."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from roam_jax.data.readers.common import fill_unknown, listed_folders, pair, sequence_folders
from roam_jax.data.readers.text import parse_flags, parse_integers, parse_names
from roam_jax.data.readers.tree import Tree, picture_paths
from roam_jax.data.sequences import Sequence


def read_got10k(
    root: Path | str | Tree, source: str = "got10k", *, split: Literal["train", "val", "test"] | None = None
) -> list[Sequence]:
    """GOT-10k: `NAME/%08d.jpg` with `NAME/groundtruth.txt`, 0-based as in its toolkit.

    `absence.label` says where the object cannot be seen; `cover.label` (0 to 8 eighths that can be seen) and
    `cut_by_image.label` become labels; the classes of object and motion in `meta_info.ini` become attributes. The test
    split tells the first box only.

    Args:
        root: the folder with `train`, `val` or `test`; or one of these; or a folder of sequences, or one sequence.
        source: the sequences' source.
        split: which part, in the order of its `list.txt`; by default, what lies directly in the root.

    Raises:
        DataError: no such layout there, a sequence of the list is missing, or not one box per picture.
    """
    tree = Tree.of(root)
    base = tree.root / split if split and (tree.root / split).is_dir() else tree.root

    def read(folder: Path) -> Iterator[Sequence]:
        text = folder / "groundtruth.txt"
        there = tree.names(folder)
        pictures, boxes = picture_paths(folder, there), tree.boxes(text)
        count, secret = len(pictures), split == "test" and len(boxes) == 1
        absent = _flags(tree, folder / "absence.label", count) if "absence.label" in there else np.zeros(count, bool)
        labels: dict[str, np.ndarray] = {}
        if "cover.label" in there:
            path = folder / "cover.label"
            labels["cover"] = parse_integers(tree.text(path, "cover"), path, count)
        if "cut_by_image.label" in there:
            labels["cut_by_image"] = _flags(tree, folder / "cut_by_image.label", count)
        yield pair(
            folder.name,
            pictures,
            fill_unknown(boxes, count) if secret else boxes,
            text,
            source,
            visible=~absent,
            labels=labels,
            attributes=_read_classes(tree, folder) if "meta_info.ini" in there else (),
            first_box_only=secret,
        )

    listed = tree.find_text(base / "list.txt")
    if listed is None:
        return tree.each(read, sequence_folders(tree, base, "groundtruth.txt"))
    return tree.each(read, listed_folders(tree, base, parse_names(listed), "list.txt"))


def _flags(tree: Tree, path: Path, count: int) -> np.ndarray:
    return parse_flags(tree.text(path, "flags"), path, count)


def _read_classes(tree: Tree, folder: Path) -> tuple[str, ...]:
    lines = [line.partition(":") for line in parse_names(tree.text(folder / "meta_info.ini", "classes"))]
    values = {key.strip(): value.strip() for key, _, value in lines}
    return tuple(f"{key}: {values[key]}" for key in ("object_class", "motion_class") if key in values)
