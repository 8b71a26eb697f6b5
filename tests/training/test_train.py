"""The command: what it refuses, and that stopping and killing it changes nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from roam_jax import presets
from roam_jax.checkpoints import load_checkpoint, load_tree
from roam_jax.cli import ExitCode
from roam_jax.config import Config
from roam_jax.data.synthetic import synthetic_sequence
from roam_jax.train import MEANINGS, main, parse_args
from roam_jax.training.runs import create_run

STEPS = 16
COMMON = (
    "--preset", "tiny", "--data", "synthetic", "--steps", STEPS, "--devices", 1, "--no-tensorboard",
    "--config.run.save-every", 3, "--config.run.validate-every", 8, "--config.run.hold-out", 0.1,
    "--config.run.validate-batches", 1, "--config.meta.model-rate", 1e-3, "--config.meta.lambda-rate", 1e-3,
)  # fmt: skip


@pytest.mark.parametrize(
    ("argv", "code", "sentence"),
    [
        ([], 2, "name what to learn from"),
        (["--data", "synthetic"], 2, "name a folder for the run"),
        (["--data", "synthetic", "--output", "{tmp}/new", "--preset", "huge"], 2, "no preset is called 'huge'"),
        (["--data", "videos:{tmp}/nothing", "--output", "{tmp}/new"], 3, "nothing"),
        (["--data", "clips", "--output", "{tmp}/new"], 2, "a source should be LAYOUT:ROOT"),
        (["--data", "videos:{tmp}@-1", "--output", "{tmp}/new"], 2, "a weight, a number from 0 on, behind @"),
        (["--data", "videos:{tmp}@1e999", "--output", "{tmp}/new"], 2, "the weight of {tmp} should be"),
        (["--data", "synthetic", "--output", "{tmp}/new", "--track", "otb:{tmp}@abc"], 2, "but has 'abc'"),
        (["--data", "synthetic", "--output", ""], 2, "the argument after --output is empty"),
        (["--data", "synthetic", "--output", "{tmp}/run"], 6, "holds a run already"),
        (["--data", "synthetic", "--output", "{tmp}"], 6, "not empty"),
        (["--resume", "{tmp}"], 6, "no run to resume"),
        (["--resume", "{tmp}/run", "--seed", "1"], 2, "leave out --seed"),
        (["--resume", "{tmp}/run", "--config.meta.batch=4"], 2, "leave out --config.meta.batch"),
        (["--data", "synthetic", "--output", "{tmp}/new", "--config.unroll.tests", "99"], 2, "unroll.tests must be"),
        (
            ["--data", "synthetic", "--output", "{tmp}/new", "--config.model.map-size", "17"],
            2,
            "model.map_size must be",
        ),
        (["--data", "synthetic", "--output", "{tmp}/new", "--config.optimizer.hidden", "0"], 2, "hidden must be 1 to"),
        (["--data", "synthetic", "--output", "{tmp}/new", "--config.online.lost-score=nan"], 2, "lost_score must be"),
        (["--data", "synthetic", "--output", "{tmp}/new", "--steps=-1"], 2, "meta.steps must be 0 to"),
        (["--data", "synthetic", "--output", "{tmp}/new", "--seed=-1"], 2, "--seed must be 0 to 2147483647, but is -1"),
        (["--data", "synthetic", "--output", "{tmp}/new", f"--seed={2**64}"], 2, "--seed must be 0 to"),
        (["--data", "synthetic", "--output", "{tmp}/new", "--cache-clips=0"], 2, "--cache-clips must be 1 to"),
        (["--data", "synthetic", "--output", "{tmp}/new", "--track-frames=-1"], 2, "--track-frames must be 0 to"),
        (["--data", "synthetic", "--output", "{tmp}/new", "--devices=-1"], 2, "--devices must be 0 to"),
        (["--data", "synthetic", "--output", "{tmp}/new", "--processes=0"], 2, "--processes must be 1 to"),
        (
            [
                "--data",
                "videos:{tmp}/nothing",
                "--output",
                "{tmp}/new",
                "--config.model.stride=4",
                "--config.model.map-size=56",
            ],
            2,
            "backbone 'lite' has stride 8",
        ),
        (
            ["--preset", "tiny", "--data", "synthetic", "--output", "{tmp}/new", "--config.optimizer.kind", "adam"],
            2,
            "no optimizer is called 'adam'; there are lstm, gru, fc, constant, sgd",
        ),
        (
            ["--preset", "tiny", "--data", "synthetic", "--output", "{tmp}/new", "--config.backbone.name", "resnet"],
            2,
            "no trunk is called 'resnet'; there are lite, tiny, vgg10, vgg12",
        ),
        (["--data", "synthetic", "--output", "{tmp}/new", "--processes", "2"], 2, "--coordinator"),
        (["--data", "synthetic", "--output", "{tmp}/new", "--process", "1"], 2, "--process must be"),
    ],
)
def test_bad_input_is_one_sentence_and_a_code(argv, code, sentence, tmp_path, capsys):
    create_run(tmp_path / "run", presets.tiny(), {"seed": 0})
    assert main([part.replace("{tmp}", str(tmp_path)) for part in argv]) == code
    said = capsys.readouterr().err.strip()
    assert sentence.replace("{tmp}", str(tmp_path)) in said
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("content", [None, b"no weights"], ids=["missing", "damaged"])
def test_weights_that_cannot_be_used_are_code_5(content, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("roam_jax.training.parallel.start_devices", lambda *_, **__: None)  # JAX may run already
    path = tmp_path / "bad.npz"
    if content is not None:
        path.write_bytes(content)
    argv = ["--preset", "tiny", "--data", "synthetic", "--output", str(tmp_path / "new")]
    assert main([*argv, "--config.backbone.weights", str(path)]) == ExitCode.CHECKPOINT == 5
    said = capsys.readouterr().err.strip()
    assert str(path) in said
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "new").exists()


def test_every_setting_is_an_option():
    argv = ["--data", "synthetic", "--output", "x", "--preset", "paper", "--config.meta.batch", "4", "--steps", "9"]
    _, config = parse_args([*argv, "--config.optimizer.kind", "gru"])
    assert (config.meta.batch, config.meta.total_steps, config.optimizer.kind) == (4, 9, "gru")
    assert config.backbone == presets.paper().backbone
    assert config.loss == presets.paper().loss


def test_help_tells_the_exit_codes(capsys):
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    for code, meaning in MEANINGS.items():
        assert f"  {code.value}  {meaning}" in text


def test_a_batch_can_be_looked_at(tmp_path):
    picture = tmp_path / "batch.png"
    assert main(["--preset", "tiny", "--data", "synthetic", "--show-batch", str(picture)]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.fixture(scope="module")
def train(start, tmp_path_factory):
    """Starts the command in a process of its own; `finish` waits for it."""
    logs = tmp_path_factory.mktemp("logs")

    class Process:
        def __init__(self, *argv):
            self.log = logs / f"{len(list(logs.iterdir()))}.txt"
            self.process = start("-m", "roam_jax.train", *argv, log=self.log)

        def finish(self, code):
            assert self.process.wait(1800) == code, self.log.read_text()

        def wait_until(self, happened, signal_number):
            """Send a signal as soon as something has happened."""
            deadline = time.monotonic() + 1800
            while not happened():
                assert self.process.poll() is None, f"it ended before:\n{self.log.read_text()}"
                assert time.monotonic() < deadline
                time.sleep(0.002)
            os.kill(self.process.pid, signal_number)

    return Process


@pytest.fixture(scope="module")
def uninterrupted(train, tmp_path_factory) -> Path:
    """Folder of a run that nothing has disturbed."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    train(*COMMON, "--output", folder).finish(0)
    return folder


