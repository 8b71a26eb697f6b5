"""Scores of a tracker on sequences with known boxes: `python -m roam_jax.evaluate --root DIR`."""

from __future__ import annotations

if __name__ == "__main__":  # before the imports that take a second
    from roam_jax.interrupts import leave_at_once

    leave_at_once()

import math
import signal
import sys
from collections.abc import Callable, Mapping
from collections.abc import Sequence as ListOf
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import tyro

from roam_jax.backbones.weights import WeightsError
from roam_jax.checkpoints import CheckpointError
from roam_jax.data.layouts import read_layout
from roam_jax.data.sequences import DataError, Sequence, without_stills
from roam_jax.evaluation import runner
from roam_jax.evaluation.compare import Results, compare
from roam_jax.evaluation.formats import claim_folder, write_submission, write_whole
from roam_jax.evaluation.metrics import Scores
from roam_jax.evaluation.plots import can_plot, draw_curves
from roam_jax.evaluation.protocols import protocol_of
from roam_jax.evaluation.report import (
    describe_rows,
    format_ranking,
    format_report,
    mean_of_rows,
    rank,
    write_json,
)
from roam_jax.evaluation.trackers import TrackerChoice, TrackerLike, TrackerName
from roam_jax.extras import MissingExtra
from roam_jax.video.errors import ExitCode, refuse_empty

EXIT_CODES = {
    CheckpointError: ExitCode.CHECKPOINT,
    WeightsError: ExitCode.CHECKPOINT,
    DataError: ExitCode.INPUT,
    MissingExtra: ExitCode.USAGE,
    OSError: ExitCode.OUTPUT,
    ValueError: ExitCode.USAGE,
}
NO_PLOTS = 'no plots: they need matplotlib, pip install "roam-jax[plots]"'


@dataclass(frozen=True)
class Arguments:
    """Track sequences from their first true box, and print a table of the usual scores.

    Columns: AUC of the success plot, precision at 20 px (OTB), AUC of the normalised precision (TrackingNet), average
    overlap and success rates at 0.5 and 0.75 (GOT-10k), frames per second in the tracker alone. VOT's data sets are
    run with its supervised experiment instead: accuracy, robustness and EAO.

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
    tracker: TrackerName = "roam"
    """this package's, or one of those that the installed OpenCV has: mil and nano come with opencv-python, csrt and
    kcf only with opencv-contrib-python, which must be installed in place of opencv-python"""
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
    or 1 as their first one shows, or as @0 or @1 behind the folder says"""
    vot_init: Path | None = None
    """track nothing: make this folder a workspace of the VOT toolkit with this tracker in it"""

    @property
    def choice(self) -> TrackerChoice:
        """The tracker."""
        return TrackerChoice(self.tracker, self.checkpoint, self.nano_dir)


def run(arguments: Arguments) -> ExitCode:
    """Do what the command line asks for.

    Returns:
        Whether all sequences were evaluated.

    Raises:
        ValueError: wrong arguments.
        DataError: data that cannot be read, or hold nothing but still pictures.
        CheckpointError, WeightsError: no usable checkpoint, or one whose trunk is not found.
        OSError: the results cannot be written.
    """
    if min(arguments.workers, arguments.batch) < 0:
        raise ValueError("--workers and --batch should be 1 or more, or 0 to choose")
    if arguments.vot_init:
        return init_vot(arguments, arguments.vot_init)
    if not arguments.root:
        raise ValueError("--root should name the folder of the data")
    # all years of VOT have one layout, but each its own interval of the EAO
    supervised = arguments.dataset.startswith("vot")
    layout = "vot" if supervised else arguments.dataset
    found, unreadable = read_sequences(layout, arguments.root)
    moving = without_stills(found)
    if stills := len(found) - len(moving):
        print(f"still pictures, in which there is nothing to track: {stills} left out", file=sys.stderr)
    sequences = choose_sequences(moving, ",".join(arguments.sequences))
    if arguments.compare:
        return run_comparison(arguments, sequences, unreadable)
    if supervised:
        return run_supervised(arguments, sequences, unreadable)
    return run_tracker(arguments, sequences, unreadable)


