"""Do our VOT scores equal those of the VOT toolkit? `python experiments/vot_agreement.py --vot /path/to/bin/vot`.

Writes a small data set of procedural videos with polygons in VOT's layout, a workspace as `evaluate --vot-init` does,
and the results of random trackers: boxes and polygons around the truth that lose it now and then, one to three
repetitions. With `--tracker`, the toolkit also drives that tracker over the data, and its trajectories are compared
with our own supervised run (they can only be the same if the tracker is deterministic: OpenCV's MIL is not). Then the
toolkit's program analyses everything, and all scores are compared. `--golden tests/evaluation/vot/golden_vot.npz` keeps
the results of the first two random trackers and the toolkit's scores of them for the tests.

The toolkit (GPL) is not part of this project and is only run as a program, from an environment of its own:
`python -m venv DIR && DIR/bin/pip install vot-toolkit==0.7.2 attributee==0.1.9`, and then
`DIR/bin/pip install "phx-class-registry<5"`, as it does not start with version 5 of that package.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import tyro

from roam_jax.data.readers.vot import read_vot
from roam_jax.data.sequences import Sequence
from roam_jax.data.synthetic import synthetic_sequence
from roam_jax.evaluation.trackers import TrackerName, make_tracker
from roam_jax.evaluation.vot.metrics import VotScores, eao_interval, score_vot
from roam_jax.evaluation.vot.protocol import EXPERIMENT, Trajectory, read_results, run_supervised, write_results
from roam_jax.evaluation.vot.workspace import write_vot_workspace

TOLERANCE = 1e-6
LENGTHS = (40, 44, 36, 48, 60, 90)
DRIVEN = "driven"
"""name in the toolkit of the tracker that it drives"""


@dataclass(frozen=True)
class Arguments:
    """Compare our VOT scores with the toolkit's."""

    vot: Path
    """the toolkit's program"""
    folder: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """workspace to make; one that is thrown away by default"""
    random: int = 20
    """random trackers"""
    tracker: TrackerName | None = None
    """one that the toolkit should drive"""
    golden: Path | None = None
    """file for annotations, results and the toolkit's scores"""


class RandomTracker:
    """Knows the truth, errs by a random walk, and loses the object in one frame out of thirty."""

    score, lost = 1.0, False

    def __init__(self, sequence: Sequence, rng: np.random.Generator) -> None:
        self.box = np.zeros(4)
        self._boxes, self._rng = sequence.boxes_xywh, rng
        self._frames = {sequence.frames[i].tobytes(): i for i in range(len(sequence))}

    def init(self, image: np.ndarray, box_xywh: np.ndarray) -> None:
        """Start without an error."""
        self.box, self._error = box_xywh, np.zeros(4)

    def update(self, image: np.ndarray) -> np.ndarray:
        """A box near the true one of the frame, which is known by its pixels."""
        box = self._boxes[self._frames[image.tobytes()]]
        self._error = 0.9 * self._error + self._rng.normal(0, 0.05, 4)
        if self._rng.random() < 1 / 30:
            self._error[:2] = 3
        self.box = np.concatenate([box[:2] + self._error[:2] * box[2:], box[2:] * np.exp(self._error[2:])])
        return self.box


def main(arguments: Arguments) -> int:
    if arguments.folder:
        return run(arguments, arguments.folder)
    with tempfile.TemporaryDirectory() as folder:
        return run(arguments, Path(folder))


def run(arguments: Arguments, folder: Path) -> int:
    """Everything; returns the exit code."""
    data = folder / "sequences"
    write_data(data)
    sequences = read_vot(data)
    names = [f"random{i:02d}" for i in range(arguments.random)]
    write_vot_workspace(
        folder, root=data, lengths=LENGTHS, name=DRIVEN, tracker=arguments.tracker or "roam", checkpoint="lite"
    )
    with (folder / "trackers.ini").open("a", encoding="utf-8") as file:
        file.writelines(f"\n[{name}]\nprotocol = trax\ncommand = none\n" for name in names)
    for index, name in enumerate(names):
        rng = np.random.default_rng(index)
        results = {s.name: random_results(s, 1 + index % 3, polygons=index % 2 == 1, rng=rng) for s in sequences}
        write_results(folder / "results", name, results)
    if arguments.tracker:
        call(arguments.vot, folder, "evaluate", DRIVEN)
        names.append(DRIVEN)
    call(arguments.vot, folder, "analysis", *names, "--name", "agreement")
    analysis = json.loads((folder / "analysis" / "agreement.json").read_text())
    tables = analysis["results"][EXPERIMENT]["results"]
    theirs = {name: [table[i] for table in tables] for i, name in enumerate(analysis["trackers"])}
    worst = 0.0
    print(f"{'tracker':10} {'accuracy':>9} {'failures':>9} {'EAO':>9}   greatest differences of scores and curve")
    for name in names:
        ours = score_vot(read_results(folder / "results", name), sequences)
        scores, curve = differences(ours, theirs[name])
        worst = max(worst, scores, curve)
        print(f"{name:10} {ours.accuracy:9.6f} {ours.mean_failures:9.6f} {ours.eao:9.6f}   {scores:.1e} {curve:.1e}")
    if arguments.golden:
        write_golden(arguments.golden, sequences, folder / "results", {name: theirs[name] for name in names[:2]})
    if arguments.tracker:
        compare_runs(arguments.tracker, folder, sequences)
    print(f"greatest difference: {worst:.1e}, {'below' if worst < TOLERANCE else 'NOT below'} {TOLERANCE:.0e}")
    return int(worst >= TOLERANCE)


