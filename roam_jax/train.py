"""`python -m roam_jax.train`: meta-training of ROAM on any mix of videos and still images (Algorithm 1).

    python -m roam_jax.train --data videos:clips@0.6 --data coco:stills@0.4 --output runs/first
    python -m roam_jax.train --resume runs/first

What it makes is in RUN_DIR/tracker, for `python -m roam_jax.track --checkpoint`.
"""

from __future__ import annotations

if __name__ == "__main__":  # before the imports that take a second
    from roam_jax.interrupts import leave_at_once

    leave_at_once()

import dataclasses
import logging
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from roam_jax import presets
from roam_jax.called import call_as
from roam_jax.cli import ExitCode, Flag, check_ranges, list_codes, list_settings, option, parse, run_command
from roam_jax.config import COUNT, COUNT_OR_0, Config
from roam_jax.errors import UsageError, usage_errors
from roam_jax.extras import require
from roam_jax.typed import Range

PROGRAM = "python -m roam_jax.train"
RESUMABLE = {"resume", "steps", "data", "cache", "cutouts", "track", "devices", "coordinator", "processes", "process"}
"""options that may be given with --resume; all others are the run's own"""


MEANINGS = {
    ExitCode.SUCCESS: "trained to the last step",
    ExitCode.FAILURE: "a fault of the program itself; a traceback follows",
    ExitCode.USAGE: "wrong arguments or settings, or an extra that is not installed",
    ExitCode.INPUT: "data that are missing or cannot be read, or more than run.max_skipped sequences of them",
    ExitCode.CHECKPOINT: "a checkpoint or weights that are missing, damaged, or do not fit",
    ExitCode.OUTPUT: "the run folder holds something else, or cannot be written",
    ExitCode.DIVERGED: "run.max_refused meta-gradients in a row were not finite; the batch is in the run folder",
    ExitCode.STOPPED: "stopped by SIGTERM or SIGINT, and saved: go on with --resume",
    ExitCode.INTERRUPTED: "stopped by SIGINT before the first step, or by a second one, without saving",
}
"""of the exit codes; the run folder holds what was reached whatever the code is"""


@dataclass(frozen=True)
class TrainArgs:
    """Arguments of the command line."""

    data: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, option("LAYOUT:ROOT[@WEIGHT][#NAME]")] = ()
    """what to learn from, repeatable: a layout (videos, images, otb, got10k, coco, prepared and others), a folder, its
    share of the clips, its name; `synthetic` alone: videos that are drawn, to try things out"""
    output: Annotated[Path | None, option("RUN_DIR")] = None
    """folder of the run; it must be new or empty"""
    resume: Annotated[Path | None, option("RUN_DIR")] = None
    """go on with a run exactly where its newest checkpoint is; its settings are kept, but --steps can change"""
    preset: str = "lite"
    """lite (the CPU default), lite-optimizer (its optimizer alone), paper, official, tiny"""
    steps: Annotated[int, option("N")] = 0
    """length of the training, which schedules follow; 0: what the preset says"""
    seed: Annotated[int, Range(0, 2**31 - 1)] = 0
    """of all random choices"""
    start: Annotated[str, option("NAME|DIR")] = ""
    """checkpoint to begin from, with its trunk: a shipped name or a folder"""
    cache: Annotated[str, option("DIR")] = ""
    """compute the trunk's features of --cache-clips random clips once, keep them there, and learn from these only"""
    cache_clips: Annotated[int, option("N"), COUNT] = 1000
    """clips in the cache"""
    cutouts: Annotated[str, option("DIR")] = ""
    """objects without background, .png or .webp files, that clips.lookalikes and clips.occlusion paste into clips"""
    track: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, option("LAYOUT:ROOT")] = ()
    """sequences that every validation measures the success AUC of the tracker on, repeatable"""
    track_frames: Annotated[int, option("N"), COUNT_OR_0] = 0
    """track only the first N frames of each; 0: all"""
    devices: Annotated[int, option("N"), Range(0, 1024)] = 0
    """devices that a CPU counts as; 0: one per core"""
    coordinator: Annotated[str, option("HOST:PORT")] = ""
    """of process 0, where several processes train together; the run folder must be shared"""
    processes: Annotated[int, option("N"), Range(1, 100_000)] = 1
    """how many there are"""
    process: Annotated[int, option("I")] = 0
    """number of this one"""
    tensorboard: Flag = True
    """write no TensorBoard events"""
    dry_run: Flag = False
    """print tables of the networks, compile and time one step, print parameters, memory, operations and the expected
    time, and leave"""
    show_batch: Annotated[Path | None, option("FILE.png")] = None
    """draw the first batch with its boxes and label maps, and leave"""
    settings: Flag = False
    """list every setting of the configuration with the preset's values, and exit"""


@dataclass(frozen=True)
class AllArgs(TrainArgs):
    """The arguments with the configuration, which is too long for one help text."""

    config: Config = field(default_factory=presets.lite)
    """settings of model and training"""


