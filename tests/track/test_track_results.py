"""What the command writes: boxes, lines, a video, formats of other tools."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from standin import FRAMES, SIZE_HW, make_frames, run

from roam_jax import track
from roam_jax.cli import ExitCode
from roam_jax.video.files import VideoFile
from roam_jax.video.formats import read_boxes, read_observations
from roam_jax.video.sink import VideoWriter
from roam_jax.video.source import DEFAULT_FPS


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


def test_sound_that_the_encoder_cannot_take_as_it_is(out, tmp_path):
    """Of a rate that AAC has not; with a clock that goes back."""
    with av.open(str(tmp_path / "odd.mkv"), "w") as container:
        video, audio = container.add_stream("libx264", rate=10), container.add_stream("pcm_s16le", rate=192000)
        video.height, video.width = SIZE_HW
        video.pix_fmt, audio.layout = "yuv420p", "mono"
        for frame in make_frames():
            container.mux(video.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(video.encode(None))
        for number in range(6):
            packet = av.Packet(b"\x00\x10" * 19200)
            packet.stream, packet.time_base = audio, Fraction(1, 1000)
            packet.pts = packet.dts = 100 * number
            container.mux(packet)
    data, block = (tmp_path / "odd.mkv").read_bytes(), b"\x82" + (300).to_bytes(2, "big")  # track and time
    assert data.count(block) == 1
    (tmp_path / "odd.mkv").write_bytes(data.replace(block, b"\x82" + (50).to_bytes(2, "big")))
    assert run(tmp_path / "odd.mkv", "--box", "10,20,30,40", "--output", out) == ExitCode.SUCCESS
    with av.open(str(out / "video.mp4")) as container:
        assert container.streams.audio[0].rate == 96000
        seconds = sum(frame.samples for frame in container.decode(audio=0)) / 96000
    assert seconds == pytest.approx(0.5, abs=0.05), "the piece that went back is left out"


def test_formats_of_other_tools_are_written_and_removed_again(video, out):
    words = ("--box", "10,20,30,40", "--output", out)
    assert run(video, *words, "--format", "mot", "--format", "csv") == ExitCode.SUCCESS
    assert len((out / "mot.txt").read_text().splitlines()) == 4, "lost from the fifth frame on"
    assert len((out / "track.csv").read_text().splitlines()) == FRAMES + 1
    assert run(video, *words) == ExitCode.SUCCESS
    assert sorted(path.name for path in out.iterdir()) == ["boxes.txt", "track.jsonl", "video.mp4"]
    assert run(video, *words, "--format", "vott") == ExitCode.USAGE
