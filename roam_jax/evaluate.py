"""Scores of a tracker on sequences with known boxes: `python -m roam_jax.evaluate --root DIR`."""

from __future__ import annotations

if __name__ == "__main__":  # before the imports that take a second
    from roam_jax.interrupts import leave_at_once

    leave_at_once()

import signal
import sys
from collections.abc import Mapping
from collections.abc import Sequence as ListOf
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from roam_jax.called import call_as
from roam_jax.cli import ExitCode, parse, run_command
from roam_jax.data.layouts import choose_sequences, read_layout, read_readable
from roam_jax.data.sequences import Sequence, without_stills
from roam_jax.errors import usage_errors
from roam_jax.evaluation.compare import Results, compare
from roam_jax.evaluation.formats import claim_folder, write_submission
from roam_jax.evaluation.outputs import write_comparison, write_report
from roam_jax.evaluation.parallel import choose_track
from roam_jax.evaluation.plots import can_plot
from roam_jax.evaluation.protocols import protocol_of
from roam_jax.evaluation.report import format_ranking, format_report, rank
from roam_jax.evaluation.robust import format_differences, format_spread
from roam_jax.evaluation.runner import Row, evaluate, track_sequence
from roam_jax.evaluation.starts import Experiment, starts_of, track_by_sequence, track_starts
from roam_jax.evaluation.trackers import TrackerChoice

NO_PLOTS = 'no plots: they need matplotlib, pip install "roam-jax[plots]"'


@dataclass(frozen=True)
class Arguments:
    """Track sequences from their first true box, or from several boxes each, and print a table of the usual scores.

    Columns: AUC of the success plot, precision at 20 px (OTB), AUC of the normalised precision (TrackingNet), average
    overlap and success rates at 0.5 and 0.75 (GOT-10k), frames per second in the tracker alone. VOT's data sets are
    run with its supervised experiment instead: accuracy, robustness and EAO. With several starts (--protocol), also the
    mean, standard deviation and worst AUC of each sequence's starts, the share of them below 0.3, and the interval of
    the mean that a bootstrap over sequences and starts gives.

    OUTPUT/DATASET/TRACKER gets the boxes and times in the benchmark's format, report.json, report.md, plots, and
    submission.zip where a server wants one. Sequences whose files are complete are not tracked again.

    Exit codes: 0 done; 2 wrong arguments, or an extra that is not installed; 3 data that cannot be read or are all
    still pictures, or sequences that broke, which are named while the others are done; 5 no usable checkpoint; 6
    results that cannot be written; 130 stopped by Ctrl-C or SIGTERM. Sequences that were finished by then are kept, and
    the same command goes on with the others.
    """

    root: Path | None = None
    """the data: one sequence, or the folder of all of them"""
    dataset: str = "otb"
    """name of the data set, or of the layout of own data: see `python -m roam_jax.data.check --help`; VOT's with
    their year, vot2016 for instance. There is nothing to track in still pictures, as of COCO and ImageNet DET"""
    protocol: Experiment = "ope"
    """starts of each sequence: the first true box (ope), 12 shifted and scaled ones (sre), the true box of 20 frames
    (tre), as OTB defines them; or nine of these kinds (robust)"""
    max_frames: int = 0
    """frames that are tracked from each start; 0: to the end of the sequence"""
    tracker: Annotated[str, tyro.conf.arg(metavar="roam|cv2:csrt|cv2:kcf|cv2:mil|cv2:nano|FILE.py:NAME")] = "roam"
    """this package's, or one of those that the installed OpenCV has: mil and nano come with opencv-python, csrt and
    kcf only with opencv-contrib-python, which must be installed in place of opencv-python; or your own: NAME of FILE.py
    is called without arguments, and gives an object with init(image, box) and update(image) that returns the box, for
    RGB images and boxes x, y, w, h"""
    checkpoint: str = "lite"
    """of the tracker `roam`: a name or a directory"""
    nano_dir: Path | None = None
    """of the tracker `cv2:nano`: the folder with nanotrack_v2_backbone.onnx and nanotrack_v2_head.onnx"""
    sequences: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="A,B,...")] = ()
    """names of the sequences to run, repeatable; all by default"""
    output: Path = Path("runs/evaluate")
    """folder for the results"""
    workers: int = 0
    """processes that share the sequences and the cores; 0: as many as are best on this machine. They slow each other
    down: only one gives a true speed"""
    batch: int = 0
    """sequences that are tracked in lockstep in one program; 0: 16 on an accelerator, none on a CPU"""
    compare: Annotated[
        tuple[tuple[str, ...], ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="DIR[@0|@1] ...")
    ] = ()
    """track nothing: rank the results in these folders (NAME.txt, between commas, tabs or spaces). Boxes count from 0
    or 1 as their first one shows, or as @0 or @1 behind the folder says. With --protocol, also the paired differences
    from the best, and whether they are more than chance"""
    vot_init: Path | None = None
    """track nothing: make this folder a workspace of the VOT toolkit with this tracker in it"""

    @property
    def choice(self) -> TrackerChoice:
        """The tracker."""
        return TrackerChoice(self.tracker, self.checkpoint, self.nano_dir)

    @property
    def experiment(self) -> dict[str, str]:
        """What results depend on besides tracker and data, as far as it is not as usual."""
        changed = {"protocol": self.protocol} if self.protocol != "ope" else {}
        return changed | ({"max_frames": str(self.max_frames)} if self.max_frames else {})

    @property
    def suffix(self) -> str:
        """Of the folders of such results."""
        return "".join(f"-{value}" for value in self.experiment.values())


