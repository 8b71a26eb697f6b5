"""DAVIS 2016 and 2017: masks as boxes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from jaxtyping import Bool, Float32, UInt8

from roam_jax.data.readers.common import pair
from roam_jax.data.readers.text import parse_names
from roam_jax.data.readers.tree import Tree
from roam_jax.data.sequences import DataError, FolderPaths, Sequence

RESOLUTION = "480p"


def read_davis(
    root: Path | str | Tree,
    source: str = "",
    *,
    year: Literal["2016", "2017"] = "2017",
    split: Literal["train", "val"] | None = "val",
) -> list[Sequence]:
    """DAVIS: `JPEGImages/480p/NAME/%05d.jpg` with masks `Annotations/480p/NAME/%05d.png`.

    A box is the smallest one that holds all pixels of the object; NaN where there are none. The masks, which are the
    annotation, have to be decoded for that. In 2016 everything that is not background is one object (and so are all
    objects of 2017 together); in 2017 each object is a sequence NAME-1, NAME-2, ...

    Args:
        root: the folder with `JPEGImages` and `Annotations`.
        source: the sequences' source; by default `davis2016` or `davis2017`.
        year: whether objects are told apart.
        split: the names in `ImageSets/2017/val.txt`, say; None: all that have masks.

    Raises:
        DataError: no such layout there, a mask that cannot be read, or not one mask per picture.
    """
    tree = Tree.of(root)
    masks_root = tree.root / "Annotations" / RESOLUTION
    if not masks_root.is_dir():
        raise DataError(f"{masks_root} should hold the masks NAME/00000.png, but there is no such folder")

    def read(name: str) -> Iterator[Sequence]:
        pictures = tree.pictures(tree.root / "JPEGImages" / RESOLUTION / name)
        masks = tree.pictures(masks_root / name)
        for key, boxes in masks_to_boxes(masks, together=year == "2016").items():
            title = name if year == "2016" else f"{name}-{key}"
            yield pair(title, pictures, boxes, masks_root / name, source or f"davis{year}")

    return tree.each(read, _names(tree, masks_root, year, split))


def masks_to_boxes(masks: FolderPaths, *, together: bool) -> dict[int, Float32[np.ndarray, "n 4"]]:
    """Tight boxes of each object, by its number.

    Args:
        masks: one picture per frame.
        together: take all objects for one, number 1.

    Raises:
        DataError: a mask that cannot be read.
    """
    boxes: dict[int, np.ndarray] = {}
    for index, path in enumerate(masks):
        numbers = read_mask(path)
        objects = {1: numbers > 0} if together else {int(k): numbers == k for k in np.unique(numbers) if k}
        for key, inside in objects.items():
            rows = boxes.setdefault(key, np.full((len(masks), 4), np.nan, np.float32))
            if inside.any():
                rows[index] = tight_box(inside)
    return dict(sorted(boxes.items()))


def read_mask(path: Path) -> UInt8[np.ndarray, "h w"]:
    """Object number of each pixel, 0 for background.

    OpenCV turns a palette into colours; the palette of DAVIS spreads the bits of the number over the highest bits of
    red, green and blue, lowest bits first. White, in the masks of one object, is number 1.

    Raises:
        DataError: the file is no picture.
    """
    mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if mask is None or mask.dtype != np.uint8:
        raise DataError(f"{path} should be a mask, but it cannot be read")
    if mask.ndim == 2:
        return np.where(mask == 255, 1, mask).astype(np.uint8)
    colours = mask[..., 2::-1].astype(np.uint8)
    bits = [((colours[..., c] >> (7 - j)) & 1) << (3 * j + c) for j in range(3) for c in range(3) if 3 * j + c < 8]
    return np.where((colours == 255).all(axis=2), 1, np.bitwise_or.reduce(bits)).astype(np.uint8)


def tight_box(inside: Bool[np.ndarray, "h w"]) -> list[float]:
    """Smallest box `xywh` that holds all pixels of a mask that is not empty."""
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    (x0, x1), (y0, y1) = columns[[0, -1]].tolist(), rows[[0, -1]].tolist()
    return [float(x0), float(y0), x1 - x0 + 1.0, y1 - y0 + 1.0]


def _names(tree: Tree, masks_root: Path, year: str, split: str | None) -> list[str]:
    """Names of the sequences; the list of 2016 in its own download has lines with paths of pictures and masks."""
    if split is None:
        return [folder.name for folder in tree.folders(masks_root)]
    places = [tree.root / "ImageSets" / year / f"{split}.txt", tree.root / "ImageSets" / RESOLUTION / f"{split}.txt"]
    text = next((text for path in places if (text := tree.find_text(path)) is not None), None)
    if text is None:
        raise DataError(f"{places[0]} should hold the names of the sequences, but there is no such file")
    names = [Path(line.split()[0]).parent.name if "/" in line else line for line in parse_names(text)]
    return list(dict.fromkeys(names))