def read_sequences(layout: str, root: Path) -> tuple[list[Sequence], dict[str, str]]:
    """Sequences that can be read, and what is wrong with the others.

    Raises:
        DataError: there is no such layout, or nothing in it can be read.
    """
    try:
        return read_layout(layout, root), {}
    except DataError:
        problems: list[str] = []
        sequences = read_layout(layout, root, problems=problems)
        if not sequences or not problems:
            raise
        return sequences, {f"unreadable {number}": problem for number, problem in enumerate(problems, 1)}


def choose_sequences(sequences: ListOf[Sequence], names: str) -> list[Sequence]:
    """Those that are named between commas, or all.

    Raises:
        ValueError: a name that there is not.
    """
    by_name = {sequence.name: sequence for sequence in sequences}
    wanted = [name for name in names.split(",") if name] or list(by_name)
    if unknown := [name for name in wanted if name not in by_name]:
        raise ValueError(f"no sequence is called {unknown[0]!r}; there are {', '.join(by_name)}")
    return [by_name[name] for name in wanted]


def run_tracker(arguments: Arguments, sequences: ListOf[Sequence], unreadable: Mapping[str, str]) -> ExitCode:
    """Track, score, and write everything."""
    protocol, folder = protocol_of(arguments.dataset), results_folder(arguments)
    description = {"dataset": arguments.dataset, **arguments.choice.describe()}
    claim_folder(folder, description)
    rows, broken = runner.evaluate(
        sequences, choose_track(arguments, runner.track_sequence), folder, protocol, report=_print_row
    )
    broken = {**unreadable, **broken}
    title = f"{arguments.tracker} on {arguments.dataset}"
    mean = mean_of_rows(rows, protocol)
    plots = draw({arguments.tracker: mean}, folder, title) if mean else []
    content = {**description, **describe_rows(rows, broken, protocol), "paper": protocol.paper}
    write_json(folder / "report.json", content)
    write_whole(folder / "report.md", format_report(title, rows, broken, protocol, plots))
    if protocol.submission and not broken:
        print(f"for the server: {write_submission(folder, [row.name for row in rows], protocol)}")
    print(f"\n{format_report(title, rows, {}, protocol)}\nboxes, times and reports: {folder}")
    return finish(broken)


def run_supervised(arguments: Arguments, sequences: ListOf[Sequence], unreadable: Mapping[str, str]) -> ExitCode:
    """VOT's supervised experiment."""
    from roam_jax.evaluation import supervised, vot_metrics, vot_protocol

    folder, name = results_folder(arguments), arguments.tracker.replace(":", "-")
    claim_folder(folder, {"dataset": arguments.dataset, **arguments.choice.describe()})
    scores, broken = supervised.evaluate_supervised(
        sequences,
        choose_track(arguments, vot_protocol.run_supervised, lockstep=False),
        folder / "results",
        dataset=arguments.dataset,
        tracker=name,
        report=lambda name, run: print(
            f"{name}: {len(run)} frames, {len(run.frames_of(vot_protocol.Code.FAILURE))} failures", flush=True
        ),
    )
    broken = {**unreadable, **broken}
    if scores:
        table = vot_metrics.format_vot_table(scores)
        write_whole(folder / "report.md", f"# {arguments.tracker} on {arguments.dataset}\n\n{table}\n")
        numbers = ("accuracy", "robustness", "failures", "mean_failures", "reliability")
        content: dict[str, Any] = {key: getattr(scores, key) for key in numbers}
        content |= {"eao": scores.eao if math.isfinite(scores.eao) else None, "interval": list(scores.interval)}
        parts = {"sequences": scores.sequences, "attributes": scores.attributes}
        content |= {key: {part: asdict(values) for part, values in found.items()} for key, found in parts.items()}
        write_json(folder / "report.json", {**content, "broken": broken})
        print(f"\n{table}\n\nregions, times and reports: {folder}")
    return finish(broken)


