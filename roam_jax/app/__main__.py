"""`python -m roam_jax.app`: draw a box in the browser and watch."""

from __future__ import annotations

if __name__ == "__main__":  # before the imports that take a second
    from roam_jax.interrupts import leave_at_once

    leave_at_once()

import logging
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro

from roam_jax.cli import ExitCode, Flag, check_ranges, option, parse, run_command
from roam_jax.errors import ModelError, OutputError
from roam_jax.evaluation.trackers import TrackerLike
from roam_jax.extras import require
from roam_jax.typed import Range

PROGRAM = "python -m roam_jax.app"


@dataclass(frozen=True)
class AppArgs:
    """A web page on this machine: open a video, draw boxes, track, correct, export.

    No request leaves the machine, and no other one can open the page unless --host says so. Ctrl-C ends it.

    Exit codes: 0 ended; 2 wrong arguments, or the extra `app` is not installed; 3 the video cannot be read; 5 no usable
    checkpoint; 6 the address is in use or cannot be had; 130 stopped by Ctrl-C.
    """

    video: Annotated[str, tyro.conf.Positional, option("VIDEO", "to begin with; the page opens others too")] = ""
    checkpoint: Annotated[str, tyro.conf.arg(metavar="NAME|DIR")] = "lite"
    """name of a checkpoint that ships with the package, or a folder"""
    host: str = "127.0.0.1"
    """address to listen at; 0.0.0.0: whoever can reach this machine can open the page, and read what is tracked"""
    port: Annotated[int, option("PORT"), Range(0, 65535)] = 0
    """of the page; 0: the first free one from 7860 on"""
    largest_mb: Annotated[int, option("MB"), Range(1, 1_000_000)] = 4000
    """a larger video is refused when it is uploaded"""
    browser: Flag = True
    """do not open the browser"""


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns its exit code."""

    def command() -> ExitCode:
        args = parse(AppArgs, PROGRAM, argv)
        check_ranges(args)
        return run(args, prepare(args))

    return run_command(command)


def prepare(args: AppArgs) -> Callable[[], TrackerLike]:
    """What makes trackers, once everything that they need is there.

    Raises:
        MissingExtra: gradio is not installed.
        InputError: the video cannot be read.
        ModelError: no usable checkpoint.
    """
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    require("gradio")
    require("gradio_image_annotation")
    require("pandas")
    if args.video:
        from roam_jax.video.inputs import open_source

        open_source([args.video]).close()
    from roam_jax.checkpoints import load_checkpoint
    from roam_jax.tracking.tracker import Tracker

    checkpoint = load_checkpoint(args.checkpoint)
    try:
        Tracker(checkpoint)
    except (ValueError, OSError) as error:
        raise ModelError(str(error)) from error
    return lambda: Tracker(checkpoint)


def run(args: AppArgs, make_tracker: Callable[[], TrackerLike]) -> ExitCode:
    """Serve the page until it is stopped.

    Raises:
        OutputError: the address cannot be had.
    """
    from roam_jax.app.page import launch

    try:
        launch(
            make_tracker, args.video, host=args.host, port=args.port, largest_mb=args.largest_mb, browser=args.browser
        )  # fmt: skip
    except OSError as error:
        where = f"{args.host}:{args.port or '7860 and above'}"
        raise OutputError(f"the page cannot be served at {where}: {error}") from error
    return ExitCode.SUCCESS


if __name__ == "__main__":
    logging.basicConfig(format="%(levelname)s: %(message)s")
    sys.exit(main())
