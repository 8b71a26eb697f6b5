"""Sequences per minute of `roam_jax.evaluate` with several numbers of workers: `python benchmarks/evaluate.py`.

Each number of workers starts new processes, with their compiled programs in the cache already, and tracks the same
sequences: the first frames of those in a folder of OTB, or the demo clip several times. Numbers of workers take turns;
the best of several passes is what other programs on the machine disturbed least, and so is the time of processors.
"""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tyro
from track import describe_machine

from roam_jax.data.demo_clip import write_demo
from roam_jax.data.layouts import read_layout
from roam_jax.data.sequences import Sequence
from roam_jax.evaluation.runner import count_cores, track_in_processes
from roam_jax.evaluation.trackers import TrackerChoice, TrackerName


@dataclass(frozen=True)
class Arguments:
    """Time the evaluation with several numbers of workers."""

    root: Path | None = None
    """folder of sequences in the layout of OTB; without it, the package's demo clip"""
    tracker: TrackerName = "roam"
    checkpoint: str = "lite"
    """name or directory"""
    workers: tuple[int, ...] = (1, 2, 4)
    """numbers of processes to compare"""
    sequences: int = 8
    """sequences to track"""
    frames: int = 60
    """frames of each"""
    passes: int = 3
    """times that every number of workers has its turn"""
    batch: tuple[int, ...] = ()
    """numbers of sequences in lockstep to compare, in this process"""


def choose_sequences(arguments: Arguments, temporary: Path) -> list[Sequence]:
    """As many as asked for, by repetition if there are too few, with new names."""
    root = arguments.root or temporary / "demo"
    if not arguments.root:
        write_demo(root)
    found = read_layout("otb", root)
    cut = [sequence.head(arguments.frames) for sequence in found]
    return [replace(cut[index % len(cut)], name=f"{index}") for index in range(arguments.sequences)]


def time_processes(
    sequences: list[Sequence], choice: TrackerChoice, workers: int, threads: int
) -> tuple[float, float, float]:
    """Seconds until all are done; from the first that is done, when programs are loaded, to the last; of processors."""
    start, first, used = time.perf_counter(), 0.0, sum(os.times()[2:4])
    for name, outcome in track_in_processes(sequences, choice, workers, threads=threads):
        if isinstance(outcome, str):
            raise RuntimeError(f"{name}: {outcome}")
        first = first or time.perf_counter()
    end = time.perf_counter()
    return end - start, end - first, sum(os.times()[2:4]) - used


def time_lockstep(sequences: list[Sequence], choice: TrackerChoice, batch: int) -> float:
    """Seconds until all are done, with programs that were compiled before."""
    from roam_jax.evaluation.lockstep import track_in_lockstep

    tracker = choice()
    tau = tracker.config.online.tau  # type: ignore[attr-defined]
    list(track_in_lockstep([s.head(2 * tau) for s in sequences], lambda: tracker, batch))  # type: ignore[arg-type,return-value]
    start = time.perf_counter()
    list(track_in_lockstep(sequences, lambda: tracker, batch))  # type: ignore[arg-type,return-value]
    return time.perf_counter() - start


def main() -> None:
    arguments = tyro.cli(Arguments, prog="python benchmarks/evaluate.py")
    choice = TrackerChoice(arguments.tracker, arguments.checkpoint)
    with tempfile.TemporaryDirectory() as temporary:
        sequences = choose_sequences(arguments, Path(temporary))
        print(describe_machine())
        print(f"{len(sequences)} sequences of {arguments.frames} frames, tracker {arguments.tracker}")
        for batch in arguments.batch:
            took = time_lockstep(sequences, choice, batch)
            frames = sum(map(len, sequences))
            print(f"lockstep {batch}: {60 * len(sequences) / took:.1f} sequences/min, {frames / took:.1f} frames/s")
        if not arguments.workers:
            return
        time_processes([sequences[0].head(12)], choice, 1, 0)  # fills the cache
        cores = count_cores()
        turns = [(workers, threads) for workers in arguments.workers for threads in sorted({1, cores})]
        seconds: dict[tuple[int, int], list[tuple[float, float, float]]] = {turn: [] for turn in turns}
        for _ in range(arguments.passes):
            for turn in turns:
                seconds[turn].append(time_processes(sequences, choice, *turn))
        print(f"\nthe default is {cores} workers with one thread each\n")
        print("| workers | threads | best sequences/min | median | best without the first sequence | processor s |")
        print("|--------:|--------:|-------------------:|-------:|--------------------------------:|------------:|")
        for turn in turns:
            total, later, used = np.transpose(seconds[turn])
            rates = [60 * len(sequences) / total.min(), 60 * len(sequences) / np.median(total)]
            rates.append(60 * (len(sequences) - 1) / later.min())
            print(
                f"| {turn[0]:7} | {turn[1]:7} | {rates[0]:18.1f} | {rates[1]:6.1f} | {rates[2]:31.1f} "
                f"| {used.min():11.1f} |"
            )


if __name__ == "__main__":
    main()
