"""UAV123 and UAV20L."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from roam_jax.data.readers.common import numbered, pair, read_attributes, shift_origin
from roam_jax.data.readers.tree import Tree
from roam_jax.data.sequences import DataError, Sequence

UAV123_CUTS = {
    "bird1": ((1, 253), (775, 1477), (1573, 2437)),
    "car1": ((1, 751), (751, 1627), (1627, 2629)),
    "car6": ((1, 487), (487, 1807), (1807, 2953), (2953, 3925), (3925, 4861)),
    "car8": ((1, 1357), (1357, 2575)),
    "car16": ((1, 415), (415, 1993)),
    "group1": ((1, 1333), (1333, 2515), (2515, 3925), (3925, 4873)),
    "group2": ((1, 907), (907, 1771), (1771, 2683)),
    "group3": ((1, 1567), (1567, 2827), (2827, 4369), (4369, 5527)),
    "person2": ((1, 1189), (1189, 2623)),
    "person4": ((1, 1501), (1501, 2743)),
    "person5": ((1, 877), (877, 2101)),
    "person7": ((1, 1249), (1249, 2065)),
    "person8": ((1, 1075), (1075, 1525)),
    "person12": ((1, 601), (601, 1621)),
    "person14": ((1, 847), (847, 1813), (1813, 2923)),
    "person17": ((1, 1501), (1501, 2347)),
    "person19": ((1, 1243), (1243, 2791), (2791, 4357)),
    "truck4": ((1, 577), (577, 1261)),
    "uav1": ((1, 1555), (1555, 2377), (2473, 3469)),
}
"""videos that UAV123 cuts into NAME_1, NAME_2, ...: first and last frame number of each (the toolkit's configSeqs.m)"""

UAV_ATTRIBUTES = ("SV", "ARC", "LR", "FM", "FOC", "POC", "OV", "BC", "IV", "VC", "CM", "SOB")


def read_uav(
    root: Path | str | Tree, source: str = "", *, version: Literal["UAV123", "UAV20L"] = "UAV123"
) -> list[Sequence]:
    """UAV123: `data_seq/UAV123/VIDEO/%06d.jpg` with `anno/UAV123/NAME.txt`, 1-based boxes, which become 0-based.

    Some videos are cut into several sequences (`UAV123_CUTS`); all others count from frame 1, and frames after the last
    box do not belong to them. NaN where the object is absent. Attributes come from `anno/UAV123/att/NAME.txt`.

    Args:
        root: the folder with `data_seq` and `anno`.
        source: the sequences' source; by default the version in small letters.
        version: UAV123, or the twenty long sequences of the same videos.

    Raises:
        DataError: no such layout there, or not one box per picture.
    """
    tree = Tree.of(root)
    notes = tree.root / "anno" / version
    if not notes.is_dir():
        raise DataError(f"{notes} should hold the annotations NAME.txt, but there is no such folder")
    cuts = {f"{video}_{i}": (video, *cut) for video, pieces in UAV123_CUTS.items() for i, cut in enumerate(pieces, 1)}

    def read(text: Path) -> Iterator[Sequence]:
        boxes = tree.boxes(text)
        video, first, last = cuts.get(text.stem, (text.stem, 1, len(boxes)))
        pictures = numbered(tree.pictures(tree.root / "data_seq" / "UAV123" / video), first, last)
        attributes = read_attributes(tree, [notes / "att" / text.name], UAV_ATTRIBUTES)
        yield pair(text.stem, pictures, shift_origin(boxes), text, source or version.lower(), attributes=attributes)

    texts = [notes / name for name in tree.names(notes) if name.endswith(".txt")]
    if not texts:
        raise DataError(f"{notes} should hold the annotations NAME.txt, but there is none")
    return tree.each(read, texts)
