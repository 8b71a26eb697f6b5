from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from roam_jax.data.layouts import read_layout
from roam_jax.data.sequences import DataError
from roam_jax.evaluation.compare import Results, compare, name_folders
from roam_jax.evaluation.formats import Run
from roam_jax.evaluation.metrics import mean_scores, score
from roam_jax.evaluation.plots import can_plot, draw_curves
from roam_jax.evaluation.protocols import protocol_of
from roam_jax.evaluation.report import (
    describe_rows,
    format_attributes,
    format_ranking,
    format_report,
    format_rows,
    rank,
    write_json,
)
from roam_jax.evaluation.runner import Row, score_run

TRUE = np.tile([[10.0, 10.0, 20.0, 20.0]], (11, 1))
OTB, GOT = protocol_of("otb"), protocol_of("got10k")


def make_row(name: str, shift: float, frames: int = 11, attributes: tuple[str, ...] = ()) -> Row:
    return Row(name, frames, score(TRUE[:frames] + np.array([shift, 0, 0, 0]), TRUE[:frames]), 10.0 + shift, attributes)


@pytest.fixture
def rows() -> list[Row]:
    return [make_row("Good", 0.0, attributes=("blur",)), make_row("Fair", 5.0, 6, ("blur", "scale"))]


def cells_of(table: str) -> list[list[str]]:
    lines = table.splitlines()
    assert len({len(line) for line in lines}) == 1
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_table_of_sequences(rows: list[Row]) -> None:
    cells = cells_of(format_rows(rows, OTB))
    assert cells[0] == ["sequence", "frames", "AUC", "P@20", "NP", "AO", "SR.50", "SR.75", "fps"]
    assert [row[:2] for row in cells[2:]] == [["Good", "11"], ["Fair", "6"], ["mean", "17"]]
    assert cells[-1][5] == "0.800"
    assert cells[-1][-1] == "12.5"
    pooled = cells_of(format_rows(rows, GOT))
    assert pooled[-1][5] == f"{(10 * 1 + 5 * 0.6) / 15:.3f}"


def test_table_of_attributes(rows: list[Row]) -> None:
    cells = cells_of(format_attributes(rows, OTB))
    assert [row[:2] for row in cells[2:]] == [["blur", "2"], ["scale", "1"]]
    assert cells[3][5] == "0.600"
    assert format_attributes([replace(row, attributes=()) for row in rows], OTB) == ""


def test_ranking_beside_the_paper(rows: list[Row]) -> None:
    trackers = {"poor": [make_row("Good", 15.0)], "best": rows[:1], "fair": [make_row("Good", 5.0)]}
    assert list(rank(trackers, OTB)) == ["best", "fair", "poor"]
    names = [row[0] for row in cells_of(format_ranking(trackers, OTB))[2:]]
    assert names[:3] == ["1. best", "2. fair", "3. poor"]
    paper = cells_of(format_ranking(trackers, GOT))[-2:]
    assert [row[0] for row in paper] == [f"{name} in the paper (GOT-10k test, Table 2)" for name in ("ROAM", "ROAM++")]
    assert paper[1][1:] == ["-", "-", "-", "0.465", "0.532", "0.236", "-"]


def test_reports(rows: list[Row], tmp_path: Path) -> None:
    broken = {"Lost": "it cannot be read"}
    report = format_report("t", rows, broken, OTB, [tmp_path / "success.png"])
    assert report.startswith("# t\n")
    assert "- Lost: it cannot be read" in report
    assert "![success](success.png)" in report
    write_json(
        tmp_path / "report.json", describe_rows([*rows, replace(rows[0], name="Secret", scores=None)], broken, OTB)
    )
    content = json.loads((tmp_path / "report.json").read_text())
    mean = mean_scores(row.scores for row in rows if row.scores)
    assert content["overall"]["success_auc"] == mean.auc
    assert content["overall"]["success_curve"] == mean.success.tolist()
    assert content["attributes"]["scale"]["ao"] == pytest.approx(0.6)
    assert content["sequences"]["Fair"]["precision_20px"] == 1
    assert "ao" not in content["sequences"]["Secret"]
    assert content["broken"] == broken


