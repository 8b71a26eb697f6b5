"""`python -m roam_jax.export DIR`: a tracker as StableHLO programs, for whatever runs them without this package."""

from __future__ import annotations

if __name__ == "__main__":  # before the imports that take a second
    from roam_jax.interrupts import leave_at_once

    leave_at_once()

import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro

from roam_jax.cli import ExitCode, Flag, option, parse, run_command
from roam_jax.data.demo_clip import render_demo
from roam_jax.errors import OutputError, UsageError
from roam_jax.evaluation.trackers import TrackerLike

PROGRAM = "python -m roam_jax.export"
FRAMES = 20
"""of the demo clip, for the check"""
AGREE_PX = 0.1
"""boxes of other programs of the same functions are that close"""


@dataclass(frozen=True)
class ExportArgs:
    """Write a tracker as two StableHLO programs that take whole frames, with its weights and a loader.

    Written to DIR: start.stablehlo and step.stablehlo (jax.export), weights.npz, manifest.json (versions; names, shapes
    and types of all inputs and outputs), and tracker.py, which needs jax and numpy alone.

    Exit codes: 0 done; 2 wrong arguments; 5 no usable checkpoint; 6 the files cannot be written, or what was written
    does not give the tracker's boxes; 130 stopped by Ctrl-C.
    """

    output: Annotated[Path, tyro.conf.Positional, option("DIR", "folder to write to")]
    checkpoint: Annotated[str, tyro.conf.arg(metavar="NAME|DIR")] = "lite"
    """name of a checkpoint that ships with the package, or a folder"""
    platforms: tuple[Literal["cpu", "cuda", "rocm", "tpu"], ...] = ("cpu", "cuda")
    """what the programs can run on; none of them is needed to write them"""
    check: Flag = True
    """do not compare the boxes with the tracker's, on the first frames of the demo clip"""


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns its exit code."""
    return run_command(lambda: run(parse(ExportArgs, PROGRAM, argv, first="the folder to write to")))


def run(args: ExportArgs) -> ExitCode:
    """Write the files, and check them.

    Raises:
        UsageError: no platform.
        ModelError: no usable checkpoint.
        OutputError, OSError: the files cannot be written, or do not give the tracker's boxes.
    """
    if not args.platforms:
        raise UsageError("--platforms needs one at least: cpu, cuda, rocm or tpu")
    from roam_jax.tracking.exported import write_exported
    from roam_jax.tracking.tracker import Tracker

    tracker = Tracker(args.checkpoint, crop="device")
    write_exported(args.output, tracker.online, tracker.params, args.platforms)
    written = sum(path.stat().st_size for path in args.output.iterdir() if path.is_file())
    print(f"wrote {args.output} for {', '.join(args.platforms)}: {written / 1e6:.1f} MB")
    if args.check:
        check(args, tracker)
    return ExitCode.SUCCESS


def check(args: ExportArgs, tracker: TrackerLike) -> None:
    """Track the demo's first frames with what was written, and with the tracker that cuts patches in the same way.

    Raises:
        OutputError: their boxes differ.
    """
    from roam_jax.devices import choose_backend
    from roam_jax.tracking.exported import load_exported

    backend = choose_backend()
    if not {backend} & {*args.platforms, *("gpu" for name in args.platforms if name in ("cuda", "rocm"))}:
        print(f"not checked: this machine's {backend} is not among the platforms")
        return
    frames, boxes = render_demo()
    first, *later = itertools.islice(frames, FRAMES)
    tracked = []
    for each in (load_exported(args.output), tracker):
        each.init(first, boxes[0])
        tracked.append([each.update(frame) for frame in later])
    largest = float(np.abs(np.subtract(*tracked)).max())
    print(f"checked on {FRAMES} frames: boxes within {largest:.2g} px of the tracker's")
    if not largest <= AGREE_PX:
        raise OutputError(f"what was written to {args.output} does not give the tracker's boxes")


if __name__ == "__main__":
    sys.exit(main())
