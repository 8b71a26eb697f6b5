"""LaSOT."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from roam_jax.data.readers.common import pair, read_attributes
from roam_jax.data.readers.text import parse_flags, parse_names
from roam_jax.data.readers.tree import Tree
from roam_jax.data.sequences import DataError, Sequence

LASOT_TEST = """
airplane 1 9 13 15, basketball 1 6 7 11, bear 2 4 6 17, bicycle 2 7 9 18, bird 2 3 15 17, boat 3 4 12 17,
book 3 10 11 19, bottle 1 12 14 18, bus 2 5 17 19, car 2 6 9 17, cat 1 3 18 20, cattle 2 7 12 13, chameleon 3 6 11 20,
coin 3 6 7 18, crab 3 6 12 18, crocodile 3 4 10 14, cup 1 4 7 17, deer 4 8 10 14, dog 1 7 15 19, drone 2 7 13 15,
electricfan 1 10 18 20, elephant 1 12 16 18, flag 2 3 5 9, fox 2 3 5 20, frog 3 4 9 20, gametarget 1 2 7 13,
gecko 1 5 16 19, giraffe 2 10 13 15, goldfish 3 7 8 10, gorilla 4 6 9 13, guitar 3 8 10 16, hand 2 3 9 16,
hat 1 2 5 18, helmet 5 11 13 19, hippo 1 7 9 20, horse 1 4 12 15, kangaroo 2 5 11 14, kite 4 6 10 15,
leopard 1 7 16 20, licenseplate 6 12 13 15, lion 1 5 12 20, lizard 1 3 6 13, microphone 2 6 14 16, monkey 3 4 9 17,
motorcycle 1 3 9 18, mouse 1 8 9 17, person 1 5 10 12, pig 2 10 13 18, pool 3 7 12 15, rabbit 10 13 17 19,
racing 10 15 16 20, robot 1 5 8 19, rubicCube 1 6 14 19, sepia 6 8 13 16, shark 2 3 5 6, sheep 3 5 7 9,
skateboard 3 8 16 19, spider 14 16 18 20, squirrel 8 11 13 19, surfboard 4 5 8 12, swing 10 14 17 20, tank 6 9 14 16,
tiger 4 6 12 18, train 1 7 11 20, truck 3 6 7 16, turtle 5 8 9 16, umbrella 2 9 17 19, volleyball 1 13 18 19,
yoyo 7 15 17 19, zebra 10 14 16 17
"""
"""the testing set: four sequences of each class; used where `testing_set.txt` is not there"""

LASOT_ATTRIBUTES = ("IV", "POC", "DEF", "MB", "CM", "ROT", "BC", "VC", "SV", "FOC", "FM", "OV", "LR", "ARC")
SPLIT_FILES = {"train": "training_set.txt", "test": "testing_set.txt"}
DEPTH = 3
"""folders between the root and a sequence, at most: a class, and what its zip made"""


def read_lasot(
    root: Path | str | Tree, source: str = "lasot", *, split: Literal["train", "test"] | None = None
) -> list[Sequence]:
    """LaSOT: `CLASS/CLASS-N/img/%08d.jpg` with `CLASS/CLASS-N/groundtruth.txt`, taken as 0-based as its users do.

    The object cannot be seen where `full_occlusion.txt` or `out_of_view.txt` says so; both become labels too.
    Attributes come from the toolkit's `att/NAME.txt`. Zips that were unpacked into a folder of their own name, or
    without that of their class, are found as well; classes that are not there are left out.

    Args:
        root: the folder of the classes.
        source: the sequences' source.
        split: only the sequences that `training_set.txt` or `testing_set.txt` names, where it is there, or that the
            official testing set has or has not; by default all.

    Raises:
        DataError: no such layout there, or not one box per picture.
    """
    tree = Tree.of(root)

    def read(folder: Path) -> Iterator[Sequence]:
        text = folder / "groundtruth.txt"
        pictures, boxes = tree.pictures(folder / "img"), tree.boxes(text)
        labels = {}
        for key in ("full_occlusion", "out_of_view"):
            path = folder / f"{key}.txt"
            flags = tree.find_text(path)
            labels[key] = np.zeros(len(boxes), bool) if flags is None else parse_flags(flags, path, len(boxes))
        visible = ~(labels["full_occlusion"] | labels["out_of_view"])
        notes = [tree.root / place / f"{folder.name}.txt" for place in ("att", "annos/att")]
        attributes = read_attributes(tree, notes, LASOT_ATTRIBUTES)
        yield pair(folder.name, pictures, boxes, text, source, visible=visible, labels=labels, attributes=attributes)

    in_split = _names_of(tree, split)
    folders = sorted(_find(tree, tree.root, DEPTH), key=lambda folder: natural(folder.name))
    if not folders:
        raise DataError(f"{tree.root} should hold CLASS/CLASS-N/groundtruth.txt, but there is no such folder")
    return tree.each(read, [folder for folder in folders if in_split(folder.name)])


def natural(name: str) -> tuple[str, int]:
    """Key that puts dog-2 before dog-10."""
    start, _, number = name.rpartition("-")
    return start, int(number)


def official_test_names() -> set[str]:
    """The 280 sequences of the testing set."""
    classes = [entry.split() for entry in LASOT_TEST.split(",")]
    return {f"{name}-{number}" for name, *numbers in classes for number in numbers}


def _find(tree: Tree, folder: Path, depth: int) -> Iterator[Path]:
    if re.fullmatch(r"[A-Za-z]+-\d+", folder.name) and tree.has(folder / "groundtruth.txt"):
        yield folder
    elif depth > 0 and folder.name != "img":
        for child in tree.folders(folder):
            yield from _find(tree, child, depth - 1)


def _names_of(tree: Tree, split: Literal["train", "test"] | None) -> Callable[[str], bool]:
    """Whether a sequence of a name belongs to the split."""
    if split is None:
        return lambda name: True
    listed = tree.find_text(tree.root / SPLIT_FILES[split])
    if listed is not None:
        return set(parse_names(listed)).__contains__
    test = official_test_names()
    return lambda name: (name in test) == (split == "test")
