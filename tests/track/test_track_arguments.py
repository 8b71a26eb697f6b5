"""Arguments and settings, and one sentence for each that is wrong."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from standin import make_stand_ins, run

from roam_jax import presets, track
from roam_jax.cli import ExitCode
from roam_jax.config import Config
from roam_jax.errors import ModelError
from roam_jax.video.formats import read_boxes


def test_a_device_that_is_not_there_is_one_sentence(video, out):
    """In a process of its own: this one's JAX has started."""
    command = [sys.executable, "-m", "roam_jax.track", video, "--box", "10,20,30,40", "--output", out, "--no-video"]
    environment = {**os.environ, "JAX_PLATFORMS": "cuda"}
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert ended.returncode == ExitCode.USAGE, ended.stderr
    last = ended.stderr.splitlines()[-1]
    assert last == "error: JAX finds no device of the platform that JAX_PLATFORMS=cuda asks for"


BAD_BOXES = {
    "text": ("ten,20,30,40", "four numbers"),
    "three numbers": ("10,20,30", "four numbers"),
    "nan": ("nan,20,30,40", "not finite"),
    "zero size": ("10,20,0,40", "is empty"),
    "negative size": ("10,20,30,-1", "is empty"),
    "outside": ("500,20,30,40", "outside the image"),
    "beyond all images": ("10,20,1e30,1e30", "beyond 1,000,000 pixels"),
}


@pytest.mark.parametrize("kind", BAD_BOXES)
def test_a_bad_box_is_a_usage_error(video, out, capsys, kind):
    text, reason = BAD_BOXES[kind]
    assert run(video, f"--box={text}", "--output", out) == ExitCode.USAGE == 2
    error = capsys.readouterr().err
    assert reason in error
    assert error.startswith("error: ")
    assert len(error.splitlines()) == 1
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "name a video"),
        (["{video}", "--demo"], "--demo tracks its own clip"),
        (["{video}", "--box", "1,2,3,4", "--boxes", "x"], "either --box or --boxes"),
        (["{video}", "--boxes", "none.txt"], "no such file"),
        (["{video}", "--boxes", "."], "cannot be read: Is a directory"),
        ([""], "error: the first argument is empty: it should be the input, such as a video"),
        (["{video}", "--box", ""], "error: the argument after --box is empty"),
        (["{video}", "--box", "1,2,3,4", "--output", " "], "error: the argument after --output is empty"),
        (["{video}", "--box", "1,2,3,4", "--output="], "error: the argument after --output= is empty"),
        (["{video}", "--box", "1,2,3,4", "--fps", "-3"], "--fps must be between"),
        (["{video}", "--box", "1,2,3,4", "--nonsense"], "nrecognized"),
        (["{video}", "--box", "1,2,3,4", "--config.online.tau", "five"], "tau"),
    ],
)
def test_wrong_arguments_are_usage_errors(video, capsys, words, reason):
    assert run(*(word.format(video=video) for word in words)) == ExitCode.USAGE
    assert reason in capsys.readouterr().err


@pytest.mark.skipif(not os.path.exists("/dev/fd"), reason="needs files that are no files")
def test_a_boxes_file_may_be_a_device_or_a_pipe(video, out, capsys):
    assert run(video, "--boxes", "/dev/null", "--output", out) == ExitCode.USAGE
    assert "/dev/null should hold one box x,y,w,h or frame,x,y,w,h per line, but it is empty" in capsys.readouterr().err
    reading, writing = os.pipe()  # as a shell makes of <(...)
    os.write(writing, b"10,20,30,40\n")
    os.close(writing)
    assert run(video, "--boxes", f"/dev/fd/{reading}", "--output", out) == ExitCode.SUCCESS
    os.close(reading)
    np.testing.assert_array_equal(read_boxes(out / "boxes.txt")[0], [10, 20, 30, 40])


def test_an_empty_setting_is_not_refused(video, out, monkeypatch):
    monkeypatch.setattr(track, "read_config", lambda checkpoint: presets.tiny())
    assert run(video, "--box", "10,20,30,40", "--output", out, "--config.backbone.weights", "") == ExitCode.SUCCESS


def test_the_input_is_never_replaced_by_the_results(tmp_path, video, capsys):
    video.rename(tmp_path / "video.mp4")
    before = (tmp_path / "video.mp4").read_bytes()
    assert run(tmp_path / "video.mp4", "--box", "1,2,30,40", "--output", tmp_path) == ExitCode.USAGE
    assert "would replace the input" in capsys.readouterr().err
    assert run(tmp_path / "video.mp4", "--box", "1,2,30,40", "--output", tmp_path, "--no-video") == ExitCode.USAGE
    assert (tmp_path / "video.mp4").read_bytes() == before


@pytest.mark.parametrize("name", ["boxes.txt", "boxes_2.txt"])
def test_the_boxes_file_is_never_replaced_by_the_results(tmp_path, video, out, capsys, name):
    out.mkdir()
    (out / name).write_text("10,20,30,40\n")
    assert run(video, "--boxes", out / name, "--output", out) == ExitCode.USAGE
    assert f"would replace the input {out / name}" in capsys.readouterr().err
    assert (out / name).read_text() == "10,20,30,40\n"


def test_unreadable_inputs_are_input_errors(tmp_path, out, capsys):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.avi").write_text("no video")
    (tmp_path / "folder").mkdir()
    for name in ("none.mp4", "empty.mp4", "text.avi", "folder", "*.png"):
        assert run(tmp_path / name, "--box", "1,2,30,40", "--output", out) == ExitCode.INPUT == 3
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert len(error.splitlines()) == 1