def main(args: list[str] | None = None) -> int:
    """The command line; returns its exit code."""

    def command() -> ExitCode:
        arguments = parse(Arguments, "python -m roam_jax.evaluate", args)
        try:
            with usage_errors(ValueError):
                return run(arguments)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"stopped; the sequences that were finished are in {arguments.output}") from None

    return run_command(command)


def run(arguments: Arguments) -> ExitCode:
    """Do what the command line asks for.

    Returns:
        The exit code: `INPUT` if a sequence could not be evaluated.

    Raises:
        ValueError: wrong arguments.
        DataError: data that cannot be read, or hold nothing but still pictures.
        CheckpointError, WeightsError: no usable checkpoint, or one whose trunk is not found.
        OSError: the results cannot be written.
    """
    if min(arguments.workers, arguments.batch) < 0:
        raise ValueError("--workers and --batch should be 1 or more, or 0 to choose")
    if arguments.max_frames < 0 or arguments.max_frames == 1:
        raise ValueError("--max-frames should be 2 or more, or 0 for all")
    if arguments.vot_init:
        return init_vot(arguments, arguments.vot_init)
    if not arguments.root:
        raise ValueError("--root should name the folder of the data")
    # all years of VOT have one layout, but each its own interval of the EAO
    supervised = arguments.dataset.startswith("vot")
    layout = "vot" if supervised else arguments.dataset
    readable, unreadable = read_readable(layout, arguments.root)
    moving = without_stills(readable)
    if stills := len(readable) - len(moving):
        print(f"still pictures, in which there is nothing to track: {stills} left out", file=sys.stderr)
    sequences = choose_sequences(moving, ",".join(arguments.sequences))
    if supervised and not arguments.compare and (arguments.protocol != "ope" or arguments.max_frames):
        raise ValueError("VOT's supervised experiment has starts of its own: leave out --protocol and --max-frames")
    if arguments.compare:
        return run_comparison(arguments, sequences, unreadable)
    if supervised:
        return run_supervised(arguments, sequences, unreadable)
    return run_tracker(arguments, sequences, unreadable)


def run_tracker(arguments: Arguments, sequences: ListOf[Sequence], unreadable: Mapping[str, str]) -> ExitCode:
    """Track, score, and write everything."""
    protocol, folder = protocol_of(arguments.dataset), results_folder(arguments)
    description = {"dataset": arguments.dataset, **arguments.choice.describe(), **arguments.experiment}
    started = start_all(arguments, sequences)
    claim_folder(folder, description)
    several = arguments.protocol != "ope"
    workers, batch = arguments.workers, arguments.batch
    if several and batch < 2:
        together = choose_track(arguments.choice, track_starts, workers=workers, lockstep=False)
        track = track_by_sequence(sequences, arguments.protocol, arguments.max_frames, together)
    else:
        track = choose_track(arguments.choice, track_sequence, workers=workers, batch=batch)
    rows, broken = evaluate(started, track, folder, protocol, report=_print_row)
    broken = {**unreadable, **broken}
    title = f"{arguments.tracker} on {arguments.dataset}{f', {arguments.protocol}' if several else ''}"
    write_report(folder, title, description, rows, broken, protocol, several_starts=several)
    if any(row.scores for row in rows):
        _tell_of_plots()
    if protocol.submission and not broken:
        print(f"for the server: {write_submission(folder, [row.name for row in rows], protocol)}")
    table = f"# {title}\n\n{format_spread(rows)}\n" if several else format_report(title, rows, {}, protocol)
    print(f"\n{table}\nboxes, times and reports: {folder}")
    return finish(broken)


