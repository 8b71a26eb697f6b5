from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest

from roam_jax.data.layouts import read_layout
from roam_jax.data.sequences import DataError, ImageFiles, Sequence
from roam_jax.evaluation.formats import Run, write_run
from roam_jax.evaluation.metrics import score
from roam_jax.evaluation.protocols import protocol_of
from roam_jax.evaluation.runner import (
    Row,
    count_cores,
    evaluate,
    score_run,
    track_here,
    track_in_processes,
    track_sequence,
)
from roam_jax.evaluation.trackers import NANO_FILES, TrackerChoice, TrackerLike, make_tracker

OTB = protocol_of("otb")


class Finder:
    """Finds the bright square; checks that pictures are RGB and that it is started before it is used."""

    def __init__(self, calls: list[str] | None = None) -> None:
        self.calls = [] if calls is None else calls

    def init(self, image: np.ndarray, box_xywh: np.ndarray) -> None:
        x, y = box_xywh[:2].astype(int)
        assert image[y, x].tolist() == [100, 200, 255]
        self.calls.append("init")

    def update(self, image: np.ndarray) -> tuple[float, ...]:
        assert self.calls
        self.calls.append("update")
        return tuple(map(float, cv2.boundingRect((image[..., 2] > 100).astype(np.uint8))))


class Still:
    def init(self, image: np.ndarray, box_xywh: np.ndarray) -> None:
        self.box, self.updates = box_xywh, 0

    def update(self, image: np.ndarray) -> np.ndarray:
        self.updates += 1
        return self.box


class Fragile(Still):
    """Fails in the longest sequence."""

    def update(self, image: np.ndarray) -> np.ndarray:
        if self.updates == 6:
            raise RuntimeError("boom")
        return super().update(image)


class Deadly(Still):
    """Takes its process along."""

    def update(self, image: np.ndarray) -> np.ndarray:
        if self.updates == 6:
            os._exit(1)
        return super().update(image)


def run(sequences: list[Sequence], make: Callable[[], TrackerLike], output: Path) -> tuple[list[Row], dict[str, str]]:
    return evaluate(sequences, partial(track_here, make_tracker=make), output, OTB)


def test_scores_of_a_perfect_and_of_a_still_tracker(root: Path, tmp_path: Path) -> None:
    sequences = read_layout("otb", root)
    perfect, _ = run(sequences, Finder, tmp_path / "finder")
    assert [(row.name, row.frames) for row in perfect] == [("Far", 9), ("Middle", 6), ("Near", 4)]
    assert all(row.scores and row.scores.ao == row.scores.precision[0] == 1 and row.fps > 0 for row in perfect)
    still, broken = run(sequences, Still, tmp_path / "still")
    assert not broken
    for row, sequence in zip(still, sequences, strict=True):
        expected = score(np.tile(sequence.boxes_xywh[:1], (len(sequence), 1)), sequence.boxes_xywh)
        assert row.scores
        assert 1 / row.frames < row.scores.auc < 0.5
        np.testing.assert_array_equal(row.scores.success, expected.success)


def test_one_tracker_is_started_once_per_sequence(root: Path, tmp_path: Path) -> None:
    calls: list[str] = []
    rows, _ = run(read_layout("otb", root)[1:], lambda: Finder(calls), tmp_path)
    assert [row.name for row in rows] == ["Middle", "Near"]
    assert calls == ["init", *["update"] * 5, "init", *["update"] * 3]


def test_files_are_those_of_the_benchmark(root: Path, tmp_path: Path) -> None:
    run(read_layout("otb", root), Finder, tmp_path)
    for name, length in (("Far", 9), ("Middle", 6), ("Near", 4)):
        written = np.loadtxt(tmp_path / f"{name}.txt", delimiter=",")
        truth = np.loadtxt(root / name / "groundtruth_rect.txt", delimiter=",")
        np.testing.assert_allclose(written, truth, atol=1e-3)
        times = np.loadtxt(tmp_path / "times" / f"{name}_time.txt")
        assert times.shape == (length,)
        assert (times > 0).all()


def test_what_is_done_is_not_done_again(root: Path, tmp_path: Path) -> None:
    sequences = read_layout("otb", root)
    first, _ = run(sequences, Still, tmp_path)
    # a file that was cut short counts as not done
    cut = tmp_path / "Middle.txt"
    cut.write_text("".join(cut.read_text().splitlines(keepends=True)[:3]))
    (tmp_path / "times" / "Near_time.txt").unlink()
    calls: list[str] = []
    reported: list[str] = []
    second, _ = evaluate(
        sequences,
        partial(track_here, make_tracker=lambda: Finder(calls)),
        tmp_path,
        OTB,
        report=lambda row: reported.append(row.name),
    )
    assert calls == ["init", *["update"] * 5, "init", *["update"] * 3]
    assert reported == ["Far", "Middle", "Near"]
    assert first[0].scores
    assert second[0].scores
    np.testing.assert_array_equal(first[0].scores.success, second[0].scores.success)
    assert first[0].fps == second[0].fps
    assert second[1].scores
    assert second[1].scores.ao == 1


