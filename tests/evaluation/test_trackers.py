"""One protocol for the tracker of this package and for its peers."""

from __future__ import annotations

import math

import jax
import numpy as np
import pytest

from roam_jax import presets
from roam_jax.checkpoints import Checkpoint
from roam_jax.evaluation.trackers import OpenCVTracker, TrackerLike, make_tracker
from roam_jax.tracking.params import init_params, params_to_dict
from roam_jax.tracking.tracker import Tracker

BOX = (12.0, 14.0, 20.0, 16.0)


class Scripted:
    """Stands for a tracker of OpenCV; it finds the object in every other frame."""

    def __init__(self) -> None:
        self.found = False

    def init(self, image, box):
        assert all(isinstance(value, int) for value in box)

    def update(self, image):
        self.found = not self.found
        return self.found, (1, 2, 3, 4) if self.found else (0, 0, 0, 0)


def make_roam() -> Tracker:
    params = jax.jit(lambda key: init_params(presets.tiny(), key=key))(jax.random.key(0))
    return Tracker(Checkpoint(presets.tiny(), params_to_dict(params), ""))


@pytest.mark.parametrize("make", [make_roam, lambda: make_tracker("cv2:mil")], ids=["roam", "cv2:mil"])
def test_a_tracker_follows_the_protocol(make):
    tracker = make()
    assert isinstance(tracker, TrackerLike)
    images = np.random.default_rng(0).integers(0, 255, (3, 60, 80, 3), np.uint8)
    tracker.init(images[0], BOX)
    assert tuple(tracker.box) == BOX
    assert not tracker.lost
    for image in images[1:]:
        box = tracker.update(image)
        np.testing.assert_array_equal(tracker.box, box)
        assert isinstance(tracker.score, float)
        assert isinstance(tracker.lost, bool)


def test_what_lacks_the_score_does_not():
    class Bare:
        box, lost = BOX, False

        def init(self, image, box): ...

        def update(self, image): ...

    assert not isinstance(Bare(), TrackerLike)


def test_opencv_says_when_it_has_lost_the_object():
    tracker, image = OpenCVTracker(Scripted), np.zeros((60, 80, 3), np.uint8)
    tracker.init(image, BOX)
    assert (tracker.lost, math.isnan(tracker.score)) == (False, True)
    np.testing.assert_array_equal(tracker.update(image), (1, 2, 3, 4))
    assert not tracker.lost
    np.testing.assert_array_equal(tracker.update(image), (1, 2, 3, 4))
    assert tracker.lost
    tracker.init(image, BOX)
    assert not tracker.lost
