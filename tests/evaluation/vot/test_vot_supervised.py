from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest

from roam_jax import evaluate as command
from roam_jax.data.layouts import read_layout
from roam_jax.evaluation.runner import track_here
from roam_jax.evaluation.vot.metrics import score_vot
from roam_jax.evaluation.vot.protocol import run_supervised
from roam_jax.evaluation.vot.supervised import evaluate_supervised


class Still:
    """Fails as soon as the square has left its box."""

    def init(self, image: np.ndarray, box_xywh: np.ndarray) -> None:
        self.box = box_xywh

    def update(self, image: np.ndarray) -> np.ndarray:
        return self.box


def test_supervised_evaluation(root: Path, tmp_path: Path) -> None:
    sequences = read_layout("otb", root)
    reported: list[str] = []

    def evaluate(chosen: list) -> tuple:
        track = partial(track_here, make_tracker=Still, run=run_supervised)
        return evaluate_supervised(
            chosen, track, tmp_path, dataset="own", tracker="still", report=lambda name, _: reported.append(name)
        )

    scores, broken = evaluate(sequences)
    assert broken == {}
    assert reported == ["Far", "Middle", "Near"]
    assert (tmp_path / "still/baseline/Far/Far_003.txt").exists()
    expected = score_vot({s.name: [run_supervised(Still(), s)] for s in sequences}, sequences)
    assert (scores.accuracy, scores.robustness) == pytest.approx((expected.accuracy, expected.robustness), abs=1e-3)
    assert scores.failures > 0

    # again: what is complete is kept, what is not is done again
    path = tmp_path / "still/baseline/Middle/Middle_002.txt"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:2]))
    again, _ = evaluate(sequences)
    assert reported == ["Far", "Middle", "Near", "Middle"]
    assert again.accuracy == scores.accuracy
    assert isinstance(scores.sequences["Near"].failures, float)


def test_broken_sequences(root: Path, tmp_path: Path) -> None:
    sequences = read_layout("otb", root)

    def track(pending: list) -> object:
        yield pending[0].name, "RuntimeError: boom"
        for sequence in pending[1:]:
            yield sequence.name, run_supervised(Still(), sequence)

    scores, broken = evaluate_supervised(sequences, track, tmp_path, dataset="own", tracker="still")  # type: ignore[arg-type]
    assert broken == {"Far": "RuntimeError: boom"}
    assert scores
    assert set(scores.sequences) == {"Middle", "Near"}
    nothing, broken = evaluate_supervised(
        sequences[:1],
        lambda _: (pair for pair in [("Far", "no")]),
        tmp_path,
        dataset="own",
        tracker="x",  # type: ignore[arg-type]
    )
    assert (nothing, broken) == (None, {"Far": "no"})
    with pytest.raises(ValueError, match="different names"):
        evaluate_supervised(sequences * 2, track, tmp_path, dataset="own", tracker="still")  # type: ignore[arg-type]


def test_command_line(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "data"
    for name in ("Near", "Middle"):
        (data / name / "color").mkdir(parents=True)
        for index, path in enumerate(sorted((root / name / "img").iterdir()), 1):
            cv2.imwrite(str(data / name / "color" / f"{index:08d}.jpg"), cv2.imread(str(path)))
        boxes = np.loadtxt(root / name / "groundtruth_rect.txt", delimiter=",") - [1, 1, 0, 0]
        np.savetxt(data / name / "groundtruth.txt", boxes, delimiter=",", fmt="%g")
    (data / "list.txt").write_text("Near\nMiddle\n")
    args = ["--dataset", "vot2016", "--root", str(data), "--tracker", "cv2:mil", "--workers", "1"]
    assert command.main([*args, "--output", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert "Near: 4 frames, " in out
    assert "EAO" in out
    report = json.loads((tmp_path / "out/vot2016/cv2-mil/report.json").read_text())
    assert report["interval"] == [108, 371]
    assert report["eao"] is None  # no run is that long
    assert set(report["sequences"]) == {"Near", "Middle"}
    assert report["failures"] == sum(part["failures"] for part in report["sequences"].values())
    assert command.main([*args, "--vot-init", str(tmp_path / "workspace")]) == 0
    assert "trackers.ini" in capsys.readouterr().out
