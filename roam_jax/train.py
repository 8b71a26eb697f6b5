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
from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import tyro

from roam_jax import presets
from roam_jax.config import Config
from roam_jax.extras import MissingExtra, require
from roam_jax.options import show_ranges
from roam_jax.video.errors import DescribedCode, refuse_empty

if TYPE_CHECKING:
    from roam_jax.checkpoints import Checkpoint
    from roam_jax.data.sequences import Sequence as FrameSequence
    from roam_jax.training.setup import Settings as RunSettings

PROGRAM = "python -m roam_jax.train"
RESUMABLE = {"resume", "steps", "data", "cache", "track", "devices", "coordinator", "processes", "process"}
"""options that may be given with --resume; all others are the run's own"""


class TrainExit(DescribedCode):
    """Exit codes; the run folder holds what was reached whatever the code is."""

    DONE = 0, "trained to the last step"
    FAILURE = 1, "a fault of the program itself; a traceback follows"
    USAGE = 2, "wrong arguments or settings, or an extra that is not installed"
    DATA = 3, "data that are missing or cannot be read, or more than run.max_skipped sequences of them"
    CHECKPOINT = 5, "a checkpoint or weights that are missing, damaged, or do not fit"
    OUTPUT = 6, "the run folder holds something else, or cannot be written"
    DIVERGED = 7, "run.max_refused meta-gradients in a row were not finite; the batch is in the run folder"
    STOPPED = 75, "stopped by SIGTERM or SIGINT, and saved: go on with --resume"
    INTERRUPTED = 130, "stopped by SIGINT before the first step, or by a second one, without saving"


class UsageError(Exception):
    """Wrong arguments; the message is one sentence."""


Flag = Annotated[bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(help_behavior_hint="")]


def _option(metavar: str, help_behavior_hint: str = "") -> Any:
    return tyro.conf.arg(metavar=metavar, help_behavior_hint=help_behavior_hint)


@dataclass(frozen=True)
class TrainArgs:
    """Arguments of the command line."""

    data: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, _option("LAYOUT:ROOT[@WEIGHT][#NAME]")] = ()
    """what to learn from, repeatable: a layout (videos, images, otb, got10k, coco, prepared and others), a folder, its
    share of the clips, its name; `synthetic` alone: videos that are drawn, to try things out"""
    output: Annotated[Path | None, _option("RUN_DIR")] = None
    """folder of the run; it must be new or empty"""
    resume: Annotated[Path | None, _option("RUN_DIR")] = None
    """go on with a run exactly where its newest checkpoint is; its settings are kept, but --steps can change"""
    preset: str = "lite"
    """lite (the CPU default), lite-optimizer (its optimizer alone), paper, official, tiny"""
    steps: Annotated[int, _option("N")] = 0
    """length of the training, which schedules follow; 0: what the preset says"""
    seed: int = 0
    """of all random choices"""
    start: Annotated[str, _option("NAME|DIR")] = ""
    """checkpoint to begin from, with its trunk: a shipped name or a folder"""
    cache: Annotated[str, _option("DIR")] = ""
    """compute the trunk's features of --cache-clips random clips once, keep them there, and learn from these only"""
    cache_clips: Annotated[int, _option("N")] = 1000
    """clips in the cache"""
    track: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, _option("LAYOUT:ROOT")] = ()
    """sequences that every validation measures the success AUC of the tracker on, repeatable"""
    track_frames: Annotated[int, _option("N")] = 0
    """track only the first N frames of each; 0: all"""
    devices: Annotated[int, _option("N")] = 0
    """devices that a CPU counts as; 0: one per core"""
    coordinator: Annotated[str, _option("HOST:PORT")] = ""
    """of process 0, where several processes train together; the run folder must be shared"""
    processes: Annotated[int, _option("N")] = 1
    """how many there are"""
    process: Annotated[int, _option("I")] = 0
    """number of this one"""
    tensorboard: Annotated[bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(help_behavior_hint="")] = True
    """write no TensorBoard events"""
    dry_run: Flag = False
    """compile and time one step, print parameters, memory, operations and the expected time, and leave"""
    show_batch: Annotated[Path | None, _option("FILE.png")] = None
    """draw the first batch with its boxes and label maps, and leave"""
    settings: Flag = False
    """list every setting of the configuration with the preset's values, and exit"""


