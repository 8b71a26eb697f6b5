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
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import tyro

from roam_jax.called import call_as
from roam_jax.cli import ExitCode, Flag, list_codes, list_settings, option, parse, run_command
from roam_jax.config import Config
from roam_jax.data.demo_clip import FPS, render_demo
from roam_jax.errors import InputError, ModelError, UsageError, usage_errors
from roam_jax.evaluation.trackers import TrackerLike
from roam_jax.presets import lite
from roam_jax.video.backwards import Backwards
from roam_jax.video.choice import Chosen, Moment, choose_frames, parse_moment
from roam_jax.video.formats import Given, check_box, read_corrections
from roam_jax.video.inputs import open_source
from roam_jax.video.live import Camera, Newest, Stream
from roam_jax.video.resume import Keeper, Resumed, Savable, asked_for, forget, read_resumed
from roam_jax.video.select import first_boxes, require_display
from roam_jax.video.session import Session
from roam_jax.video.sink import ResultWriter, find_results, make_folder
from roam_jax.video.source import FrameSource, MemoryFrames

MakeTrackers = Callable[[str, Config | None, int], Sequence[TrackerLike]]

Format = Literal["csv", "mot", "coco", "yolo", "cvat", "labelstudio"]
"""names of `exports.FORMATS`"""

PROGRAM = "python -m roam_jax.track"
MEANINGS = {
    ExitCode.SUCCESS: "everything was tracked",
    ExitCode.FAILURE: "a fault of the program itself; a traceback follows",
    ExitCode.USAGE: "wrong arguments or settings; a box that is malformed, empty or outside the image",
    ExitCode.INPUT: "the input is missing, empty, unreadable or truncated, or changes its size on the way",
    ExitCode.DISPLAY: "a window is needed to draw the box, or for --show, and none can be opened",
    ExitCode.CHECKPOINT: "the checkpoint is missing or damaged, or does not fit the settings",
    ExitCode.OUTPUT: "the results cannot be written",
    ExitCode.INTERRUPTED: "stopped by Ctrl-C",
}
"""of the exit codes; what was tracked before an error is on disk whatever the code is"""
FIRST = "the input, such as a video or a folder of pictures"
INPUT_HELP = (
    "video file; folder of pictures, or a pattern ('frames/*.png'); index of a camera (0); address of a stream "
    "(rtsp://..., http://...), named pipe, or - for the standard input; or sequence folder as in "
    "OTB: img/ and groundtruth_rect.txt, whose first line is the box if none is given; the success AUC is printed"
)


