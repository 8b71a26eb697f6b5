from __future__ import annotations

import itertools

import numpy as np
import pytest

from roam_jax.data.layouts import read_layout
from roam_jax.data.readers.nfs import read_nfs
from roam_jax.data.readers.tcolor import read_tcolor
from roam_jax.data.readers.uav import UAV123_CUTS, read_uav
from roam_jax.data.sequences import DataError

VATIC = '0 {left} 20 {right} 60 {frame} {lost} 0 1 "car white"\n'


@pytest.fixture
def uav(tmp_path, pictures, text):
    """A short video, and one of which only a few pictures around the first cut are there."""
    pictures(tmp_path / "data_seq" / "UAV123" / "bike1", [f"{n:06d}.jpg" for n in (1, 2, 3)])
    text(tmp_path / "anno" / "UAV123" / "bike1.txt", "1,1,3,4\nNaN,NaN,NaN,NaN\n")
    text(tmp_path / "anno" / "UAV123" / "att" / "bike1.txt", "1,0,0,0,0,0,0,0,0,0,1,0")
    pictures(tmp_path / "data_seq" / "UAV123" / "car16", [f"{n:06d}.jpg" for n in (1, 414, 415, 416, 1993)])
    text(tmp_path / "anno" / "UAV123" / "car16_1.txt", "1,1,3,4\n2,1,3,4\n3,1,3,4\n")
    text(tmp_path / "anno" / "UAV123" / "car16_2.txt", "3,1,3,4\n4,1,3,4\n5,1,3,4\n")
    text(tmp_path / "anno" / "UAV20L" / "bike1.txt", "1,1,3,4\n1,1,3,4\n1,1,3,4\n")
    return tmp_path


def test_one_video_cut_into_sequences(uav, numbers):
    bike, first, second = read_uav(uav)
    assert [s.name for s in (bike, first, second)] == ["bike1", "car16_1", "car16_2"]
    assert [numbers(s) for s in (bike, first, second)] == [[1, 2], [1, 414, 415], [415, 416, 1993]]
    assert bike.visible.tolist() == [True, False]
    np.testing.assert_array_equal(bike.boxes_xywh[0], [0, 0, 3, 4])
    assert bike.attributes == ("SV", "CM")
    assert bike.source == "uav123"


def test_cuts_follow_each_other():
    for video, pieces in UAV123_CUTS.items():
        assert len(pieces) > 1
        for (_, end), (start, _) in itertools.pairwise(pieces):
            assert start >= end, video


def test_uav20l(uav):
    (sequence,) = read_layout("uav20l", uav)
    assert (len(sequence), sequence.source) == (3, "uav20l")


def test_what_uav_lacks_is_said(uav):
    (uav / "data_seq" / "UAV123" / "car16" / "000414.jpg").unlink()
    with pytest.raises(DataError, match=r"car16_1\.txt should hold one box per picture, but there are 3 and 2"):
        read_uav(uav)
    for path in (uav / "anno" / "UAV20L").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="there is none"):
        read_uav(uav, version="UAV20L")
    with pytest.raises(DataError, match="UAV123 should hold the annotations"):
        read_uav(uav / "data_seq")


@pytest.fixture
def nfs(tmp_path, pictures, text):
    def add(name, fps, pictures_count, lines):
        folder = tmp_path / name / str(fps)
        pictures(folder / name, [f"{n + 1:05d}.jpg" for n in range(pictures_count)])
        rows = [VATIC.format(left=10 + i, right=40 + i, frame=i, lost=int(i == 8)) for i in range(lines)]
        text(folder / f"{name}.txt", "".join(rows))

    return add


def test_nfs_keeps_every_eighth_line(tmp_path, nfs):
    nfs("airboard_1", 30, 3, 24)
    nfs("airboard_1", 240, 24, 24)
    (slow,) = read_nfs(tmp_path)
    (fast,) = read_nfs(tmp_path, fps=240)
    np.testing.assert_array_equal(slow.boxes_xywh, [[10, 20, 30, 40], [18, 20, 30, 40], [26, 20, 30, 40]])
    np.testing.assert_array_equal(fast.boxes_xywh[::8], slow.boxes_xywh)
    assert slow.visible.tolist() == [True, False, True]
    assert slow.labels["generated"].all()
    assert not slow.labels["occluded"].any()
    assert (slow.source, fast.source) == ("nfs30", "nfs240")


@pytest.mark.parametrize(("pictures_count", "lines", "length"), [(3, 23, 3), (4, 24, 3), (24, 25, 24), (25, 24, 24)])
def test_nfs_is_off_by_one(tmp_path, nfs, pictures_count, lines, length):
    nfs("bee", 30, pictures_count, lines)
    assert len(read_nfs(tmp_path)[0]) == length


def test_what_nfs_lacks_is_said(tmp_path, nfs, text):
    with pytest.raises(DataError, match=r"should hold NAME/30/NAME\.txt"):
        read_nfs(tmp_path)
    nfs("bee", 30, 5, 9)
    with pytest.raises(DataError, match="there are 9 and 5"):
        read_nfs(tmp_path)
    text(tmp_path / "bee" / "30" / "bee.txt", "1,2,3,4\n")
    with pytest.raises(DataError, match="line 1 should be nine numbers"):
        read_nfs(tmp_path)
    text(tmp_path / "bee" / "30" / "bee.txt", "")
    with pytest.raises(DataError, match="empty"):
        read_nfs(tmp_path)


def test_tcolor(tmp_path, pictures, text, numbers):
    pictures(tmp_path / "Airport_ce" / "img", [f"{n:04d}.jpg" for n in range(1, 8)])
    text(tmp_path / "Airport_ce" / "Airport_ce_gt.txt", "1,1,3,4\n2,2,3,4\n3,3,3,4\n")
    text(tmp_path / "Airport_ce" / "Airport_ce_frames.txt", "3,5\n")
    pictures(tmp_path / "Ball_ce2" / "img", ["0001.jpg"])
    text(tmp_path / "Ball_ce2" / "Ball_gt.txt", "1,1,3,4\n")
    text(tmp_path / "Ball_ce2" / "Ball_frames.txt", "1,1")
    airport, ball = read_tcolor(tmp_path)
    assert (airport.name, ball.name) == ("Airport_ce", "Ball_ce2")
    assert numbers(airport) == [3, 4, 5]
    np.testing.assert_array_equal(airport.boxes_xywh[0], [0, 0, 3, 4])
    text(tmp_path / "Ball_ce2" / "Ball_frames.txt", "1")
    with pytest.raises(DataError, match="numbers of the first and the last frame"):
        read_tcolor(tmp_path)
    (tmp_path / "Ball_ce2" / "Ball_frames.txt").unlink()
    with pytest.raises(DataError, match=r"should hold Ball_ce2_frames\.txt"):
        read_tcolor(tmp_path)
    with pytest.raises(DataError, match=r"should hold \*_gt\.txt"):
        read_tcolor(tmp_path / "Airport_ce" / "img")
