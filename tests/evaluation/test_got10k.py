"""Against the got10k toolkit itself, where it is installed: as the judge of our files, and as a user of our tracker."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest

from roam_jax import presets
from roam_jax.checkpoints import Checkpoint
from roam_jax.data.layouts import read_layout
from roam_jax.evaluation.compare import Results, compare
from roam_jax.evaluation.protocols import protocol_of
from roam_jax.evaluation.report import mean_of_rows
from roam_jax.evaluation.runner import Row, evaluate, track_here
from roam_jax.evaluation.trackers import TrackerChoice
from roam_jax.tracking.params import init_params, params_to_dict
from roam_jax.tracking.tracker import Tracker

LENGTHS = {"Deer": 9, "Girl": 14}
VALIDATION = {"GOT-10k_Val_000001": 9, "GOT-10k_Val_000002": 14}


class Drifter:
    """Wanders off, and grows beyond the image; its boxes are no round numbers."""

    def init(self, image: np.ndarray, box_xywh: np.ndarray) -> None:
        self.box, self.rng = np.asarray(box_xywh, float), np.random.default_rng(len(image))

    def update(self, image: np.ndarray) -> np.ndarray:
        self.box = self.box + self.rng.normal([5, 4, 1, 1], 2.0)
        return self.box


class Still:
    def init(self, image: np.ndarray, box_xywh: np.ndarray) -> None:
        self.box = box_xywh

    def update(self, image: np.ndarray) -> np.ndarray:
        return self.box


@pytest.fixture(scope="module")
def toolkit() -> Iterator[SimpleNamespace]:
    """Its experiments, drawing without a window; OTB's downloads nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import matplotlib as mpl

            mpl.use("Agg")
            from got10k import experiments, trackers
            from got10k.datasets.otb import OTB
        except ImportError as error:
            pytest.skip(f"the got10k toolkit cannot be imported: {error}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OTB, "_download", lambda *_: None)
        yield SimpleNamespace(
            OTB=experiments.ExperimentOTB, GOT10k=experiments.ExperimentGOT10k, Tracker=trackers.Tracker
        )


@pytest.fixture(scope="module")
def otb(write_otb: Callable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_otb(tmp_path_factory.mktemp("otb"), LENGTHS, "jpg")


@pytest.fixture(scope="module")
def got(write_got10k: Callable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_got10k(tmp_path_factory.mktemp("got10k"), VALIDATION)


def judge(experiment: Any, folder: Path) -> dict[str, Any]:
    """The toolkit's report on a folder of result files."""
    experiment.result_dir = str(folder.parent)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return experiment.report([folder.name])[folder.name]


def check_otb(rows: list[Row], theirs: dict[str, Any]) -> None:
    for row in rows:
        assert row.scores
        values = theirs["seq_wise"][row.name]
        np.testing.assert_allclose(row.scores.success, values["success_curve"], atol=1e-6)
        np.testing.assert_allclose(row.scores.precision, values["precision_curve"], atol=1e-6)
    mean = mean_of_rows(rows, protocol_of("otb"))
    assert mean
    assert mean.auc == pytest.approx(theirs["overall"]["success_score"], abs=1e-6)
    assert mean.precision20 == pytest.approx(theirs["overall"]["precision_score"], abs=1e-6)


def check_got(rows: list[Row], theirs: dict[str, Any]) -> None:
    mean = mean_of_rows(rows, protocol_of("got10k"))
    assert mean
    assert mean.ao == pytest.approx(theirs["overall"]["ao"], abs=1e-6)
    assert mean.sr50 == pytest.approx(theirs["overall"]["sr"], abs=1e-6)
    assert mean.sr75 == pytest.approx(theirs["overall"]["succ_curve"][75], abs=1e-6)
    for row in rows:
        assert row.scores
        assert row.scores.ao == pytest.approx(theirs["seq_wise"][row.name]["ao"], abs=1e-6)


def test_it_reads_and_scores_our_files_of_otb(toolkit: SimpleNamespace, otb: Path, tmp_path: Path) -> None:
    rows, _ = evaluate(
        read_layout("otb", otb), partial(track_here, make_tracker=Drifter), tmp_path / "ours", protocol_of("otb")
    )
    experiment = toolkit.OTB(str(otb), report_dir=str(tmp_path / "reports"))
    check_otb(rows, judge(experiment, tmp_path / "ours"))
    assert all(row.scores and 0.1 < row.scores.auc < 0.9 for row in rows)


def test_it_reads_and_scores_our_files_of_got10k(toolkit: SimpleNamespace, got: Path, tmp_path: Path) -> None:
    rows, _ = evaluate(
        read_layout("got10k", got / "val"),
        partial(track_here, make_tracker=Drifter),
        tmp_path / "ours",
        protocol_of("got10k"),
    )
    experiment = toolkit.GOT10k(str(got), subset="val", report_dir=str(tmp_path / "reports"))
    check_got(rows, judge(experiment, tmp_path / "ours"))
    # frames weigh the same, not sequences, and the numbers are far from both ends
    mean = mean_of_rows(rows, protocol_of("got10k"))
    assert mean
    assert abs(mean.ao - np.mean([row.scores.ao for row in rows if row.scores])) > 1e-3
    assert 0.05 < mean.ao < 0.9


def test_random_boxes(toolkit: SimpleNamespace, write_otb: Callable, tmp_path: Path) -> None:
    """Boxes that reach beyond the image, in halves and thirds, in files of both."""
    rng = np.random.default_rng(1)
    data = write_otb(tmp_path / "data", LENGTHS, "jpg")
    folder = tmp_path / "random"
    folder.mkdir()
    for name, length in LENGTHS.items():
        true = np.concatenate([rng.uniform(-20, 90, (length, 2)), rng.uniform(5, 60, (length, 2))], axis=1).round(1)
        np.savetxt(data / name / "groundtruth_rect.txt", true, fmt="%.1f", delimiter="\t")
        guess = true + rng.normal(0, 8, (length, 4)).round(3)
        guess[:, 2:] = np.abs(guess[:, 2:])
        np.savetxt(folder / f"{name}.txt", guess, fmt="%.3f", delimiter=",")
    rows, _ = compare(read_layout("otb", data), [Results(folder, 1.0)], protocol_of("otb"))
    experiment = toolkit.OTB(str(data), report_dir=str(tmp_path / "reports"))
    check_otb(rows["random"], judge(experiment, folder))


@pytest.mark.parametrize("name", ["cv2:mil", "drifter", "still"])
def test_real_sequences(toolkit: SimpleNamespace, roam_data: Path, tmp_path: Path, name: str) -> None:
    """With ROAM_DATA=FOLDER, where FOLDER/otb_dev holds sequences of OTB: the shortest three of them."""
    data = roam_data / "otb_dev"
    if not data.is_dir():
        pytest.skip("ROAM_DATA has no otb_dev with sequences of OTB")
    sequences = sorted(read_layout("otb", data), key=len)[:3]
    for sequence in sequences:
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / sequence.name).symlink_to(data / sequence.name)
    make = {"drifter": Drifter, "still": Still}.get(name, TrackerChoice(name))
    rows, _ = evaluate(sequences, partial(track_here, make_tracker=make), tmp_path / "ours", protocol_of("otb"))
    assert len(rows) == 3
    experiment = toolkit.OTB(str(tmp_path / "data"), report_dir=str(tmp_path / "reports"))
    check_otb(rows, judge(experiment, tmp_path / "ours"))


def test_our_tracker_runs_in_its_experiments(
    toolkit: SimpleNamespace, otb: Path, got: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Unchanged, with what it passes: files, boxes of float64, for OTB counted from 1."""
    config = presets.tiny()
    params = jax.jit(lambda key: init_params(config, key=key))(jax.random.key(0))
    checkpoint = Checkpoint(config, jax.tree.map(np.asarray, params_to_dict(params)), "")

    tracker = Tracker(checkpoint, crop="host")
    with contextlib.redirect_stdout(None):
        experiment = toolkit.OTB(str(otb), result_dir=str(tmp_path), report_dir=str(tmp_path / "reports"))
        experiment.run(tracker)
        theirs = judge(experiment, tmp_path / "OTB2015" / tracker.name)
    rows, left_out = compare(
        read_layout("otb", otb), [Results(tmp_path / "OTB2015" / tracker.name)], protocol_of("otb")
    )
    assert not left_out
    check_otb(rows[tracker.name], theirs)

    with contextlib.redirect_stdout(None):
        experiment = toolkit.GOT10k(str(got), "val", result_dir=str(tmp_path), report_dir=str(tmp_path / "reports"))
        experiment.run(tracker)
        theirs = judge(experiment, tmp_path / "GOT-10k" / tracker.name)
    sequences, protocol = read_layout("got10k", got / "val"), protocol_of("got10k")
    rows, _ = compare(sequences, [Results(tmp_path / "GOT-10k" / tracker.name)], protocol)
    check_got(rows[tracker.name], theirs)

    # in our own loop, on 0-based boxes, the same tracker does the same
    ours, _ = evaluate(sequences, partial(track_here, make_tracker=lambda: tracker), tmp_path / "ours", protocol)
    for one, other in zip(ours, rows[tracker.name], strict=True):
        assert one.scores
        assert other.scores
        assert one.scores.ao == pytest.approx(other.scores.ao, abs=0.02)
