from __future__ import annotations

import dataclasses
import os
import re
import signal
import subprocess
import sys
import threading
import time
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from roam_jax import presets, track
from roam_jax.cli import ExitCode
from roam_jax.config import Config
from roam_jax.errors import DisplayError, ModelError, UsageError
from roam_jax.video import session
from roam_jax.video.files import VideoFile
from roam_jax.video.formats import read_boxes, read_observations
from roam_jax.video.select import Wish
from roam_jax.video.sink import VideoWriter
from roam_jax.video.source import DEFAULT_FPS

SIZE_HW = (96, 128)
FRAMES = 8


class StandIn:
    """Tracker that goes one pixel to the right with every frame, and is lost from the fifth frame on."""

    def __init__(self, fails_at: int = -1, error: BaseException | None = None) -> None:
        self.fails_at, self.error, self.updates, self.score, self.lost = fails_at, error, 0, 1.0, False
        self.box = np.zeros(4, np.float32)

    def init(self, image, box_xywh):
        assert image.shape == (*SIZE_HW, 3) or image.shape == (270, 480, 3)
        self.box = np.asarray(box_xywh, np.float32)

    def update(self, image):
        assert image.dtype == np.uint8
        self.updates += 1
        if self.updates == self.fails_at and self.error:
            raise self.error
        self.score, self.lost = 1 / (1 + self.updates), self.updates >= 4
        self.box = self.box + np.array([1, 0, 0, 0], np.float32)
        return self.box


def make_stand_ins(checkpoint: str, config: Config | None, count: int) -> list[StandIn]:
    return [StandIn() for _ in range(count)]


def make_frames(count: int = FRAMES, size_hw: tuple[int, int] = SIZE_HW) -> list[np.ndarray]:
    rows, columns = np.mgrid[: size_hw[0], : size_hw[1]]
    waves = [np.stack([rows + 9 * i, columns - 5 * i, rows + columns], axis=-1) / 25 for i in range(count)]
    return [(127 + 100 * np.sin(wave)).astype(np.uint8) for wave in waves]


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def video(tmp_path) -> Path:
    path = tmp_path / "clip.mp4"
    with VideoWriter(path, SIZE_HW, DEFAULT_FPS) as writer:
        for frame in make_frames():
            writer.write(frame)
    return path


@pytest.fixture
def sequence(tmp_path) -> Path:
    """Folder in the layout of OTB whose object moves as the stand-in does."""
    folder = tmp_path / "Wave"
    (folder / "img").mkdir(parents=True)
    for number, frame in enumerate(make_frames(), start=1):
        cv2.imwrite(str(folder / "img" / f"{number:04d}.jpg"), frame)
    (folder / "groundtruth_rect.txt").write_text("".join(f"{11 + i},21,30,40\n" for i in range(FRAMES)))
    return folder


def run(*argv: object, make_trackers=make_stand_ins) -> int:
    return track.main([str(word) for word in argv], make_trackers)


def test_a_video_becomes_boxes_lines_and_a_video(video, out, capsys):
    assert run(video, "--box", "10,20,30,40", "--output", out) == ExitCode.SUCCESS
    np.testing.assert_array_equal(read_boxes(out / "boxes.txt"), [[10 + i, 20, 30, 40] for i in range(FRAMES)])
    rows = read_observations(out / "track.jsonl")
    assert [row["frame"] for row in rows] == list(range(FRAMES))
    assert [row["lost"] for row in rows] == [False] * 4 + [True] * 4
    assert [row["score"] for row in rows[:2]] == [1, 0.5]
    assert all(0 <= row["compute_seconds"] < 60 for row in rows)
    source = VideoFile(out / "video.mp4")
    assert (source.n_frames, source.size_hw, source.fps) == (FRAMES, SIZE_HW, DEFAULT_FPS)
    shown = capsys.readouterr()
    assert re.search(r"8 frames tracked, lost in 4; .* frames/s", shown.out)
    assert "success AUC" not in shown.out
    assert "frame/s" in shown.err, "the progress bar"


