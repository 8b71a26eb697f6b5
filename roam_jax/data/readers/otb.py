"""OTB-2013 and OTB-2015."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float32

from roam_jax.data.readers.common import listed_folders, pair, read_attributes, sequence_folders, shift_origin
from roam_jax.data.readers.tree import Tree
from roam_jax.data.sequences import Sequence

OTB_RANGES = {
    "BlurCar1": (247, 988),
    "BlurCar3": (3, 359),
    "BlurCar4": (18, 397),
    "David": (300, 770),
    "Diving": (1, 215),
    "Football1": (1, 74),
    "Freeman3": (1, 460),
    "Freeman4": (1, 283),
    "Tiger1": (6, 354),
}
"""first and last frame number, for the sequences of OTB that do not count all their pictures from 1"""
ANNOTATED_FROM_1 = "Tiger1"
"""has a box for each of its pictures; the other annotations begin and end with the range"""

OTB2013_NAMES = """
Basketball Bolt Boy Car4 CarDark CarScale Coke Couple Crossing David David2 David3 Deer Dog1 Doll Dudek FaceOcc1
FaceOcc2 Fish FleetFace Football Football1 Freeman1 Freeman3 Freeman4 Girl Ironman Jogging Jumping Lemming Liquor
Matrix Mhyang MotorRolling MountainBike Shaking Singer1 Singer2 Skating1 Skiing Soccer Subway Suv Sylvester Tiger1
Tiger2 Trellis Walking Walking2 Woman
"""
"""folders of OTB-2013; with both of Jogging, 51 sequences"""

OTB2015_MORE = """
Biker Bird1 Bird2 BlurBody BlurCar1 BlurCar2 BlurCar3 BlurCar4 BlurFace BlurOwl Board Bolt2 Box Car1 Car2 Car24
ClifBar Coupon Crowds Dancer Dancer2 Diving Dog DragonBaby Girl2 Gym Human2 Human3 Human4 Human5 Human6 Human7 Human8
Human9 Jump KiteSurf Man Panda RedTeam Rubik Skater Skater2 Skating2 Surfer Toy Trans Twinnings Vase
"""
"""the other folders of OTB-2015; with both of Jogging and Skating2, 100 sequences altogether"""

OTB_LISTS = {"2013": OTB2013_NAMES.split(), "2015": sorted((OTB2013_NAMES + OTB2015_MORE).split())}
OTB_ATTRIBUTES = ("IV", "OPR", "SV", "OCC", "DEF", "MB", "FM", "IPR", "OV", "BC", "LR")

log = logging.getLogger(__name__)


def read_otb_folder(
    root: Path | str | Tree, source: str = "otb", *, version: Literal["2013", "2015"] | None = None
) -> list[Sequence]:
    """OTB: `NAME/img/*.jpg` with `NAME/groundtruth_rect.txt`, 1-based boxes, which become 0-based.

    A folder with two objects (`groundtruth_rect.1.txt`, `.2.txt`) gives the sequences NAME-1 and NAME-2; an empty file
    (that of Human4's first object) gives none. Attributes come from `NAME/attrs.txt` or the toolkit's
    `anno/att/NAME.txt`.

    Args:
        root: one sequence, or the folder of all of them.
        source: the sequences' source.
        version: only the sequences of this list; by default all that are there.

    Raises:
        DataError: no such layout there, a sequence of the list is missing, or not one box per picture.
    """
    tree = Tree.of(root)

    def read(folder: Path) -> Iterator[Sequence]:
        pictures = tree.pictures(folder / "img")
        texts = [folder / name for name in tree.names(folder) if name.startswith("groundtruth_rect")]
        notes = (folder / "attrs.txt", tree.root / "anno" / "att" / f"{folder.name}.txt")
        attributes = read_attributes(tree, notes, OTB_ATTRIBUTES)
        for text in texts:
            if len(texts) > 1 and not tree.text(text, "boxes").strip():
                continue
            target = text.stem.removeprefix("groundtruth_rect").replace(".", "-")
            inside, boxes = select_range(folder.name, pictures.stems, tree.boxes(text))
            chosen = pictures.select(inside)
            yield pair(folder.name + target, chosen, shift_origin(boxes), text, source, attributes=attributes)

    if version:
        folders = listed_folders(tree, tree.root, OTB_LISTS[version], f"OTB-{version}")
    else:
        folders = sequence_folders(tree, tree.root, "groundtruth_rect*.txt")
    return tree.each(read, folders)


def select_range(
    name: str, stems: list[str], boxes_xywh: Float32[np.ndarray, "n 4"]
) -> tuple[Bool[np.ndarray, " p"], Float32[np.ndarray, "m 4"]]:
    """Which pictures belong to a sequence of OTB, as in the toolkit's own list, and the boxes that belong to them.

    The range of the list is taken only of what is OTB's own by its numbers: all pictures of the range are there with
    others beside them, and the annotation is as long as OTB's. A warning says so. Anything else that is called by one
    of these names is somebody's own, and stays as it is.

    Args:
        name: of the sequence.
        stems: file names of all pictures that are there, without suffix.
        boxes_xywh: all that are there.
    """
    first, last = OTB_RANGES.get(name, (1, 0))
    count = last - first + 1
    inside = np.array([stem.isdecimal() and first <= int(stem) <= last for stem in stems], bool)
    lengths = (count, last) if name == ANNOTATED_FROM_1 else (count,)
    if inside.sum() != count or inside.all() or len(boxes_xywh) not in lengths:
        return np.ones(len(stems), bool), boxes_xywh
    log.warning("%s: only the pictures %d to %d of %d are used, as OTB says", name, first, last, len(stems))
    return inside, boxes_xywh[-count:]
