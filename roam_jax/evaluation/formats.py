"""Result files: boxes and times in each benchmark's own format, written at once or not at all, and read back.

A file holds one box per frame, `x,y,w,h` with three decimals, and counts pixels as the benchmark's annotations do:
`Protocol.origin` is the coordinate of the first one, 1 for OTB, UAV123 and TColor-128, and 0 for the others. Beside it
lies a file of seconds per frame.
"""

from __future__ import annotations

import io
import json
import os
import re
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from roam_jax.data.sequences import DataError
from roam_jax.evaluation.protocols import Protocol

SUBMISSION = "submission.zip"
DESCRIPTION = "run.json"


@dataclass(frozen=True, eq=False)
class Run:
    """What a tracker did in one sequence."""

    boxes_xywh: Float[np.ndarray, "n 4"]
    """image pixels, 0-based; the first is the one that was given"""
    seconds: Float[np.ndarray, " n"]
    """time in the tracker alone, without reading the frames; the first is that of `init`"""

    @property
    def fps(self) -> float:
        """Frames per second, without `init` and the first update, where compiled trackers compile."""
        return float(1 / self.seconds[2:].mean()) if len(self.seconds) > 2 else float("nan")


def run_files(folder: Path, name: str, protocol: Protocol) -> tuple[Path, Path]:
    """Where the boxes and the times of a sequence are."""
    if protocol.files == "folders":
        return folder / name / f"{name}_001.txt", folder / name / f"{name}_time.txt"
    return folder / f"{name}.txt", folder / "times" / f"{name}_time.txt"


def write_run(folder: Path, name: str, run: Run, protocol: Protocol) -> None:
    """Write boxes and times; the boxes last, so that a sequence with boxes is one that is done.

    Raises:
        OSError: they cannot be written.
    """
    boxes, times = run_files(folder, name, protocol)
    write_whole(times, _format_rows(run.seconds, "%.8f"))
    write_whole(boxes, _format_rows(run.boxes_xywh + np.array([protocol.origin, protocol.origin, 0, 0]), "%.3f"))


def read_run(folder: Path, name: str, frames: int, protocol: Protocol) -> Run | None:
    """What was written for a sequence of that many frames; None if it is not there, or not complete."""
    boxes_file, times_file = run_files(folder, name, protocol)
    try:
        boxes = read_result(boxes_file)
        seconds = np.loadtxt(times_file, ndmin=1)
    except (DataError, OSError, ValueError):
        return None
    if len(boxes) != frames or seconds.shape != (frames,):
        return None
    return Run(boxes - np.array([protocol.origin, protocol.origin, 0, 0]), seconds)


def read_result(path: Path) -> Float[np.ndarray, "n 4"]:
    """Boxes of any text file, as they stand there; numbers are separated by commas, semicolons, tabs or spaces.

    Raises:
        DataError: no such file, or a line that is not four numbers (`nan` is a number).
    """
    if not path.is_file():
        raise DataError(f"{path} should hold one box x,y,w,h per line, but there is no such file")
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig", errors="replace").rstrip().splitlines(), 1):
        try:
            rows.append([float(part) for part in re.split(r"[,;\s]+", line.strip(" \t,;")) if part])
        except ValueError:
            rows.append([])
        if len(rows[-1]) != 4:
            raise DataError(f"{path} line {number} should be four numbers x,y,w,h, but is {line.strip()[:60]!r}")
    return np.array(rows, float).reshape(-1, 4)


def find_results(folder: Path) -> dict[str, Path]:
    """Result files of a folder by `result_key` of their sequence: `NAME.txt`, or `NAME/NAME_001.txt`.

    Raises:
        DataError: no such folder, or nothing of that kind in it.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} should be a folder of result files, but there is no such folder")
    files = {result_key(path.stem): path for path in sorted(folder.glob("*.txt"))}
    files |= {result_key(path.parent.name): path for path in sorted(folder.glob("*/*_001.txt"))}
    if not files:
        raise DataError(f"{folder} should hold result files NAME.txt or NAME/NAME_001.txt, but there is none")
    return files


def result_key(name: str) -> str:
    """What all spellings of a sequence's name have in common: Jogging-1, Jogging.1 and jogging_1."""
    return re.sub(r"[._\s]+", "-", name.lower())


def write_submission(folder: Path, names: Iterable[str], protocol: Protocol) -> Path:
    """Zip file of the results as the benchmark's server takes it: paths as they are in the folder.

    GOT-10k wants boxes and times in a folder per sequence; TrackingNet wants the boxes alone.

    Raises:
        OSError: it cannot be written.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            files = run_files(folder, name, protocol)
            for file in files if protocol.files == "folders" else files[:1]:
                archive.write(file, file.relative_to(folder))
    write_whole(folder / SUBMISSION, buffer.getvalue())
    return folder / SUBMISSION


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file so that it never exists in part; its folder is made.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        part.write_bytes(content.encode() if isinstance(content, str) else content)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def claim_folder(folder: Path, description: dict[str, str]) -> None:
    """Say in a folder what its results depend on, so that those of another tracker are never taken for them.

    Raises:
        ValueError: there are results of something else.
        OSError: it cannot be written.
    """
    file = folder / DESCRIPTION
    try:
        known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else description
    except ValueError:
        known = None
    if known != description:
        raise ValueError(f"{folder} holds results of another tracker, checkpoint or data set; choose another --output")
    write_whole(file, json.dumps(description, indent=1) + "\n")


def _format_rows(rows: np.ndarray, fmt: str) -> str:
    text = io.StringIO()
    np.savetxt(text, rows, fmt=fmt, delimiter=",")
    return text.getvalue()
