from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from fractions import Fraction

import av
import numpy as np
import pytest

from roam_jax.errors import OutputError
from roam_jax.video.files import VideoFile
from roam_jax.video.formats import Observation, read_boxes, read_observations
from roam_jax.video.sink import ResultWriter, VideoWriter, make_folder
from roam_jax.video.source import Frame

RATE = Fraction(30000, 1001)


def make_frames(count: int, size_hw: tuple[int, int]) -> list[np.ndarray]:
    rows, columns = np.mgrid[: size_hw[0], : size_hw[1]]
    waves = [np.stack([rows + 9 * i, columns - 5 * i, rows + columns], axis=-1) / 25 for i in range(count)]
    return [(127 + 100 * np.sin(wave)).astype(np.uint8) for wave in waves]


def observe(frame: int, target: int = 0) -> Observation:
    return Observation(frame, target, np.array([10 + frame, 20, 30, 40], np.float32), 0.5, frame == 2, 0.01)


@pytest.mark.parametrize("size_hw", [(96, 128), (97, 131)])
def test_a_written_video_can_be_read_back(tmp_path, size_hw):
    frames = make_frames(20, size_hw)
    with VideoWriter(tmp_path / "a.mp4", size_hw, RATE) as writer:
        for frame in frames:
            writer.write(frame)
    source = VideoFile(tmp_path / "a.mp4")
    assert (source.n_frames, source.fps) == (20, RATE)
    assert source.size_hw == tuple(side + side % 2 for side in size_hw)
    for decoded, frame in zip(source, frames, strict=True):
        assert np.abs(decoded[: size_hw[0], : size_hw[1]].astype(int) - frame).mean() < 4


def test_frames_are_shown_when_they_should_be(tmp_path):
    times = [0, 1 / 30, 2 / 30, 2.5, 2.6, 2.6]
    with VideoWriter(tmp_path / "a.mp4", (64, 64), Fraction(30)) as writer:
        for seconds, frame in zip(times, make_frames(6, (64, 64)), strict=True):
            writer.write(frame, seconds)
    seen = [frame.seconds for frame in VideoFile(tmp_path / "a.mp4").timed()]
    np.testing.assert_allclose(seen, times, atol=1e-3)
    assert seen[5] > seen[4], "no two at once"


def test_a_frame_is_shown_for_an_hour_at_most(tmp_path):
    """As of a damaged clock; FFmpeg would end the process."""
    for fps, times in ((Fraction(30), [0, 1, 36_000, 36_001, 1e17]), (Fraction(1, 100_000), [None] * 5)):
        with VideoWriter(tmp_path / "a.mp4", (64, 64), fps) as writer:
            for seconds, frame in zip(times, make_frames(5, (64, 64)), strict=True):
                writer.write(frame, seconds)
        seen = [frame.seconds for frame in VideoFile(tmp_path / "a.mp4").timed()]
        np.testing.assert_allclose(np.diff(seen), [1, 3600, 1, 3600] if fps > 1 else [3600] * 4, atol=1e-3)


