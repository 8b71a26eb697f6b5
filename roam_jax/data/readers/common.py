"""What several readers do alike."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from roam_jax.data.readers.text import SEPARATORS, parse_flags
from roam_jax.data.readers.tree import Tree
from roam_jax.data.sequences import DataError, FolderPaths, ImageFiles, Sequence


def sequence_folders(tree: Tree, root: Path, pattern: str) -> list[Path]:
    """The root itself, or the folders in it, that hold an annotation file.

    Args:
        tree: the data set.
        root: the folder, in the tree.
        pattern: name of the file; a `*` in it stands for anything, or nothing.

    Raises:
        DataError: there is none.
    """
    start, star, end = pattern.partition("*")

    def fits(folder: Path) -> bool:
        if not star:
            return tree.has(folder / pattern)
        return any(name.startswith(start) and name.endswith(end) for name in tree.names(folder))

    folders = [folder for folder in [root, *tree.folders(root)] if fits(folder)]
    if not folders:
        raise DataError(f"{root} or the folders in it should hold {pattern}, but there is none")
    return folders


def listed_folders(tree: Tree, root: Path, names: Iterable[str], what: str) -> list[Path]:
    """Folders of that name.

    Raises:
        DataError: none of them is there; single ones that are missing are noted, or raise the same.
    """
    folders = [root / name for name in names]
    missing = {folder for folder in folders if not folder.is_dir()}
    if len(missing) == len(folders):
        raise DataError(f"{root} should hold the folders of {what}, but there is none of them")
    for folder in sorted(missing):
        tree.note(f"{folder} should be a sequence of {what}, but there is no such folder")
    return [folder for folder in folders if folder not in missing]


def pair(
    name: str, pictures: FolderPaths, boxes_xywh: Float32[np.ndarray, "n 4"], text: Path, source: str, **more: Any
) -> Sequence:
    """Sequence of picture files and the boxes of an annotation file.

    Args:
        name: of the sequence.
        pictures: its frames.
        boxes_xywh: 0-based.
        text: the annotation file, for the message.
        source: where the sequence comes from.
        more: other fields of the sequence.

    Raises:
        DataError: not one box per picture.
    """
    if len(pictures) != len(boxes_xywh):
        raise DataError(f"{text} should hold one box per picture, but there are {len(boxes_xywh)} and {len(pictures)}")
    return Sequence(name, ImageFiles(pictures), boxes_xywh, source, **more)


def shift_origin(boxes_xywh: Float32[np.ndarray, "n 4"], origin: float = 1.0) -> Float32[np.ndarray, "n 4"]:
    """0-based boxes of such whose first pixel has the coordinate `origin`."""
    return boxes_xywh - np.array([origin, origin, 0, 0], np.float32)


def fill_unknown(boxes_xywh: Float32[np.ndarray, "n 4"], count: int) -> Float32[np.ndarray, "m 4"]:
    """The first box, and NaN for all later frames, whose boxes are secret."""
    boxes = np.full((count, 4), np.nan, np.float32)
    boxes[:1] = boxes_xywh[:1]
    return boxes


def numbered(pictures: FolderPaths, first: int, last: int) -> FolderPaths:
    """Pictures whose number, which is their name, lies in first .. last."""
    return pictures.select([stem.isdecimal() and first <= int(stem) <= last for stem in pictures.stems])


def read_attributes(tree: Tree, paths: Iterable[Path], names: tuple[str, ...]) -> tuple[str, ...]:
    """Attributes of a sequence, from the first of the files that exists; none if there is no file.

    Args:
        tree: the data set.
        paths: files with a 0 or 1 for each name, or with the names that apply.
        names: attributes in the order of the data set's own list.

    Raises:
        DataError: a file with another number of flags.
    """
    for path in paths:
        text = tree.find_text(path)
        if text is None:
            continue
        words = text.translate(SEPARATORS).split()
        if not all(word in ("0", "1") for word in words):
            return tuple(word for word in words if word in names)
        return tuple(name for name, flag in zip(names, parse_flags(text, path, len(names)), strict=True) if flag)
    return ()
