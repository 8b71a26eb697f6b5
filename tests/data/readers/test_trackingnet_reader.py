from __future__ import annotations

import numpy as np
import pytest

from roam_jax.data.readers.trackingnet import read_trackingnet
from roam_jax.data.sequences import DataError


@pytest.fixture
def add(tmp_path, pictures, text):
    def add_video(part, name, count, boxes):
        pictures(tmp_path / part / "frames" / name, [f"{n}.jpg" for n in range(count)])
        text(tmp_path / part / "anno" / f"{name}.txt", "".join(f"{10 + i}.5,2,3,4\n" for i in range(boxes)))

    return add_video


def test_frames_in_the_order_of_their_numbers(tmp_path, add, numbers):
    add("TRAIN_0", "-3TIfnTSM6c_2", 12, 12)
    add("TRAIN_11", "zz_0", 2, 2)
    first, last = read_trackingnet(tmp_path)
    assert (first.name, last.name) == ("-3TIfnTSM6c_2", "zz_0")
    assert numbers(first) == list(range(12))
    assert [int(frame[0, 0, 0]) for frame in first.frames] == list(range(12))
    np.testing.assert_array_equal(first.boxes_xywh[11], [21.5, 2, 3, 4])
    assert first.source == "trackingnet"


def test_boxes_of_the_test_part_are_secret(tmp_path, add):
    add("TRAIN_0", "a_0", 2, 2)
    add("TEST", "b_0", 11, 1)
    (sequence,) = read_trackingnet(tmp_path, split="test")
    assert sequence.first_box_only
    assert len(sequence) == 11
    assert np.isfinite(sequence.boxes_xywh[0]).all()
    assert np.isnan(sequence.boxes_xywh[1:]).all()


def test_what_is_missing_is_said(tmp_path, add):
    with pytest.raises(DataError, match="should hold TRAIN_0 to TRAIN_11"):
        read_trackingnet(tmp_path)
    with pytest.raises(DataError, match="should hold TEST with anno and frames"):
        read_trackingnet(tmp_path, split="test")
    add("TRAIN_3", "a_0", 2, 1)
    with pytest.raises(DataError, match=r"a_0\.txt should hold one box per picture, but there are 1 and 2"):
        read_trackingnet(tmp_path)
    (tmp_path / "TRAIN_3" / "frames").rename(tmp_path / "zips")
    with pytest.raises(DataError, match="a_0 should be a folder of frames"):
        read_trackingnet(tmp_path)
