"""`python -m roam_jax.demo --output DIR`: the demo clip as a sequence folder in the layout of OTB."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from roam_jax.cli import ExitCode, parse, run_command
from roam_jax.data.demo_clip import write_demo
from roam_jax.errors import usage_errors


@dataclass(frozen=True)
class DemoArgs:
    """Write the demo clip as a sequence folder in the layout of OTB.

    Exit codes: 0 done, 2 wrong arguments, 6 the files cannot be written.
    """

    output: Path = Path("roam_demo")
    """folder to write to"""
    frames: int = 120
    """length of the clip"""
    size: tuple[int, int] = (270, 480)
    """height and width of the frames, in pixels"""
    seed: int = 0
    """of the paths and the noise"""


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns its exit code."""
    return run_command(lambda: run(parse(DemoArgs, "python -m roam_jax.demo", argv)))


def run(args: DemoArgs) -> ExitCode:
    """Write the clip.

    Raises:
        UsageError: no such clip can be made.
        OSError: the files cannot be written.
    """
    with usage_errors(ValueError):
        write_demo(args.output, args.frames, args.size, args.seed)
    print(f"wrote {args.frames} frames to {args.output}")
    return ExitCode.SUCCESS


if __name__ == "__main__":
    sys.exit(main())
