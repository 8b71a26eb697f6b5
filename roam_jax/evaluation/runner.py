"""Evaluation: each sequence is tracked once from the box that it gives, timed, written and scored.

A sequence that breaks does not stop the others. A sequence whose files are complete is not tracked again; scores are
always those of the files, so that they do not depend on how often a run was interrupted.
"""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import signal
import threading
import time
import typing
from collections import deque
from collections.abc import Callable, Generator
from collections.abc import Sequence as ListOf
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Generic, TypeVar

import cv2
import numpy as np
from jaxtyping import Bool

from roam_jax.data.sequences import DataError, Sequence
from roam_jax.evaluation.formats import Run, read_run, write_run
from roam_jax.evaluation.metrics import Scores, has_box, score
from roam_jax.evaluation.protocols import Protocol
from roam_jax.evaluation.trackers import TrackerLike
from roam_jax.interrupts import deaf_children, raised_again


class Named(typing.Protocol):
    """What can be tracked: a sequence, or several that are tracked together."""

    @property
    def name(self) -> str:
        """For the outcome."""
        ...

    def __len__(self) -> int: ...


S = TypeVar("S", bound=Named)
T = TypeVar("T")
MakeTracker = Callable[[], TrackerLike]
Outcomes = Generator[tuple[str, T | str], None, None]
"""name of each sequence, and what the tracker did in it, or one sentence on what went wrong"""


@dataclass(frozen=True, eq=False)
class Row:
    """One sequence of the table."""

    name: str
    frames: int
    """all frames of the sequence"""
    scores: Scores | None
    """None where the true boxes are secret"""
    fps: float
    attributes: tuple[str, ...] = ()


def evaluate(
    sequences: ListOf[Sequence],
    track: Callable[[ListOf[Sequence]], Outcomes[Run]],
    output: Path,
    protocol: Protocol,
    *,
    report: Callable[[Row], None] | None = None,
) -> tuple[list[Row], dict[str, str]]:
    """Track the sequences that are not done yet, write their boxes, and score all.

    Args:
        sequences: their names must differ.
        track: gives the outcome of each sequence, in any order: `track_here`, `track_in_processes` or
            `lockstep.track_in_lockstep`, with their trackers.
        output: folder of the result files, written as soon as a sequence is finished.
        protocol: rules of the benchmark.
        report: called with the row of each sequence as soon as it is known.

    Returns:
        One row per sequence that was tracked, in their order; and what went wrong with the others, by name.

    Raises:
        ValueError: no sequences, or two of the same name.
        OSError: results cannot be written.
    """
    by_name = {sequence.name: sequence for sequence in sequences}
    if not sequences or len(by_name) < len(sequences):
        raise ValueError("the sequences to evaluate should be at least one, and have different names")
    rows: dict[str, Row] = {}
    broken: dict[str, str] = {}

    def add(name: str, run: Run) -> None:
        try:
            rows[name] = score_run(by_name[name], run, protocol)
        except (DataError, ValueError) as error:
            broken[name] = str(error)
        else:
            if report:
                report(rows[name])

    pending = []
    for sequence in sequences:
        run = read_run(output, sequence.name, len(sequence), protocol)
        if run:
            add(sequence.name, run)
        else:
            pending.append(sequence)
    with contextlib.closing(track(pending)) as outcomes:
        for name, outcome in outcomes:
            if isinstance(outcome, str):
                broken[name] = outcome
                continue
            write_run(output, name, outcome, protocol)
            # as a later run would read it: with the decimals of the file
            add(name, read_run(output, name, len(by_name[name]), protocol) or outcome)
    return [rows[sequence.name] for sequence in sequences if sequence.name in rows], broken


def score_run(sequence: Sequence, run: Run, protocol: Protocol) -> Row:
    """Row of a sequence.

    Raises:
        DataError: its first frame is needed for the size of the image, and cannot be read.
        ValueError: as `metrics.score`.
    """
    scores = None
    if not sequence.first_box_only:
        height, width = sequence.frames[0].shape[:2] if protocol.confined else (0, 0)
        scores = score(
            run.boxes_xywh,
            sequence.boxes_xywh,
            visible=counted_frames(sequence),
            size_wh=(width, height) if protocol.confined else None,
            absent_is_lost=protocol.absent_is_lost,
        )
    return Row(sequence.name, len(sequence), scores, run.fps, sequence.attributes)


def counted_frames(sequence: Sequence) -> Bool[np.ndarray, " n"]:
    """Frames in which the object is to be found: where GOT-10k's label `cover` is not 0, else where it is visible."""
    cover = sequence.labels.get("cover")
    return sequence.visible if cover is None else np.asarray(cover) > 0


def track_sequence(tracker: TrackerLike, sequence: Sequence) -> Run:
    """Track one sequence from the box that it gives.

    Raises:
        DataError: the first frame has no true box, or a frame cannot be read.
    """
    check_start(sequence)
    boxes, seconds = [np.asarray(sequence.first_xywh, float)], []
    for index, image in enumerate(sequence.frames):
        start = time.perf_counter()
        if index == 0:
            tracker.init(image, boxes[0])
        else:
            boxes.append(np.array(tracker.update(image), float))
        seconds.append(time.perf_counter() - start)
    return Run(np.stack(boxes), np.array(seconds))


