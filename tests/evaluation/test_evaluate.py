from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from roam_jax import evaluate as command
from roam_jax.data import layouts
from roam_jax.data.layouts import read_layout
from roam_jax.evaluation.trackers import NANO_FILES

MIL = ["--tracker", "cv2:mil", "--workers", "1"]


def test_command_line(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["--root", str(root), *MIL, "--output", str(tmp_path), "--sequences", "Near", "--sequences", "Middle"]
    assert command.main(args) == 0
    folder = tmp_path / "otb" / "cv2-mil"
    printed = capsys.readouterr().out
    assert "Near: AUC" in printed
    table = (folder / "report.md").read_text()
    assert next(line for line in table.splitlines() if line.startswith("| mean ")) in printed
    assert (folder / "Near.txt").read_text().splitlines()[0] == "11.000,13.000,20.000,16.000"  # OTB counts from 1
    report = json.loads((folder / "report.json").read_text())
    assert (report["tracker"], report["dataset"], report["broken"]) == ("cv2:mil", "otb", {})
    assert report["paper"]["ROAM"] == {"AUC": 0.681}
    assert 0 < report["overall"]["success_auc"] < 1

    # again: nothing is tracked, and the numbers are the same
    before = (folder / "Near.txt").stat().st_mtime_ns
    assert command.main(args) == 0
    assert (folder / "Near.txt").stat().st_mtime_ns == before
    assert json.loads((folder / "report.json").read_text()) == report

    # two trackers in one table
    other = tmp_path / "other"
    other.mkdir()
    for name in ("Near", "Middle"):
        (other / f"{name}.txt").write_bytes((root / name / "groundtruth_rect.txt").read_bytes())
    args = ["--root", str(root), "--output", str(tmp_path), "--compare", str(folder), str(other)]
    capsys.readouterr()
    assert command.main(args) == 0
    out, err = capsys.readouterr()
    assert out.index("1. other") < out.index("2. cv2-mil") < out.index("ROAM in the paper")
    assert "left out: Far" in err
    assert set(json.loads((tmp_path / "otb/compare/report.json").read_text())["trackers"]) == {"other", "cv2-mil"}
    assert (tmp_path / "otb/compare/success.pdf").exists()

    # named by two options: the same two
    assert command.main([*args[:-1], "--compare", str(other)]) == 0
    assert "1. other" in capsys.readouterr().out
    assert set(json.loads((tmp_path / "otb/compare/report.json").read_text())["trackers"]) == {"other", "cv2-mil"}


def test_a_broken_sequence(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "data"
    for name in ("Near", "Middle"):
        (data / name / "img").mkdir(parents=True)
        for path in sorted((root / name / "img").iterdir()):
            (data / name / "img" / path.name).write_bytes(path.read_bytes())
        (data / name / "groundtruth_rect.txt").write_bytes((root / name / "groundtruth_rect.txt").read_bytes())
    (data / "Middle" / "img" / "0003.png").write_bytes(b"no picture")
    (data / "Lone" / "img").mkdir(parents=True)
    (data / "Lone" / "groundtruth_rect.txt").write_text("no box")
    args = ["--root", str(data), *MIL, "--output", str(tmp_path / "out")]
    assert command.main(args) == 3
    message = capsys.readouterr().err
    assert "not evaluated: Middle" in message
    assert "0003.png" in message
    report = json.loads((tmp_path / "out/otb/cv2-mil/report.json").read_text())
    assert list(report["sequences"]) == ["Near"]
    assert "0003.png" in report["broken"]["Middle"]
    assert "Lone" in report["broken"]["unreadable 1"]


def test_got10k_submission(write_got10k: Callable, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_got10k(tmp_path / "data", {"GOT-10k_Val_000001": 5})
    args = ["--dataset", "got10k", "--root", str(data / "val"), *MIL, "--output", str(tmp_path / "out")]
    assert command.main(args) == 0
    assert "submission.zip" in capsys.readouterr().out
    folder = tmp_path / "out/got10k/cv2-mil"
    assert (folder / "GOT-10k_Val_000001" / "GOT-10k_Val_000001_001.txt").exists()
    assert (folder / "submission.zip").exists()
    assert json.loads((folder / "report.json").read_text())["overall"]["frames"] == 4  # one is covered


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (["--root", "/no/such/folder"], 3, "no such folder"),
        (["--sequences", "Near,Fog"], 2, "'Fog'; there are Far, Middle, Near"),
        (["--tracker", "cv2:nano"], 2, NANO_FILES[0]),
        (["--output", "/dev/null/x", "--sequences", "Near"], 6, "/dev/null"),
        (["--workers", "-1"], 2, "--workers"),
        (["--compare", "/no/such/folder"], 3, "/no/such/folder should be a folder of result files"),
        (["--dataset", "fantasy"], 3, "'fantasy'"),
        (["--output", ""], 2, "the argument after --output is empty"),
    ],
)
def test_command_line_errors(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: list[str], code: int, words: str
) -> None:
    args = ["--root", str(root), *MIL, "--output", str(tmp_path), *change]
    try:
        returned = command.main(args)
    except SystemExit as stop:
        returned = stop.code
    assert returned == code
    message = capsys.readouterr().err
    assert words in message
    assert message.startswith("error: ")
    assert message.count("\n") == 1


def test_another_tracker_in_the_same_folder(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([]) == 2
    assert "--root" in capsys.readouterr().err
    folder = tmp_path / "otb" / "cv2-mil"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text('{"tracker": "cv2:mil", "opencv": "3.0"}')
    assert command.main(["--root", str(root), *MIL, "--output", str(tmp_path)]) == 2
    assert "results of another tracker" in capsys.readouterr().err


def test_still_pictures_are_not_tracked(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = [{"id": number, "image_id": 1, "bbox": [11, 13, 20, 16]} for number in (7, 8)]
    images = [{"id": 1, "file_name": "0001.png", "width": 120, "height": 90}]
    (tmp_path / "images").symlink_to(root / "Near" / "img")
    (tmp_path / "instances.json").write_text(json.dumps({"images": images, "annotations": notes}))
    args = ["--dataset", "coco", "--root", str(tmp_path), *MIL, "--output", str(tmp_path / "out")]
    assert command.main(args) == 3
    out, err = capsys.readouterr()
    assert err == (
        "error: there is nothing to track in still pictures, and the data hold nothing else: 2 of them, such as "
        "0001_7\n"
    )
    assert not out
    assert not (tmp_path / "out").exists()

    mixed = [*read_layout("coco", tmp_path), *read_layout("otb", root / "Near")]
    monkeypatch.setattr(layouts, "read_layout", lambda *_: mixed)
    assert command.main(args) == 0
    assert "still pictures, in which there is nothing to track: 2 left out" in capsys.readouterr().err
    assert list(json.loads((tmp_path / "out/coco/cv2-mil/report.json").read_text())["sequences"]) == ["Near"]


@pytest.mark.skipif(sys.platform == "win32", reason="has no such signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_workers_end_with_the_command(write_otb: Callable, tmp_path: Path, number: signal.Signals, code: int) -> None:
    data = write_otb(tmp_path / "data", {"Near": 4, "Endless": 4})
    images, boxes = data / "Endless" / "img", data / "Endless" / "groundtruth_rect.txt"
    for index in range(5, 2001):
        (images / f"{index:04d}.png").symlink_to(images / "0004.png")
    boxes.write_text(boxes.read_text() + "\n30,30,20,16" * 1996)
    command = [sys.executable, "-m", "roam_jax.evaluate", "--root", str(data), "--output", str(tmp_path / "out")]
    command += ["--tracker", "cv2:mil", "--workers", "2"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert process.stdout
        assert process.stdout.readline().startswith("Near: AUC")
        before = time.monotonic()
        process.send_signal(number)
        # the workers hold the other ends of these pipes: this returns when the last of them has ended
        _, errors = process.communicate(timeout=30)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == code
    assert time.monotonic() - before < 15, "about a second: nobody waits for the end of the sequence"
    assert (tmp_path / "out/otb/cv2-mil/Near.txt").exists()
    if number == signal.SIGTERM:
        assert errors == f"stopped; the sequences that were finished are in {tmp_path / 'out'}\n"
