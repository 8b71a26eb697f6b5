from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from roam_jax.errors import InputError, UsageError
from roam_jax.video import backwards
from roam_jax.video.backwards import Backwards
from roam_jax.video.choice import Moment
from roam_jax.video.inputs import open_source
from roam_jax.video.source import FrameSource, MemoryFrames

COUNT = 25
FRAMES = [np.full((48, 64, 3), 8 * number, np.uint8) for number in range(COUNT)]


def make_source(kind: str, folder: Path) -> FrameSource:
    if kind == "memory":
        return MemoryFrames("memory", FRAMES, Fraction(10))
    if kind == "pictures":
        for number, frame in enumerate(FRAMES):
            cv2.imwrite(str(folder / f"{number}.png"), frame)
        return open_source([str(folder)])
    path = folder / f"a{kind}"
    with av.open(str(path), "w", format="h264" if kind == ".h264" else None) as container:
        options = {"g": "7", "bf": "2"} if kind != ".avi" else {"g": "7"}
        stream = container.add_stream("mpeg4" if kind == ".avi" else "libx264", rate=Fraction(10), options=options)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for frame in FRAMES:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    return open_source([str(path)])


@pytest.mark.parametrize("kind", ["memory", "pictures", ".mp4", ".mkv", ".avi", ".ts", ".h264"])
def test_frames_come_backwards_with_their_numbers_and_times(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(backwards, "MOST", 4)
    with make_source(kind, tmp_path) as source:
        forwards = {frame.number: frame for frame in source.timed()}
        reverse = Backwards(source)
        frames = list(reverse.timed())
        assert [frame.number for frame in frames] == list(range(COUNT))[::-1]
        assert reverse.n_frames == COUNT
        for frame in frames:
            np.testing.assert_array_equal(frame.image, forwards[frame.number].image)
            assert frame.seconds == pytest.approx(forwards[frame.number].seconds)
        part = Backwards(source, Moment(20), Moment(11), 3)
        assert [frame.number for frame in part.timed()] == [20, 17, 14]
        assert part.n_frames == 3


def test_times_say_where_too():
    source = MemoryFrames("memory", FRAMES, Fraction(10))
    frames = Backwards(source, Moment(seconds=0.5), Moment(seconds=0.2)).timed()
    assert [frame.number for frame in frames] == [5, 4, 3]
    assert Backwards(source, Moment(1000)).first == COUNT - 1


def test_what_cannot_be():
    source = MemoryFrames("memory", FRAMES)
    with pytest.raises(InputError, match="no frame to track backwards"):
        Backwards(source, Moment(3), Moment(7))
    source.again = False
    with pytest.raises(UsageError, match="can be read once only"):
        Backwards(source)
