"""`python -m roam_jax.track`: a video in, the boxes of an object and an annotated video out.

    python -m roam_jax.track video.mp4 --box 120,80,60,40     # x,y,w,h of the object in the first frame
    python -m roam_jax.track --demo                           # needs no input

jax is imported late, when the arguments and the input are fine: help and most errors need no second.
"""

from __future__ import annotations

if __name__ == "__main__":  # before the imports that take a second
    from roam_jax.interrupts import leave_at_once

    leave_at_once()

import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import chain, repeat
from pathlib import Path
from typing import Annotated, Any, Protocol, runtime_checkable

import numpy as np
import tyro
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from roam_jax.config import Config
from roam_jax.demo import FPS, render_demo
from roam_jax.evaluation.metrics import overlap_xywh, success_auc
from roam_jax.interrupts import StopRequest
from roam_jax.options import show_ranges
from roam_jax.presets import lite
from roam_jax.video.draw import draw_observations
from roam_jax.video.errors import ExitCode, InputError, ModelError, TrackError, UsageError, refuse_empty
from roam_jax.video.formats import Box, Boxes, Image, Observation, check_box, parse_box, read_boxes
from roam_jax.video.select import require_display, select_box, show_frame
from roam_jax.video.sink import ResultWriter, find_results, make_folder
from roam_jax.video.source import FrameSource, MemoryFrames, open_source, prefetch


@runtime_checkable
class SingleTracker(Protocol):
    """What the command line needs of a tracker of one object; boxes are xywh, 0-based image pixels."""

    @property
    def score(self) -> float:
        """Response to the last frame relative to the first frame's."""
        ...

    @property
    def lost(self) -> bool:
        """The object was not found in the last frame."""
        ...

    def init(self, image: Image, box_xywh: Box, /) -> object:
        """Learn the object in its first frame."""
        ...

    def update(self, image: Image, /) -> Box:
        """Find the object in the next frame."""
        ...


MakeTrackers = Callable[[str, Config | None, int], Sequence[SingleTracker]]
Flag = Annotated[bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(help_behavior_hint="")]


INPUT_HELP = (
    "video file; folder of pictures, or a pattern ('frames/*.png'); index of a camera (0); or sequence folder as in "
    "OTB: img/ and groundtruth_rect.txt, whose first line is the box if none is given; the success AUC is printed"
)


def _option(metavar: str, text: str | None = None) -> Any:
    """Marker of an option without a default worth telling."""
    return tyro.conf.arg(metavar=metavar, help=text, help_behavior_hint="")


@dataclass(frozen=True)
class TrackArgs:
    """Arguments of the command line."""

    input: Annotated[tuple[str, ...], tyro.conf.Positional, _option("INPUT", INPUT_HELP)] = ()
    demo: Flag = False
    """track a clip that the package renders, and print how well; needs no INPUT"""
    box: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, _option("X,Y,W,H")] = ()
    """the object in the first frame: left, top, width and height in pixels, counted from 0; repeatable, for several
    objects (without a box, it is drawn with the mouse)"""
    boxes: Annotated[tuple[Path, ...], tyro.conf.UseAppendAction, _option("FILE")] = ()
    """several objects: text file with one x,y,w,h per line; repeatable"""
    one_based: Flag = False
    """count pixels from 1, as OTB does, in --box, --boxes and boxes.txt"""
    checkpoint: Annotated[str, tyro.conf.arg(metavar="NAME|DIR")] = "lite"
    """name of a checkpoint that ships with the package, or a folder"""
    output: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("roam_output")
    """folder for the results; files of their names are replaced, and what else an earlier run left is removed"""
    video: Annotated[bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(help_behavior_hint="")] = True
    """write no video.mp4"""
    show: Flag = False
    """show the frames in a window while tracking; q, Esc or closing it ends"""
    fps: Annotated[float | None, _option("FPS")] = None
    """frames per second of video.mp4 (default: those of the input; 30 for pictures)"""
    settings: Flag = False
    """list the settings of the tracker with the checkpoint's values, and exit"""


@dataclass(frozen=True)
class AllArgs(TrackArgs):
    """The arguments with the settings of the tracker, which are too many for one help text."""

    config: Config = field(default_factory=lite)
    """settings of the tracker"""


@dataclass(frozen=True)
class Settings:
    """Settings of the tracker, each an option of `python -m roam_jax.track`; the defaults are the checkpoint's.

    Those of `config.online` can be changed freely. Those of `config.model` and `config.backbone` must fit the
    checkpoint's arrays, and those of `clips`, `unroll`, `meta` and `run` have no effect on tracking.
    """

    config: Config


