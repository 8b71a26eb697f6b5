"""Need for Speed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from roam_jax.data.readers.common import pair
from roam_jax.data.readers.tree import Tree
from roam_jax.data.sequences import DataError, Sequence

FLAGS = {"lost": 6, "occluded": 7, "generated": 8}
"""columns of the flags"""


def read_nfs(root: Path | str | Tree, source: str = "", *, fps: int = 30) -> list[Sequence]:
    """NfS: `NAME/30/NAME/%05d.jpg` with `NAME/30/NAME.txt`, and the same under `240`.

    A line of the annotation is `track left top right bottom frame lost occluded generated "class"`, 0-based, as the
    annotation tool VATIC writes it. The files of 30 frames per second have a line for each of the 240, of which every
    eighth counts; one box or picture too many at the end is dropped, as in the got10k toolkit. The object cannot be
    seen where it is `lost`; `occluded` and `generated` become labels.

    Args:
        root: the folder of the sequences.
        source: the sequences' source; by default `nfs30` or `nfs240`.
        fps: 30 or 240.

    Raises:
        DataError: no such layout there, a line that is different, or not one box per picture.
    """
    tree = Tree.of(root)

    def read(text: Path) -> Iterator[Sequence]:
        pictures = tree.pictures(text.with_suffix(""))
        rows = parse_vatic(tree.text(text, "one box per line"), text)
        if len(rows) > len(pictures) + 1 and abs(len(rows[::8]) - len(pictures)) <= 1:
            rows = rows[::8]
        if abs(len(rows) - len(pictures)) == 1:
            count = min(len(rows), len(pictures))
            rows, pictures = rows[:count], pictures[:count]
        boxes = np.concatenate([rows[:, 1:3], rows[:, 3:5] - rows[:, 1:3]], axis=1).astype(np.float32)
        flags = {key: rows[:, column] == 1 for key, column in FLAGS.items()}
        lost = flags.pop("lost")
        yield pair(text.stem, pictures, boxes, text, source or f"nfs{fps}", visible=~lost, labels=flags)

    folders = [folder / str(fps) for folder in tree.folders(tree.root) if tree.has(folder / str(fps))]
    texts = [folder / name for folder in folders for name in tree.names(folder) if name.endswith(".txt")]
    if not texts:
        raise DataError(f"{tree.root} should hold NAME/{fps}/NAME.txt, but there is none")
    return tree.each(read, texts)


def parse_vatic(text: str, path: Path) -> np.ndarray:
    """Nine numbers (n, 9) of each line; the class in quotes is left out.

    Raises:
        DataError: a line that does not begin with nine numbers, or no line.
    """
    rows = []
    for number, line in enumerate(text.rstrip().splitlines(), start=1):
        try:
            rows.append([float(part) for part in line.split()[:9]])
        except ValueError:
            rows.append([])
        if len(rows[-1]) != 9:
            raise DataError(f"{path} line {number} should be nine numbers and a class, but is {line.strip()[:60]!r}")
    if not rows:
        raise DataError(f"{path} should hold one box per line, but it is empty")
    return np.array(rows)
