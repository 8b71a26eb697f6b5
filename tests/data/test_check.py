from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from roam_jax.cli import ExitCode
from roam_jax.data.check import SHOWN, check_data, main
from roam_jax.data.layouts import read_layout
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
    assert main(["got10k", str(tmp_path), "--all", "--json", str(tmp_path / "f.json")]) == ExitCode.SUCCESS
    actual = json.loads((tmp_path / "f.json").read_text())
    assert actual.pop("root") == str(tmp_path)
    assert actual == {
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
    assert main(["images", str(tmp_path), "--all"]) == ExitCode.INPUT
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


def test_videos(tmp_path, write_video):
    write_video(tmp_path / "a.mp4", 4)
    (tmp_path / "a.txt").write_text("1,2,3,4\n" * 4)
    findings = check_data("videos", tmp_path, sample=2)
    assert (findings.decoded, findings.problems) == (2, [])
    (tmp_path / "a.txt").write_text("1,2,3,4\n" * 6)
    assert check_data("videos", tmp_path).problems == [
        f"{tmp_path / 'a.txt'} should hold one box per frame, but there are 6 and 4 frames"
    ]


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])  # the one tells how many frames it has, the other does not
def test_a_video_with_fewer_boxes_than_frames(tmp_path, write_video, suffix):
    write_video(tmp_path / f"a.{suffix}", 9)
    (tmp_path / "a.txt").write_text("1,2,3,4\n" * 9)
    assert not check_data("videos", tmp_path).problems
    (tmp_path / "a.txt").write_text("1,2,3,4\n" * 3)
    message = "should hold one box per frame, but there are 3 and 9 frames"
    (problem,) = check_data("videos", tmp_path).problems
    assert message in problem
    with pytest.raises(DataError, match=message):
        read_layout("videos", tmp_path)


def test_a_video_that_cannot_be_opened_is_listed_without_being_sampled(tmp_path, write_video):
    for name in "ab":
        write_video(tmp_path / f"{name}.mp4", 4)
        (tmp_path / f"{name}.txt").write_text("1,2,3,4\n" * 4)
    (tmp_path / "b.mp4").write_bytes(b"no video")
    (problem,) = check_data("videos", tmp_path, sample=0).problems
    assert "b.mp4 should be a video" in problem
    assert [sequence.name for sequence in read_layout("videos", tmp_path)] == ["a", "b"]


def test_boxes_that_are_none(tmp_path):
    """Of the frames that are not decoded too."""
    rows = ["1,2,3,4"] * 12
    rows[3:6] = ["900,2,3,4", "-9,2,3,4", "1,50,3,4"]
    rows[7:10] = ["nan,2,3,4", "1,2,inf,4", "5,5,0,0"]
    (add(tmp_path, "a", 12) / "groundtruth.txt").write_text("\n".join(rows))
    problems = check_data("images", tmp_path, sample=1).problems
    assert len(problems) == 3
    for words in (
        "line 10 should be a box or all zeros, but is empty; 1 such lines",
        "line 8 should be four finite numbers or four nan; 2 such lines",
        "sequence a frame 3 should have its box 900,2,3,4 inside 60 x 40 pixels; 3 such boxes",
    ):
        assert any(words in problem for problem in problems), words


def test_boxes_of_photographs_that_are_none(tmp_path):
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "a.png"), np.zeros((100, 100, 3), np.uint8))
    wrong = {
        "be finite": [[np.nan] * 4, [10, 10, np.inf, 20], [10, np.nan, 20, 20]],
        "have a width and a height": [[10, 10, 0, 20], [10, 10, 20, -5], [10, 10, 0, 0]],
        "lie inside of 100 x 100 pixels": [[100, 10, 20, 20], [-30, 10, 20, 20], [10, 200, 20, 20]],
    }
    fine = [[10, 10, 20, 20], [90, 10, 20, 20], [10, 10, 3, 3]]  # the last ones are too small to learn from
    boxes = [*fine, *(box for group in wrong.values() for box in group)]
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 100, "height": 100}],
        "annotations": [{"id": n, "image_id": 1, "bbox": box} for n, box in enumerate(boxes)],
    }
    (tmp_path / "instances.json").write_text(json.dumps(content))
    findings = check_data("coco", tmp_path)
    assert findings.stills == 1
    expected = [what for what, group in wrong.items() for _ in group]
    assert len(findings.problems) == len(expected)
    for number, (problem, what) in enumerate(zip(findings.problems, expected, strict=True), len(fine)):
        assert f"the box of annotation {number} should {what}" in problem
    assert [sequence.name for sequence in read_layout("coco", tmp_path)] == ["a_0"]


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
    assert main(["lasot-test", str(tmp_path)]) == ExitCode.INPUT
    error = capsys.readouterr().err
    assert "should hold CLASS/CLASS-N/groundtruth.txt" in error
    assert "layout lasot-test: CLASS/CLASS-N/img/*.jpg" in error
    with pytest.raises(DataError, match="no such folder"):
        check_data("vot", tmp_path / "nowhere")
    assert main(["fantasy", str(tmp_path)]) == ExitCode.USAGE


def test_findings_that_cannot_be_written(tmp_path):
    add(tmp_path, "a", 1)
    assert main(["images", str(tmp_path), "--json", str(tmp_path)]) == ExitCode.OUTPUT