@dataclass(frozen=True)
class TrackArgs:
    """Arguments of the command line."""

    input: Annotated[tuple[str, ...], tyro.conf.Positional, option("INPUT", INPUT_HELP)] = ()
    demo: Flag = False
    """track a clip that the package renders, and print how well; needs no INPUT"""
    box: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, option("X,Y,W,H")] = ()
    """the object in the first frame: left, top, width and height in pixels, counted from 0; repeatable, for several
    objects (without a box, it is drawn with the mouse)"""
    boxes: Annotated[tuple[Path, ...], tyro.conf.UseAppendAction, option("FILE")] = ()
    """several objects: text file with one x,y,w,h per line, or frame,x,y,w,h of an object that appears later;
    repeatable"""
    correct: Annotated[tuple[Path, ...], tyro.conf.UseAppendAction, option("FILE")] = ()
    """boxes of later frames, from which the tracker learns: text file with one frame,x,y,w,h per line, or
    frame,object,x,y,w,h with the object's number from 1; repeatable"""
    one_based: Flag = False
    """count pixels from 1, as OTB does, in --box, --boxes and boxes.txt"""
    checkpoint: Annotated[str, tyro.conf.arg(metavar="NAME|DIR")] = "lite"
    """name of a checkpoint that ships with the package, or a folder"""
    resume: Annotated[Path | None, option("OUTPUT")] = None
    """go on with the run that was to write this folder, after a crash or Ctrl-C; takes no other argument"""
    output: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("roam_output")
    """folder for the results; files of their names are replaced, and what else an earlier run left is removed"""
    video: Flag = True
    """write no video.mp4"""
    audio: Flag = True
    """leave the input's sound out of video.mp4 (it is, too, with --fps)"""
    format: Annotated[tuple[Format, ...], tyro.conf.UseAppendAction] = ()
    """write the results in this format of other tools too; repeatable"""
    show: Flag = False
    """show the frames in a window while tracking; r draws the boxes again, q, Esc or closing it ends"""
    live: Flag = False
    """track the newest frame that there is, and drop those that there is no time for (cameras and streams)"""
    fps: Annotated[float | None, option("FPS")] = None
    """frames per second of video.mp4 (default: each frame is shown when it is in the input; 30 for pictures)"""
    start: Annotated[str, option("N|TIME")] = ""
    """first frame: its number, from 0, or its time, as 12.5s (default: the first one; in a sequence folder, the first
    with a box); --box is meant for it"""
    stop: Annotated[str, option("N|TIME")] = ""
    """frame to stop before, in the same way"""
    step: Annotated[int, option("N")] = 1
    """track every N-th frame only"""
    backwards: Flag = False
    """track from --start (default: the last frame) to the first one; the box is meant for --start"""
    both: Flag = False
    """track from --start to both ends"""
    settings: Flag = False
    """list the settings of the tracker with the checkpoint's values, and exit"""


@dataclass(frozen=True)
class AllArgs(TrackArgs):
    """The arguments with the settings of the tracker, which are too many for one help text."""

    config: Config = field(default_factory=lite)
    """settings of the tracker"""


SETTINGS = f"""Settings of the tracker, each an option of `{PROGRAM}`; the defaults are the checkpoint's.

Those of `config.online` can be changed freely. Those of `config.model` and `config.backbone` must fit the checkpoint's
arrays."""
SECTIONS = ("backbone", "model", "loss", "optimizer", "implicit", "online")
"""of the configuration, which the tracker reads; the others are training's"""
DESCRIPTION = f"""Track an object through a video: give the box around it in the first frame.

  {PROGRAM} video.mp4 --box 120,80,60,40
  {PROGRAM} --demo

Written to the output folder, line by line while tracking:
  boxes.txt    x,y,w,h for each frame, 0-based (boxes_1.txt, boxes_2.txt, ... for several objects)
  track.jsonl  JSON for each frame and object: frame (from 0), time (seconds after the first frame of the input),
               target (the object's number, from 1 as in boxes_1.txt), box (0-based), score, lost, compute_seconds
               (time that the tracker took)
  track.csv, mot.txt, coco.json, yolo.zip, cvat.xml, labelstudio.json   at the end, as --format says
  video.mp4    the frames with boxes drawn; red and dashed: lost; several objects are numbered from 1

Every setting of the tracker is an option too, for example --config.online.tau 10; --settings lists them.

Exit codes (what was tracked is kept):
{list_codes(MEANINGS)}"""


def main(argv: Sequence[str] | None = None, make_trackers: MakeTrackers | None = None) -> int:
    """Run the command line.

    Args:
        argv: arguments after the program's name; those of the process by default.
        make_trackers: makes one tracker for each object from a checkpoint, a config (None: the checkpoint's own) and
            the number of objects; `make_online_trackers` by default.

    Returns:
        The exit code, see `MEANINGS`.
    """
    argv = sys.argv[1:] if argv is None else list(argv)

    def command() -> None:
        args, config = parse_args(argv)
        if args.resume is None:
            run(args, config, make_trackers or make_online_trackers, argv)
            return
        if args != AllArgs(resume=args.resume):
            raise UsageError("--resume keeps the arguments of the run: leave out all others")
        resumed = read_resumed(args.resume)
        kept, config = parse_args(resumed.asked.arguments)
        run(replace(kept, output=args.resume), config, make_trackers or make_online_trackers, (), resumed)

    return run_command(command)