def test_a_broken_sequence_does_not_stop_the_others(root: Path, tmp_path: Path) -> None:
    sequences = read_layout("otb", root)
    missing = replace(sequences[2], name="Missing", frames=ImageFiles((Path("none.png"),) * 4))
    rows, broken = run([missing, *sequences], Fragile, tmp_path)
    assert [row.name for row in rows] == ["Middle", "Near"]
    assert broken == {"Missing": "none.png should be a picture, but it cannot be read", "Far": "RuntimeError: boom"}
    assert {path.stem for path in tmp_path.glob("*.txt")} == {"Middle", "Near"}
    # what broke is tried again
    rows, broken = run([missing, *sequences], Still, tmp_path)
    assert [row.name for row in rows] == ["Far", "Middle", "Near"]
    assert list(broken) == ["Missing"]


def test_processes_give_the_same(root: Path, tmp_path: Path) -> None:
    sequences = read_layout("otb", root)
    alone, _ = run(sequences, Fragile, tmp_path / "alone")
    track = partial(track_in_processes, make_tracker=Fragile, workers=2)
    shared, broken = evaluate(sequences, track, tmp_path / "shared", OTB)
    assert broken == {"Far": "RuntimeError: boom"}
    assert [row.name for row in shared] == [row.name for row in alone]
    for path in sorted((tmp_path / "alone").glob("*.txt")):
        assert path.read_text() == (tmp_path / "shared" / path.name).read_text()


def test_a_process_that_dies(root: Path) -> None:
    outcomes = dict(track_in_processes(read_layout("otb", root)[::2], Deadly, 2))
    assert outcomes.pop("Far") == "the process that tracked it died"
    assert {name: isinstance(outcome, Run) for name, outcome in outcomes.items()} == {"Near": True}


class Endless(Still):
    """Never comes back; somebody loses patience with the program that waits for it."""

    def update(self, image: np.ndarray) -> np.ndarray:
        os.kill(os.getppid(), signal.SIGINT)
        time.sleep(30)
        return super().update(image)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT that a test can send")
def test_ctrl_c_waits_for_no_process(root: Path) -> None:
    start = time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        list(track_in_processes(read_layout("otb", root), Endless, 1))
    assert time.perf_counter() - start < 20
    assert not multiprocessing.active_children()


class Counter(Still):
    """Says how many threads it may have, as a box."""

    def update(self, image: np.ndarray) -> np.ndarray:
        return np.array([int(os.environ["NPROC"]), cv2.getNumThreads(), 1, 1])


def test_threads_of_a_worker(root: Path) -> None:
    ((_, outcome),) = track_in_processes(read_layout("otb", root)[2:], Counter, 1, threads=3)
    assert isinstance(outcome, Run)
    assert outcome.boxes_xywh[1].tolist() == [3, 3, 1, 1]
    assert count_cores() >= 1


def test_a_first_frame_without_box() -> None:
    boxes = np.array([[np.nan] * 4, [1, 2, 3, 4]], np.float32)
    sequence = Sequence("Hidden", ImageFiles((Path("none.png"),) * 2), boxes)
    with pytest.raises(DataError, match=r"Hidden .*first frame"):
        track_sequence(Still(), sequence)


def test_wrong_arguments(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="different names"):
        run(read_layout("otb", root) * 2, Still, tmp_path)
    with pytest.raises(ValueError, match="at least one"):
        run([], Still, tmp_path)
    with pytest.raises(ValueError, match="at least 1"):
        list(track_in_processes(read_layout("otb", root), Still, 0))


def test_rules_of_the_benchmarks(root: Path) -> None:
    sequence = read_layout("otb", root)[2]
    beyond = np.array([[300, 60, 20, 16], [90, 60, 40, 40], [90, 60, 40, 40], [90, 60, 40, 40]], np.float32)
    beyond = replace(sequence, boxes_xywh=beyond, labels={"cover": np.array([8, 0, 8, 8])})
    result = Run(np.array([[0, 0, 1, 1], [0, 0, 1, 1], [90, 60, 30, 30], [90, 60, 30, 30]], float), np.ones(4))
    free, confined = (score_run(beyond, result, protocol_of(name)).scores for name in ("nfs30", "got10k-val"))
    assert free
    assert confined
    assert (free.ao, confined.ao) == (pytest.approx(900 / 1600), 1.0)  # the covered frame does not count
    lasot = score_run(beyond, result, protocol_of("lasot")).scores
    assert lasot
    assert lasot.precision20 == pytest.approx(free.precision20 * 3 / 4)
    assert score_run(replace(beyond, first_box_only=True), result, protocol_of("got10k-test")).scores is None


def test_opencv_tracker_follows(root: Path, tmp_path: Path) -> None:
    sequence = read_layout("otb", root / "Near")[0]
    result = track_sequence(make_tracker("cv2:mil"), sequence)
    assert score(result.boxes_xywh, sequence.boxes_xywh).ao > 0.3
    write_run(tmp_path, "Near", result, protocol_of("own"))
    np.testing.assert_allclose(np.loadtxt(tmp_path / "Near.txt", delimiter=","), result.boxes_xywh, atol=1e-3)


def test_trackers_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="no tracker is called 'best'"):
        make_tracker("best")
    monkeypatch.delattr(cv2, "TrackerCSRT_create", raising=False)  # it is there with opencv-contrib-python
    with pytest.raises(ValueError, match=r"no tracker 'csrt'.* in the place of opencv-python: pip uninstall"):
        TrackerChoice("cv2:csrt").describe()
    with pytest.raises(ValueError, match=f"{NANO_FILES[0]} and {NANO_FILES[1]}"):
        make_tracker("cv2:nano", nano_dir=tmp_path)
