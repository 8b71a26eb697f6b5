"""`--resume`: what was tracked before a crash is what a run without one would have written."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from standin import FRAMES, StandIn, make_frames, run

from roam_jax.video import resume
from roam_jax.video.files import VideoFile


class Savable(StandIn):
    """It learns from corrections, and can be kept."""

    def correct(self, image, box_xywh):
        self.box, self.updates = np.asarray(box_xywh, np.float32), self.updates + 10

    def save(self, directory):
        Path(directory).mkdir(parents=True)
        values = {"updates": self.updates, "box": self.box.tolist()}
        (Path(directory) / "state.json").write_text(json.dumps(values))

    @classmethod
    def restore(cls, directory):
        values = json.loads((Path(directory) / "state.json").read_text())
        tracker = cls()
        tracker.updates, tracker.box = values["updates"], np.array(values["box"], np.float32)
        return tracker


def make(checkpoint, config, count):
    return [Savable() for _ in range(count)]


def make_failing(error, at):
    return lambda checkpoint, config, count: [Savable(at, error), *(Savable() for _ in range(count - 1))]


def texts(folder: Path) -> dict[str, list[str]]:
    """Lines of the results, without the times that the tracker took."""
    said = {path.name: path.read_text().splitlines() for path in sorted(folder.glob("*.txt"))}
    rows = [json.loads(line) for line in (folder / "track.jsonl").read_text().splitlines()]
    return said | {"track.jsonl": [json.dumps({**row, "compute_seconds": 0}) for row in rows]}


@pytest.fixture(autouse=True)
def keep_each_frame(monkeypatch):
    monkeypatch.setattr(resume, "EVERY", 0.0)
    monkeypatch.setattr(resume, "SHARE", 1e9)


WAYS = {
    "one object": ("--box", "10,20,30,40"),
    "some frames": ("--box", "10,20,30,40", "--start", 1, "--step", 2),
    "several, a later one, and corrections": (
        "--boxes",
        "boxes.txt",
        "--correct",
        "corrections.txt",
        "--format",
        "csv",
    ),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("at", [2, 3])
def test_after_a_crash_the_texts_are_those_of_a_run_without_one(video, tmp_path, way, at, monkeypatch, capsys):
    (tmp_path / "boxes.txt").write_text("0,10,20,30,40\n3,50,20,20,20\n")
    (tmp_path / "corrections.txt").write_text("2,1,12,20,30,40\n6,2,55,20,20,20\n")
    monkeypatch.chdir(tmp_path)
    assert run(video, *WAYS[way], "--output", "whole", make_trackers=make) == 0
    assert not (tmp_path / "whole" / resume.FOLDER).exists()
    crash = make_failing(RuntimeError("a fault"), at + 10 * way.startswith("several"))
    with pytest.raises(RuntimeError, match="a fault"):
        run(video, *WAYS[way], "--output", "broken", make_trackers=crash)
    assert texts(tmp_path / "broken") != texts(tmp_path / "whole")
    capsys.readouterr()
    assert run("--resume", "broken", make_trackers=make) == 0
    assert texts(tmp_path / "broken") == texts(tmp_path / "whole")
    if (tmp_path / "whole" / "track.csv").exists():
        assert (tmp_path / "broken" / "track.csv").read_text().count("\n") == FRAMES + 5 + 1
    frames = [[each.image for each in VideoFile(tmp_path / name / "video.mp4").timed()] for name in ("whole", "broken")]
    assert len(frames[0]) == len(frames[1])
    for one, other in zip(*frames, strict=True):
        assert np.abs(one.astype(int) - other).mean() < 1
    assert not (tmp_path / "broken" / resume.FOLDER).exists()
    assert run("--resume", "broken", make_trackers=make) == 2
    assert "broken holds no run to resume" in capsys.readouterr().err


def test_lines_after_the_last_state_are_written_anew(video, out, monkeypatch):
    monkeypatch.setattr(resume, "EVERY", 1e9)  # none is kept
    with pytest.raises(RuntimeError):
        run(video, "--box", "10,20,30,40", "--output", out, make_trackers=make_failing(RuntimeError(), 5))
    assert len(texts(out)["boxes.txt"]) == 5
    assert run("--resume", out, make_trackers=make) == 0
    assert len(texts(out)["boxes.txt"]) == FRAMES


def test_ctrl_c_says_how_to_go_on(video, out, capsys, monkeypatch):
    monkeypatch.setattr(resume, "EVERY", 1e9)
    interrupt = {4: lambda: __import__("signal").raise_signal(2)}

    class Interrupted(Savable):
        def update(self, image):
            interrupt.pop(self.updates + 1, lambda: None)()
            return super().update(image)

    ways = {"make_trackers": lambda checkpoint, config, count: [Interrupted() for _ in range(count)]}
    assert run(video, "--box", "10,20,30,40", "--output", out, **ways) == 130
    assert f"go on with: python -m roam_jax.track --resume {out}" in capsys.readouterr().out
    assert len(texts(out)["boxes.txt"]) == 5
    assert run("--resume", out, make_trackers=make) == 0
    assert len(texts(out)["boxes.txt"]) == FRAMES


def test_what_cannot_be_resumed_is_said(video, tmp_path, out, capsys, monkeypatch):
    def said(*argv):
        assert run(*argv, make_trackers=make) == 2
        return capsys.readouterr().err.splitlines()[-1]

    out.mkdir()
    assert "holds no run to resume" in said("--resume", out)
    begin = (video, "--box", "10,20,30,40", "--output", out)
    with pytest.raises(RuntimeError):
        run(*begin, make_trackers=make_failing(RuntimeError(), 3))
    assert "leave out all others" in said("--resume", out, "--box", "1,2,3,4")
    (tmp_path / "elsewhere").mkdir()
    with monkeypatch.context() as patch:
        patch.chdir(tmp_path / "elsewhere")
        assert "resume it from there" in said("--resume", out)
    state = out / resume.FOLDER / "state.json"
    content = state.read_text()
    state.write_text(content[:10])
    assert "cannot be resumed: " in said("--resume", out)
    state.write_text(content)
    lines = (out / "boxes.txt").read_text()
    (out / "boxes.txt").write_text(lines[:4])
    assert run("--resume", out, make_trackers=make) == 6
    assert "has lost lines" in capsys.readouterr().err
    (out / "boxes.txt").write_text(lines)
    video.unlink()
    cv2.imwrite(str(video.with_suffix(".png")), make_frames(1)[0])
    assert run("--resume", out, make_trackers=make) == 3
    assert run(*begin[1:], "--backwards", video.with_suffix(".png"), make_trackers=make) == 0
    assert "holds no run to resume" in said("--resume", out)