def parse_args(argv: Sequence[str]) -> tuple[TrackArgs, Config | None]:
    """Arguments, and the tracker's settings if any was given; the others then have the checkpoint's values.

    Raises:
        SystemExit: after help was printed (code 0), or what is wrong with the arguments (code 2).
        ModelError: settings were given, and the checkpoint cannot be read.
        UsageError: the settings do not fit together.
    """
    if {"-h", "--help"} & set(argv):
        parse(TrackArgs, PROGRAM, ["--help"], description=DESCRIPTION)
    args = parse(AllArgs, PROGRAM, argv, first=FIRST)
    if not args.settings and not any(text.startswith("--config.") for text in argv):
        return args, None
    default = AllArgs(config=read_config(args.checkpoint))
    args = parse(AllArgs, PROGRAM, argv, first=FIRST, default=default)
    if args.settings:
        list_settings(args.config, PROGRAM, SETTINGS, SECTIONS)
    with usage_errors(ValueError):
        return args, args.config.check()


def run(
    args: TrackArgs,
    config: Config | None,
    make_trackers: MakeTrackers,
    arguments: Sequence[str],
    resumed: Resumed | None = None,
) -> None:
    """Track what the arguments say, write the results, and print what came out.

    Args:
        args: of the command line.
        config: settings of the tracker; None: the checkpoint's.
        make_trackers: as of `main`.
        arguments: as they were given, for `--resume`.
        resumed: the run to go on with.

    Raises:
        ExplainedError: what went wrong; results up to there are on disk.
        KeyboardInterrupt: likewise.
    """
    with open_input(args) as whole:
        check_output(args, whole)
        if args.backwards or args.both:
            earlier, source = choose_backwards(args, whole)
        else:
            earlier, source = None, choose_frames(whole, args.start, args.stop, args.step)
        if resumed:
            resumed.check(whole)
            given, count = resumed.asked.given, resumed.asked.objects
        else:
            starts = first_boxes(earlier or source, args.box, args.boxes, one_based=args.one_based)
            if earlier is not None:
                starts = [each if each.frame is not None else replace(each, frame=earlier.first) for each in starts]
            given, count = [*starts, *read_corrected(args, len(starts), whole.size_hw)], len(starts)
        make_folder(args.output)
        trackers = make_trackers(args.checkpoint, config, count)
        trackers = resumed.restore(trackers) if resumed else trackers
        keeper = None
        if earlier is None and whole.again and all(isinstance(tracker, Savable) for tracker in trackers):
            keeper = Keeper(args.output, asked_for(arguments, whole, given), resumed)
        else:
            forget(args.output)
        kept = (resumed.progress.frames, resumed.progress.lines) if resumed else (0, 0)
        make_files = partial(make_writer, args, targets=count, kept=kept)
        session = Session(trackers, given, make_files, show=args.show, keeper=keeper, resumed=resumed)
        if earlier is not None:
            session.look_back(earlier)
        if earlier is not None and (args.backwards or session.ended):
            lowest = min((number for number, _ in session.known), default=earlier.first)
            session.run(Chosen(whole, Moment(lowest), Moment(earlier.first + 1), args.step), only_known=True)
        else:
            session.run(source)


def choose_backwards(args: TrackArgs, whole: FrameSource) -> tuple[Backwards, FrameSource]:
    """Frames for the way back, and all of them forwards.

    Raises:
        UsageError: the arguments do not fit together, or the input can be read once only.
        InputError: there is no frame.
    """
    if args.backwards and args.both:
        raise UsageError("give either --backwards or --both")
    if args.both and not args.start:
        raise UsageError("--both needs the frame of the box: --start N")
    start = parse_moment(args.start, "--start") if args.start else None
    stop = parse_moment(args.stop, "--stop") if args.stop else None
    if args.step < 1:
        raise UsageError(f"--step must be at least 1, but is {args.step}")
    earlier = Backwards(whole, start, None if args.both else stop, args.step)
    return earlier, Chosen(whole, Moment(earlier.first % args.step), stop, args.step)