def test_the_video_is_h264_and_names_its_colours(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", (64, 64), RATE) as writer:
        writer.write(np.full((64, 64, 3), (220, 30, 60), np.uint8))
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        frame = next(container.decode(stream))
        assert frame.colorspace == 6, "BT.601"
        np.testing.assert_allclose(frame.to_ndarray(format="rgb24")[32, 32], (220, 30, 60), atol=6)


def test_a_killed_program_leaves_a_video_that_plays(tmp_path):
    program = f"""
import os, signal
from fractions import Fraction
from pathlib import Path
import numpy as np
from roam_jax.video.sink import VideoWriter
writer = VideoWriter(Path({str(tmp_path / "a.mp4")!r}), (96, 128), Fraction(10))
for i in range(120):
    writer.write(np.full((96, 128, 3), i, np.uint8))
os.kill(os.getpid(), signal.SIGKILL)
"""
    result = subprocess.run([sys.executable, "-c", program], timeout=60)
    assert result.returncode == -signal.SIGKILL
    with av.open(str(tmp_path / "a.mp4")) as container:
        count = sum(1 for _ in container.decode(video=0))
    assert 40 <= count <= 120


def test_results_are_on_disk_before_the_writer_is_closed(tmp_path):
    frame = make_frames(1, (64, 64))[0]
    writer = ResultWriter(tmp_path / "deep" / "out", targets=1, size_hw=(64, 64), fps=RATE)
    for index in range(3):
        writer.write(Frame(frame, 0.0), [observe(index)])
        assert len(read_boxes(tmp_path / "deep/out/boxes.txt")) == index + 1
        assert read_observations(tmp_path / "deep/out/track.jsonl")[-1]["frame"] == index
    writer.close()
    assert sorted(path.name for path in (tmp_path / "deep/out").iterdir()) == ["boxes.txt", "track.jsonl", "video.mp4"]
    assert writer.files == ["boxes.txt", "track.jsonl", "video.mp4"]
    np.testing.assert_array_equal(read_boxes(tmp_path / "deep/out/boxes.txt")[:, 0], [10, 11, 12])
    assert [row["lost"] for row in read_observations(tmp_path / "deep/out/track.jsonl")] == [False, False, True]
    assert len(list(VideoFile(tmp_path / "deep/out/video.mp4"))) == 3


def test_several_objects_have_a_boxes_file_each(tmp_path):
    frame = make_frames(1, (64, 64))[0]
    with ResultWriter(tmp_path, targets=2, size_hw=(64, 64), fps=RATE, video=False, one_based=True) as writer:
        writer.write(Frame(frame, 0.0), [observe(0), observe(5, target=1)])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["boxes_1.txt", "boxes_2.txt", "track.jsonl"]
    assert (tmp_path / "boxes_1.txt").read_text() == "11.00,21.00,30.00,40.00\n"
    assert (tmp_path / "boxes_2.txt").read_text() == "16.00,21.00,30.00,40.00\n"
    rows = read_observations(tmp_path / "track.jsonl")
    assert [(row["target"], row["box"][0]) for row in rows] == [(1, 10), (2, 15)], "0-based whatever boxes.txt is"


def test_the_video_shows_the_box_and_the_truth(tmp_path):
    frame = np.zeros((270, 480, 3), np.uint8)
    with ResultWriter(tmp_path, targets=1, size_hw=(270, 480), fps=RATE) as writer:
        writer.write(Frame(frame, 0.0), [observe(0)], np.array([200, 100, 80, 80], np.float32))
    (decoded,) = VideoFile(tmp_path / "video.mp4")
    assert decoded[40, 10].max() > 100
    assert decoded[140, 200].max() > 100
    assert decoded[200, 400].max() < 20


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot be written"):
        make_folder(tmp_path / "file" / "out")
    with pytest.raises(OutputError, match="cannot be written"):
        ResultWriter(tmp_path / "file", targets=1, size_hw=(64, 64), fps=RATE)
    (tmp_path / "out" / "track.jsonl").mkdir(parents=True)
    with pytest.raises(OutputError, match=r"track.jsonl cannot be written"):
        ResultWriter(tmp_path / "out", targets=1, size_hw=(64, 64), fps=RATE)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs the device that is always full")
def test_a_full_disk_is_one_sentence(tmp_path):
    (tmp_path / "track.jsonl").symlink_to("/dev/full")
    with (
        pytest.raises(OutputError, match=r"track.jsonl cannot be written: No space left"),
        ResultWriter(tmp_path, targets=1, size_hw=(64, 64), fps=RATE, video=False) as writer,
    ):
        writer.write(Frame(np.zeros((64, 64, 3), np.uint8), 0.0), [observe(0)])


def test_an_error_of_the_encoder_arrives_and_leaves_the_texts(tmp_path, monkeypatch):
    def fail(self, image, seconds):
        raise OutputError("the disk is full")

    monkeypatch.setattr(VideoWriter, "write", fail)
    writer = ResultWriter(tmp_path, targets=1, size_hw=(64, 64), fps=RATE)
    with pytest.raises(OutputError, match="disk is full"):  # noqa: PT012
        for index in range(50):
            writer.write(Frame(np.zeros((64, 64, 3), np.uint8), 0.0), [observe(index)])
    assert 1 <= len(read_boxes(tmp_path / "boxes.txt")) <= 6
    with pytest.raises(OutputError, match="disk is full"):
        writer.close()
    assert writer.boxes[0].file.closed
    assert not any(thread.name.startswith("encoder") for thread in threading.enumerate())
