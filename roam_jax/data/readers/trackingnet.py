"""TrackingNet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from roam_jax.data.readers.common import fill_unknown, pair
from roam_jax.data.readers.tree import Tree
from roam_jax.data.sequences import DataError, Sequence

TRACKINGNET_PARTS = {"train": tuple(f"TRAIN_{part}" for part in range(12)), "test": ("TEST",)}


def read_trackingnet(
    root: Path | str | Tree, source: str = "trackingnet", *, split: Literal["train", "test"] = "train"
) -> list[Sequence]:
    """TrackingNet: `TRAIN_0/frames/NAME/0.jpg, 1.jpg, ...` with `TRAIN_0/anno/NAME.txt`, 0-based as in its toolkit.

    Frames are in the order of their numbers. The test part (`TEST`) tells the first box only. Parts that are not there
    are left out.

    Args:
        root: the folder with `TRAIN_0` to `TRAIN_11`, or `TEST`.
        source: the sequences' source.
        split: the twelve parts for training, or the test part.

    Raises:
        DataError: no such part there, frames are missing, or not one box per picture.
    """
    tree = Tree.of(root)
    parts = [tree.root / part for part in TRACKINGNET_PARTS[split] if tree.has(tree.root / part)]
    if not parts:
        names = "TEST" if split == "test" else "TRAIN_0 to TRAIN_11"
        raise DataError(f"{tree.root} should hold {names} with anno and frames in each, but there is none")

    def read(text: Path) -> Iterator[Sequence]:
        pictures, boxes = tree.pictures(text.parents[1] / "frames" / text.stem), tree.boxes(text)
        secret = split == "test" and len(boxes) == 1
        boxes = fill_unknown(boxes, len(pictures)) if secret else boxes
        yield pair(text.stem, pictures, boxes, text, source, first_box_only=secret)

    texts = [part / "anno" / name for part in parts for name in tree.names(part / "anno") if name.endswith(".txt")]
    return tree.each(read, texts)
