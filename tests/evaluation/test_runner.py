from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from roam_jax.data.sequences import DataError, ImageFiles, Sequence, read_otb_folder
from roam_jax.evaluation.metrics import score
from roam_jax.evaluation.runner import evaluate, format_table, track_sequence, write_run
from roam_jax.evaluation.trackers import NANO_FILES, make_tracker


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
        self.box = box_xywh

    def update(self, image: np.ndarray) -> np.ndarray:
        return self.box


def test_scores_of_a_perfect_and_of_a_still_tracker(root: Path) -> None:
    perfect = evaluate(read_otb_folder(root), Finder)
    assert [(row.name, row.scores.frames) for row in perfect] == [("Far", 9), ("Middle", 6), ("Near", 4)]
    assert all(row.scores.ao == 1 and row.scores.precision[0] == 1 and row.fps > 0 for row in perfect)
    still = evaluate(read_otb_folder(root), Still)
    assert all(1 / row.scores.frames < row.scores.auc < 0.5 for row in still)
    for row, sequence in zip(still, read_otb_folder(root), strict=True):
        expected = score(np.tile(sequence.boxes_xywh[:1], (len(sequence), 1)), sequence.boxes_xywh)
        np.testing.assert_array_equal(row.scores.success, expected.success)


def test_one_tracker_is_started_once_per_sequence(root: Path) -> None:
    calls: list[str] = []
    rows = evaluate(read_otb_folder(root)[1:], lambda: Finder(calls))
    assert [row.name for row in rows] == ["Middle", "Near"]
    assert calls == ["init", *["update"] * 5, "init", *["update"] * 3]


def test_files_are_those_of_the_toolkit(root: Path, tmp_path: Path) -> None:
    evaluate(read_otb_folder(root), Finder, output=tmp_path, origin=1.0)
    for sequence in read_otb_folder(root):
        written = np.loadtxt(tmp_path / f"{sequence.name}.txt", delimiter=",")
        truth = np.loadtxt(root / sequence.name / "groundtruth_rect.txt", delimiter=",")
        np.testing.assert_allclose(written, truth, atol=1e-3)
        times = np.loadtxt(tmp_path / "times" / f"{sequence.name}_time.txt")
        assert times.shape == (len(sequence),)
        assert (times > 0).all()


def test_workers_give_the_same(root: Path, tmp_path: Path) -> None:
    alone = evaluate(read_otb_folder(root), Still)
    shared = evaluate(read_otb_folder(root), Still, workers=2, output=tmp_path)
    assert [row.name for row in shared] == [row.name for row in alone]
    for a, b in zip(alone, shared, strict=True):
        np.testing.assert_array_equal(a.scores.success, b.scores.success)
    assert {path.stem for path in tmp_path.glob("*.txt")} == {"Near", "Middle", "Far"}


def test_finished_sequences_stay_when_one_fails(root: Path, tmp_path: Path) -> None:
    class Fragile(Still):
        def update(self, image: np.ndarray) -> np.ndarray:
            if tmp_path.joinpath("Far.txt").exists():
                raise RuntimeError("boom")
            return self.box

    with pytest.raises(RuntimeError, match="boom"):
        evaluate(read_otb_folder(root), Fragile, output=tmp_path)
    assert [path.name for path in tmp_path.glob("*.txt")] == ["Far.txt"]


def test_a_first_frame_without_box() -> None:
    sequence = Sequence(
        "Hidden", ImageFiles((Path("none.png"),) * 2), np.array([[np.nan] * 4, [1, 2, 3, 4]], np.float32)
    )
    with pytest.raises(DataError, match=r"Hidden .*first frame"):
        track_sequence(Still(), sequence)


def test_wrong_arguments(root: Path) -> None:
    with pytest.raises(ValueError, match="different names"):
        evaluate(read_otb_folder(root) * 2, Still)
    with pytest.raises(ValueError, match="at least one"):
        evaluate([], Still)
    with pytest.raises(ValueError, match="at least 1"):
        evaluate(read_otb_folder(root), Still, workers=0)


def test_table(root: Path) -> None:
    rows = evaluate(read_otb_folder(root), Still)
    lines = format_table(rows).splitlines()
    assert len({len(line) for line in lines}) == 1
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0][:3] == ["sequence", "frames", "AUC"]
    assert cells[-1][:2] == ["mean", "19"]
    assert float(cells[-1][2]) == pytest.approx(np.mean([row.scores.auc for row in rows]), abs=5e-4)


def test_opencv_tracker_follows(root: Path, tmp_path: Path) -> None:
    sequence = read_otb_folder(root / "Near")[0]
    run = track_sequence(make_tracker("cv2:mil"), sequence)
    assert score(run.boxes_xywh, sequence.boxes_xywh).ao > 0.3
    write_run(tmp_path, "Near", run)
    np.testing.assert_allclose(np.loadtxt(tmp_path / "Near.txt", delimiter=","), run.boxes_xywh, atol=1e-3)


def test_trackers_that_cannot_be_made(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no tracker is called 'best'"):
        make_tracker("best")
    with pytest.raises(ValueError, match=r"has no tracker 'fantasy'; opencv-contrib-python"):
        make_tracker("cv2:fantasy")
    with pytest.raises(ValueError, match=f"{NANO_FILES[0]} and {NANO_FILES[1]}"):
        make_tracker("cv2:nano", nano_dir=tmp_path)
