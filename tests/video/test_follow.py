from __future__ import annotations

import numpy as np

from roam_jax.video.follow import follow, summarise
from roam_jax.video.formats import Given
from roam_jax.video.source import Frame

IMAGE = np.zeros((64, 96, 3), np.uint8)


class Steady:
    """Tracker that goes a pixel to the right with every frame, and remembers what it was told."""

    score, lost = 0.5, False

    def __init__(self):
        self.box, self.told = np.zeros(4, np.float32), []

    def init(self, image, box):
        self.box = np.array(box, np.float32)
        self.told.append(("init", *box[:1]))

    def update(self, image):
        self.box = self.box + np.array([1, 0, 0, 0], np.float32)
        return self.box


class Taught(Steady):
    def correct(self, image, box):
        self.box = np.array(box, np.float32)
        self.told.append(("correct", *box[:1]))


def frames(*numbers):
    return [Frame(IMAGE, number / 10, number) for number in numbers]


def given(frame, x, target=0):
    return Given(frame, target, np.array([x, 5, 20, 10], np.float32))


def said(seen, target=0):
    return {frame.number: float(o.box_xywh[0]) for frame, all_ in seen for o in all_ if o.target == target}


def test_objects_appear_in_their_own_frames():
    seen = list(follow(frames(0, 1, 2, 3), [Steady(), Steady()], [given(None, 10), given(2, 50, 1)]))
    assert said(seen) == {0: 10, 1: 11, 2: 12, 3: 13}
    assert said(seen, 1) == {2: 50, 3: 51}
    assert [len(observations) for _, observations in seen] == [1, 1, 2, 2]


def test_a_box_between_two_frames_counts_for_the_next():
    seen = list(follow(frames(0, 5, 10), [Steady()], [given(3, 10)]))
    assert said(seen) == {5: 10, 10: 11}


def test_a_later_box_corrects_and_a_tracker_that_cannot_learn_starts_anew():
    for tracker, word in ((Taught(), "correct"), (Steady(), "init")):
        seen = list(follow(frames(0, 1, 2, 3), [tracker], [given(2, 40), given(None, 10)]))
        assert said(seen) == {0: 10, 1: 11, 2: 40, 3: 41}
        assert tracker.told == [("init", 10), (word, 40)]
        scores = [observations[0].score for _, observations in seen]
        assert scores == [1, 0.5, 1, 0.5]


def test_backwards_the_order_is_turned():
    boxes = [given(4, 10), given(2, 40), given(9, 90)]
    seen = list(follow(frames(5, 4, 3, 2, 1), [Taught()], boxes, backwards=True))
    assert said(seen) == {5: 90, 4: 10, 3: 11, 2: 40, 1: 41}


def test_what_is_known_is_said_before_the_start():
    back = list(follow(frames(3, 2, 1), [Steady()], [given(3, 10)], backwards=True))
    known = {(o.frame, o.target): o for _, all_ in back for o in all_}
    seen = list(follow(frames(0, 1, 2, 3, 4), [Steady()], [given(3, 10)], known=known))
    assert said(seen) == {1: 12, 2: 11, 3: 10, 4: 11}
    assert summarise([all_ for _, all_ in seen if all_], [None] * 4).startswith("4 frames tracked")


def test_a_given_box_alone_is_not_scored():
    """As when the second picture of a sequence folder cannot be read."""
    seen = [all_ for _, all_ in follow(frames(0, 1), [Steady()], [given(None, 10)])]
    true = seen[0][0].box_xywh
    assert "success AUC" not in summarise(seen[:1], [true])
    assert "success AUC" in summarise(seen, [true, true])