def test_an_output_that_cannot_be_written_is_noticed_first(video, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")

    def never(*_):
        pytest.fail("the tracker was made")

    words = (video, "--box", "10,20,30,40", "--output", tmp_path / "file")
    assert run(*words, make_trackers=never) == ExitCode.OUTPUT == 6
    assert "cannot be written" in capsys.readouterr().err


def test_a_checkpoint_that_cannot_be_used_is_one_sentence(video, out, tmp_path, capsys):
    def refuse(*_):
        raise ModelError("no such checkpoint")

    assert run(video, "--box", "10,20,30,40", "--output", out, make_trackers=refuse) == ExitCode.CHECKPOINT == 5
    assert "no such checkpoint" in capsys.readouterr().err
    words = (video, "--box", "10,20,30,40", "--output", out, "--checkpoint", tmp_path / "none")
    assert run(*words, "--config.online.tau", "3") == ExitCode.CHECKPOINT
    assert "there is no checkpoint" in capsys.readouterr().err
    assert run(*words, make_trackers=None) == ExitCode.CHECKPOINT
    assert "there is no checkpoint" in capsys.readouterr().err


def test_settings_start_from_those_of_the_checkpoint(video, out, monkeypatch):
    seen = []

    def remember(checkpoint, config, count):
        seen.append((checkpoint, config))
        return make_stand_ins(checkpoint, config, count)

    monkeypatch.setattr(track, "read_config", lambda checkpoint: presets.tiny())
    words = (video, "--box", "10,20,30,40", "--output", out, "--checkpoint", "mine")
    assert run(*words, make_trackers=remember) == ExitCode.SUCCESS
    assert seen.pop() == ("mine", None), "the checkpoint's own"
    options = ("--config.online.tau", "7", "--config.online.no-regression", "--config.model.aspects", "0.9", "1.1")
    assert run(*words, *options, make_trackers=remember) == ExitCode.SUCCESS
    _, config = seen.pop()
    assert (config.online.tau, config.online.regression, config.model.aspects) == (7, False, (0.9, 1.1))
    assert config.backbone == presets.tiny().backbone
    assert config.online.memory == presets.tiny().online.memory
    assert run(*words, "--config.online.tau", "0", make_trackers=remember) == ExitCode.USAGE
    assert not seen


@pytest.mark.parametrize(
    "setting",
    [
        "model.map-size=29",
        "model.patch-size=200",
        "model.roi-scale=0",
        "online.accept-score=nan",
        "online.lost-score=inf",
        "online.motion-sigma=0",
        "online.memory=1000000",
        "optimizer.hidden=0",
    ],
)
def test_a_setting_out_of_its_range_is_a_usage_error(video, out, capsys, monkeypatch, setting):
    monkeypatch.setattr(track, "read_config", lambda checkpoint: presets.lite())
    assert run(video, "--box", "10,20,30,40", "--output", out, f"--config.{setting}") == ExitCode.USAGE == 2
    error = capsys.readouterr().err
    section = setting.split(".")[0]
    assert re.fullmatch(rf"error: {section}\.\w+ must be .*, but is .*\n", error)
    assert not out.exists()


def test_settings_are_listed_with_the_values_of_the_checkpoint(capsys, monkeypatch):
    monkeypatch.setattr(track, "read_config", lambda checkpoint: presets.tiny())
    assert run("--settings") == ExitCode.SUCCESS
    text = capsys.readouterr().out
    assert "--config.online.tau INT" in text
    assert re.search(r"frames between two model updates \(official\)\s+│?\s*\(default: 2\)", text)
    sections = {section.name for section in dataclasses.fields(Config)}
    assert {name for name in sections if f"--config.{name}." in text} == set(track.SECTIONS) < sections


def test_the_listed_settings_are_those_that_the_tracker_reads():
    """As its source says: what it calls down to the method, by the names of the sections."""
    package = Path(track.__file__).parent
    files = [
        path for part in ("tracking", "patches", "backbones", "extensions") for path in (package / part).glob("*.py")
    ]
    source = "".join(path.read_text(encoding="utf-8") for path in (*files, package / "method.py"))
    read = {s.name for s in dataclasses.fields(Config) if re.search(rf"\b(config|c)\.{s.name}\b", source)}
    assert read == set(track.SECTIONS)


def test_help_is_quick_complete_and_starts_no_jax():
    program = "import sys; from roam_jax.track import main; sys.exit(main(['--help']) + 10 * ('jax' in sys.modules))"
    start = time.perf_counter()
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    seconds = time.perf_counter() - start
    assert result.returncode == 0, result.stderr
    assert seconds < 10, "about one second on an idle machine"
    for option in ("--box", "--boxes", "--demo", "--checkpoint", "--output", "--no-video", "--one-based", "--settings"):
        assert option in result.stdout
    for code, meaning in track.MEANINGS.items():
        assert re.search(rf"^\s+{int(code)}  {re.escape(meaning)}$", result.stdout, re.MULTILINE)


def test_the_module_runs_as_a_program(tmp_path):
    command = [sys.executable, "-m", "roam_jax.track", str(tmp_path / "none.mp4"), "--box", "1,2,3,4"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, "DISPLAY": ""})
    assert result.returncode == ExitCode.INPUT
    assert result.stderr.strip() == f"error: there is no file or folder {tmp_path / 'none.mp4'}"
