"""`python -m roam_jax.data.prepare LAYOUT ROOT OUT`: any data set as ArrayRecord files, once, for fast training."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tqdm import tqdm

from roam_jax.data.layouts import read_layout
from roam_jax.data.sequences import DataError


def prepare(
    layout: Annotated[Literal["videos", "images", "otb", "got10k", "coco"], tyro.conf.Positional],
    root: Annotated[Path, tyro.conf.Positional],
    out: Annotated[Path, tyro.conf.Positional],
    source: str = "",
    threads: int = 2,
) -> None:
    """Write the frames of a data set as JPEG in ArrayRecord files. An interrupted run continues where it was.

    Args:
        layout: how the folder is laid out. videos: NAME.mp4 with NAME.txt; images: folders of frames with
            groundtruth.txt; otb: NAME/img with groundtruth_rect.txt; got10k; coco: images/ with instances.json.
        root: the data set's folder.
        out: the folder to make.
        source: name of the data set when several are mixed; by default that of the layout or folder.
        threads: sequences that are read at once.
    """
    import tensorflow_datasets as tfds

    from roam_jax.data.builder import prepare_sequences

    sequences = read_layout(layout, root, source)
    tfds.disable_progress_bar()
    with contextlib.redirect_stdout(None):  # the library speaks of downloads, but there are none
        prepare_sequences(sequences, out, n_threads=threads, progress=lambda jobs: tqdm(jobs, unit=" sequences"))
    frames = sum(len(sequence) for sequence in sequences)
    size = sum(path.stat().st_size for path in out.iterdir())
    print(f"{out}: {len(sequences)} sequences, {frames} frames, {size / 2**20:.1f} MiB")


def main() -> None:
    """Command line."""
    try:
        tyro.cli(prepare)
    except DataError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