@dataclass(frozen=True)
class AllArgs(TrainArgs):
    """The arguments with the configuration, which is too long for one help text."""

    config: Config = field(default_factory=presets.lite)
    """settings of model and training"""


@dataclass(frozen=True)
class AllSettings:
    """Settings, each an option of `python -m roam_jax.train`; the defaults are the preset's."""

    config: Config


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
{chr(10).join(f"  {code.value:3d}  {code.meaning}" for code in TrainExit)}"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit code (`TrainExit`)."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        args, config = parse_args(argv)
        for package in ("grain", *(("tensorboardX",) if args.tensorboard else ())):  # before anything is begun
            require(package)
        return int(run(args, config, command=shlex.join(["python", "-m", "roam_jax.train", *argv])))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return int(TrainExit.INTERRUPTED)
    except SystemExit as stop:  # tyro has printed its help, or what is wrong with the arguments
        return int(stop.code or 0)
    except Exception as error:
        code = _exit_code(error)
        if code == TrainExit.FAILURE:
            raise
        print(f"error: {error}", file=sys.stderr)
        return int(code)


def parse_args(argv: Sequence[str]) -> tuple[TrainArgs, Config]:
    """Arguments, and the configuration: that of the preset or of the run to resume, with the options given.

    Raises:
        SystemExit: after help was printed (code 0), or what is wrong with the arguments (code 2).
        UsageError: they do not fit together.
        RunError: there is no run to resume.
    """
    refuse_empty(argv)
    if {"-h", "--help"} & set(argv):
        tyro.cli(TrainArgs, prog=PROGRAM, description=DESCRIPTION, args=["--help"])
    args = tyro.cli(AllArgs, prog=PROGRAM, args=argv)
    if args.resume is not None:
        from roam_jax.training.runs import open_run

        given = {text[2:].split("=")[0].replace("_", "-") for text in argv if text.startswith("--")}
        if others := sorted(given - RESUMABLE - {"no-tensorboard"}):
            raise UsageError(f"--resume keeps the settings of the run: leave out --{others[0]}")
        config, _ = open_run(args.resume)
    else:
        try:
            default = AllArgs(config=presets.preset(args.preset))
        except ValueError as error:
            raise UsageError(str(error)) from error
        args = tyro.cli(AllArgs, prog=PROGRAM, args=argv, default=default)
        config = args.config
    if args.settings:
        tyro.cli(AllSettings, prog=PROGRAM, args=["--help"], default=AllSettings(config), registry=show_ranges())
    if args.steps:
        config = dataclasses.replace(config, meta=dataclasses.replace(config.meta, steps=args.steps))
    _check(args, config)
    return args, config


