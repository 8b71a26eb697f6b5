"""Results of several trackers, ours or published, read from folders of text files and scored alike."""

from __future__ import annotations

import re
from collections.abc import Sequence as ListOf
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from roam_jax.data.sequences import DataError, Sequence
from roam_jax.evaluation.formats import Run, find_results, read_result, result_key, run_files
from roam_jax.evaluation.protocols import Protocol
from roam_jax.evaluation.runner import Row, score_run


@dataclass(frozen=True)
class Results:
    """A folder of result files."""

    folder: Path
    origin: float | None = None
    """coordinate of the first pixel; None: as the first boxes show"""

    @classmethod
    def parse(cls, text: str) -> Results:
        """`DIR`, or with the coordinate of the first pixel `DIR@0` or `DIR@1`."""
        match = re.fullmatch(r"(.+)@([01])", text)
        return cls(Path(match[1]), float(match[2])) if match else cls(Path(text))


def name_folders(folders: ListOf[Results]) -> dict[str, Results]:
    """The folders by their own name, or with as many folders before it as tell them apart.

    Raises:
        ValueError: the same folder twice.
    """
    paths = [results.folder.resolve() for results in folders]
    if len(set(paths)) < len(paths):
        raise ValueError("the folders to compare should be different ones")
    depth = 1
    while len({path.parts[-depth:] for path in paths}) < len(paths):
        depth += 1
    return {"/".join(path.parts[-depth:]): results for path, results in zip(paths, folders, strict=True)}


def compare(
    sequences: ListOf[Sequence], folders: ListOf[Results], protocol: Protocol
) -> tuple[dict[str, list[Row]], dict[str, str]]:
    """Score every folder on the sequences that all of them have.

    Returns:
        Rows of each tracker, by the name of its folder; and the sequences that were left out, with the reason.

    Raises:
        DataError: a folder without results, or no sequence that all folders have.
        ValueError: the same folder twice.
    """
    named = name_folders(folders)
    boxes = {name: read_folder(results, sequences, protocol) for name, results in named.items()}
    rows: dict[str, list[Row]] = {name: [] for name in boxes}
    left_out: dict[str, str] = {}
    for sequence in sequences:
        by_tracker = {name: runs[sequence.name] for name, runs in boxes.items()}
        problems = [f"{name}: {got}" for name, got in by_tracker.items() if isinstance(got, str)]
        try:
            if problems:
                raise DataError(problems[0])
            runs = {name: got for name, got in by_tracker.items() if isinstance(got, Run)}
            scored = {name: score_run(sequence, run, protocol) for name, run in runs.items()}
        except (DataError, ValueError) as error:
            left_out[sequence.name] = str(error)
            continue
        for name, row in scored.items():
            rows[name].append(row)
    if not any(rows.values()):
        reason = next(iter(left_out.values()), "there are no sequences")
        raise DataError(f"the folders should have results of at least one sequence in common; {reason}")
    return rows, left_out


def read_folder(results: Results, sequences: ListOf[Sequence], protocol: Protocol) -> dict[str, Run | str]:
    """What a folder holds for each sequence, in 0-based boxes, or what is wrong with it.

    Raises:
        DataError: the folder has no results at all.
    """
    files = find_results(results.folder)
    held: dict[str, Run | str] = {}
    for sequence in sequences:
        path = files.get(result_key(sequence.name))
        try:
            boxes = read_result(path or results.folder / f"{sequence.name}.txt")
            if len(boxes) != len(sequence):
                raise DataError(f"{path} should hold {len(sequence)} boxes, one per frame, but has {len(boxes)}")
            held[sequence.name] = Run(boxes, _read_seconds(results.folder, sequence, protocol))
        except DataError as error:
            held[sequence.name] = str(error)
    runs = {name: run for name, run in held.items() if isinstance(run, Run)}
    origin = results.origin
    if origin is None:
        truth = {sequence.name: sequence.first_xywh for sequence in sequences}
        origin = find_origin({name: run.boxes_xywh[0] for name, run in runs.items()}, truth, protocol)
    shift = np.array([origin, origin, 0, 0])
    return held | {name: Run(run.boxes_xywh - shift, run.seconds) for name, run in runs.items()}


def find_origin(
    first_xywh: dict[str, Float[np.ndarray, " 4"]], true_xywh: dict[str, np.ndarray], protocol: Protocol
) -> float:
    """Coordinate of the first pixel in result files, from the first boxes: trackers repeat the one they were given.

    Returns:
        0 or 1, whichever more sequences show; the benchmark's own if as many do.
    """
    shifts = [np.round(box[:2] - true_xywh[name][:2], 2) for name, box in first_xywh.items()]
    ones, zeros = (sum(bool((shift == value).all()) for shift in shifts) for value in (1.0, 0.0))
    return protocol.origin if ones == zeros else float(ones > zeros)


def _read_seconds(folder: Path, sequence: Sequence, protocol: Protocol) -> Float[np.ndarray, " n"]:
    """Times, if they lie where ours do; else none, so that the speed is unknown."""
    try:
        return np.loadtxt(run_files(folder, sequence.name, protocol)[1], ndmin=1)
    except (OSError, ValueError):
        return np.zeros(0)
