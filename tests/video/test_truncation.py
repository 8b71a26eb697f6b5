from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from roam_jax.errors import InputError
from roam_jax.video.files import VideoFile
from roam_jax.video.truncation import ends_whole

FRAMES = 24
KINDS = {
    "fragments.mp4": ("libx264", "mp4", {"movflags": "frag_keyframe+empty_moov"}),
    "fragment_per_frame.mp4": ("libx264", "mp4", {"movflags": "frag_every_frame+empty_moov"}),
    "index_first.mov": ("mpeg4", "mov", {"movflags": "faststart"}),
    "file.mkv": ("libx264", "matroska", {}),
    "live.mkv": ("libx264", "matroska", {"live": "1"}),
    "file.webm": ("libvpx", "webm", {}),
    "live.webm": ("libvpx", "webm", {"live": "1"}),
    "file.ts": ("libx264", "mpegts", {}),
    "disc.m2ts": ("mpeg2video", "mpegts", {"mpegts_m2ts_mode": "1"}),
    "file.gif": ("gif", "gif", {}),
    "file.flv": ("flv", "flv", {}),
    "file.wmv": ("wmv2", "asf", {}),
    "file.ogg": ("libvpx", "ogg", {}),
    "file.mxf": ("mpeg2video", "mxf", {}),
}
"""codec, container, and what FFmpeg is told of each kind of file"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A whole file of each kind, of frames that codecs cannot make small."""
    folder = tmp_path_factory.mktemp("whole")
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 255, (FRAMES, 12, 16, 3), np.uint8).repeat(8, axis=1).repeat(8, axis=2)
    for name, (codec, container, options) in KINDS.items():
        with av.open(str(folder / name), "w", format=container, options=options) as output:
            stream = output.add_stream(codec, rate=Fraction(25))
            stream.height, stream.width = frames.shape[1:3]
            stream.pix_fmt = "rgb8" if codec == "gif" else "yuv420p"
            stream.codec_context.gop_size = 6
            for frame in frames:
                picture = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format=stream.pix_fmt)
                output.mux(stream.encode(picture))
            output.mux(stream.encode(None))
    return folder


def cut(path: Path, size: int, folder: Path) -> Path:
    """The first bytes of a file."""
    short = folder / path.name
    short.write_bytes(path.read_bytes()[:size])
    return short


def read(path: Path) -> tuple[int, str]:
    """Number of frames, and what ended them."""
    count = 0
    try:
        for _ in VideoFile(path):
            count += 1
    except InputError as error:
        return count, str(error)
    return count, ""


@pytest.mark.parametrize("name", KINDS)
def test_a_whole_file_is_not_called_truncated(folder, name, caplog):
    assert read(folder / name) == (FRAMES, "")
    assert not caplog.records


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("share", [0.3, 0.5, 0.77])
def test_a_file_that_was_cut_gives_what_it_has_and_says_so(folder, name, share, tmp_path):
    path = folder / name
    size = int(path.stat().st_size * share)
    size += size % 192 == 0 and 7  # within a packet of a transport stream
    count, reason = read(cut(path, size, tmp_path))
    assert 0 < count < FRAMES
    assert "is truncated" in reason
    assert f"after {count} " in reason


@pytest.mark.parametrize("name", ["fragment_per_frame.mp4", "live.mkv", "file.gif", "file.flv", "file.ogg", "file.wmv"])
def test_a_cut_is_noticed_wherever_it_falls(folder, name, tmp_path):
    path = folder / name
    with av.open(str(path)) as container:
        kind = container.format.name
    size = path.stat().st_size
    assert ends_whole(path, kind)
    places = np.random.default_rng(0).integers(size // 4, size, 60)
    unnoticed = sum(ends_whole(cut(path, int(place), tmp_path), kind) is not False for place in places)
    assert unnoticed <= 1, "only a cut between two parts"


def test_a_transport_stream_that_was_cut_between_two_packets_ends_in_a_broken_frame(folder, tmp_path):
    path = folder / "file.ts"
    assert "is truncated" in read(cut(path, path.stat().st_size // 188 // 2 * 188, tmp_path))[1]


@pytest.mark.parametrize("name", ["fragments.mp4", "file.mkv", "file.gif", "file.ogg", "file.ts"])
@pytest.mark.parametrize("more", [bytes(40), b"SEFH and other notes of a camera"])
def test_bytes_behind_the_video_are_left_alone(folder, name, more, tmp_path):
    path = tmp_path / name
    path.write_bytes((folder / name).read_bytes() + more)
    assert read(path) == (FRAMES, "")


def test_other_kinds_of_files_do_not_tell(folder, tmp_path):
    assert ends_whole(tmp_path, "gif") is None, "no file that can be read twice"


def test_a_length_of_matroska_that_is_none_ends_the_walk(tmp_path):
    """Nothing begins with a zero: what follows would be a number of 63 bits, and lead back behind the file's start."""
    (tmp_path / "a.mkv").write_bytes(bytes.fromhex("1a45dfa3 00 0000000000000001") + bytes(64))
    assert ends_whole(tmp_path / "a.mkv", "matroska,webm") is True
