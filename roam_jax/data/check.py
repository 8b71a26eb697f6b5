"""`python -m roam_jax.data.check NAME ROOT`: is a data set complete, and can it be read?"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from jaxtyping import Float32
from tqdm import tqdm

from roam_jax.cli import ExitCode, parse, run_command
from roam_jax.data.layouts import LAYOUTS, Layout, read_layout
from roam_jax.data.sequences import DataError, ImageFiles, Sequence, outside_image
from roam_jax.errors import OutputError

SHOWN = 40
"""problems that are printed; the JSON file has all"""
JPEG_START, JPEG_END, PNG_START, PNG_END = b"\xff\xd8", b"\xff\xd9", b"\x89PNG", b"IEND"
TAIL = 4096
"""bytes at the end of a file among which its end is looked for: some cameras write a few more after it"""


@dataclass
class Findings:
    """What a data set holds, and what is wrong with it."""

    layout: str
    root: str
    sequences: int = 0
    stills: int = 0
    frames: int = 0
    boxes: int = 0
    absent: int = 0
    """frames without a box"""
    hidden: int = 0
    """frames with a box in which the object cannot be seen"""
    decoded: int = 0
    partly_outside: int = 0
    """decoded frames whose box reaches over the edge by more than a pixel"""
    problems: list[str] = field(default_factory=list)


def check_data(layout: str, root: Path, *, sample: int | None = 500, workers: int = 2, seed: int = 0) -> Findings:
    """Read all annotations of a data set and some of its pictures.

    Args:
        layout: a name in `LAYOUTS`.
        root: the data set's folder.
        sample: frames to decode, spread at random; None: all.
        workers: threads that decode.
        seed: of the choice of frames.

    Raises:
        DataError: the folder does not have the layout at all.
    """
    findings = Findings(layout, str(root))
    sequences = read_layout(layout, root, problems=findings.problems)
    if not sequences and not findings.problems:
        findings.problems.append(f"{root} should hold sequences, but there are none")
    findings.sequences, findings.stills = len(sequences), sum(sequence.still for sequence in sequences)
    findings.frames = sum(len(sequence) for sequence in sequences)
    findings.boxes = sum(int(np.isfinite(sequence.boxes_xywh[:, 0]).sum()) for sequence in sequences)
    findings.absent = sum(
        len(s) - int(np.isfinite(s.boxes_xywh[:, 0]).sum()) for s in sequences if not s.first_box_only
    )
    findings.hidden = findings.boxes - sum(int(sequence.visible.sum()) for sequence in sequences)
    findings.problems += _list_problems(sequences)

    chosen = _choose_frames(sequences, sample, np.random.default_rng(seed))
    with ThreadPoolExecutor(workers) as pool:
        jobs = [pool.submit(_check_frames, sequence, indices) for sequence, indices in chosen]
        for job in tqdm(jobs, "decoding", unit=" sequences", disable=None):
            decoded, outside, problems = job.result()
            findings.decoded += decoded
            findings.partly_outside += outside
            findings.problems += problems
    return findings


def format_findings(findings: Findings) -> str:
    """Table of the counts, and the first problems."""
    counts = [
        ("sequences", findings.sequences - findings.stills),
        ("stills", findings.stills),
        ("frames", findings.frames),
        ("boxes", findings.boxes),
        ("frames without a box", findings.absent),
        ("boxes of a hidden object", findings.hidden),
        ("frames decoded", findings.decoded),
        ("boxes partly outside", findings.partly_outside),
        ("problems", len(findings.problems)),
    ]
    lines = [f"{findings.layout}: {findings.root}"]
    lines += [f"  {name:<26}{count:>12,}" for name, count in counts]
    lines += [f"- {problem}" for problem in findings.problems[:SHOWN]]
    if len(findings.problems) > SHOWN:
        lines.append(f"- and {len(findings.problems) - SHOWN:,} more (--json FILE has all)")
    return "\n".join(lines)


def _list_problems(sequences: list[Sequence]) -> Iterator[str]:
    """What is wrong without looking into a picture."""
    counts = Counter(sequence.name for sequence in sequences)
    yield from (f"{name} should be the name of one sequence, but {n} have it" for name, n in counts.items() if n > 1)
    for sequence in sequences:
        if not sequence.visible.any():
            yield f"sequence {sequence.name} should show its object, but never does"


def _choose_frames(
    sequences: list[Sequence], sample: int | None, rng: np.random.Generator
) -> list[tuple[Sequence, list[int]]]:
    """Sequences, and which of their frames to decode; each frame of the data set is as likely as any other."""
    ends = np.cumsum([len(sequence) for sequence in sequences])
    total = int(ends[-1]) if len(ends) else 0
    if sample is None or sample >= total:
        return [(sequence, list(range(len(sequence)))) for sequence in sequences]
    picked = np.sort(rng.choice(total, sample, replace=False))
    owners = np.searchsorted(ends, picked, side="right")
    return [
        (sequences[owner], (picked[owners == owner] - ends[owner] + len(sequences[owner])).tolist())
        for owner in np.unique(owners).tolist()
    ]


def _check_frames(sequence: Sequence, indices: list[int]) -> tuple[int, int, list[str]]:
    """Frames that could be decoded, boxes partly outside, and problems of a sequence."""
    sizes: dict[int, tuple[int, int]] = {}
    problems: list[str] = []
    frames = sequence.frames
    if isinstance(frames, ImageFiles):
        for index in indices:
            try:
                sizes[index] = frames.read(index).shape[1::-1]
            except DataError as error:
                problems.append(str(error))
                continue
            problems += _check_end(Path(frames.paths[index]))
    else:
        chosen = set(indices)
        try:
            for index, picture in zip(range(max(indices, default=-1) + 1), frames, strict=False):
                if index in chosen:
                    sizes[index] = picture.shape[1::-1]
        except DataError as error:
            problems.append(str(error))
    return len(sizes), _check_boxes(sequence, sizes, problems), problems


def _check_boxes(sequence: Sequence, sizes_wh: dict[int, tuple[int, int]], problems: list[str]) -> int:
    """How many boxes of the decoded frames reach over the edge; boxes that lie outside altogether are a problem.

    Where all decoded frames have one size, the others are taken to have it too, and their boxes are checked as well.
    """
    if not sizes_wh:
        return 0
    limits = np.full((len(sequence), 2), np.nan, np.float32)
    if len(set(sizes_wh.values())) == 1:
        limits[:] = next(iter(sizes_wh.values()))
    for index, size in sizes_wh.items():
        limits[index] = size
    boxes = np.where(sequence.visible[:, None], sequence.boxes_xywh, np.float32(np.nan))
    outside = outside_image(boxes, limits)
    if outside.any():
        first = int(np.flatnonzero(outside)[0])
        size = " x ".join(str(int(side)) for side in limits[first])
        problems.append(
            f"sequence {sequence.name} frame {first} should have its box {_format(boxes[first])} inside {size} pixels; "
            f"{outside.sum()} such boxes"
        )
    beyond = (boxes[:, :2] < -1).any(axis=1) | (boxes[:, :2] + boxes[:, 2:] > limits + 1).any(axis=1)
    return int((beyond & ~outside)[list(sizes_wh)].sum())


def _format(box: Float32[np.ndarray, " 4"]) -> str:
    return ",".join(f"{value:g}" for value in box)


def _check_end(path: Path) -> Iterator[str]:
    """A file that is cut off: OpenCV gives a picture all the same, with grey for the missing part."""
    with path.open("rb") as file:
        start = file.read(4)
        file.seek(max(0, path.stat().st_size - TAIL))
        tail = file.read()
    cut = (start.startswith(JPEG_START) and JPEG_END not in tail) or (start == PNG_START and PNG_END not in tail)
    if cut:
        yield f"{path} should be a whole picture, but it is cut off"


def check(
    name: Annotated[Layout, tyro.conf.Positional],
    root: Annotated[Path, tyro.conf.Positional],
    sample: int = 500,
    all: bool = False,
    workers: int = 2,
    json_file: Annotated[Path | None, tyro.conf.arg(name="json")] = None,
) -> ExitCode:
    """Count what a data set holds, decode some of it, and list what is missing or broken.

    Exit codes: 0 all is well, 2 wrong arguments or an extra that is not installed, 3 something is missing or broken,
    6 the JSON file cannot be written.

    Args:
        name: layout of the data set; with a wrong root, the message says what it should hold.
        root: the data set's folder.
        sample: frames to decode, chosen at random.
        all: decode every frame.
        workers: threads that decode.
        json_file: file for the findings, with all problems.

    Raises:
        DataError: the folder does not have the layout at all.
        OutputError: the file cannot be written.
    """
    try:
        findings = check_data(name, root, sample=None if all else sample, workers=workers)
    except DataError as error:
        raise DataError(f"{error}\nlayout {name}: {LAYOUTS[name].expects}") from error
    print(format_findings(findings))
    if json_file is not None:
        try:
            json_file.write_text(json.dumps(asdict(findings), indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise OutputError(f"{json_file} should be a file to write, but {error.strerror}") from error
    return ExitCode.INPUT if findings.problems else ExitCode.SUCCESS


def main(args: list[str] | None = None) -> int:
    """The command line; returns its exit code."""
    return run_command(lambda: parse(check, "python -m roam_jax.data.check", args, first="a layout"))


if __name__ == "__main__":
    sys.exit(main())
