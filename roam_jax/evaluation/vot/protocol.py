"""Supervised runs of the VOT benchmarks, 2013 to 2019: a tracker that loses the object is started again.

The tracker starts in the first frame. When its box has no overlap with the true region, that frame is a failure; the
tracker is started again from the true box five frames later. Every sequence that a reader gives can be run; but a frame
without a true region is a failure, as in the toolkit, so that those with absent objects should be measured otherwise.

A tracker's results lie where the VOT toolkit has them, `NAME/baseline/SEQUENCE/SEQUENCE_001.txt` with one line for each
frame, a region or a `Code`, and the seconds beside it in `SEQUENCE_001_time.value`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from collections.abc import Sequence as ListOf
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float

from roam_jax.data.sequences import DataError, Sequence
from roam_jax.evaluation.metrics import has_box
from roam_jax.evaluation.trackers import TrackerLike
from roam_jax.evaluation.vot.regions import Code, Region, overlap, read_regions, write_regions

SKIP = 5
"""frames from a failure to the next start"""
EXPERIMENT = "baseline"
"""the toolkit's name of the supervised experiment"""


@dataclass(frozen=True, eq=False)
class Trajectory:
    """One supervised run over a sequence."""

    regions: list[Region]
    """for each frame, what the tracker said, or a `Code`"""
    seconds: Float[np.ndarray, " n"] = field(default=None)  # type: ignore[assignment]
    """time in the tracker; NaN where it was not asked, and by default"""

    def __post_init__(self) -> None:
        if self.seconds is None:
            object.__setattr__(self, "seconds", np.full(len(self.regions), np.nan))

    def __len__(self) -> int:
        return len(self.regions)

    def frames_of(self, code: Code) -> list[int]:
        """Indices of the frames with that code."""
        return [
            index for index, region in enumerate(self.regions) if not isinstance(region, np.ndarray) and region == code
        ]


def true_regions(sequence: Sequence) -> list[Region]:
    """True region of each frame: the polygon or box that was annotated; unknown where there is none."""
    boxes = np.asarray(sequence.boxes_xywh, np.float32)
    regions: list[Region] = [box if known else Code.UNKNOWN for box, known in zip(boxes, has_box(boxes), strict=True)]
    if "polygon_xy" not in sequence.labels:
        return regions
    corners = np.asarray(sequence.labels["polygon_xy"], np.float32).reshape(len(boxes), 4, 2)
    # The label has the corners of annotated boxes too, x to x + w. Those of an annotated polygon are pixel centres, and
    # even if its sides are parallel to the image's they are half a pixel inside its box.
    unit = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
    apart = np.abs(boxes[:, None, :2] + unit * boxes[:, None, 2:] - corners).max(axis=(1, 2))
    polygon = np.isfinite(corners).all(axis=(1, 2)) & ~(apart < 0.25)
    return [c if p else region for c, p, region in zip(corners, polygon, regions, strict=True)]


def run_supervised(tracker: TrackerLike, sequence: Sequence, *, skip: int = SKIP) -> Trajectory:
    """Track a sequence, starting the tracker anew after each failure.

    Args:
        tracker: started from `sequence.boxes_xywh`, in the first frame and after failures.
        sequence: what is true.
        skip: frames from a failure to the next start. A frame without a true box is passed over.

    Raises:
        DataError: the first frame has no true box, or a frame cannot be read.
    """
    truth = true_regions(sequence)
    if not has_box(sequence.boxes_xywh[:1]).all():
        raise DataError(f"sequence {sequence.name} should have a box in its first frame to start the tracker from")
    regions: list[Region] = [Code.UNKNOWN] * len(truth)
    seconds = np.full(len(truth), np.nan)
    running, next_start = False, 0
    for index, image in enumerate(sequence.frames):
        if not running and (index < next_start or not has_box(sequence.boxes_xywh[index : index + 1]).all()):
            continue
        begin = time.perf_counter()
        if not running:
            tracker.init(image, np.asarray(sequence.boxes_xywh[index], float))
            regions[index], running = Code.START, True
        else:
            regions[index] = np.array(tracker.update(image), np.float32)
        seconds[index] = time.perf_counter() - begin
        size_wh = (image.shape[1], image.shape[0])
        if regions[index] is not Code.START and overlap(regions[index], truth[index], size_wh) <= 0:
            regions[index], running, next_start = Code.FAILURE, False, index + skip
    return Trajectory(regions, seconds)


def write_results(
    folder: Path, name: str, results: Mapping[str, ListOf[Trajectory]], *, experiment: str = EXPERIMENT
) -> None:
    """Write `NAME/EXPERIMENT/SEQUENCE/SEQUENCE_00i.txt` and the times beside it.

    Args:
        folder: `results` of a workspace of the toolkit, for example.
        name: of the tracker.
        results: trajectories by the name of their sequence, one for each repetition. The toolkit wants 15 of them, or
            the same one 3 times, by which it knows that a tracker is deterministic.
        experiment: the toolkit's name of it.
    """
    for sequence, trajectories in results.items():
        place = folder / name / experiment / sequence
        place.mkdir(parents=True, exist_ok=True)
        for index, trajectory in enumerate(trajectories, start=1):
            stem = f"{sequence}_{index:03d}"
            write_regions(place / f"{stem}.txt", trajectory.regions)
            if not np.isnan(trajectory.seconds).all():
                lines = ["" if np.isnan(seconds) else f"{seconds:.6f}" for seconds in trajectory.seconds]
                (place / f"{stem}_time.value").write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def read_results(folder: Path, name: str, *, experiment: str = EXPERIMENT) -> dict[str, list[Trajectory]]:
    """Trajectories of a tracker by the name of their sequence, one for each repetition.

    Text files are read, and the toolkit's binary ones.

    Args:
        folder: as `write_results`.
        name: of the tracker.
        experiment: the toolkit's name of it.

    Raises:
        DataError: no results there, or a file that is not as it should be.
    """
    place = folder / name / experiment
    if not place.is_dir():
        raise DataError(f"{place} should hold one folder of results per sequence, but there is no such folder")
    results = {}
    for child in sorted(path for path in place.iterdir() if path.is_dir()):
        files = {
            path.stem: path
            for path in sorted(child.iterdir())
            if path.suffix in (".txt", ".bin") and path.stem.removeprefix(f"{child.name}_").isdecimal()
        }
        if files:
            results[child.name] = [_read_trajectory(files[stem]) for stem in sorted(files)]
    if not results:
        raise DataError(f"{place} should hold SEQUENCE/SEQUENCE_001.txt, but no such file is there")
    return results


def _read_trajectory(path: Path) -> Trajectory:
    regions = read_regions(path)
    times = path.with_name(f"{path.stem}_time.value")
    if not times.is_file():
        return Trajectory(regions)
    try:
        seconds = [float(line) if line.strip() else np.nan for line in times.read_text(encoding="utf-8").splitlines()]
    except ValueError as error:
        raise DataError(f"{times} should hold the seconds of one frame per line, but {error}") from error
    return Trajectory(regions, np.array(seconds)) if len(seconds) == len(regions) else Trajectory(regions)