def test_part_of_a_video_keeps_its_numbers_and_times(video, out):
    words = ("--start", "2", "--stop", "0.25s", "--step", "2")
    assert run(video, "--box", "10,20,30,40", "--output", out, *words) == ExitCode.SUCCESS
    rows = read_observations(out / "track.jsonl")
    assert [row["frame"] for row in rows] == [2, 4, 6]
    assert [row["time"] for row in rows] == pytest.approx([2 / 30, 4 / 30, 6 / 30], abs=1e-6)
    shown = [frame.seconds for frame in VideoFile(out / "video.mp4").timed()]
    np.testing.assert_allclose(shown, [0, 2 / 30, 4 / 30], atol=1e-3)


def test_pauses_of_the_input_are_kept(out, tmp_path):
    times = [0, 0.1, 0.2, 3.2, 3.3]
    with VideoWriter(tmp_path / "pause.mp4", SIZE_HW, DEFAULT_FPS) as writer:
        for seconds, frame in zip(times, make_frames(), strict=False):
            writer.write(frame, seconds)
    assert run(tmp_path / "pause.mp4", "--box", "10,20,30,40", "--output", out) == ExitCode.SUCCESS
    assert [row["time"] for row in read_observations(out / "track.jsonl")] == pytest.approx(times, abs=1e-3)
    shown = [frame.seconds for frame in VideoFile(out / "video.mp4").timed()]
    np.testing.assert_allclose(shown, times, atol=1e-3)
    assert run(tmp_path / "pause.mp4", "--box", "10,20,30,40", "--output", out, "--fps", "10") == ExitCode.SUCCESS
    shown = [frame.seconds for frame in VideoFile(out / "video.mp4").timed()]
    np.testing.assert_allclose(shown, np.arange(5) / 10, atol=1e-3)


def test_a_sequence_whose_object_comes_later_starts_there(sequence, out, capsys):
    lines = (sequence / "groundtruth_rect.txt").read_text().splitlines()
    lines[:3] = ["nan,nan,nan,nan"] * 3
    (sequence / "groundtruth_rect.txt").write_text("\n".join(lines))
    assert run(sequence, "--output", out) == ExitCode.SUCCESS
    assert [row["frame"] for row in read_observations(out / "track.jsonl")] == list(range(3, FRAMES))
    assert "mean IoU 1.000 over 5 frames" in capsys.readouterr().out


def test_no_video_writes_none(video, out):
    assert run(video, "--box", "10,20,30,40", "--output", out, "--no-video") == ExitCode.SUCCESS
    assert sorted(path.name for path in out.iterdir()) == ["boxes.txt", "track.jsonl"]


def test_one_based_boxes_begin_at_one(video, out):
    assert run(video, "--box", "10,20,30,40", "--output", out, "--one-based") == ExitCode.SUCCESS
    np.testing.assert_array_equal(read_boxes(out / "boxes.txt")[0], [10, 20, 30, 40])
    assert read_observations(out / "track.jsonl")[0]["box"] == [9, 19, 30, 40]


def test_several_objects_come_from_a_file(video, out, tmp_path):
    (tmp_path / "boxes.txt").write_text("10\t20\t30\t40\n50\t60\t20\t20\n")
    assert run(video, "--boxes", tmp_path / "boxes.txt", "--output", out) == ExitCode.SUCCESS
    np.testing.assert_array_equal(read_boxes(out / "boxes_1.txt")[0], [10, 20, 30, 40])
    np.testing.assert_array_equal(read_boxes(out / "boxes_2.txt")[-1], [57, 60, 20, 20])
    rows = read_observations(out / "track.jsonl")
    assert len(rows) == 2 * FRAMES
    assert [(row["frame"], row["target"], row["box"][0]) for row in rows[:3]] == [(0, 1, 10), (0, 2, 50), (1, 1, 11)]