def run(args: TrainArgs, config: Config, *, command: str = "") -> TrainExit:
    """Train as the arguments say; see `TrainExit` and `main` for what can go wrong."""
    from roam_jax.backbones import make_backbone
    from roam_jax.data.show import draw_batch
    from roam_jax.data.skipped import Skipped
    from roam_jax.interrupts import StopRequest
    from roam_jax.method import make_optimizer
    from roam_jax.tracking.tracker import enable_compilation_cache
    from roam_jax.training import loop, runs, setup
    from roam_jax.training.parallel import Trainer, start_devices
    from roam_jax.training.report import forecast
    from roam_jax.training.state import make_meta_optimizer, make_state
    from roam_jax.training.validate import read_clips
    from roam_jax.training.writer import Writer

    settings, about = _settings(args)
    with _usage(ValueError):
        backbone = make_backbone(config)
        make_optimizer(config)
    if args.output is not None and not args.dry_run and args.process == 0:
        runs.check_free(args.output)
    entries = runs.read_skipped(args.resume) if args.resume else []
    mix = setup.read_data(settings.data, config, entries)
    skipped = Skipped(mix.listed, limit=config.run.max_skipped, entries=entries)
    if about and mix.digest != about["data_digest"]:
        raise UsageError("the data are not those that the run began with: other sequences, boxes or weights")
    if args.show_batch is not None:
        batches = setup.make_pipeline(mix.train, config, seed=settings.seed, weights=mix.weights, skipped=skipped)
        draw_batch(next(batches), config, args.show_batch)
        return TrainExit.DONE
    sequences = setup.read_sequences(settings.track) if settings.track else []
    judge = make_judge(sequences, settings.track_frames) if sequences else None

    import jax
    from jax.experimental import multihost_utils

    enable_compilation_cache()
    with _usage(RuntimeError, ValueError):
        start_devices(
            args.devices, coordinator=args.coordinator, processes=args.processes, process=args.process
        )  # fmt: skip
    process = (jax.process_index(), jax.process_count())
    first = process[0] == 0
    learned, pretrained = setup.begin(settings, config)
    trunk = pretrained["trunk"]
    described = setup.describe(settings, mix, trunk, package=version("roam-jax"), command=command)
    if about and about["trunk_digest"] != described["trunk_digest"]:
        raise UsageError("the trunk's weights are not those that the run began with")
    batches_from = setup.make_batches(settings, config, mix, trunk, skipped)
    transform = make_meta_optimizer(config.meta)
    with _usage(ValueError):
        trainer = Trainer(backbone, config, transform, trunk, seed=settings.seed)
    if learned is None:
        learned = setup.draw_parameters(config, backbone, pretrained, batches_from(0, (0, 1)), seed=settings.seed)
    state = jax.device_get(make_state(learned, transform))
    if args.dry_run:
        text = forecast(trainer, state, trunk, batches_from(0, process))
        print(text) if first else None
        return TrainExit.DONE

    folder = args.resume or args.output
    assert folder is not None  # parse_args has seen to it
    if first and args.resume is None:
        runs.create_run(folder, config, described)
    elif first and args.steps:
        runs.write_json(folder / runs.CONFIG, config.to_dict())
    if process[1] > 1:  # no other file before the first process has made the folder
        multihost_utils.sync_global_devices("the run folder is there")
    skipped.keep(lambda values: runs.write_json(folder / runs.SKIPPED.format(process[0]), values))
    current = runs.Run(folder, keep=config.run.keep, writes=first)
    if args.resume is not None:
        state = current.load_latest(state, report=lambda text: print(f"warning: {text}", file=sys.stderr))
        print(f"going on with {folder} from step {int(state.step)}") if first else None
    job = loop.Job(
        config,
        trainer,
        trunk,
        current,
        about or described,
        read_clips(mix.held_out, config, process=process, skipped=skipped),
        judge if first else None,
        trunk_source=(config.backbone.weights or "pip") if config.backbone.name.startswith("vgg") else "",
    )
    writer = Writer(folder, resume_step=int(state.step), tensorboard=args.tensorboard) if first else None
    try:
        with closing(current), writer or nullcontext(), StopRequest() as stop:
            state, complete = loop.train(job, state, batches_from(int(state.step), process), writer, stop)
    finally:
        for entry in skipped.entries:
            print(f"left out, as it could not be read: {entry.name}: {entry.reason}")
    if first:
        print(f"{int(state.step)} steps, {int(state.refused)} refused; tracker: {folder / runs.TRACKER}")
        if not complete:
            print(f"stopped and saved: go on with {PROGRAM} --resume {folder}")
    return TrainExit.DONE if complete else TrainExit.STOPPED