def start_all(arguments: Arguments, sequences: ListOf[Sequence]) -> list[Sequence]:
    """All starts of all sequences.

    Raises:
        DataError: as `starts_of`.
    """
    return [start for each in sequences for start in starts_of(each, arguments.protocol, arguments.max_frames)]


def run_supervised(arguments: Arguments, sequences: ListOf[Sequence], unreadable: Mapping[str, str]) -> ExitCode:
    """VOT's supervised experiment."""
    from roam_jax.evaluation.vot import protocol, supervised
    from roam_jax.evaluation.vot.metrics import format_vot_table

    folder = results_folder(arguments)
    claim_folder(folder, {"dataset": arguments.dataset, **arguments.choice.describe()})
    scores, broken = supervised.evaluate_supervised(
        sequences,
        choose_track(
            arguments.choice,
            protocol.run_supervised,
            workers=arguments.workers,
            batch=arguments.batch,
            lockstep=False,
        ),
        folder / "results",
        dataset=arguments.dataset,
        tracker=folder.name,
        report=lambda name, run: print(
            f"{name}: {len(run)} frames, {len(run.frames_of(protocol.Code.FAILURE))} failures", flush=True
        ),
    )
    broken = {**unreadable, **broken}
    if scores:
        supervised.write_report(folder, f"{arguments.tracker} on {arguments.dataset}", scores, broken)
        print(f"\n{format_vot_table(scores)}\n\nregions, times and reports: {folder}")
    return finish(broken)


def run_comparison(arguments: Arguments, sequences: ListOf[Sequence], unreadable: Mapping[str, str]) -> ExitCode:
    """Rank the folders of results."""
    protocol = protocol_of(arguments.dataset)
    results = [Results.parse(text) for texts in arguments.compare for text in texts]
    trackers, left_out = compare(start_all(arguments, sequences), results, protocol)
    trackers, left_out = rank(trackers, protocol), {**unreadable, **left_out}
    several = arguments.protocol != "ope"
    folder = arguments.output / arguments.dataset / f"compare{arguments.suffix}"
    count = len(next(iter(trackers.values())))
    title = f"{len(trackers)} trackers on {count} {'starts in ' * several}sequences of {arguments.dataset}"
    write_comparison(folder, title, trackers, left_out, protocol, several_starts=several)
    _tell_of_plots()
    differences = f"\n\n{format_differences(trackers)}" if several else ""
    print(f"{title}\n\n{format_ranking(trackers, protocol)}{differences}\n\nreport and plots: {folder}")
    for name, reason in left_out.items():
        print(f"left out: {name}: {reason}", file=sys.stderr)
    return ExitCode.SUCCESS


def init_vot(arguments: Arguments, folder: Path) -> ExitCode:
    """A workspace for the VOT toolkit."""
    from roam_jax.evaluation.vot.workspace import write_vot_workspace

    dataset = arguments.dataset if arguments.dataset.startswith("vot") else ""
    sequences = read_layout("vot", arguments.root) if arguments.root else []
    written = write_vot_workspace(
        folder,
        dataset=dataset,
        root=arguments.root,
        lengths=[len(sequence) for sequence in sequences],
        tracker=arguments.tracker,
        checkpoint=arguments.checkpoint,
        nano_dir=arguments.nano_dir,
    )
    print("\n".join(f"wrote {path}" for path in written) or f"{folder} is a workspace already")
    return ExitCode.SUCCESS


def results_folder(arguments: Arguments) -> Path:
    """Where this tracker's results on this data set go."""
    tracker = Path(arguments.tracker).name.replace(":", "-")
    return arguments.output / arguments.dataset / f"{tracker}{arguments.suffix}"


def finish(broken: Mapping[str, str]) -> ExitCode:
    """Name the sequences that broke."""
    for name, reason in broken.items():
        print(f"not evaluated: {name}: {reason}", file=sys.stderr)
    return ExitCode.INPUT if broken else ExitCode.SUCCESS


def _print_row(row: Row) -> None:
    score = f"AUC {row.scores.auc:.3f}, " if row.scores else ""
    print(f"{row.name}: {score}{row.frames} frames, {row.fps:.1f} frames/s", flush=True)


def _tell_of_plots() -> None:
    if not can_plot():
        print(NO_PLOTS, file=sys.stderr)


if __name__ != "__main__":
    call_as(__name__, "roam_jax.research")

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # it ends like Ctrl-C
    sys.exit(main())
