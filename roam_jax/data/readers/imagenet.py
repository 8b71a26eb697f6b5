"""ImageNet VID and DET (ILSVRC 2015): one XML file per picture.

Of the XML files, more than a million, an index remembers the folders only: one that is edited in its place goes
unnoticed, one that is added, removed or replaced does not.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from roam_jax.data.readers.coco import fault_of_box, usable_box
from roam_jax.data.readers.common import pair
from roam_jax.data.readers.tree import Tree
from roam_jax.data.sequences import DataError, FolderPaths, ImageFiles, Sequence

DEPTH = {"train": 2, "val": 1}
"""folders between a split of VID and its annotations"""


@dataclass(frozen=True)
class Note:
    """One object in one picture."""

    track: str
    """the object's number through the video; that in the picture, for stills"""
    box_xywh: tuple[float, float, float, float]
    """0-based"""
    occluded: bool
    generated: bool
    """interpolated, not drawn"""


def read_vid(
    root: Path | str | Tree, source: str = "imagenet-vid", *, split: Literal["train", "val"] = "train"
) -> list[Sequence]:
    """ImageNet VID: `Data/VID/train/PART/NAME/%06d.JPEG` with `Annotations/VID/train/PART/NAME/%06d.xml`.

    Each object (`trackid`) is a sequence NAME-TRACK, from the first to the last frame that shows it; NaN in between
    where it is absent. `occluded` and `generated` become labels. The pixels xmin..xmax count from 0 and both belong to
    the box, so that its width is xmax - xmin + 1. In `val` the videos lie directly in the split.

    Args:
        root: the folder with `Data` and `Annotations` (ILSVRC2015).
        source: the sequences' source.
        split: train or val.

    Raises:
        DataError: no such layout there, a file that is no such XML, or not one XML file per picture.
    """
    tree = Tree.of(root)
    notes_root = tree.root / "Annotations" / "VID" / split
    _expect(notes_root)

    def read(folder: Path) -> Iterator[Sequence]:
        place = folder.relative_to(notes_root)
        pictures = tree.pictures(tree.root / "Data" / "VID" / split / place)
        texts = [folder / name for name in tree.names(folder) if name.endswith(".xml")]
        if len(texts) != len(pictures):
            raise DataError(
                f"{folder} should hold one XML file per picture, but there are {len(texts)} and {len(pictures)}"
            )
        if [path.stem for path in texts] != pictures.stems:
            raise DataError(f"{folder} should hold XML files named like the pictures, but their names differ")
        tracks: dict[str, dict[int, Note]] = defaultdict(dict)
        for index, path in enumerate(texts):
            for note in parse_xml(path)[0]:
                tracks[note.track][index] = note
        for track, members in sorted(tracks.items()):
            yield _sequence(f"{folder.name}-{track}", pictures, members, folder, source)

    folders = [notes_root]
    for _ in range(DEPTH[split]):
        folders = [child for folder in folders for child in tree.folders(folder)]
    if not folders:
        raise DataError(f"{notes_root} should hold a folder of XML files for each video, but there is none")
    return tree.each(read, folders)


def read_det(
    root: Path | str | Tree,
    source: str = "imagenet-det",
    *,
    split: Literal["train", "val"] = "train",
    min_side_px: float = 12.0,
    max_aspect: float = 6.0,
    max_extent: float = 0.8,
) -> list[Sequence]:
    """ImageNet DET: photographs `Data/DET/train/.../NAME.JPEG` with `Annotations/DET/train/.../NAME.xml`.

    One sequence of one frame per usable box, NAME_0, NAME_1, ...; boxes as in VID. Photographs without annotation are
    left out.

    Args:
        root: the folder with `Data` and `Annotations` (ILSVRC2015).
        source: the sequences' source.
        split: train or val.
        min_side_px: boxes with a shorter side are dropped.
        max_aspect: boxes with a larger ratio of long to short side are dropped.
        max_extent: boxes that cover more than this part of the width or the height are dropped.

    Raises:
        DataError: no such layout there, a file that is no such XML, a photograph is missing, or no usable box.
    """
    tree = Tree.of(root)
    notes_root = tree.root / "Annotations" / "DET" / split
    _expect(notes_root)

    def read(folder: Path) -> Iterator[Sequence]:
        images = tree.root / "Data" / "DET" / split / folder.relative_to(notes_root)
        there = {Path(name).stem: name for name in (tree.names(images) if images.is_dir() else [])}

        def read_one(path: Path) -> Iterator[Sequence]:
            notes, size = parse_xml(path)
            for index, note in enumerate(notes):
                if fault := fault_of_box(size, list(note.box_xywh)):
                    tree.remark(f"{path}: the box of object {index} should {fault}")
                box = usable_box(size, list(note.box_xywh), min_side_px, max_aspect, max_extent)
                if box is None:
                    continue
                if path.stem not in there:
                    raise DataError(f"{images / path.stem}.JPEG should be the picture of {path}, but it is missing")
                frames = ImageFiles(FolderPaths(images, [there[path.stem]]))
                yield Sequence(f"{path.stem}_{index}", frames, box, source, still=True)

        for name in tree.names(folder):
            if name.endswith(".xml"):
                yield from tree.attempt(read_one, folder / name)

    sequences = tree.each(read, _walk(tree, notes_root))
    if not sequences:
        raise DataError(f"{notes_root} should hold XML files with boxes to learn from, but none is usable")
    return sequences


def parse_xml(path: Path) -> tuple[list[Note], dict[str, float]]:
    """Objects of a picture, and its `width` and `height`.

    Raises:
        DataError: not XML, or not such a description.
    """
    try:
        top = ElementTree.fromstring(path.read_bytes())
        size = {key: float(top.findtext(f"size/{key}", "")) for key in ("width", "height")}
        return [_parse_object(item, index) for index, item in enumerate(top.iter("object"))], size
    except (ElementTree.ParseError, ValueError, OSError) as error:
        raise DataError(f"{path} should describe the objects of a picture in XML, but does not: {error}") from error


def _parse_object(item: ElementTree.Element, index: int) -> Note:
    x0, x1, y0, y1 = (float(item.findtext(f"bndbox/{key}", "")) for key in ("xmin", "xmax", "ymin", "ymax"))
    return Note(
        item.findtext("trackid", str(index)),
        (x0, y0, x1 - x0 + 1, y1 - y0 + 1),
        item.findtext("occluded") == "1",
        item.findtext("generated") == "1",
    )


def _sequence(name: str, pictures: FolderPaths, members: dict[int, Note], folder: Path, source: str) -> Sequence:
    first, last = min(members), max(members)
    boxes = np.full((last - first + 1, 4), np.nan, np.float32)
    labels = {key: np.zeros(len(boxes), bool) for key in ("occluded", "generated")}
    for index, note in members.items():
        boxes[index - first] = note.box_xywh
        labels["occluded"][index - first] = note.occluded
        labels["generated"][index - first] = note.generated
    return pair(name, pictures[first : last + 1], boxes, folder, source, labels=labels)


def _walk(tree: Tree, folder: Path) -> Iterator[Path]:
    """The folder, and all folders in it."""
    yield folder
    for child in tree.folders(folder):
        yield from _walk(tree, child)


def _expect(notes_root: Path) -> None:
    if not notes_root.is_dir():
        raise DataError(f"{notes_root} should hold the annotations, but there is no such folder")