def test_secret_boxes(rows: list[Row], tmp_path: Path) -> None:
    secret = [replace(row, scores=None, fps=float("nan")) for row in rows]
    report = format_report("t", secret, {}, GOT)
    assert "server gives the scores" in report
    write_json(tmp_path / "report.json", describe_rows(secret, {}, GOT))
    assert json.loads((tmp_path / "report.json").read_text())["overall"] == {"fps": None, "sequences": 2}


@pytest.mark.skipif(not can_plot(), reason="matplotlib is not installed")
def test_plots(rows: list[Row], tmp_path: Path) -> None:
    trackers = {f"tracker {index}": make_row("a", index).scores for index in range(12)}
    files = draw_curves(tmp_path, {name: s for name, s in trackers.items() if s}, "title")
    assert [path.name for path in files] == ["success.png", "precision.png", "normalised_precision.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in files)
    assert all(path.with_suffix(".pdf").read_bytes().startswith(b"%PDF") for path in files)


def write_results(folder: Path, root: Path, shift: float, separator: str, names: dict[str, str]) -> Path:
    """Result files of a tracker that is `shift` pixels beside the truth in all frames but the first."""
    folder.mkdir()
    for name, spelled in names.items():
        boxes = np.loadtxt(root / name / "groundtruth_rect.txt", delimiter=",")
        boxes[1:, 0] += shift
        np.savetxt(folder / f"{spelled}.txt", boxes, delimiter=separator, fmt="%g")
    return folder


def test_compare_folders(root: Path, tmp_path: Path) -> None:
    sequences = read_layout("otb", root)
    names = {"Near": "Near", "Middle": "middle", "Far": "FAR"}
    ours = write_results(tmp_path / "ours", root, 0.0, ",", names)
    other = write_results(tmp_path / "other", root, 4.0, "\t", {"Near": "Near", "Middle": "Middle"})
    trackers, left_out = compare(sequences, [Results(other), Results(ours)], OTB)
    assert list(trackers) == ["other", "ours"]
    assert [row.name for row in trackers["ours"]] == ["Middle", "Near"]
    assert all(row.scores and row.scores.ao == 1 for row in trackers["ours"])
    assert all(row.scores and row.scores.ao == pytest.approx(16 / 24) for row in trackers["other"])
    assert list(left_out) == ["Far"]
    assert "other" in left_out["Far"]


@pytest.mark.parametrize(("shift", "text", "expected"), [(0, "", 1), (-1, "", 1), (-1, "@1", 19 / 21), (-1, "@0", 1)])
def test_where_boxes_count_from(root: Path, tmp_path: Path, shift: float, text: str, expected: float) -> None:
    sequences = read_layout("otb", root)
    folder = tmp_path / "tracker"
    folder.mkdir()
    for sequence in sequences:
        boxes = np.loadtxt(root / sequence.name / "groundtruth_rect.txt", delimiter=",")
        boxes[:, :2] += shift
        np.savetxt(folder / f"{sequence.name}.txt", boxes, delimiter=" ")
    trackers, _ = compare(sequences, [Results.parse(f"{folder}{text}")], OTB)
    overlap = 19 * 15 / (2 * 320 - 19 * 15) if expected != 1 else 1
    assert all(row.scores and row.scores.ao == pytest.approx(overlap) for row in trackers["tracker"])


def test_folders_that_cannot_be_compared(root: Path, tmp_path: Path) -> None:
    sequences = read_layout("otb", root)
    with pytest.raises(DataError, match="no such folder"):
        compare(sequences, [Results(tmp_path / "none")], OTB)
    folder = write_results(tmp_path / "a", root, 0.0, ",", {"Near": "Somewhere"})
    with pytest.raises(DataError, match=r"at least one sequence in common; .*Far.txt"):
        compare(sequences, [Results(folder)], OTB)
    with pytest.raises(ValueError, match="different ones"):
        name_folders([Results(folder), Results(folder / ".." / "a")])
    assert list(name_folders([Results(Path("/x/a/roam")), Results(Path("/x/b/roam"))])) == ["a/roam", "b/roam"]


def test_a_row_of_a_run(root: Path) -> None:
    sequence = replace(read_layout("otb", root)[0], attributes=("blur",))
    row = score_run(sequence, Run(sequence.boxes_xywh.astype(float), np.full(9, 0.1)), OTB)
    assert (row.name, row.frames, row.attributes, row.fps) == ("Far", 9, ("blur",), pytest.approx(10))