SETTINGS = f"Settings, each an option of `{PROGRAM}`; the defaults are the preset's."
DESCRIPTION = f"""Meta-train the tracker: initial filters, learning rates, the recurrent optimizer and the neck.

  {PROGRAM} --data videos:clips@0.6 --data coco:stills@0.4 --output runs/first
  {PROGRAM} --preset tiny --data synthetic --output /tmp/run --steps 4
  {PROGRAM} --resume runs/first

Written to the run folder:
  tracker/       the best tracker so far, for python -m roam_jax.track --checkpoint RUN_DIR/tracker
  log.jsonl      losses, norms, histograms by step; time.jsonl: seconds; tensorboard/: both
  checkpoints/   what --resume goes on from
  config.json, run.json   configuration, command, version, data

Every setting is an option too, for example --config.meta.batch 16; --settings lists them.

While it trains, the first SIGTERM or SIGINT (Ctrl-C) saves and leaves after the present step, a second one leaves at
once. Exit codes:
{list_codes(MEANINGS)}"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit code, see `MEANINGS`."""
    argv = sys.argv[1:] if argv is None else argv

    def command() -> ExitCode:
        args, config = parse_args(argv)
        for package in ("grain", *(("tensorboardX",) if args.tensorboard else ())):  # before anything is begun
            require(package)
        return run(args, config, command=shlex.join(["python", "-m", "roam_jax.train", *argv]))

    return run_command(command)


def parse_args(argv: Sequence[str]) -> tuple[TrainArgs, Config]:
    """Arguments, and the configuration: that of the preset or of the run to resume, with the options given.

    Raises:
        SystemExit: after help was printed (code 0), or what is wrong with the arguments (code 2).
        UsageError: they do not fit together.
        RunError: there is no run to resume.
    """
    if {"-h", "--help"} & set(argv):
        parse(TrainArgs, PROGRAM, ["--help"], description=DESCRIPTION)
    args = parse(AllArgs, PROGRAM, argv)
    if args.resume is not None:
        from roam_jax.training.runs import open_run

        given = {text[2:].split("=")[0].replace("_", "-") for text in argv if text.startswith("--")}
        if others := sorted(given - RESUMABLE - {"no-tensorboard"}):
            raise UsageError(f"--resume keeps the settings of the run: leave out --{others[0]}")
        config, _ = open_run(args.resume)
    else:
        with usage_errors(ValueError):
            default = AllArgs(config=presets.preset(args.preset))
        args = parse(AllArgs, PROGRAM, argv, default=default)
        config = args.config
    if args.settings:
        list_settings(config, PROGRAM, SETTINGS)
    if args.steps:
        config = dataclasses.replace(config, meta=dataclasses.replace(config.meta, steps=args.steps))
    check(args, config)
    return args, config


def run(args: TrainArgs, config: Config, *, command: str = "") -> ExitCode:
    """Train as the arguments say; see `MEANINGS` and `main` for what can go wrong."""
    from roam_jax.data.show import draw_batch
    from roam_jax.training import runs, session, setup
    from roam_jax.training.report import forecast
    from roam_jax.training.tables import tabulate
    from roam_jax.training.validate import make_judge

    about = runs.open_run(args.resume)[1] if args.resume else {}
    settings = setup.Settings(**{f.name: getattr(args, f.name) for f in dataclasses.fields(setup.Settings)})
    settings = settings.resume(about) if about else settings
    writes = not args.dry_run and args.process == 0
    start = session.Start(settings, config, args.resume or args.output, about, command)
    session.check(start if writes else dataclasses.replace(start, folder=None))
    data = session.read_data(start)
    if args.show_batch is not None:
        draw_batch(session.first_batch(start, data), config, args.show_batch)
        return ExitCode.SUCCESS
    sequences = setup.read_sequences(settings.track) if settings.track else []
    judge = make_judge(sequences, settings.track_frames) if sequences else None
    machines = session.Machines(args.devices, args.coordinator, args.processes, args.process)
    parts = session.build(start, data, machines)
    if args.dry_run:
        print(tabulate(config), end="\n\n") if parts.first else None
        text = forecast(parts.trainer, parts.state, parts.trunk, parts.batches_from(0))
        print(text) if parts.first else None
        return ExitCode.SUCCESS
    assert start.folder is not None  # parse_args has seen to it
    try:
        state, complete = session.train(
            start,
            data,
            parts,
            judge,
            tensorboard=args.tensorboard,
            report=print,
            warn=lambda text: print(f"warning: {text}", file=sys.stderr),
        )
    finally:
        for entry in data.skipped.entries:
            print(f"left out, as it could not be read: {entry.name}: {entry.reason}")
    if parts.first:
        print(f"{int(state.step)} steps, {int(state.refused)} refused; tracker: {start.folder / runs.TRACKER}")
        if not complete:
            print(f"stopped and saved: go on with {PROGRAM} --resume {start.folder}")
    return ExitCode.SUCCESS if complete else ExitCode.STOPPED


def check(args: TrainArgs, config: Config) -> None:
    """Raise a `UsageError` where arguments are missing or do not fit together."""
    check_ranges(args)
    with usage_errors(ValueError):
        config.check()
    if args.resume is None and not args.data:
        raise UsageError("name what to learn from: --data LAYOUT:ROOT, or --data synthetic to try; --help tells more")
    if args.resume is None and args.output is None and not args.dry_run and args.show_batch is None:
        raise UsageError("name a folder for the run: --output RUN_DIR")
    if args.processes > 1 and not args.coordinator:
        raise UsageError("several processes need --coordinator HOST:PORT")
    if not 0 <= args.process < args.processes:
        raise UsageError(f"--process must be 0 to {args.processes - 1}, but is {args.process}")


if __name__ != "__main__":
    call_as(__name__, "roam_jax.research")

if __name__ == "__main__":
    logging.basicConfig(format="%(levelname)s: %(message)s")
    sys.exit(main())
