from __future__ import annotations

import numpy as np
import pytest

from roam_jax.data.readers.otb import OTB_LISTS, OTB_RANGES, read_otb_folder
from roam_jax.data.sequences import DataError


@pytest.fixture
def add(tmp_path, pictures, text):
    def add_sequence(name, numbers, boxes, *, digits=4, suffix="jpg", file="groundtruth_rect.txt", separator=","):
        pictures(tmp_path / name / "img", [f"{n:0{digits}d}.{suffix}" for n in numbers])
        text(tmp_path / name / file, "\n".join(separator.join(map(str, box)) for box in boxes))

    return add_sequence


@pytest.mark.parametrize("separator", [",", "\t", " ", ", "])
def test_separators_and_the_first_pixel(tmp_path, add, separator):
    add("Deer", (1, 2), [(306, 5, 95, 65), (1, 1, 2, 3)], separator=separator)
    (sequence,) = read_otb_folder(tmp_path)
    np.testing.assert_array_equal(sequence.boxes_xywh, [[305, 4, 95, 65], [0, 0, 2, 3]])


@pytest.mark.parametrize("name", sorted(set(OTB_RANGES) - {"Tiger1"}))
def test_frames_that_belong_to_a_sequence(tmp_path, add, numbers, name):
    """More pictures than boxes, as downloaded: from one before the first to one after the last."""
    first, last = OTB_RANGES[name]
    boxes = [(i, 1, 5, 5) for i in range(last - first + 1)]
    add(name, [n for n in (first - 1, first, first + 1, last - 1, last, last + 1) if n > 0], boxes[:4])
    (sequence,) = read_otb_folder(tmp_path)
    assert numbers(sequence) == [first, first + 1, last - 1, last]
    np.testing.assert_array_equal(sequence.boxes_xywh[:, 0], [-1, 0, 1, 2])


def test_tiger1_begins_at_its_sixth_picture_and_box(tmp_path, add, numbers):
    add("Tiger1", range(1, 355), [(n + 1, 1, 5, 5) for n in range(1, 355)])
    (sequence,) = read_otb_folder(tmp_path)
    assert numbers(sequence) == list(range(6, 355))
    np.testing.assert_array_equal(sequence.boxes_xywh[[0, -1], 0], [6, 354])


def test_a_range_that_was_numbered_anew(tmp_path, add, numbers):
    count = 988 - 247 + 1
    add("BlurCar1", range(1, count + 1), [(n, 1, 5, 5) for n in range(count)])
    (sequence,) = read_otb_folder(tmp_path)
    assert numbers(sequence) == list(range(1, count + 1))


def test_two_objects(tmp_path, add, text):
    for name in ("Jogging", "Skating2"):
        add(name, (1,), [(1, 1, 5, 6)], file="groundtruth_rect.1.txt", separator="\t")
        text(tmp_path / name / "groundtruth_rect.2.txt", "2 2 5 6")
    add("Human4", (1,), [(3, 3, 5, 6)], file="groundtruth_rect.2.txt")
    text(tmp_path / "Human4" / "groundtruth_rect.1.txt", "\n")
    sequences = {s.name: s for s in read_otb_folder(tmp_path)}
    assert list(sequences) == ["Human4-2", "Jogging-1", "Jogging-2", "Skating2-1", "Skating2-2"]
    np.testing.assert_array_equal(sequences["Jogging-2"].boxes_xywh, [[1, 1, 5, 6]])


def test_file_names_of_board_and_kitesurf(tmp_path, add, numbers):
    add("Board", range(9, 12), [(1, 1, 5, 5)] * 3, digits=5)
    add("KiteSurf", (1, 2), [(1, 1, 5, 5)] * 2, suffix="png")
    board, surf = read_otb_folder(tmp_path)
    assert numbers(board) == [9, 10, 11]
    assert board.frames.paths[0].name == "00009.jpg"
    assert surf.frames[1][0, 0, 0] == 2


def test_attributes(tmp_path, add, text):
    add("Deer", (1,), [(1, 1, 5, 5)])
    assert read_otb_folder(tmp_path)[0].attributes == ()
    text(tmp_path / "anno" / "att" / "Deer.txt", "0,1,0,1,0,0,0,0,0,0,1")
    assert read_otb_folder(tmp_path)[0].attributes == ("OPR", "OCC", "LR")
    text(tmp_path / "Deer" / "attrs.txt", "IV, SV")
    assert read_otb_folder(tmp_path)[0].attributes == ("IV", "SV")
    text(tmp_path / "Deer" / "attrs.txt", "0,1")
    with pytest.raises(DataError, match="each of the 11"):
        read_otb_folder(tmp_path)


def test_lists(tmp_path, add):
    assert [len(OTB_LISTS[v]) for v in ("2013", "2015")] == [50, 98]  # with Jogging and Skating2: 51 and 100
    assert set(OTB_LISTS["2013"]) < set(OTB_LISTS["2015"])
    with pytest.raises(DataError, match="folders of OTB-2013, but there is none"):
        read_otb_folder(tmp_path, version="2013")
    for name in OTB_LISTS["2015"]:
        add(name, (500 if name == "BlurCar1" else 300 if name == "David" else 20,), [(1, 1, 5, 5)])
    assert [s.name for s in read_otb_folder(tmp_path, version="2015")] == OTB_LISTS["2015"]
    assert len(read_otb_folder(tmp_path, version="2013")) == 50
    (tmp_path / "Woman").rename(tmp_path / "Women")
    with pytest.raises(DataError, match="Woman should be a sequence of OTB-2013"):
        read_otb_folder(tmp_path, version="2013")


def test_what_is_missing_is_said(tmp_path, add):
    with pytest.raises(DataError, match=r"should hold groundtruth_rect\*\.txt"):
        read_otb_folder(tmp_path)
    add("Deer", (1, 2), [(1, 1, 5, 5)])
    with pytest.raises(DataError, match="there are 1 and 2"):
        read_otb_folder(tmp_path)
