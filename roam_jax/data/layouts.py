"""Readers by the name of their layout, for command lines."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from collections.abc import Sequence as ListOf
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from roam_jax.data.index import read_with_index
from roam_jax.data.readers.coco import read_coco_folder
from roam_jax.data.readers.davis import read_davis
from roam_jax.data.readers.got10k import read_got10k
from roam_jax.data.readers.imagenet import read_det, read_vid
from roam_jax.data.readers.lasot import read_lasot
from roam_jax.data.readers.nfs import read_nfs
from roam_jax.data.readers.otb import read_otb_folder
from roam_jax.data.readers.own import read_image_folder, read_videos
from roam_jax.data.readers.tcolor import read_tcolor
from roam_jax.data.readers.text import decode_text, parse_names
from roam_jax.data.readers.trackingnet import read_trackingnet
from roam_jax.data.readers.tree import Tree
from roam_jax.data.readers.uav import read_uav
from roam_jax.data.readers.vot import read_vot
from roam_jax.data.sequences import DataError, Sequence

Layout = Literal[
    "videos",
    "images",
    "otb",
    "otb2013",
    "otb2015",
    "vot",
    "uav123",
    "uav20l",
    "nfs30",
    "nfs240",
    "tcolor128",
    "davis2016",
    "davis2016-train",
    "davis2017",
    "davis2017-train",
    "lasot",
    "lasot-train",
    "lasot-test",
    "got10k",
    "got10k-train",
    "got10k-val",
    "got10k-test",
    "trackingnet",
    "trackingnet-test",
    "imagenet-vid",
    "imagenet-vid-val",
    "imagenet-det",
    "imagenet-det-val",
    "coco",
    "coco-train2017",
    "coco-val2017",
    "prepared",
]


@dataclass(frozen=True)
class Reader:
    """A layout."""

    read: Callable[[Tree], list[Sequence]]
    expects: str
    """what lies in the root, in a few words"""
    origin: float = 0.0
    """coordinate of the first pixel in the data set's own files, and so in results for its toolkit"""


def _read_prepared(tree: Tree) -> list[Sequence]:
    from roam_jax.data.builder import read_prepared  # the only layout that needs the extra `train`

    return read_prepared(tree.root)


_OTB = "NAME/img/*.jpg, NAME/groundtruth_rect.txt"
_DAVIS = "JPEGImages/480p, Annotations/480p, ImageSets"
_GOT10K = "NAME/*.jpg, NAME/groundtruth.txt, NAME/*.label, list.txt"
_LASOT = "CLASS/CLASS-N/img/*.jpg, CLASS/CLASS-N/groundtruth.txt"
_VID, _DET = "Data/VID, Annotations/VID", "Data/DET, Annotations/DET"

LAYOUTS: dict[str, Reader] = {
    "videos": Reader(read_videos, "own videos: NAME.mp4, NAME.txt"),
    "images": Reader(read_image_folder, "own pictures: NAME/*.jpg, NAME/groundtruth.txt"),
    "otb": Reader(read_otb_folder, _OTB, 1.0),
    "otb2013": Reader(partial(read_otb_folder, source="otb2013", version="2013"), _OTB, 1.0),
    "otb2015": Reader(partial(read_otb_folder, source="otb2015", version="2015"), _OTB, 1.0),
    "vot": Reader(read_vot, "list.txt, NAME/color/*.jpg, NAME/groundtruth.txt, NAME/*.tag"),
    "uav123": Reader(read_uav, "data_seq/UAV123/VIDEO/*.jpg, anno/UAV123/NAME.txt", 1.0),
    "uav20l": Reader(partial(read_uav, version="UAV20L"), "data_seq/UAV123/VIDEO/*.jpg, anno/UAV20L/NAME.txt", 1.0),
    "nfs30": Reader(partial(read_nfs, fps=30), "NAME/30/NAME/*.jpg, NAME/30/NAME.txt"),
    "nfs240": Reader(partial(read_nfs, fps=240), "NAME/240/NAME/*.jpg, NAME/240/NAME.txt"),
    "tcolor128": Reader(read_tcolor, "NAME/img/*.jpg, NAME/NAME_gt.txt, NAME/NAME_frames.txt", 1.0),
    "davis2016": Reader(partial(read_davis, year="2016"), _DAVIS),
    "davis2016-train": Reader(partial(read_davis, year="2016", split="train"), _DAVIS),
    "davis2017": Reader(read_davis, _DAVIS),
    "davis2017-train": Reader(partial(read_davis, split="train"), _DAVIS),
    "lasot": Reader(read_lasot, _LASOT),
    "lasot-train": Reader(partial(read_lasot, split="train"), _LASOT),
    "lasot-test": Reader(partial(read_lasot, split="test"), _LASOT),
    "got10k": Reader(read_got10k, _GOT10K),
    "got10k-train": Reader(partial(read_got10k, split="train"), f"train/ with {_GOT10K}"),
    "got10k-val": Reader(partial(read_got10k, split="val"), f"val/ with {_GOT10K}"),
    "got10k-test": Reader(partial(read_got10k, split="test"), f"test/ with {_GOT10K}"),
    "trackingnet": Reader(read_trackingnet, "TRAIN_0/frames/NAME/*.jpg, TRAIN_0/anno/NAME.txt, to TRAIN_11"),
    "trackingnet-test": Reader(partial(read_trackingnet, split="test"), "TEST/frames/NAME/*.jpg, TEST/anno/NAME.txt"),
    "imagenet-vid": Reader(read_vid, _VID),
    "imagenet-vid-val": Reader(partial(read_vid, split="val"), _VID),
    "imagenet-det": Reader(read_det, _DET),
    "imagenet-det-val": Reader(partial(read_det, split="val"), _DET),
    "coco": Reader(read_coco_folder, "own photographs in COCO's format: images/, instances.json"),
    "coco-train2017": Reader(
        partial(read_coco_folder, split="train2017"), "train2017/*.jpg, annotations/instances_train2017.json"
    ),
    "coco-val2017": Reader(
        partial(read_coco_folder, split="val2017"), "val2017/*.jpg, annotations/instances_val2017.json"
    ),
    "prepared": Reader(_read_prepared, "what `python -m roam_jax.data.prepare` made"),
}


