from __future__ import annotations

import numpy as np
import pytest

from roam_jax.data.readers.lasot import official_test_names, read_lasot
from roam_jax.data.sequences import DataError


@pytest.fixture
def add(pictures, text):
    def add_sequence(folder):
        pictures(folder / "img", [f"{n:08d}.jpg" for n in (1, 2, 3, 4)])
        text(folder / "groundtruth.txt", "367,101,41,16\n366,103,45,16\n0,0,0,0\n364,108,50,16\n")
        text(folder / "full_occlusion.txt", "0,1,0,0")
        text(folder / "out_of_view.txt", "0,0,1,0\n")
        text(folder / "nlp.txt", "airplane flying in the air")

    return add_sequence


def test_flags_and_boxes(tmp_path, add, text):
    add(tmp_path / "airplane" / "airplane-1")
    text(tmp_path / "att" / "airplane-1.txt", "1,0,0,0,0,0,0,0,0,0,0,1,0,1\n")
    (sequence,) = read_lasot(tmp_path)
    assert sequence.visible.tolist() == [True, False, False, True]
    assert np.isnan(sequence.boxes_xywh).all(axis=1).tolist() == [False, False, True, False]
    np.testing.assert_array_equal(sequence.boxes_xywh[0], [367, 101, 41, 16])
    assert sequence.labels["full_occlusion"].tolist() == [False, True, False, False]
    assert sequence.labels["out_of_view"].tolist() == [False, False, True, False]
    assert sequence.attributes == ("IV", "OV", "ARC")


def test_official_split(tmp_path, add):
    assert len(official_test_names()) == 280
    for number in (10, 9, 2, 1):
        add(tmp_path / "airplane" / f"airplane-{number}")
    assert [s.name for s in read_lasot(tmp_path, split="test")] == ["airplane-1", "airplane-9"]
    assert [s.name for s in read_lasot(tmp_path, split="train")] == ["airplane-2", "airplane-10"]
    assert len(read_lasot(tmp_path)) == 4


def test_lists_in_the_folder_come_first(tmp_path, add, text):
    for number in (1, 2):
        add(tmp_path / "dog" / f"dog-{number}")
    text(tmp_path / "training_set.txt", "dog-1\r\n")
    text(tmp_path / "testing_set.txt", "dog-2\n")
    assert [s.name for s in read_lasot(tmp_path, split="train")] == ["dog-1"]
    assert [s.name for s in read_lasot(tmp_path, split="test")] == ["dog-2"]


def test_zips_in_their_own_folders(tmp_path, add):
    add(tmp_path / "dog" / "dog" / "dog-3")
    add(tmp_path / "rubicCube-2")
    (tmp_path / "cat").mkdir()
    assert [s.name for s in read_lasot(tmp_path)] == ["dog-3", "rubicCube-2"]


def test_without_flags(tmp_path, add):
    add(tmp_path / "dog" / "dog-3")
    (tmp_path / "dog" / "dog-3" / "out_of_view.txt").unlink()
    assert read_lasot(tmp_path)[0].visible.tolist() == [True, False, False, True]


def test_what_is_missing_is_said(tmp_path, add):
    with pytest.raises(DataError, match=r"should hold CLASS/CLASS-N/groundtruth\.txt"):
        read_lasot(tmp_path)
    folder = tmp_path / "dog" / "dog-3"
    add(folder)
    (folder / "full_occlusion.txt").write_text("0,1,0")
    with pytest.raises(DataError, match=r"full_occlusion\.txt should hold one 0 or 1 for each of the 4 frames"):
        read_lasot(tmp_path)
    (folder / "full_occlusion.txt").unlink()
    (folder / "img" / "00000004.jpg").unlink()
    with pytest.raises(DataError, match="there are 4 and 3"):
        read_lasot(tmp_path)
