from __future__ import annotations

import numpy as np
import pytest

from roam_jax.data.readers.otb import OTB_LISTS, OTB_RANGES, read_otb_folder, select_range
from roam_jax.data.sequences import DataError
from roam_jax.video.inputs import open_source


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


@pytest.mark.parametrize("name", sorted(OTB_RANGES))
def test_frames_that_belong_to_a_sequence(caplog, name):
    """More pictures than boxes, as downloaded; that of Tiger1 has a box for each picture."""
    first, last = OTB_RANGES[name]
    before, after = first - 1, 0 if name == "Tiger1" else 3
    stems = [f"{n:04d}" for n in range(1, last + after + 1)]
    x = np.arange(1 if name == "Tiger1" else first, last + 1)
    inside, boxes = select_range(name, stems, np.stack([x, x, x, x], axis=1).astype(np.float32))
    assert np.flatnonzero(inside).tolist() == list(range(before, last))
    np.testing.assert_array_equal(boxes[:, 0], np.arange(first, last + 1))
    assert caplog.messages == [f"{name}: only the pictures {first} to {last} of {last + after} are used, as OTB says"]


def test_the_range_is_read(tmp_path, add, numbers):
    add("Tiger1", range(1, 355), [(n + 1, 1, 5, 5) for n in range(1, 355)])
    (sequence,) = read_otb_folder(tmp_path)
    assert numbers(sequence) == list(range(6, 355))
    np.testing.assert_array_equal(sequence.boxes_xywh[[0, -1], 0], [6, 354])


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("David", range(1, 171)),
        ("David", range(1, 771)),
        ("BlurCar1", range(1, 21)),
        ("BlurCar1", range(1, 743)),  # numbered anew
        ("Football1", range(1, 81)),
        ("Tiger1", range(1, 121)),
        ("Tiger1", range(1, 401)),
        ("Diving", range(1, 216)),
    ],
)
def test_an_own_sequence_of_such_a_name_stays_as_it_is(caplog, name, numbers):
    boxes = np.ones((len(numbers), 4), np.float32)
    inside, kept = select_range(name, [f"{n:04d}" for n in numbers], boxes)
    assert inside.all()
    assert len(kept) == len(numbers)
    assert not caplog.messages


def test_own_david_is_read_and_opened(tmp_path, add):
    add("David", range(1, 6), [(n, 1, 5, 5) for n in range(1, 6)])
    (sequence,) = read_otb_folder(tmp_path)
    assert len(sequence) == 5
    with open_source([str(tmp_path / "David")]) as source:
        assert source.n_frames == 5
        assert source.groundtruth_xywh is not None
        assert len(source.groundtruth_xywh) == 5


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