def read_layout(
    layout: str,
    root: Path | str,
    source: str = "",
    *,
    exclude: Path | None = None,
    index: bool = True,
    problems: list[str] | None = None,
) -> list[Sequence]:
    """Sequences of a folder; those of a large data set come from an index in the user's cache, if nothing has changed.

    Args:
        layout: a name in `LAYOUTS`.
        root: the folder.
        source: their source, for mixing; by default the reader's own.
        exclude: text file with one name per line of sequences to leave out, such as those of GOT-10k that the VOT
            forbids to train on.
        index: use and write the index.
        problems: gets a message for each broken sequence, which is left out, and no index is used; by default the
            first broken sequence raises its error.

    Raises:
        DataError: no such layout, the folder does not have it, or no file `exclude`.
    """
    reader = find_reader(layout)
    if index and problems is None:
        sequences = read_with_index(layout, Path(root), reader.read)
    else:
        sequences = reader.read(Tree(root, problems=problems))
    if exclude is not None:
        names = read_excluded(exclude)
        sequences = [sequence for sequence in sequences if sequence.name not in names]
    return [dataclasses.replace(sequence, source=source) for sequence in sequences] if source else sequences


def read_readable(layout: str, root: Path) -> tuple[list[Sequence], dict[str, str]]:
    """Sequences that can be read, and by a name each what is wrong with the others.

    Raises:
        DataError: there is no such layout, or nothing in it can be read.
    """
    try:
        return read_layout(layout, root), {}
    except DataError:
        problems: list[str] = []
        sequences = read_layout(layout, root, problems=problems)
        if not sequences or not problems:
            raise
        return sequences, {f"unreadable {number}": problem for number, problem in enumerate(problems, 1)}


def choose_sequences(sequences: ListOf[Sequence], names: str) -> list[Sequence]:
    """Those that are named between commas, or all.

    Raises:
        ValueError: a name that there is not.
    """
    by_name = {sequence.name: sequence for sequence in sequences}
    chosen = [name for name in names.split(",") if name] or list(by_name)
    if unknown := [name for name in chosen if name not in by_name]:
        raise ValueError(f"no sequence is called {unknown[0]!r}; there are {', '.join(by_name)}")
    return [by_name[name] for name in chosen]


def find_reader(layout: str) -> Reader:
    """The reader of that name.

    Raises:
        DataError: there is none.
    """
    if layout not in LAYOUTS:
        raise DataError(f"the layout should be one of {', '.join(LAYOUTS)}, but is {layout!r}")
    return LAYOUTS[layout]


def read_excluded(path: Path) -> set[str]:
    """Names of a list of sequences to leave out.

    Raises:
        DataError: no such file, or it is empty.
    """
    names = set(parse_names(decode_text(path.read_bytes()))) if path.is_file() else set()
    if not names:
        raise DataError(f"{path} should hold the names of sequences to leave out, one per line, but it does not")
    return names