@pytest.mark.parametrize("option", ["--box", "--boxes"])
def test_an_option_given_twice_counts_twice(video, out, tmp_path, option):
    texts = ["10,20,30,40", "50,60,20,20"]
    words = texts if option == "--box" else [tmp_path / "first.txt", tmp_path / "second.txt"]
    (tmp_path / "first.txt").write_text(texts[0])
    (tmp_path / "second.txt").write_text(texts[1])
    assert run(video, option, words[0], option, words[1], "--output", out) == ExitCode.SUCCESS
    np.testing.assert_array_equal(read_boxes(out / "boxes_1.txt")[0], [10, 20, 30, 40])
    np.testing.assert_array_equal(read_boxes(out / "boxes_2.txt")[0], [50, 60, 20, 20])


def test_a_sequence_folder_gives_the_box_and_the_score(sequence, out, capsys):
    assert run(sequence, "--output", out) == ExitCode.SUCCESS
    np.testing.assert_array_equal(read_boxes(out / "boxes.txt")[0], [10, 20, 30, 40])
    printed = re.search(r"success AUC ([\d.]+), mean IoU ([\d.]+) over 8 frames", capsys.readouterr().out)
    assert printed
    assert float(printed[2]) == pytest.approx(1.0)
    assert float(printed[1]) == pytest.approx(20 / 21, abs=1e-3), "an overlap of 1 is not above the threshold 1"


def test_frames_without_a_known_box_do_not_count(sequence, out, capsys):
    lines = (sequence / "groundtruth_rect.txt").read_text().splitlines()
    lines[3:5] = ["nan,nan,nan,nan", "0,0,0,0"]
    (sequence / "groundtruth_rect.txt").write_text("\n".join(lines[:-1]))
    assert run(sequence, "--output", out) == ExitCode.SUCCESS
    assert "mean IoU 1.000 over 5 frames" in capsys.readouterr().out
    assert len(read_boxes(out / "boxes.txt")) == FRAMES


@pytest.mark.parametrize("how", ["folder", "pattern", "list"])
def test_pictures_can_be_named_in_three_ways(sequence, out, how):
    images = sequence / "img"
    words = {"folder": [images], "pattern": [images / "*.jpg"], "list": sorted(images.iterdir())}[how]
    assert run(*words, "--box", "10,20,30,40", "--output", out, "--fps", "12.5") == ExitCode.SUCCESS
    assert len(read_boxes(out / "boxes.txt")) == FRAMES
    assert VideoFile(out / "video.mp4").fps == 12.5


def test_the_demo_needs_no_input_and_measures_itself(out, capsys, monkeypatch):
    from roam_jax.data.demo_clip import render_demo

    monkeypatch.setattr(track, "render_demo", lambda: render_demo(6))
    assert run("--demo", "--output", out) == ExitCode.SUCCESS
    assert re.search(r"success AUC 0\.\d+, mean IoU 0\.\d+ over 6 frames", capsys.readouterr().out)
    assert len(list(VideoFile(out / "video.mp4"))) == 6


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


def test_results_of_an_earlier_run_do_not_stay_among_the_new_ones(video, out):
    boxes = ["--box", "10,20,30,40", "--box", "50,60,20,20", "--box", "5,6,20,20"]
    assert run(video, *boxes, "--output", out) == ExitCode.SUCCESS
    for name in ("boxes_of_mine.txt", "boxes_0.txt", "notes.md"):
        (out / name).write_text("mine")
    assert run(video, "--box", "10,20,30,40", "--output", out, "--no-video") == ExitCode.SUCCESS
    kept = ["boxes_0.txt", "boxes_of_mine.txt", "notes.md"]
    assert sorted(path.name for path in out.iterdir()) == sorted([*kept, "boxes.txt", "track.jsonl"])
    assert run(video, *boxes[:4], "--output", out) == ExitCode.SUCCESS
    written = ["boxes_1.txt", "boxes_2.txt", "track.jsonl", "video.mp4"]
    assert sorted(path.name for path in out.iterdir()) == sorted([*kept, *written])


def test_files_that_only_look_like_results_stay(video, out):
    out.mkdir()
    (out / "video.mp4").write_text("a film of mine")
    assert run(video, "--box", "10,20,30,40", "--output", out, "--no-video") == ExitCode.SUCCESS
    assert (out / "video.mp4").read_text() == "a film of mine"