PROGRAM = "python -m roam_jax.track"
DESCRIPTION = f"""Track an object through a video: give the box around it in the first frame.

  {PROGRAM} video.mp4 --box 120,80,60,40
  {PROGRAM} --demo

Written to the output folder, line by line while tracking:
  boxes.txt    x,y,w,h for each frame, 0-based (boxes_1.txt, boxes_2.txt, ... for several objects)
  track.jsonl  JSON for each frame and object: frame (from 0), target (the object's number, from 1 as in boxes_1.txt),
               box (0-based), score, lost, compute_seconds (time that the tracker took)
  video.mp4    the frames with boxes drawn; red and dashed: lost; several objects are numbered from 1

Every setting of the tracker is an option too, for example --config.online.tau 10; --settings lists them.

Exit codes (what was tracked is kept):
{chr(10).join(f"  {code.value:3d}  {code.meaning}" for code in ExitCode)}"""


def main(argv: Sequence[str] | None = None, make_trackers: MakeTrackers | None = None) -> int:
    """Run the command line.

    Args:
        argv: arguments after the program's name; those of the process by default.
        make_trackers: makes one tracker for each object from a checkpoint, a config (None: the checkpoint's own) and
            the number of objects; `make_online_trackers` by default.

    Returns:
        The exit code (`ExitCode`).
    """
    try:
        args, config = parse_args(sys.argv[1:] if argv is None else argv)
        run(args, config, make_trackers or make_online_trackers)
    except TrackError as error:
        print(f"error: {error}", file=sys.stderr)
        return int(error.exit_code)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return int(ExitCode.INTERRUPTED)
    except SystemExit as stop:  # tyro has printed its help, or what is wrong with the arguments
        return int(stop.code or 0)
    return int(ExitCode.SUCCESS)


def parse_args(argv: Sequence[str]) -> tuple[TrackArgs, Config | None]:
    """Arguments, and the tracker's settings if any was given; the others then have the checkpoint's values.

    Raises:
        SystemExit: after help was printed (code 0), or what is wrong with the arguments (code 2).
        ModelError: settings were given, and the checkpoint cannot be read.
        UsageError: the settings do not fit together.
    """
    refuse_empty(argv)
    if {"-h", "--help"} & set(argv):
        tyro.cli(TrackArgs, prog=PROGRAM, description=DESCRIPTION, args=["--help"])
    args = tyro.cli(AllArgs, prog=PROGRAM, args=argv)
    if not args.settings and not any(text.startswith("--config.") for text in argv):
        return args, None
    default = AllArgs(config=read_config(args.checkpoint))
    args = tyro.cli(AllArgs, prog=PROGRAM, args=argv, default=default)
    if args.settings:
        tyro.cli(Settings, prog=PROGRAM, args=["--help"], default=Settings(args.config), registry=show_ranges())
    try:
        return args, args.config.check()
    except ValueError as error:
        raise UsageError(str(error)) from error


def run(args: TrackArgs, config: Config | None, make_trackers: MakeTrackers) -> None:
    """Track what the arguments say, write the results, and print what came out.

    Raises:
        TrackError: what went wrong; results up to there are on disk.
        KeyboardInterrupt: likewise.
    """
    with open_input(args) as source:
        check_output(args, source)
        boxes = first_boxes(args, source)
        make_folder(args.output)
        trackers = make_trackers(args.checkpoint, config, len(boxes))
        truth = source.groundtruth_xywh if len(boxes) == 1 else None
        fps = Fraction(args.fps).limit_denominator(1001) if args.fps else source.fps
        results = ResultWriter(
            args.output, targets=len(boxes), size_hw=source.size_hw, fps=fps, video=args.video, one_based=args.one_based
        )
        observed: list[list[Observation]] = []
        stop = StopRequest((signal.SIGINT,))
        try:
            with ExitStack() as interrupts, results, closing(watch(source)) as frames:
                true_boxes = chain(() if truth is None else truth, repeat(None))
                for (image, observations), true_box in zip(follow(frames, trackers, boxes), true_boxes):  # noqa: B905
                    if not observed:  # the first frame has compiled the programs; from here on there is work to lose
                        interrupts.enter_context(stop)
                    observed.append(observations)
                    results.write(image, observations, true_box)
                    if stop.requested or (args.show and not show(image, observations)):
                        break
        finally:
            report(observed, truth)
            if observed:
                print("results:", ", ".join(str(args.output / name) for name in results.files))
        if stop.requested:
            raise KeyboardInterrupt


def open_input(args: TrackArgs) -> FrameSource:
    """Frames that the arguments name.

    Raises:
        UsageError: none or too many are named.
        InputError: they cannot be read.
    """
    if args.demo and args.input:
        raise UsageError("--demo tracks its own clip: leave out either --demo or INPUT")
    if args.demo:
        frames, boxes = render_demo()
        return MemoryFrames("the demo clip", list(frames), FPS, boxes)
    if not args.input:
        raise UsageError("name a video, a folder of pictures or a camera, or use --demo; --help tells more")
    return open_source(args.input)