def last_state(folder: Path) -> dict[str, np.ndarray]:
    tree, metadata = load_tree(folder / "checkpoints" / f"{STEPS:06d}")
    flat = {}

    def walk(value, path):
        if isinstance(value, dict):
            for key, part in value.items():
                walk(part, f"{path}/{key}")
        else:
            flat[path] = value

    walk(tree, "")
    assert metadata["step"] == STEPS
    return flat


def checkpoints_of(folder: Path) -> list[Path]:
    return sorted((folder / "checkpoints").iterdir())


def lines(folder: Path) -> int:
    log = folder / "log.jsonl"
    return log.read_bytes().count(b"\n") if log.exists() else 0


def test_a_run_leaves_a_tracker_and_says_what_it_was(uninterrupted):
    checkpoint = load_checkpoint(uninterrupted / "tracker")
    assert checkpoint.config.meta.steps == STEPS
    assert "- loss: " in checkpoint.card
    about = json.loads((uninterrupted / "run.json").read_text())
    assert about["data"] == ["synthetic"]
    assert len(about["data_digest"]) == 64
    assert "--preset tiny" in about["command"]
    assert Config.from_dict(json.loads((uninterrupted / "config.json").read_text())) == checkpoint.config
    start, end = (load_tree(path)[0]["learned"]["theta0"] for path in checkpoints_of(uninterrupted)[:2])
    assert not np.array_equal(start["cf"]["filters"], end["cf"]["filters"])


