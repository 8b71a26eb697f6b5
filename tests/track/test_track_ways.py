"""How frames are watched and in which order: windows, backwards, corrections, pipes."""

from __future__ import annotations

import os
import sys
import threading

import numpy as np
import pytest
from standin import FRAMES, SIZE_HW, StandIn, run

from roam_jax import track
from roam_jax.cli import ExitCode
from roam_jax.errors import DisplayError, ModelError, UsageError
from roam_jax.video import session
from roam_jax.video.files import VideoFile
from roam_jax.video.formats import read_boxes, read_observations
from roam_jax.video.select import Wish


def test_without_box_and_display_there_is_one_sentence(video, out, capsys, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    for words in ([], ["--box", "1,2,30,40", "--show"]):
        assert run(video, *words, "--output", out) == ExitCode.DISPLAY == 4
        error = capsys.readouterr().err
        assert "a window is needed" in error
        assert len(error.splitlines()) == 1


def test_the_box_can_be_drawn(video, out, monkeypatch):
    def draw(image):
        return np.array([3, 4, image.shape[0] // 4, 20], np.float32)

    monkeypatch.setattr("roam_jax.video.select.select_box", draw)
    assert run(video, "--output", out) == ExitCode.SUCCESS
    np.testing.assert_array_equal(read_boxes(out / "boxes.txt")[0], [3, 4, SIZE_HW[0] // 4, 20])


def test_showing_ends_when_the_user_says_so(video, out, monkeypatch):
    shown = []
    monkeypatch.setattr(track, "require_display", lambda purpose: None)
    wishes = [Wish.GO_ON, Wish.GO_ON, Wish.END]
    monkeypatch.setattr(session, "show_frame", lambda image: shown.append(image) or wishes.pop(0))
    assert run(video, "--box", "10,20,30,40", "--show", "--output", out) == ExitCode.SUCCESS
    assert len(read_boxes(out / "boxes.txt")) == len(shown) == 3


def test_a_box_can_be_drawn_again_while_it_runs(video, out, monkeypatch):
    wishes = [Wish.GO_ON, Wish.DRAW, Wish.DRAW, Wish.GO_ON, Wish.END]
    drawn = iter([np.array([50, 40, 20, 10], np.float32)])

    def draw(image):
        try:
            return next(drawn)
        except StopIteration:
            raise UsageError("no box was drawn") from None

    monkeypatch.setattr(track, "require_display", lambda purpose: None)
    monkeypatch.setattr(session, "show_frame", lambda image: wishes.pop(0))
    monkeypatch.setattr(session, "select_box", draw)
    assert run(video, "--box", "10,20,30,40", "--show", "--output", out) == ExitCode.SUCCESS
    expected = [[10, 20, 30, 40], [11, 20, 30, 40], [51, 40, 20, 10], [52, 40, 20, 10], [53, 40, 20, 10]]
    np.testing.assert_array_equal(read_boxes(out / "boxes.txt"), expected)


def test_both_ways_from_a_frame_in_the_middle(video, out):
    assert run(video, "--start", "3", "--both", "--box", "50,20,30,40", "--output", out) == ExitCode.SUCCESS
    rows = read_observations(out / "track.jsonl")
    assert [row["frame"] for row in rows] == list(range(FRAMES))
    assert [row["box"][0] for row in rows] == [53, 52, 51, 50, 51, 52, 53, 54]
    assert len(read_boxes(out / "boxes.txt")) == len(list(VideoFile(out / "video.mp4"))) == FRAMES


def test_backwards_from_a_frame_or_the_last_one(video, out):
    assert run(video, "--backwards", "--box", "50,20,30,40", "--output", out) == ExitCode.SUCCESS
    rows = read_observations(out / "track.jsonl")
    assert [(row["frame"], row["box"][0]) for row in rows] == [(i, 50 + FRAMES - 1 - i) for i in range(FRAMES)]
    words = ("--start", "5", "--stop", "1", "--step", "2")
    assert run(video, "--backwards", "--box", "50,20,30,40", "--output", out, *words) == ExitCode.SUCCESS
    rows = read_observations(out / "track.jsonl")
    assert [(row["frame"], row["box"][0]) for row in rows] == [(3, 51), (5, 50)]


def test_what_goes_wrong_on_the_way_back_loses_nothing(video, out, capsys):
    def fails(*_):
        return [StandIn(fails_at=3, error=ModelError("it broke"))]

    words = ("--backwards", "--box", "50,20,30,40", "--output", out)
    assert run(video, *words, make_trackers=fails) == ExitCode.CHECKPOINT
    assert [row["frame"] for row in read_observations(out / "track.jsonl")] == [5, 6, 7]
    assert capsys.readouterr().err.splitlines()[-1] == "error: it broke"


def test_objects_may_appear_later_and_boxes_be_corrected(video, out, tmp_path):
    (tmp_path / "starts.txt").write_text("0,10,20,30,40\n3,60,20,30,40\n")
    (tmp_path / "later.txt").write_text("2,1,15,20,30,40\n5,2,70,20,30,40\n")
    words = ("--boxes", tmp_path / "starts.txt", "--correct", tmp_path / "later.txt", "--output", out)
    assert run(video, *words) == ExitCode.SUCCESS
    np.testing.assert_array_equal(read_boxes(out / "boxes_1.txt")[:, 0], [10, 11, 15, 16, 17, 18, 19, 20])
    np.testing.assert_array_equal(read_boxes(out / "boxes_2.txt")[:, 0], [np.nan] * 3 + [60, 61, 70, 71, 72])


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--both",), "--both needs the frame of the box"),
        (("--both", "--backwards"), "either --backwards or --both"),
        (("--backwards", "--step", "0"), "--step must be at least 1"),
        (("--correct", "{file}"), "names object 7, but there are 1"),
        (("--correct", "{wrong}"), "should be five or six numbers"),
    ],
)
def test_ways_that_cannot_be_gone(video, out, tmp_path, capsys, words, reason):
    (tmp_path / "file").write_text("2,7,15,20,30,40\n")
    (tmp_path / "wrong").write_text("15,20,30,40\n")
    words = [word.format(file=tmp_path / "file", wrong=tmp_path / "wrong") for word in words]
    assert run(video, "--box", "50,20,30,40", "--output", out, *words) == ExitCode.USAGE
    assert reason in capsys.readouterr().err


def test_a_pipe_is_tracked_and_a_file_is_not_live(video, out, tmp_path, capsys):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for words in ((), ("--live",)):
        threading.Thread(target=pipe.write_bytes, args=[video.read_bytes()], daemon=True).start()
        assert run(pipe, "--box", "10,20,30,40", "--output", out, *words) == ExitCode.SUCCESS
        frames = [row["frame"] for row in read_observations(out / "track.jsonl")]
        assert frames[0] == 0
        assert frames == list(range(FRAMES)) if not words else set(frames) <= set(range(FRAMES))
    assert run(video, "--live", "--box", "10,20,30,40", "--output", out) == ExitCode.USAGE
    assert "--live is for cameras and streams" in capsys.readouterr().err


def test_a_display_that_is_missing_is_noticed_before_anything_is_tracked(video, out, monkeypatch):
    def refuse(purpose):
        raise DisplayError("none")

    monkeypatch.setattr(track, "require_display", refuse)
    assert run(video, "--box", "10,20,30,40", "--show", "--output", out) == ExitCode.DISPLAY
    assert not out.exists()
