"""Streams against real servers on the loopback, pipes, and the newest of the frames that come."""

from __future__ import annotations

import functools
import http.server
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from roam_jax.errors import InputError
from roam_jax.video import live
from roam_jax.video.inputs import open_source
from roam_jax.video.live import Newest, Stream
from roam_jax.video.source import Frame, FrameSource, MemoryFrames

COUNT = 30
SIZE_HW = (48, 64)
FRAMES = [np.full((*SIZE_HW, 3), 8 * index, np.uint8) for index in range(COUNT)]


def write_video(path: Path, options: dict[str, str] | None = None, form: str | None = None) -> Path:
    with av.open(str(path), "w", format=form, options=options or {}) as container:
        stream = container.add_stream("libx264", rate=Fraction(10), options={"g": "5", "bf": "0"})
        stream.height, stream.width = SIZE_HW
        stream.pix_fmt = "yuv420p"
        for frame in FRAMES:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    return path


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serve(folder: Path) -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def send(*contents: bytes) -> Iterator[str]:
    """Server that sends each of them to one connection after the other, and then nothing more; it closes the last."""
    server, connections = socket.create_server(("127.0.0.1", 0)), []

    def work() -> None:
        for content in contents:
            connections.append(server.accept()[0])
            connections[-1].sendall(content)
        server.close()
        if len(contents) > 1:
            connections[-1].close()

    threading.Thread(target=work, daemon=True).start()
    yield f"tcp://127.0.0.1:{server.getsockname()[1]}"
    for connection in connections:
        connection.close()


def greys(frames: Iterator[Frame]) -> list[int]:
    return [round(float(frame.image.mean()) / 8) for frame in frames]


@pytest.fixture(autouse=True)
def little_patience(monkeypatch):
    monkeypatch.setattr(live, "PATIENCE", 2.0)


def test_a_file_on_a_server_is_tracked_as_it_comes(tmp_path):
    write_video(tmp_path / "a.mp4")
    with serve(tmp_path) as address, open_source([f"{address}/a.mp4"]) as source:
        assert isinstance(source, Stream)
        assert (source.size_hw, source.fps, source.n_frames) == (SIZE_HW, 10, None)
        frames = list(source.timed())
    assert greys(iter(frames)) == list(range(COUNT))
    assert [frame.seconds for frame in frames] == pytest.approx([index / 10 for index in range(COUNT)], abs=1e-3)


def test_segments_with_a_list_are_one_stream(tmp_path):
    write_video(tmp_path / "a.m3u8", {"hls_time": "1", "hls_list_size": "0"}, "hls")
    assert len(list(tmp_path.glob("*.ts"))) > 1
    with serve(tmp_path) as address, open_source([f"{address}/a.m3u8"]) as source:
        assert greys(source.timed()) == list(range(COUNT))


def test_a_stream_that_falls_silent_is_connected_to_again(tmp_path):
    content = write_video(tmp_path / "a.ts").read_bytes()
    with send(content[: len(content) // 2], content) as address, open_source([address]) as source:
        frames = list(source.timed())
    seen = greys(iter(frames))
    again = seen.index(0, 1)
    assert seen[again:] == list(range(COUNT))
    assert 5 < again < COUNT
    times = [frame.seconds for frame in frames]
    assert times == sorted(times)
    assert [frame.number for frame in frames] == list(range(len(frames)))


def test_a_stream_that_stays_away_is_one_sentence_after_its_frames(tmp_path, monkeypatch):
    monkeypatch.setattr(live, "ATTEMPTS", 1)
    content = write_video(tmp_path / "a.ts").read_bytes()
    seen = []
    with send(content[: len(content) // 2]) as address, open_source([address]) as source:  # noqa: SIM117
        with pytest.raises(InputError, match="cannot be read, or broke off"):
            seen.extend(iter(source))
    assert len(seen) > 5


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/a.mp4", "rtsp://127.0.0.1:9/a", "nonsense://a"])
def test_nobody_there(address):
    with pytest.raises(InputError, match="cannot be read, or broke off"):
        open_source([address])


@pytest.fixture
def pipe(tmp_path) -> Path:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    return path


@pytest.mark.parametrize("name", ["a.ts", "a.mkv", "a.mp4"])
def test_a_named_pipe(tmp_path, pipe, name):
    content = write_video(tmp_path / name, {"movflags": "faststart"} if name == "a.mp4" else None).read_bytes()
    threading.Thread(target=pipe.write_bytes, args=[content], daemon=True).start()
    with open_source([str(pipe)]) as source:
        assert greys(source.timed()) == list(range(COUNT))


def test_a_pipe_that_nobody_writes_to_does_not_wait_for_ever(pipe):
    began = time.monotonic()
    with pytest.raises(InputError, match="nothing comes through it for 2 seconds"):
        open_source([str(pipe)])
    assert time.monotonic() - began < 20


def test_a_pipe_without_a_video(pipe):
    threading.Thread(target=pipe.write_bytes, args=[b"no video " * 999], daemon=True).start()
    with pytest.raises(InputError, match="faststart"):
        open_source([str(pipe)])


class Steps(FrameSource):
    """Gives a frame for every permit."""

    name, size_hw = "steps", SIZE_HW

    def __init__(self) -> None:
        self.permits, self.given, self.closed = threading.Semaphore(0), 0, False

    def read(self) -> Iterator[Frame]:
        for image in FRAMES:
            self.permits.acquire()
            yield Frame(image, float(self.given))
            self.given += 1
        raise InputError("it broke")

    def close(self) -> None:
        self.closed = True

    def allow(self, count: int) -> None:
        self.permits.release(count)
        target = self.given + count
        while self.given < target:
            time.sleep(0.01)


def test_the_newest_frame_is_given_and_those_before_it_are_dropped():
    steps = Steps()
    with Newest(steps) as source:
        steps.permits.release()
        frames = source.timed()
        first = next(frames)
        steps.allow(5)  # a frame is counted as given when the next one is asked for
        latest = next(frames)
        assert latest.number in (4, 5)
        assert source.dropped == latest.number - 1 >= 3, "all between the first that was taken and this"
        assert source.note().endswith(f"{source.dropped} dropped")
        again = next(source.timed())
        assert again.number == first.number, "the frame on which the box was drawn comes first again"
        steps.permits.release(COUNT)
        with pytest.raises(InputError, match="it broke"):
            list(frames)
    assert steps.closed


def test_the_newest_of_frames_that_are_all_taken_are_all_of_them():
    with Newest(MemoryFrames("clip", FRAMES[:1])) as source:
        assert greys(source.timed()) == [0]