def check_start(sequence: Sequence) -> None:
    """Nothing, if a tracker can be started on the first frame.

    Raises:
        DataError: it has no true box.
    """
    if not has_box(sequence.first_xywh[None]).all():
        raise DataError(f"sequence {sequence.name} should have a box in its first frame to start the tracker from")


def track_here(
    sequences: ListOf[S], make_tracker: MakeTracker, run: Callable[[TrackerLike, S], T] = track_sequence
) -> Outcomes[T]:
    """Track the sequences one after the other in this process, all with one tracker.

    Args:
        sequences: what to track.
        make_tracker: called once, if there is anything to track.
        run: what is done with the tracker and each sequence.
    """
    tracker = make_tracker() if sequences else None
    for sequence in sequences:
        if tracker:
            yield sequence.name, try_one(run, tracker, sequence)


def track_in_processes(
    sequences: ListOf[S],
    make_tracker: MakeTracker,
    workers: int,
    run: Callable[[TrackerLike, S], T] = track_sequence,
    *,
    threads: int = 0,
) -> Outcomes[T]:
    """Track the sequences in several processes, the longest first; each process makes one tracker.

    A process that dies is told apart from those that ran beside it: their sequences are tried again, one at a time.

    Args:
        sequences: what to track.
        make_tracker: a function or object that pickle can name, and that is equal to itself in another process.
        workers: number of processes.
        run: what is done with the tracker and each sequence; pickle can name it too.
        threads: of each process; 0: an equal part of the cores.

    Raises:
        ValueError: less than one worker.
    """
    if workers < 1:
        raise ValueError(f"the number of workers should be at least 1, but is {workers}")
    job = Job(make_tracker, run)
    threads = threads or max(1, count_cores() // workers)
    waiting = deque(sorted(sequences, key=len, reverse=True))
    with raised_again():
        while waiting:
            suspects = yield from _track_in_pool(waiting, job, min(workers, len(waiting)), threads)
            for suspect in suspects:
                if (yield from _track_in_pool(deque([suspect]), job, 1, threads)):
                    yield suspect.name, "the process that tracked it died"


@dataclass(frozen=True)
class Job(Generic[S, T]):
    """What a worker does with each sequence it gets."""

    make_tracker: MakeTracker
    run: Callable[[TrackerLike, S], T]

    def __call__(self, sequence: S) -> T | str:
        """What came out, or what went wrong."""
        return try_one(self.run, _tracker_of_worker(self.make_tracker), sequence)


def _track_in_pool(
    waiting: deque[S], job: Job[S, T], workers: int, threads: int
) -> Generator[tuple[str, T | str], None, list[S]]:
    """Empty the queue; returns early, with the sequences that were on their way, when a process dies.

    Workers live no longer than our end of a pipe that they wait for: it is closed when nobody wants their outcomes any
    more, and by the system when this process is killed.
    """
    # forked processes would inherit JAX's threads in an unknown state
    context = multiprocessing.get_context("spawn")
    theirs, ours = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_enter_worker, initargs=(threads, theirs))
    running: dict[Future[T | str], S] = {}
    try:
        while waiting or running:
            # no more than can run, so that few are under suspicion when one dies
            while waiting and len(running) < workers:
                with deaf_children():
                    running[pool.submit(job, waiting[0])] = waiting[0]
                waiting.popleft()
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                outcome = future.result()
                yield running.pop(future).name, outcome
    except BrokenProcessPool:
        return list(running.values())
    except BaseException:
        ours.close()  # or shutdown would wait for the sequences that are on their way
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        ours.close()
        theirs.close()
    return []


def _enter_worker(threads: int, parent: Connection) -> None:
    """Leave the other cores to the other workers, before JAX counts them to start threads; end with the parent."""
    os.environ["NPROC"] = str(threads)  # what XLA's CPU client asks first
    cv2.setNumThreads(threads)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal reaches all: the parent ends us
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: Connection) -> None:
    """End this process, whatever it is doing, when the other end of a pipe is closed."""
    with contextlib.suppress(EOFError, OSError):
        parent.recv()
    os._exit(1)


@functools.lru_cache(maxsize=1)
def _tracker_of_worker(make_tracker: MakeTracker) -> TrackerLike:
    return make_tracker()


def try_one(run: Callable[[TrackerLike, S], T], tracker: TrackerLike, sequence: S) -> T | str:
    """What came out, or one sentence on what went wrong."""
    try:
        return run(tracker, sequence)
    except Exception as error:  # whatever a tracker raises, the other sequences go on
        return explain(error)


def explain(error: Exception) -> str:
    """One sentence on an error: our own speak for themselves, others with their kind."""
    return str(error) if isinstance(error, DataError) else f"{type(error).__name__}: {error}"


def count_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
