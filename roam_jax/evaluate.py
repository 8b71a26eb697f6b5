"""Scores of a tracker on sequences with known boxes: `python -m roam_jax.evaluate --root DIR`."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import tyro

from roam_jax.backbones import WeightsError
from roam_jax.checkpoints import CheckpointError
from roam_jax.data.layouts import read_layout
from roam_jax.data.sequences import DataError
from roam_jax.evaluation.runner import Row, evaluate, format_table
from roam_jax.evaluation.trackers import TrackerName, make_tracker
from roam_jax.video.errors import ExitCode

EXIT_CODES = {
    CheckpointError: ExitCode.CHECKPOINT,
    WeightsError: ExitCode.CHECKPOINT,
    DataError: ExitCode.INPUT,
    OSError: ExitCode.OUTPUT,
    ValueError: ExitCode.USAGE,
}


@dataclass(frozen=True)
class Arguments:
    """Track sequences from their first true box, and print a table of the usual scores.

    Columns: AUC of the success plot, precision at 20 px (OTB), AUC of the normalised precision (TrackingNet), average
    overlap and success rates at 0.5 and 0.75 (GOT-10k), frames per second in the tracker alone. Exit codes: 0 done,
    2 wrong arguments, 3 data that cannot be read, 5 no usable checkpoint, 6 results that cannot be written.
    """

    root: Path
    """one sequence, or the folder of all of them"""
    dataset: Literal["otb", "images", "videos"] = "otb"
    """layout of the data: OTB; folders of pictures with groundtruth.txt; videos NAME.mp4 with NAME.txt"""
    tracker: TrackerName = "roam"
    """this package's, or one of those that the installed OpenCV has"""
    checkpoint: str = "lite"
    """of the tracker `roam`: a name or a directory"""
    nano_dir: Path | None = None
    """of the tracker `cv2:nano`: the folder with nanotrack_v2_backbone.onnx and nanotrack_v2_head.onnx"""
    sequences: Annotated[str, tyro.conf.arg(metavar="A,B,...")] = ""
    """names of the sequences to run; all by default"""
    output: Path = Path("runs/evaluate")
    """folder for the boxes, times and the table"""
    workers: int = 1
    """processes that share the sequences; they slow each other down, so that only one gives a true speed"""


def run(arguments: Arguments) -> list[Row]:
    """Do what the command line asks for.

    Raises:
        ValueError: wrong arguments.
        DataError: data that cannot be read.
        CheckpointError, WeightsError: no usable checkpoint, or one whose trunk is not found.
        OSError: the results cannot be written.
    """
    sequences = {sequence.name: sequence for sequence in read_layout(arguments.dataset, arguments.root)}
    names = [name for name in arguments.sequences.split(",") if name] or list(sequences)
    if unknown := [name for name in names if name not in sequences]:
        raise ValueError(f"no sequence is called {unknown[0]!r}; there are {', '.join(sequences)}")
    folder = arguments.output / arguments.tracker.replace(":", "-")
    rows = evaluate(
        [sequences[name] for name in names],
        partial(make_tracker, arguments.tracker, checkpoint=arguments.checkpoint, nano_dir=arguments.nano_dir),
        output=folder,
        origin=1.0 if arguments.dataset == "otb" else 0.0,
        workers=arguments.workers,
        report=_print_progress,
    )
    table = format_table(rows)
    (folder / "table.md").write_text(table + "\n", encoding="utf-8")
    print(f"\n{table}\n\nboxes and times: {folder}")
    return rows


def main(args: list[str] | None = None) -> int:
    """The command line; returns its exit code."""
    arguments = tyro.cli(Arguments, prog="python -m roam_jax.evaluate", args=args)
    try:
        run(arguments)
    except KeyboardInterrupt:
        print(f"stopped; the sequences that were finished are in {arguments.output}", file=sys.stderr)
        return ExitCode.INTERRUPTED
    except tuple(EXIT_CODES) as error:
        print(error, file=sys.stderr)
        return next(code for kind, code in EXIT_CODES.items() if isinstance(error, kind))
    return ExitCode.SUCCESS


def _print_progress(row: Row) -> None:
    print(f"{row.name}: AUC {row.scores.auc:.3f}, {row.scores.frames} frames, {row.fps:.1f} frames/s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
