from __future__ import annotations

import json

import av
import cv2
import numpy as np
import pytest

from roam_jax.data.check import BROKEN, CLEAN, SHOWN, UNWRITABLE, check_data, main
from roam_jax.data.sequences import DataError


def add(root, name, count, box="1,2,3,4", suffix="jpg"):
    folder = root / name
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(count):
        cv2.imwrite(str(folder / f"{number:04d}.{suffix}"), rng.integers(0, 255, (40, 60, 3), np.uint8))
    (folder / "groundtruth.txt").write_text(f"{box}\n" * count)
    return folder


def test_a_clean_data_set(tmp_path, capsys):
    add(tmp_path, "a", 3)
    (add(tmp_path, "b", 2) / "absence.label").write_text("0\n1\n")
    (tmp_path / "b" / "groundtruth.txt").write_text("-5,2,30,4\n0,0,0,0\n")
    assert main(["got10k", str(tmp_path), "--all", "--json", str(tmp_path / "f.json")]) == CLEAN
    found = json.loads((tmp_path / "f.json").read_text())
    assert found.pop("root") == str(tmp_path)
    assert found == {
        "layout": "got10k",
        "sequences": 2,
        "stills": 0,
        "frames": 5,
        "boxes": 4,
        "absent": 1,
        "hidden": 0,
        "decoded": 5,
        "partly_outside": 1,
        "problems": [],
    }
    printed = capsys.readouterr().out
    assert "frames without a box" in printed
    assert printed.splitlines()[-1].split() == ["problems", "0"]


def broken_sequences(root):
    """Each of them wrong in its own way, with a word of the message that should say so."""
    add(root, "good", 2)
    (add(root, "count", 2) / "0001.jpg").unlink()
    (add(root, "line", 1) / "groundtruth.txt").write_text("1,2,3\n")
    (add(root, "empty", 2) / "groundtruth.txt").write_text("1,2,3,4\n5,6,0,4\n")
    (add(root, "picture", 1) / "0000.jpg").write_bytes(b"no picture")
    cut = add(root, "cut", 1) / "0000.jpg"
    cut.write_bytes(cut.read_bytes()[:-200])
    cut = add(root, "cutpng", 1, suffix="png") / "0000.png"
    cut.write_bytes(cut.read_bytes()[:-20])
    add(root, "outside", 1, box="60,2,3,4")
    add(root, "never", 1, box="0,0,0,0")
    return {
        "count": "there are 2 and 1",
        "line": "line 1 should be four numbers",
        "empty": "line 2 should be a box or all zeros",
        "picture": "should be a picture",
        "cut/0000.jpg": "is cut off",
        "cutpng": "0000.png should be",
        "outside": "should have its box 60,2,3,4 inside 60 x 40 pixels",
        "never": "should show its object",
    }


@pytest.mark.filterwarnings("ignore")
def test_everything_that_is_broken_is_listed(tmp_path, capsys):
    expected = broken_sequences(tmp_path)
    assert main(["images", str(tmp_path), "--all"]) == BROKEN
    problems = [line for line in capsys.readouterr().out.splitlines() if line.startswith("- ")]
    for name, message in expected.items():
        assert any(name in problem and message in problem for problem in problems), name
    assert len(problems) == len(expected)
    assert not any("good" in problem for problem in problems)


def test_a_sample_is_spread_over_the_frames(tmp_path):
    for name in "abcdefgh":
        add(tmp_path, name, 10)
    findings = check_data("images", tmp_path, sample=20)
    assert (findings.frames, findings.decoded, findings.problems) == (80, 20, [])
    assert check_data("images", tmp_path, sample=100).decoded == 80
    assert check_data("images", tmp_path, sample=0).decoded == 0
    for name in "abcdefgh":
        for number in range(5):
            (tmp_path / name / f"{number:04d}.jpg").write_bytes(b"")
    findings = check_data("images", tmp_path, sample=40)
    assert 8 <= len(findings.problems) <= 32
    assert len(findings.problems) + findings.decoded == 40
    assert len({problem.split("/")[-2] for problem in findings.problems}) > 3


def test_videos(tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(4):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode())
    (tmp_path / "a.txt").write_text("1,2,3,4\n" * 4)
    findings = check_data("videos", tmp_path, sample=2)
    assert (findings.decoded, findings.problems) == (2, [])
    (tmp_path / "a.txt").write_text("1,2,3,4\n" * 6)
    findings = check_data("videos", tmp_path, sample=None)
    assert findings.decoded == 4
    assert ["should have 6 frames" in problem for problem in findings.problems] == [True]


def test_names_that_are_there_twice(tmp_path):
    for part in ("TRAIN_0", "TRAIN_1"):
        (tmp_path / part / "anno").mkdir(parents=True)
        add(tmp_path / part / "frames", "v_0", 1)
        (tmp_path / part / "anno" / "v_0.txt").write_text("1,2,3,4\n")
    (problem,) = check_data("trackingnet", tmp_path).problems
    assert "v_0 should be the name of one sequence, but 2 have it" in problem


def test_many_problems_are_not_all_printed(tmp_path, capsys):
    for number in range(SHOWN + 3):
        add(tmp_path, f"s{number}", 1, box="0,0,0,0")
    main(["images", str(tmp_path)])
    assert capsys.readouterr().out.splitlines()[-1].startswith("- and 3 more")


def test_a_folder_of_another_layout(tmp_path, capsys):
    assert main(["lasot-test", str(tmp_path)]) == BROKEN
    error = capsys.readouterr().err
    assert "should hold CLASS/CLASS-N/groundtruth.txt" in error
    assert "layout lasot-test: CLASS/CLASS-N/img/*.jpg" in error
    with pytest.raises(DataError, match="no such folder"):
        check_data("vot", tmp_path / "nowhere")
    with pytest.raises(SystemExit, match="2"):
        main(["fantasy", str(tmp_path)])


def test_findings_that_cannot_be_written(tmp_path):
    add(tmp_path, "a", 1)
    assert main(["images", str(tmp_path), "--json", str(tmp_path)]) == UNWRITABLE