def write_data(root: Path) -> None:
    """Procedural videos with the smallest rotated box around the object, corners at pixel centres."""
    root.mkdir(parents=True, exist_ok=True)
    for index, length in enumerate(LENGTHS):
        sequence = synthetic_sequence(index, length=length)
        folder = root / sequence.name
        (folder / "color").mkdir(parents=True, exist_ok=True)
        track, lines = sequence.frames.tracks[-1], []  # type: ignore[attr-defined]
        for frame in range(length):
            image = cv2.cvtColor(sequence.frames[frame], cv2.COLOR_RGB2BGR)
            cv2.imwrite(str(folder / "color" / f"{frame + 1:08d}.jpg"), image)
            corners = cv2.boxPoints(cv2.minAreaRect((track.corners(frame) - 0.5).astype(np.float32)))
            lines.append(",".join(f"{value:.3f}" for value in corners.ravel()))
        (folder / "groundtruth.txt").write_text("\n".join(lines) + "\n")
        (folder / "sequence").write_text(f"name={sequence.name}\nfps=30\nchannels.color=color/%08d.jpg\n")
    (root / "list.txt").write_text("".join(f"synthetic_{index}\n" for index in range(len(LENGTHS))))


def random_results(
    sequence: Sequence, repetitions: int, *, polygons: bool, rng: np.random.Generator
) -> list[Trajectory]:
    """Supervised runs of the random tracker, as boxes or as polygons that are askew."""
    runs = [run_supervised(RandomTracker(sequence, rng), sequence) for _ in range(repetitions)]
    if not polygons:
        return runs
    return [
        Trajectory([skew(region, rng) if isinstance(region, np.ndarray) else region for region in run.regions])
        for run in runs
    ]


def skew(box_xywh: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Corners of a box, each moved by up to a fifth of its size, to float32."""
    corners = box_xywh[:2] + np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * (box_xywh[2:] - 1)
    return (corners + rng.uniform(-0.2, 0.2, (4, 2)) * box_xywh[2:]).astype(np.float32)


def call(vot: Path, folder: Path, command: str, *arguments: str) -> None:
    """Run the toolkit's program in the workspace."""
    subprocess.run([str(vot), command, "--workspace", str(folder), *arguments], check=True, cwd=folder)


def differences(ours: VotScores, theirs: list) -> tuple[float, float]:
    """Greatest difference of the scores, and of the curve of the expected average overlap."""
    (accuracy, mean_failures, (reliability, _), _), (failures,), (eao,), (curve,) = theirs
    scores = [
        ours.accuracy - accuracy,
        ours.mean_failures - mean_failures,
        ours.reliability - reliability,
        ours.failures - failures,
        ours.eao - eao,
    ]
    return float(np.abs(scores).max()), float(np.abs(ours.curve - curve).max())


def write_golden(path: Path, sequences: list[Sequence], results: Path, theirs: dict[str, list]) -> None:
    """Keep polygons of all frames, result files as text, and the toolkit's numbers of each tracker."""
    files = {
        f"{name}/{file.stem}": file.read_text() for name in theirs for file in sorted((results / name).rglob("*.txt"))
    }
    np.savez_compressed(
        path,
        names=[sequence.name for sequence in sequences],
        lengths=[len(sequence) for sequence in sequences],
        polygons=np.concatenate([sequence.labels["polygon_xy"] for sequence in sequences]),
        interval=eao_interval([len(sequence) for sequence in sequences]),
        results=json.dumps(files),
        toolkit=json.dumps(theirs),
    )


def compare_runs(name: str, folder: Path, sequences: list[Sequence]) -> None:
    """Our supervised run against what the toolkit recorded of the tracker it drove."""
    tracker, results = make_tracker(name), read_results(folder / "results", DRIVEN)
    for sequence in sequences:
        own, driven = run_supervised(tracker, sequence).regions, results[sequence.name][0].regions
        codes = [r if isinstance(r, int) else None for r in own] == [r if isinstance(r, int) else None for r in driven]
        pairs = [(a, b) for a, b in zip(own, driven, strict=True) if not isinstance(a, int) and not isinstance(b, int)]
        apart = max(float(np.abs(a - b).max()) for a, b in pairs)
        print(f"{sequence.name}: starts and failures {'agree' if codes else 'DIFFER'}, boxes within {apart:.1e} px")


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Arguments)))
