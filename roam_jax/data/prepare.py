"""`python -m roam_jax.data.prepare LAYOUT ROOT OUT`: any data set as ArrayRecord files, once, for fast training."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Annotated

import tyro
from tqdm import tqdm

from roam_jax.cli import parse, run_command
from roam_jax.data.layouts import Layout, read_layout


def prepare(
    layout: Annotated[Layout, tyro.conf.Positional],
    root: Annotated[Path, tyro.conf.Positional],
    out: Annotated[Path, tyro.conf.Positional],
    source: str = "",
    exclude: Path | None = None,
    workers: int = min(8, os.cpu_count() or 1),
) -> None:
    """Write the frames of a data set as JPEG in ArrayRecord files. An interrupted run continues where it was.

    Exit codes: 0 done, 2 wrong arguments or the extra `train` is not installed, 3 data that cannot be read, 6 the
    files cannot be written.

    Args:
        layout: how the folder is laid out; `python -m roam_jax.data.check LAYOUT ROOT` says what it should hold.
        root: the data set's folder.
        out: the folder to make.
        source: name of the data set when several are mixed; by default that of the layout or folder.
        exclude: text file with names of sequences to leave out, one per line.
        workers: threads that read and encode.
    """
    from roam_jax.data.builder import prepare_sequences, tfds

    sequences = read_layout(layout, root, source, exclude=exclude)
    tfds.disable_progress_bar()
    with contextlib.redirect_stdout(None):  # the library speaks of downloads, but there are none
        prepare_sequences(sequences, out, workers=workers, progress=lambda jobs: tqdm(jobs, unit=" files"))
    frames = sum(len(sequence) for sequence in sequences)
    size = sum(path.stat().st_size for path in out.iterdir())
    print(f"{out}: {len(sequences)} sequences, {frames} frames, {size / 2**20:.1f} MiB")


def main(args: list[str] | None = None) -> int:
    """The command line; returns its exit code."""
    return run_command(lambda: parse(prepare, "python -m roam_jax.data.prepare", args, first="a layout"))


if __name__ == "__main__":
    sys.exit(main())
