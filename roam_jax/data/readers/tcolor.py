"""Temple-Color-128."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from roam_jax.data.readers.common import numbered, pair, sequence_folders, shift_origin
from roam_jax.data.readers.tree import Tree
from roam_jax.data.sequences import DataError, Sequence


def read_tcolor(root: Path | str | Tree, source: str = "tcolor128") -> list[Sequence]:
    """TColor-128: `NAME/img/%04d.jpg` with `NAME/NAME_gt.txt`, 1-based boxes, which become 0-based.

    `NAME/NAME_frames.txt` says which frame is the first and which the last: folders hold more.

    Args:
        root: the folder of the sequences, or one of them.
        source: the sequences' source.

    Raises:
        DataError: no such layout there, or not one box per picture.
    """
    tree = Tree.of(root)

    def read(folder: Path) -> Iterator[Sequence]:
        text, frames = _find(tree, folder, "_gt.txt"), _find(tree, folder, "_frames.txt")
        boxes = shift_origin(tree.boxes(text))
        numbers = tree.text(frames, "first,last").replace(",", " ").split()
        if len(numbers) != 2 or not all(number.isdecimal() for number in numbers):
            raise DataError(f"{frames} should hold the numbers of the first and the last frame, but does not")
        pictures = numbered(tree.pictures(folder / "img"), int(numbers[0]), int(numbers[1]))
        yield pair(folder.name, pictures, boxes, text, source)

    return tree.each(read, sequence_folders(tree, tree.root, "*_gt.txt"))


def _find(tree: Tree, folder: Path, ending: str) -> Path:
    """The file with that ending: a few are not called like their folder."""
    names = [name for name in tree.names(folder) if name.endswith(ending)]
    if not names:
        raise DataError(f"{folder} should hold {folder.name}{ending}, but there is no such file")
    return folder / names[0]
