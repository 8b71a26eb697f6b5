from __future__ import annotations

import numpy as np
import pytest

from roam_jax.video.draw import COLOURS, LOST, draw_observations
from roam_jax.video.formats import Observation


def observe(box, lost: bool = False, target: int = 0) -> Observation:
    return Observation(1, target, np.array(box, np.float32), 0.5, lost, 0.01)


def count(image: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((np.abs(image.astype(int) - colour).max(axis=-1) < 30).sum())


def test_the_frame_itself_is_not_painted_on():
    frame = np.full((120, 160, 3), 90, np.uint8)
    drawn = draw_observations(frame, [observe((20, 40, 60, 50))])
    assert (frame == 90).all()
    assert drawn.shape == frame.shape
    assert (drawn != frame).any()


@pytest.mark.parametrize("scale", [1, 4, 12])
def test_lines_lie_on_the_edges_of_the_box_at_any_size(scale):
    frame = np.full((90 * scale, 160 * scale, 3), 90, np.uint8)
    x, y, w, h = 40 * scale, 40 * scale, 60 * scale, 30 * scale
    drawn = draw_observations(frame, [observe((x, y, w, h))])
    painted = (drawn != frame).any(axis=-1)
    for row, column in [(y + h // 2, x), (y + h // 2, x + w), (y + h, x + w // 2), (y, x + w - 2 * scale)]:
        assert painted[row - 1 : row + 2, column - 1 : column + 2].any()
    assert not painted[y + 6 * scale : y + h - 6 * scale, x + 6 * scale : x + w - 6 * scale].any(), "the object is seen"
    assert count(drawn, COLOURS[0]) > 0


def test_a_lost_object_is_red_and_its_line_has_gaps():
    frame = np.full((270, 480, 3), 90, np.uint8)
    box = (100, 100, 200, 120)
    actual, lost = (draw_observations(frame, [observe(box, lost)]) for lost in (False, True))
    assert count(actual, LOST) == 0
    assert count(lost, COLOURS[0]) == 0
    assert count(lost, LOST) > 0
    edge = (lost[219:222, 110:290] != 90).any(axis=(0, 2))
    assert edge.any()
    assert not edge.all()


def test_every_object_has_its_own_colour():
    frame = np.full((270, 480, 3), 90, np.uint8)
    drawn = draw_observations(frame, [observe((20, 40, 60, 50)), observe((220, 40, 60, 50), target=1)])
    assert count(drawn[:, :200], COLOURS[0]) > 0
    assert count(drawn[:, 200:], COLOURS[1]) > 0
    assert count(drawn[:, 200:], COLOURS[0]) == 0


@pytest.mark.parametrize(
    "box", [(-50, -50, 20, 20), (1e9, 1e9, 1e9, 1e9), (np.nan, 0, 5, 5), (150, 110, 90, 90), (-500, -500, 5000, 5000)]
)
@pytest.mark.parametrize("lost", [False, True])
def test_boxes_anywhere_can_be_drawn(box, lost):
    drawn = draw_observations(np.zeros((120, 160, 3), np.uint8), [observe(box, lost)], np.array(box, np.float32))
    assert drawn.shape == (120, 160, 3)


def test_frames_that_are_views_can_be_drawn_on():
    frame = np.rot90(np.full((120, 160, 3), 90, np.uint8))[:, ::-1]
    assert (draw_observations(frame, [observe((20, 40, 60, 50))]) != 90).any()