def make_judge(sequences: Sequence[FrameSequence], frames: int) -> Callable[[Checkpoint], dict[str, float]]:
    """Function that measures the success AUC of a tracker in each sequence.

    Args:
        sequences: with a box in the first frame.
        frames: how many of each count; 0: all.

    Raises:
        DataError: a sequence has no box in its first frame.
    """
    from roam_jax.data.sequences import DataError
    from roam_jax.evaluation.metrics import has_box, success_auc
    from roam_jax.tracking.tracker import Tracker

    for sequence in sequences:
        if not has_box(sequence.boxes_xywh[:1]).all():
            raise DataError(f"the sequence {sequence.name} should have a box in its first frame to track from")

    def follow(tracker: Tracker, sequence: FrameSequence) -> float:
        count = min(frames or len(sequence), len(sequence))
        boxes = [sequence.boxes_xywh[0]]
        for index, image in enumerate(islice(sequence.frames, count)):
            if index == 0:
                tracker.init(image, boxes[0])
            else:
                boxes.append(tracker.update(image))
        return success_auc(np.stack(boxes), sequence.boxes_xywh[:count])

    def judge(checkpoint: Checkpoint) -> dict[str, float]:
        tracker = Tracker(checkpoint)
        return {sequence.name: follow(tracker, sequence) for sequence in sequences}

    return judge


def _settings(args: TrainArgs) -> tuple[RunSettings, dict[str, Any]]:
    """Settings of the run, and the `run.json` of the one to resume."""
    from roam_jax.training.runs import open_run
    from roam_jax.training.setup import Settings

    names = [f.name for f in dataclasses.fields(Settings)]
    given = {name: getattr(args, name) for name in names}
    if args.resume is None:
        return Settings(**given), {}
    about = open_run(args.resume)[1]
    kept: dict[str, Any] = {
        name: tuple(about[name]) if isinstance(about[name], list) else about[name] for name in names
    }
    return Settings(**kept | {name: given[name] for name in ("data", "cache", "track") if given[name]}), about


def _check(args: TrainArgs, config: Config) -> None:
    """Raise a `UsageError` where arguments are missing or do not fit together."""
    try:
        config.check()
    except ValueError as error:
        raise UsageError(str(error)) from error
    if args.resume is None and not args.data:
        raise UsageError("name what to learn from: --data LAYOUT:ROOT, or --data synthetic to try; --help tells more")
    if args.resume is None and args.output is None and not args.dry_run and args.show_batch is None:
        raise UsageError("name a folder for the run: --output RUN_DIR")
    if args.processes > 1 and not args.coordinator:
        raise UsageError("several processes need --coordinator HOST:PORT")
    if not 0 <= args.process < args.processes:
        raise UsageError(f"--process must be 0 to {args.processes - 1}, but is {args.process}")


class _usage:
    """Context that turns errors of some kinds into a `UsageError`, but for those with an exit code of their own."""

    def __init__(self, *kinds: type[Exception]) -> None:
        self.kinds = kinds

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, self.kinds) and _exit_code(error) == TrainExit.FAILURE:
            raise UsageError(str(error)) from error


def _exit_code(error: Exception) -> TrainExit:
    from roam_jax.backbones.weights import WeightsError
    from roam_jax.checkpoints import CheckpointError
    from roam_jax.data.mix import SourceError
    from roam_jax.data.sequences import DataError
    from roam_jax.training.loop import Diverged
    from roam_jax.training.runs import RunError
    from roam_jax.training.writer import LogError

    codes: dict[type[Exception], TrainExit] = {
        UsageError: TrainExit.USAGE,
        MissingExtra: TrainExit.USAGE,
        SourceError: TrainExit.USAGE,  # before DataError, which it is one of
        DataError: TrainExit.DATA,
        CheckpointError: TrainExit.CHECKPOINT,
        WeightsError: TrainExit.CHECKPOINT,
        Diverged: TrainExit.DIVERGED,
        RunError: TrainExit.OUTPUT,
        LogError: TrainExit.OUTPUT,
        OSError: TrainExit.OUTPUT,
    }
    return next((code for kind, code in codes.items() if isinstance(error, kind)), TrainExit.FAILURE)


if __name__ == "__main__":
    logging.basicConfig(format="%(levelname)s: %(message)s")
    sys.exit(main())