def check_output(args: TrackArgs, source: FrameSource) -> None:
    """Return if the output can be what the arguments say.

    Raises:
        UsageError: the frames per second are no rate, or the results would replace the input.
        DisplayError: --show was given and there is no display.
    """
    if args.fps is not None and not 0.01 <= args.fps <= 1000:
        raise UsageError(f"--fps must be between 0.01 and 1000, but is {args.fps:g}")
    for path in (Path(source.name), *args.boxes):
        if os.path.exists(path) and any(path.samefile(result) for result in find_results(args.output)):
            raise UsageError(f"the results would replace the input {path}: give another folder as --output")
    if args.show:
        require_display("show the frames (--show)")


def first_boxes(args: TrackArgs, source: FrameSource) -> list[Box]:
    """Boxes of the objects in the first frame: from the arguments, from beside the frames, or from the mouse.

    Raises:
        UsageError: a box cannot be read, or no tracker can start from it.
        DisplayError: there is no box and no display.
        InputError: the first frame cannot be read.
    """
    if args.box and args.boxes:
        raise UsageError("give either --box or --boxes")
    if args.box:
        boxes = [parse_box(text, one_based=args.one_based) for text in args.box]
    elif args.boxes:
        try:
            boxes = [box for path in args.boxes for box in read_boxes(path, one_based=args.one_based)]
        except InputError as error:
            raise UsageError(str(error)) from error
    elif source.groundtruth_xywh is not None:
        boxes = [source.groundtruth_xywh[0]]
    else:
        boxes = [select_box(next(iter(source)))]
    return [check_box(box, source.size_hw) for box in boxes]


def make_online_trackers(checkpoint: str, config: Config | None, count: int) -> Sequence[SingleTracker]:
    """One online tracker for each object.

    Raises:
        ModelError: the checkpoint is missing or damaged, or does not fit the settings.
    """
    from roam_jax.checkpoints import CheckpointError
    from roam_jax.tracking.tracker import Tracker

    try:
        return [Tracker(checkpoint, config) for _ in range(count)]
    except (CheckpointError, ValueError, OSError) as error:
        raise ModelError(str(error)) from error


def read_config(checkpoint: str) -> Config:
    """Settings that a checkpoint was trained with.

    Raises:
        ModelError: the checkpoint is missing or damaged.
    """
    from roam_jax.checkpoints import CheckpointError, load_config

    try:
        return load_config(checkpoint)
    except (CheckpointError, ValueError, OSError) as error:
        raise ModelError(str(error)) from error


def follow(
    frames: Iterable[Image], trackers: Sequence[SingleTracker], boxes: Sequence[Box]
) -> Iterator[tuple[Image, list[Observation]]]:
    """Every frame with what each tracker says about it; in the first frame they are told their boxes."""
    for index, image in enumerate(frames):
        observations = []
        for target, (tracker, box) in enumerate(zip(trackers, boxes, strict=True)):
            start = time.perf_counter()
            if index == 0:
                tracker.init(image, box)
                score, lost = 1.0, False
            else:
                box = np.asarray(tracker.update(image), np.float32)
                score, lost = float(tracker.score), bool(tracker.lost)
            observations.append(Observation(index, target, box, score, lost, time.perf_counter() - start))
        yield image, observations


def watch(source: FrameSource) -> Generator[Image, None, None]:
    """Frames with a progress bar; files are decoded in the background while the tracker works."""
    frames = iter(source) if source.live else prefetch(source)
    with closing(frames), logging_redirect_tqdm([logging.getLogger()]):
        yield from tqdm(frames, desc="tracking", total=source.n_frames, unit="frame", mininterval=0.5)


def show(image: Image, observations: Sequence[Observation]) -> bool:
    """Show a frame with its boxes; False if the user wants no more."""
    return show_frame(draw_observations(image, observations))


def report(observed: Sequence[Sequence[Observation]], truth: Boxes | None) -> None:
    """Print how many frames were tracked and how fast, and how well where the truth is known."""
    if not observed:
        print("no frame was tracked")
        return
    seconds = [sum(observation.seconds for observation in frame) for frame in observed]
    lost = sum(any(observation.lost for observation in frame) for frame in observed)
    print(f"{len(observed)} frames tracked, lost in {lost}; first frame {seconds[0]:.1f} s", end="")
    median = float(np.median(seconds[1:])) if len(seconds) > 1 else 0.0
    print(f", then {1 / median:.1f} frames/s (median {1e3 * median:.1f} ms a frame)" if median > 0 else "")
    pairs = [(frame[0].box_xywh, box) for frame, box in zip(observed, () if truth is None else truth, strict=False)]
    pairs = [(box, true) for box, true in pairs if np.isfinite(true).all() and min(true[2:]) > 0]
    if pairs:
        boxes, known = (np.stack(column) for column in zip(*pairs, strict=True))
        overlap, auc = float(np.mean(overlap_xywh(boxes, known))), float(success_auc(boxes, known))
        print(f"success AUC {auc:.3f}, mean overlap {overlap:.3f} over {len(pairs)} frames with a known box")


if __name__ == "__main__":
    logging.basicConfig(format="%(levelname)s: %(message)s")
    sys.exit(main())