def test_unreadable_inputs_are_input_errors(tmp_path, out, capsys):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.avi").write_text("no video")
    (tmp_path / "folder").mkdir()
    for name in ("none.mp4", "empty.mp4", "text.avi", "folder", "*.png"):
        assert run(tmp_path / name, "--box", "1,2,30,40", "--output", out) == ExitCode.INPUT == 3
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert len(error.splitlines()) == 1


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


def write_with_sound(path: Path, seconds: float = 3.0) -> Path:
    """Frames at 10/s, and a tone that is silent in the first second."""
    rate = 16000
    with av.open(str(path), "w") as container:
        video, audio = container.add_stream("libx264", rate=10), container.add_stream("aac", rate=rate)
        video.height, video.width = SIZE_HW
        video.pix_fmt, audio.layout = "yuv420p", "mono"
        for frame in make_frames(round(10 * seconds)):
            container.mux(video.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        at = np.arange(round(seconds * rate)) / rate
        tone = np.where(at < 1, 0, np.sin(2 * np.pi * 440 * at)).astype(np.float32)
        for start in range(0, len(tone), 1024):
            piece = av.AudioFrame.from_ndarray(tone[None, start : start + 1024], format="fltp", layout="mono")
            piece.sample_rate, piece.pts, piece.time_base = rate, start, Fraction(1, rate)
            container.mux(audio.encode(piece))
        container.mux(audio.encode(None))
        container.mux(video.encode(None))
    return path


def loudness(path: Path) -> dict[float, float]:
    """Mean square of the sound around each quarter of a second."""
    with av.open(str(path)) as container:
        pieces = [(frame.time, float(np.mean(np.square(frame.to_ndarray())))) for frame in container.decode(audio=0)]
    return {at / 4: np.mean([p for time, p in pieces if abs(time - at / 4) < 0.1] or [-1]) for at in range(1, 12)}


def test_the_sound_is_kept_in_time(out, tmp_path):
    video = write_with_sound(tmp_path / "sound.mp4")
    words = (video, "--box", "10,20,30,40", "--output", out)
    assert run(*words) == ExitCode.SUCCESS
    heard = loudness(out / "video.mp4")
    assert heard[0.5] < 1e-3 < 0.3 < heard[1.5] < 0.7
    assert heard[2.75] > 0.3
    assert len(list(VideoFile(out / "video.mp4"))) == 30
    assert run(*words, "--start", "1.5s", "--stop", "2.5s") == ExitCode.SUCCESS
    heard = loudness(out / "video.mp4")
    assert heard[0.25] > 0.3
    assert heard[0.75] > 0.3
    assert heard[1.5] == -1, "no longer than the frames"
    for others in (("--no-audio",), ("--fps", "20")):
        assert run(*words, *others) == ExitCode.SUCCESS
        with av.open(str(out / "video.mp4")) as container:
            assert not container.streams.audio


def test_formats_of_other_tools_are_written_and_removed_again(video, out):
    words = ("--box", "10,20,30,40", "--output", out)
    assert run(video, *words, "--format", "mot", "--format", "csv") == ExitCode.SUCCESS
    assert len((out / "mot.txt").read_text().splitlines()) == 4, "lost from the fifth frame on"
    assert len((out / "track.csv").read_text().splitlines()) == FRAMES + 1
    assert run(video, *words) == ExitCode.SUCCESS
    assert sorted(path.name for path in out.iterdir()) == ["boxes.txt", "track.jsonl", "video.mp4"]
    assert run(video, *words, "--format", "vott") == ExitCode.USAGE


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
    import av

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
    options = ("--config.online.tau", "7", "--config.online.no-regression", "--config.online.scales", "0.9", "1.1")
    assert run(*words, *options, make_trackers=remember) == ExitCode.SUCCESS
    _, config = seen.pop()
    assert (config.online.tau, config.online.regression, config.online.scales) == (7, False, (0.9, 1.1))
    assert config.model == presets.tiny().model
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
