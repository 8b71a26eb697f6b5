"""Exported programs give the tracker's boxes, to a process that has jax and numpy alone."""

from __future__ import annotations

import json
import subprocess
import sys

import jax.export
import numpy as np
import pytest

from roam_jax import export
from roam_jax.checkpoints import save_checkpoint
from roam_jax.cli import ExitCode
from roam_jax.tracking.exported import load_exported, write_exported
from roam_jax.tracking.tracker import Tracker

SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
import numpy as np
from tracker import Tracker
video, box = np.load(sys.argv[2]), [40, 30, 24, 18]
tracker = Tracker()
tracker.init(video[0], box)
np.save(sys.argv[3], [[*tracker.update(image), tracker.score, tracker.lost] for image in video[1:]])
assert not {"roam_jax", "cv2", "flax", "orbax"} & set(sys.modules)
"""


@pytest.fixture(scope="module")
def tracker(checkpoint):
    return Tracker(checkpoint, crop="device")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tracker):
    folder = tmp_path_factory.mktemp("export") / "new"
    write_exported(folder, tracker.online, tracker.params, ["cpu", "cuda"])
    return folder


def test_they_give_the_boxes_of_the_tracker(folder, tracker, video, box_xywh, tmp_path):
    np.save(tmp_path / "video.npy", video)
    paths = [folder, tmp_path / "video.npy", tmp_path / "said.npy"]
    subprocess.run([sys.executable, "-c", SCRIPT, *map(str, paths)], check=True, timeout=120)
    tracker.init(video[0], box_xywh)
    expected = [[*tracker.update(image), tracker.score, tracker.lost] for image in video[1:]]
    np.testing.assert_allclose(np.load(tmp_path / "said.npy"), expected, atol=1e-3)
    assert np.ptp(expected, axis=0)[:2].min() > 1, "the box moves"


def test_frames_of_another_size_need_no_other_programs(folder, video, box_xywh):
    wide, usual = np.pad(video, ((0, 0), (0, 9), (0, 30), (0, 0))), load_exported(folder)
    usual.init(wide[0], box_xywh)
    assert usual.update(wide[1]).shape == (4,)
    np.testing.assert_array_equal(usual.state["image_wh"], [wide.shape[2], wide.shape[1]])


def test_the_manifest_names_what_the_programs_take_and_give(folder, tracker):
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["platforms"] == ["cpu", "cuda"]
    assert manifest["versions"]["jax"] == jax.__version__
    weights = dict(np.load(folder / manifest["weights"]))
    for name in ("start", "step"):
        about = manifest["programs"][name]
        program = jax.export.deserialize(bytearray((folder / about["file"]).read_bytes()))
        assert program.platforms == ("cpu", "cuda")
        for part, shapes in (("inputs", program.in_avals), ("outputs", program.out_avals)):
            told = [(tuple(map(str, each["shape"])), each["dtype"]) for each in about[part]]
            assert told == [(tuple(map(str, shape.shape)), str(shape.dtype)) for shape in shapes]
        named = {each["name"].removeprefix("weights/"): each for each in about["inputs"]}
        assert weights.keys() <= named.keys()
        assert all(list(weights[key].shape) == named[key]["shape"] for key in weights)
        assert named["image"]["shape"] == ["height", "width", 3]
    assert [each["name"] for each in about["outputs"]][-3:] == ["box_xywh", "lost", "score"]


def test_the_command_checks_what_it_has_written(checkpoint, tmp_path, capsys, monkeypatch):
    save_checkpoint(tmp_path / "tiny", checkpoint)
    monkeypatch.setattr(export, "FRAMES", 3)
    argv = [str(tmp_path / "new"), "--checkpoint", str(tmp_path / "tiny")]
    assert export.main(argv) == ExitCode.SUCCESS
    assert "checked on 3 frames: boxes within" in capsys.readouterr().out
    monkeypatch.setattr(export, "AGREE_PX", -1.0)
    assert export.main(argv) == ExitCode.OUTPUT
    assert "does not give the tracker's boxes" in capsys.readouterr().err
    assert export.main([*argv, "--platforms", "cuda"]) == ExitCode.SUCCESS
    assert "not checked: this machine's cpu is not among the platforms" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "code", "reason"),
    [
        (["{tmp}/new", "--platforms", "abacus"], 2, "abacus"),
        (["{tmp}/new", "--platforms"], 2, "--platforms"),
        ([""], 2, "the first argument is empty: it should be the folder to write to"),
        (["{tmp}/new", "--checkpoint", "{tmp}"], 5, "is no checkpoint"),
        (["{tmp}/file", "--no-check"], 6, "File exists"),
    ],
)
def test_what_goes_wrong_is_a_sentence_and_a_code(argv, code, reason, tmp_path, capsys, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr("roam_jax.tracking.exported._functions", lambda *_: [])  # it fails before
    assert export.main([word.format(tmp=tmp_path) for word in argv]) == code
    assert reason in capsys.readouterr().err
