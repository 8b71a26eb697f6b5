"""Readers by the name of their layout, for command lines."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal, get_args

from roam_jax.data.sequences import (
    DataError,
    Sequence,
    read_coco,
    read_got10k,
    read_image_folder,
    read_otb_folder,
    read_videos,
)

Layout = Literal["videos", "images", "otb", "got10k", "coco", "prepared"]


def read_layout(layout: str, root: Path | str, source: str = "") -> list[Sequence]:
    """Sequences of a folder.

    Args:
        layout: `videos`: NAME.mp4 with NAME.txt; `images`: folders of frames with groundtruth.txt; `otb`; `got10k`;
            `coco`: images/ with instances.json; `prepared`: what `python -m roam_jax.data.prepare` made.
        root: the folder.
        source: their source, for mixing; by default the reader's own.

    Raises:
        DataError: no such layout, or the folder does not have it.
    """
    root = Path(root)
    match layout:
        case "videos":
            sequences = read_videos(root)
        case "images":
            sequences = read_image_folder(root)
        case "otb":
            sequences = read_otb_folder(root)
        case "got10k":
            sequences = read_got10k(root)
        case "coco":
            sequences = read_coco(root / "images", root / "instances.json")
        case "prepared":
            from roam_jax.data.builder import read_prepared  # the only layout that needs the extra `train`

            sequences = read_prepared(root)
        case _:
            raise DataError(f"the layout should be one of {', '.join(get_args(Layout))}, but is {layout!r}")
    return [dataclasses.replace(sequence, source=source) for sequence in sequences] if source else sequences
