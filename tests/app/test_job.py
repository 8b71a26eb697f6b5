"""A video that is tracked by hand, without a page."""

from __future__ import annotations

import zipfile

import cv2
import numpy as np
import pytest

from roam_jax.app.job import Job
from roam_jax.errors import InputError, UsageError

COUNT = 70
"""more than are decoded at once"""
BOX = np.array([10, 20, 30, 40], np.float32)
OTHER = np.array([60, 20, 20, 20], np.float32)


class Mover:
    """It goes a pixel to the right with every frame, and two once it has been corrected."""

    def __init__(self):
        self.step, self.score, self.lost, self.box = 1, 0.5, False, np.zeros(4, np.float32)

    def init(self, image, box):
        self.box = np.asarray(box, np.float32)

    def correct(self, image, box):
        self.box, self.step = np.asarray(box, np.float32), 2

    def update(self, image):
        self.box = self.box + np.array([self.step, 0, 0, 0], np.float32)
        return self.box


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    for number in range(COUNT):
        cv2.imwrite(str(folder / f"{number:03d}.png"), np.full((96, 128, 3), number, np.uint8))
    return folder


@pytest.fixture
def job(folder):
    return Job(str(folder), Mover)


def left(job, number, target=0):
    return float(job.boxes(number)[target][0])


def test_frames_in_any_order(job):
    for number in (5, 69, 33, 0):
        assert job.frame(number)[0, 0, 0] == number
    for number in (-1, COUNT):
        with pytest.raises(InputError, match=f"has no frame {number}: it has {COUNT}"):
            job.frame(number)


def test_both_ways(job):
    with pytest.raises(UsageError, match="no box in frame 10"):
        list(job.track_back(10))
    with pytest.raises(UsageError, match="draw a box"):
        list(job.track())
    job.give(10, [(None, BOX), (None, OTHER)])
    assert list(job.track()) == list(range(10, COUNT))
    assert list(job.track_back(10)) == list(range(10, -1, -1))
    assert (left(job, 10), left(job, 69), left(job, 0), left(job, 69, 1)) == (10, 69, 20, 119)
    points = job.timeline(most=20)
    assert {point.target for point in points} == {0, 1}
    assert len(points) <= 40
    assert (points[0].frame, points[0].score) == (0, 0.5)


def test_a_stop_and_on_from_there(job):
    job.give(0, [(None, BOX)])
    for number in job.track():
        job.stopping = number == 4
    assert list(job.boxes(4)) == [0]
    assert job.boxes(5) == {}
    assert list(job.track()) == list(range(5, COUNT))
    assert left(job, COUNT - 1) == 10 + COUNT - 1, "its own box has taught it nothing"
    for number in job.track_back(69):
        job.stopping = number == 60
    assert {frame for frame, _ in job.before} == set(range(60, 70))


def test_a_corrected_box_is_learned_from(job):
    job.give(0, [(None, BOX)])
    list(job.track())
    job.give(20, [(0, job.boxes(20)[0])])
    assert (20, 0) not in job.forwards.given, "it was left as it is"
    job.give(20, [(0, BOX + 5)])
    assert 20 in list(job.track())
    assert (left(job, 19), left(job, 20), left(job, 30)) == (29, 15, 15 + 2 * 10)
    job.give(20, [])
    list(job.track())
    assert left(job, 30) == 40, "it was taken back"


def test_an_object_that_comes_later_and_a_copy(job):
    job.give(0, [(None, BOX)])
    list(job.track())
    job.give(30, [(0, job.boxes(30)[0]), (None, OTHER)])
    list(job.track())
    assert (list(job.boxes(29)), list(job.boxes(30)), list(job.boxes(31))) == ([0], [0, 1], [0, 1])
    job.give(40, [(0, job.boxes(40)[0]), (1, OTHER), (1, BOX)])
    assert list(job.boxes(40)) == [0, 1, 2], "a copy of a box is another object"
    with pytest.raises(UsageError, match="lies outside the image"):
        job.give(41, [(0, BOX + 1000)])


def test_export(job, tmp_path):
    with pytest.raises(UsageError, match="nothing to export"):
        job.export(tmp_path / "out.zip")
    job.give(COUNT - 6, [(None, BOX), (None, OTHER)])
    list(job.track())
    job.export(tmp_path / "out.zip", ["mot"])
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert archive.namelist() == ["boxes_1.txt", "boxes_2.txt", "mot.txt", "track.jsonl", "video.mp4"]
        assert archive.read("boxes_1.txt").decode().splitlines() == [f"{10 + i}.00,20.00,30.00,40.00" for i in range(6)]
        assert archive.read("mot.txt").decode().count("\n") == 12


def test_what_can_be_read_once_is_refused(monkeypatch, folder):
    monkeypatch.setattr("roam_jax.video.files.ImageFiles.again", False)
    with pytest.raises(UsageError, match="can be read once only"):
        Job(str(folder), Mover)