def read_corrected(args: TrackArgs, count: int, size_hw: tuple[int, int]) -> list[Given]:
    """Boxes of later frames.

    Raises:
        UsageError: they cannot be read, or no tracker can take one.
    """
    try:
        given = [each for path in args.correct for each in read_corrections(path, one_based=args.one_based)]
    except InputError as error:
        raise UsageError(str(error)) from error
    for each in given:
        if not 0 <= each.target < count:
            raise UsageError(f"--correct names object {each.target + 1}, but there are {count}")
        check_box(each.box_xywh, size_hw)
    return given


def open_input(args: TrackArgs) -> FrameSource:
    """Frames that the arguments name.

    Raises:
        UsageError: none or too many are named, or --live does not fit them.
        InputError: they cannot be read.
    """
    if args.demo and args.input:
        raise UsageError("--demo tracks its own clip: leave out either --demo or INPUT")
    if args.demo:
        frames, boxes = render_demo()
        return MemoryFrames("the demo clip", list(frames), FPS, boxes)
    if not args.input:
        raise UsageError("name a video, a folder of pictures or a camera, or use --demo; --help tells more")
    source = open_source(args.input)
    if args.live and not isinstance(source, Camera | Stream):
        raise UsageError("--live is for cameras and streams: what is in a file does not run away")
    return Newest(source) if args.live else source


def check_output(args: TrackArgs, source: FrameSource) -> None:
    """Return if the output can be what the arguments say.

    Raises:
        UsageError: the frames per second are no rate, or the results would replace the input.
        DisplayError: --show was given and there is no display.
    """
    if args.fps is not None and not 0.01 <= args.fps <= 1000:
        raise UsageError(f"--fps must be between 0.01 and 1000, but is {args.fps:g}")
    for path in (Path(source.name), *args.boxes, *args.correct):
        if os.path.exists(path) and any(path.samefile(result) for result in find_results(args.output)):
            raise UsageError(f"the results would replace the input {path}: give another folder as --output")
    if args.show:
        require_display("show the frames (--show)")


def make_writer(args: TrackArgs, source: FrameSource, *, targets: int, kept: tuple[int, int] = (0, 0)) -> ResultWriter:
    """Files for the results, in place of those of an earlier run; raises an `OutputError` if they cannot be made."""
    fps = Fraction(args.fps).limit_denominator(1001) if args.fps else source.fps
    return ResultWriter(
        args.output, targets=targets, size_hw=source.size_hw, fps=fps, constant=args.fps is not None,
        video=args.video, one_based=args.one_based, formats=args.format, name=source.name,
        sound=source.sound if args.audio else None, kept=kept,
    )  # fmt: skip


def make_online_trackers(checkpoint: str, config: Config | None, count: int) -> Sequence[TrackerLike]:
    """One online tracker for each object.

    Raises:
        UsageError: JAX has no device of the kind that it is told to use.
        ModelError: the checkpoint is missing or damaged, or does not fit the settings.
    """
    from roam_jax.tracking.tracker import Tracker

    try:
        return [Tracker(checkpoint, config) for _ in range(count)]
    except (ValueError, OSError) as error:
        raise ModelError(str(error)) from error


def read_config(checkpoint: str) -> Config:
    """Settings that a checkpoint was trained with; raises a `ModelError` where it is missing or damaged."""
    from roam_jax.checkpoints import load_config

    return load_config(checkpoint)


if __name__ != "__main__":
    call_as(__name__, "roam_jax.api")

if __name__ == "__main__":
    logging.basicConfig(format="%(levelname)s: %(message)s")
    sys.exit(main())