def run_comparison(arguments: Arguments, sequences: ListOf[Sequence], unreadable: Mapping[str, str]) -> ExitCode:
    """Rank the folders of results."""
    protocol = protocol_of(arguments.dataset)
    results = [Results.parse(text) for texts in arguments.compare for text in texts]
    trackers, left_out = compare(sequences, results, protocol)
    trackers, left_out = rank(trackers, protocol), {**unreadable, **left_out}
    folder = arguments.output / arguments.dataset / "compare"
    count = len(next(iter(trackers.values())))
    title = f"{len(trackers)} trackers on {count} sequences of {arguments.dataset}"
    means = {name: mean for name, rows in trackers.items() if (mean := mean_of_rows(rows, protocol))}
    plots = draw(means, folder, title)
    table = format_ranking(trackers, protocol)
    links = "".join(f"\n![{plot.stem}]({plot.name})\n" for plot in plots)
    write_whole(folder / "report.md", f"# {title}\n\n{table}\n{links}")
    described = {name: describe_rows(rows, {}, protocol) for name, rows in trackers.items()}
    write_json(folder / "report.json", {"trackers": described, "left_out": left_out, "paper": protocol.paper})
    print(f"{title}\n\n{table}\n\nreport and plots: {folder}")
    for name, reason in left_out.items():
        print(f"left out: {name}: {reason}", file=sys.stderr)
    return ExitCode.SUCCESS


def init_vot(arguments: Arguments, folder: Path) -> ExitCode:
    """A workspace for the VOT toolkit."""
    from roam_jax.evaluation.vot_workspace import write_vot_workspace

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
    return arguments.output / arguments.dataset / arguments.tracker.replace(":", "-")


def choose_track(
    arguments: Arguments, run_one: Callable[[TrackerLike, Sequence], runner.T], *, lockstep: bool = True
) -> Callable[[ListOf[Sequence]], runner.Outcomes]:
    """How sequences are tracked on this machine: in lockstep, in several processes, or here one after the other."""
    choice, workers, batch = arguments.choice, arguments.workers, arguments.batch
    if arguments.tracker == "roam":
        import jax

        accelerated = jax.default_backend() != "cpu"
        batch = batch or (16 if accelerated and not workers and lockstep else 1)
        workers = workers or (1 if accelerated else runner.count_cores())
        if batch > 1:
            from roam_jax.evaluation.lockstep import track_in_lockstep

            return partial(track_in_lockstep, make_tracker=choice, batch=batch)  # type: ignore[arg-type]
    workers = workers or runner.count_cores()
    if workers == 1:
        return partial(runner.track_here, make_tracker=choice, run=run_one)
    return partial(runner.track_in_processes, make_tracker=choice, workers=workers, run=run_one)


def draw(trackers: Mapping[str, Scores], folder: Path, title: str) -> list[Path]:
    """The plots, if they can be made."""
    if can_plot():
        return draw_curves(folder, trackers, title)
    print(NO_PLOTS, file=sys.stderr)
    return []


def finish(broken: Mapping[str, str]) -> ExitCode:
    """Name the sequences that broke."""
    for name, reason in broken.items():
        print(f"not evaluated: {name}: {reason}", file=sys.stderr)
    return ExitCode.INPUT if broken else ExitCode.SUCCESS


def main(args: list[str] | None = None) -> int:
    """The command line; returns its exit code."""
    refuse_empty(args)
    arguments = tyro.cli(Arguments, prog="python -m roam_jax.evaluate", args=args)
    try:
        return run(arguments)
    except KeyboardInterrupt:
        print(f"stopped; the sequences that were finished are in {arguments.output}", file=sys.stderr)
        return ExitCode.INTERRUPTED
    except tuple(EXIT_CODES) as error:
        print(error, file=sys.stderr)
        return next(code for kind, code in EXIT_CODES.items() if isinstance(error, kind))


def _print_row(row: runner.Row) -> None:
    score = f"AUC {row.scores.auc:.3f}, " if row.scores else ""
    print(f"{row.name}: {score}{row.frames} frames, {row.fps:.1f} frames/s", flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # it ends like Ctrl-C
    sys.exit(main())
