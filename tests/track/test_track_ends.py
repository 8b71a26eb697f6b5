"""What stops the command loses nothing."""

from __future__ import annotations

import os
import signal
import time

import av
import cv2
import pytest
from standin import SIZE_HW, StandIn, make_frames, run

from roam_jax.cli import ExitCode
from roam_jax.video.files import VideoFile
from roam_jax.video.formats import read_boxes, read_observations


@pytest.mark.parametrize("problem", ["picture", "size", "gone"])
def test_a_broken_frame_leaves_what_was_tracked(sequence, out, capsys, problem):
    path = sequence / "img" / "0005.jpg"
    if problem == "picture":
        path.write_bytes(path.read_bytes()[:100])
    elif problem == "size":
        cv2.imwrite(str(path), make_frames(1, (50, 60))[0])
    else:
        path.unlink()
        path.mkdir()
    assert run(sequence, "--output", out) == ExitCode.INPUT
    shown = capsys.readouterr()
    assert len(read_boxes(out / "boxes.txt")) == len(read_observations(out / "track.jsonl")) == 4
    assert len(list(VideoFile(out / "video.mp4"))) == 4
    assert "4 frames tracked" in shown.out
    assert "success AUC" in shown.out
    assert {"picture": "cannot be decoded", "size": "changes its size", "gone": "cannot be read"}[problem] in shown.err


def test_a_truncated_video_is_tracked_to_its_end_and_reported(tmp_path, out, capsys):

    path = tmp_path / "a.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.height, stream.width = SIZE_HW
        for frame in make_frames(40):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 7 // 10])
    assert run(path, "--box", "10,20,30,40", "--output", out) == ExitCode.INPUT
    count = len(read_boxes(out / "boxes.txt"))
    assert 0 < count < 40
    assert f"it ends after {count} of 40 frames" in capsys.readouterr().err
    assert len(list(VideoFile(out / "video.mp4"))) == count


@pytest.mark.parametrize("fails_at", [1, 5])
def test_ctrl_c_leaves_what_was_tracked(video, out, capsys, fails_at):
    def stop(*_):
        return [StandIn(fails_at, KeyboardInterrupt())]

    assert run(video, "--box", "10,20,30,40", "--output", out, make_trackers=stop) == ExitCode.INTERRUPTED == 130
    assert len(read_boxes(out / "boxes.txt")) == len(read_observations(out / "track.jsonl")) == fails_at
    assert len(list(VideoFile(out / "video.mp4"))) == fails_at
    assert f"{fails_at} frames tracked" in capsys.readouterr().out


def test_ctrl_c_where_no_exception_gets_through_ends_the_video_in_good_order(video, out, capsys):
    class Interrupted(StandIn):
        def update(self, image):
            if self.updates == 2:
                try:
                    os.kill(os.getpid(), signal.SIGINT)
                    time.sleep(0.01)  # the handler runs between two instructions of Python
                except KeyboardInterrupt:
                    pass  # as in a callback of a library
            return super().update(image)

    assert run(video, "--box", "10,20,30,40", "--output", out, make_trackers=lambda *_: [Interrupted()]) == 130
    assert len(read_boxes(out / "boxes.txt")) == len(read_observations(out / "track.jsonl")) == 4
    assert len(list(VideoFile(out / "video.mp4"))) == 4
    shown = capsys.readouterr()
    assert "4 frames tracked" in shown.out
    assert shown.err.endswith("\ninterrupted\n")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler, "as before"


def test_a_fault_of_the_tracker_is_not_hidden_and_loses_nothing(video, out):
    def fail(*_):
        return [StandIn(3, RuntimeError("a bug"))]

    with pytest.raises(RuntimeError, match="a bug"):
        run(video, "--box", "10,20,30,40", "--output", out, make_trackers=fail)
    assert len(read_boxes(out / "boxes.txt")) == 3
    assert len(list(VideoFile(out / "video.mp4"))) == 3


def test_ctrl_c_before_the_first_box_leaves_no_files(video, out):
    class Interrupted(StandIn):
        def init(self, image, box):
            raise KeyboardInterrupt

    argv = (video, "--box", "10,20,30,40", "--output", out)
    assert run(*argv) == ExitCode.SUCCESS
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert run(*argv, make_trackers=lambda *_: [Interrupted()]) == ExitCode.INTERRUPTED
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before, "those of the run before"
    for path in out.iterdir():
        path.unlink()
    assert run(*argv, make_trackers=lambda *_: [Interrupted()]) == ExitCode.INTERRUPTED
    assert not list(out.iterdir())
