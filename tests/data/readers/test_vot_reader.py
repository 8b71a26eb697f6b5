from __future__ import annotations

import numpy as np
import pytest

from roam_jax.data.readers.vot import polygons_to_boxes, read_vot
from roam_jax.data.sequences import DataError

DIAMOND = "10,0,20,10,10,20,0,10\n"


@pytest.fixture
def add(tmp_path, pictures, text):
    def add_sequence(name, lines, folder="color", count=None):
        pictures(tmp_path / name / folder, [f"{n + 1:08d}.jpg" for n in range(count or len(lines))])
        text(tmp_path / name / "groundtruth.txt", "".join(lines))

    return add_sequence


def test_polygons_become_boxes_of_the_same_area():
    """A square that stands on its corner: its tight box has twice its area."""
    (box,) = polygons_to_boxes(np.array([[10, 0, 20, 10, 10, 20, 0, 10]], float))
    side = np.sqrt(200) + 1
    np.testing.assert_allclose(box, [10 - side / 2, 10 - side / 2, side, side])
    (upright,) = polygons_to_boxes(np.array([[3, 4, 13, 4, 13, 9, 3, 9]], float))
    np.testing.assert_allclose(upright, [8 - 5.5, 6.5 - 3, 11, 6])


def test_polygons_boxes_and_pictures_beside_them(tmp_path, add, text):
    add("bag", [DIAMOND, DIAMOND])
    add("ball1", ["1.5,2,3,4\n", "nan,nan,nan,nan\n"], folder=".")
    text(tmp_path / "list.txt", "ball1\nbag\n")
    ball, bag = read_vot(tmp_path)
    assert (ball.name, bag.name) == ("ball1", "bag"), "the order of list.txt"
    np.testing.assert_array_equal(ball.boxes_xywh[0], [1.5, 2, 3, 4])
    np.testing.assert_array_equal(ball.labels["polygon_xy"][0], [1.5, 2, 4.5, 2, 4.5, 6, 1.5, 6])
    assert ball.visible.tolist() == [True, False]
    np.testing.assert_allclose(bag.boxes_xywh[0], polygons_to_boxes(bag.labels["polygon_xy"].astype(float))[0])
    np.testing.assert_array_equal(bag.labels["polygon_xy"][1], [10, 0, 20, 10, 10, 20, 0, 10])
    assert bag.frames[1][0, 0, 0] == 2


def test_frame_attributes(tmp_path, add, text):
    add("bag", [DIAMOND] * 3)
    text(tmp_path / "bag" / "occlusion.tag", "0\n1\n1\n")
    text(tmp_path / "bag" / "camera_motion.label", "1\n")
    text(tmp_path / "bag" / "practical.value", "0.3\n")
    (sequence,) = read_vot(tmp_path)
    assert sequence.labels["occlusion"].tolist() == [False, True, True]
    assert sequence.labels["camera_motion"].tolist() == [True, False, False], "missing lines are 0"
    assert "practical" not in sequence.labels


def test_masks(tmp_path, add):
    # 4 x 3 pixels at (10, 20): the second row has two ones, the third one
    add("bag", ["m10,20,4,3,5,2,3,1\n", "m0,0,2,1,2\n"])
    (sequence,) = read_vot(tmp_path)
    np.testing.assert_array_equal(sequence.boxes_xywh[0], [11, 21, 2, 2])
    assert sequence.visible.tolist() == [True, False]


def test_what_is_missing_is_said(tmp_path, add, text):
    with pytest.raises(DataError, match=r"should hold groundtruth\.txt"):
        read_vot(tmp_path)
    text(tmp_path / "list.txt", "bag\nball1\n")
    with pytest.raises(DataError, match=r"folders of list\.txt"):
        read_vot(tmp_path)
    add("bag", ["1,2,3,4,5,6\n"])
    with pytest.raises(DataError, match=r"ball1 should be a sequence of list\.txt"):
        read_vot(tmp_path)
    text(tmp_path / "list.txt", "bag\n")
    with pytest.raises(DataError, match="line 1 should be four or eight numbers"):
        read_vot(tmp_path)
    text(tmp_path / "bag" / "groundtruth.txt", "m1,2,3\n")
    with pytest.raises(DataError, match="masks"):
        read_vot(tmp_path)
    text(tmp_path / "bag" / "groundtruth.txt", DIAMOND * 2)
    with pytest.raises(DataError, match="there are 2 and 1"):
        read_vot(tmp_path)
    text(tmp_path / "bag" / "groundtruth.txt", DIAMOND)
    text(tmp_path / "bag" / "occlusion.tag", "0\n1\n")
    with pytest.raises(DataError, match=r"occlusion\.tag should hold one 0 or 1"):
        read_vot(tmp_path)
