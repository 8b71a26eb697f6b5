"""Corrections in frames that were tracked already, with a tracker that tells everything that it has seen."""

from __future__ import annotations

import numpy as np
import pytest

from roam_jax.errors import UsageError
from roam_jax.video.follow import follow
from roam_jax.video.formats import Given
from roam_jax.video.interactive import KEPT, Browser, Interactive, onwards
from roam_jax.video.source import MemoryFrames

COUNT = 150
BOX, OTHER = np.array([1, 2, 8, 8], np.float32), np.array([5, 4, 6, 6], np.float32)


class Witness:
    """Its box's x follows from all that was done with it, and from the order."""

    score, lost = 1.0, False

    def __init__(self):
        self.box = np.zeros(4, np.float32)

    def init(self, image, box):
        self.box = np.array(box, np.float32)

    def update(self, image):
        self.box = self.box * np.array([0.5, 1, 1, 1], np.float32) + np.array([image[0, 0, 0], 0, 0, 0], np.float32)
        return self.box

    def correct(self, image, box):
        self.box = (self.box + box) / 2


@pytest.fixture
def source():
    return MemoryFrames("frames", [np.full((20, 30, 3), number, np.uint8) for number in range(COUNT)])


def run(work):
    for _ in work.run():
        pass


def afresh(source, given):
    """What a tracker says that knows all boxes from the start."""
    trackers = [Witness() for _ in range(1 + max(target for _, target in given))]
    every = [Given(*key, box) for key, box in given.items()]
    return {frame.number: said for frame, said in follow(source.timed(), trackers, every) if said}


def assert_as_if_known_from_the_start(work):
    expected = afresh(work.source, work.given)
    assert work.said.keys() == expected.keys()
    for number, said in expected.items():
        assert [each.target for each in work.said[number]] == [each.target for each in said]
        for ours, theirs in zip(work.said[number], said, strict=True):
            np.testing.assert_array_equal(ours.box_xywh, theirs.box_xywh)


def test_it_goes_on_as_if_a_correction_had_been_known_from_the_start(source):
    work = Interactive(source, Witness)
    work.give(2, 0, BOX)
    run(work)
    for frame, target, box in [(100, 0, OTHER), (140, 1, BOX), (7, 0, BOX), (7, 1, OTHER), (149, 0, OTHER)]:
        before = {number: said for number, said in work.said.items() if number < frame}
        work.give(frame, target, box)
        assert work.next == frame
        run(work)
        assert work.next == COUNT
        assert_as_if_known_from_the_start(work)
        for number, said in before.items():
            assert [each.box_xywh.tolist() for each in work.said[number] if each.target == 0] == [
                each.box_xywh.tolist() for each in said if each.target == 0
            ]
    for key in [(7, 0), (7, 1), (2, 0)]:  # both objects appear later now
        work.take_back(*key)
        run(work)
        assert_as_if_known_from_the_start(work)


def test_stopped_and_gone_on_with(source):
    work = Interactive(source, Witness)
    work.give(0, 0, BOX)
    for stop in (30, 31, 90):
        frames = work.run()
        for frame, said in frames:
            assert said == work.said[frame.number]
            if frame.number == stop:
                break
        frames.close()
        assert work.next == stop + 1
        assert max(work.said) == stop
    seen = next(work.run())[0].number
    assert seen == 91
    work.give(91, 0, OTHER)  # where it was stopped, with another thought: nothing is tracked again
    assert next(work.run())[0].number == 91


def test_few_trackers_are_kept_and_none_is_far(source):
    work = Interactive(source, Witness)
    work.give(0, 0, BOX)
    for frame, _ in work.run():
        assert len(work._kept) <= KEPT + 3
        kept = sorted(work._kept)
        assert kept[-1] == frame.number
        assert max(np.diff(kept), default=1) <= 2 * COUNT / KEPT


def test_frames_are_read_in_pieces(source):
    class Counted(MemoryFrames):
        asked = 0

        def between(self, start, stop):
            self.asked += 1
            return super().between(start, stop)

    counted = Counted("frames", source.images)
    assert [frame.number for frame in onwards(counted, 40, COUNT)] == list(range(40, COUNT))
    counted.asked = 0
    browser = Browser(counted, COUNT)
    for number in (80, 3, *range(4, 60), COUNT - 1):
        assert browser[number].image[0, 0, 0] == number
    assert counted.asked == 2 + 2 + 1


@pytest.mark.parametrize(
    ("frame", "target", "box", "reason"),
    [
        (COUNT, 0, BOX, f"has the frames 0 to {COUNT - 1}, and no frame {COUNT}"),
        (-1, 0, BOX, "no frame -1"),
        (0, 1, BOX, "the next one is 0, not 1"),
        (0, 0, BOX + np.float32(50), "lies outside the image"),
    ],
)
def test_boxes_that_cannot_be(source, frame, target, box, reason):
    work = Interactive(source, Witness)
    with pytest.raises(UsageError, match=reason):
        work.give(frame, target, box)
    assert not work.given


def test_without_a_box_or_a_way_back(source):
    with pytest.raises(UsageError, match="draw a box"):
        Interactive(source, Witness).run()
    source.again = False
    with pytest.raises(UsageError, match="read once only"):
        Interactive(source, Witness)