def test_killed_and_stopped_at_several_moments_it_ends_the_same(uninterrupted, train, tmp_path):
    folder = tmp_path / "run"
    run = train(*COMMON, "--output", folder)
    run.wait_until(lambda: lines(folder) >= 5, signal.SIGKILL)  # between two checkpoints
    run.finish(-signal.SIGKILL)

    run = train("--resume", folder, "--devices", 1, "--no-tensorboard")
    run.wait_until(lambda: list((folder / "checkpoints").glob(".000006.*")), signal.SIGKILL)  # while one is written
    run.finish(-signal.SIGKILL)

    run = train("--resume", folder, "--devices", 1, "--no-tensorboard")
    seen = []  # the killed run may have been at line 9 already: this one cuts the log before it goes on

    def logged_again():
        seen.append(lines(folder))
        return min(seen) < 9 <= seen[-1]

    run.wait_until(logged_again, signal.SIGTERM)
    run.finish(ExitCode.STOPPED)
    assert "go on with" in run.log.read_text()

    train("--resume", folder, "--devices", 1, "--no-tensorboard").finish(0)
    ours, theirs = last_state(folder), last_state(uninterrupted)
    assert ours.keys() == theirs.keys()
    for key in ours:
        np.testing.assert_array_equal(ours[key], theirs[key], err_msg=key)
    assert (folder / "log.jsonl").read_bytes() == (uninterrupted / "log.jsonl").read_bytes()
    assert [path.name for path in checkpoints_of(folder)] == [path.name for path in checkpoints_of(uninterrupted)]
    best = [json.loads((path / "best.json").read_text()) for path in (folder, uninterrupted)]
    assert best[0] == best[1]


def test_two_processes_are_as_good_as_one_and_save_once(uninterrupted, train, tmp_path):
    """The same parameters and moments of the meta-gradient, on two devices of two processes."""
    folder = tmp_path / "run"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    both = [
        train(*COMMON, "--output", folder, "--coordinator", address, "--processes", 2, "--process", index)
        for index in range(2)
    ]
    for process in both:
        process.finish(0)
    ours, theirs = last_state(folder), last_state(uninterrupted)
    for key in theirs:
        np.testing.assert_allclose(ours[key], theirs[key], rtol=1e-4, atol=1e-5, err_msg=key)
    assert [path.name for path in checkpoints_of(folder)] == [path.name for path in checkpoints_of(uninterrupted)]
    assert lines(folder) == lines(uninterrupted)
    assert load_checkpoint(folder / "tracker").config == load_checkpoint(uninterrupted / "tracker").config


@pytest.fixture
def pictures(tmp_path):
    """Folder of four sequences of pictures, one of which has a picture that cannot be read; and that sequence."""
    for number in range(4):
        folder = tmp_path / "data" / f"s{number}"
        folder.mkdir(parents=True)
        sequence = synthetic_sequence(number, length=6, height=80, width=80)
        for index, frame in enumerate(sequence.frames):
            cv2.imwrite(str(folder / f"{index}.png"), frame)
        np.savetxt(folder / "groundtruth.txt", sequence.boxes_xywh, delimiter=",")
    (tmp_path / "data" / "s1" / "3.png").write_bytes(b"no picture")
    return tmp_path / "data", tmp_path / "data" / "s1"


def test_more_than_the_limit_ends_the_run(pictures, tmp_path, capsys):
    data, _ = pictures
    argv = ["--preset", "tiny", "--data", f"images:{data}", "--show-batch", str(tmp_path / "batch.png")]
    argv += ["--config.run.hold-out", "0", "--config.meta.batch", "12"]
    assert main([*argv, "--config.run.max-skipped", "0"]) == ExitCode.INPUT
    assert "3.png should be a picture" in capsys.readouterr().err
    assert main([*argv, "--config.run.max-skipped", "1"]) == 0


def test_what_cannot_be_read_is_left_out_named_and_may_be_removed(pictures, train, tmp_path):
    data, sequence = pictures
    folder = tmp_path / "run"
    options = [f"images:{data}" if part == "synthetic" else part for part in COMMON]
    run = train(*options, "--config.run.hold-out", 0, "--output", folder)
    run.finish(0)
    assert run.log.read_text().count("left out, as it could not be read: s1: ") == 1
    (entry,) = json.loads((folder / "skipped_0.json").read_text())
    assert (entry["name"], entry["place"]) == ("s1", 1)
    whole, log = last_state(folder), (folder / "log.jsonl").read_bytes()

    shutil.rmtree(sequence)
    for path in checkpoints_of(folder)[1:]:
        shutil.rmtree(path)
    run = train("--resume", folder, "--devices", 1, "--no-tensorboard")
    run.finish(0)
    assert "going on with" in run.log.read_text()
    assert "left out, as it could not be read: s1: " in run.log.read_text()
    for key, value in last_state(folder).items():
        np.testing.assert_array_equal(value, whole[key], err_msg=key)
    assert (folder / "log.jsonl").read_bytes() == log
