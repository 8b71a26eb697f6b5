from __future__ import annotations

import struct

import numpy as np
import pytest

from roam_jax.data.sequences import DataError
from roam_jax.evaluation.vot.regions import Code, format_region, overlap, parse_region, read_regions, write_regions

SIZE = (100, 80)


def box(*numbers: float) -> np.ndarray:
    return np.array(numbers, np.float32)


def polygon(*corners: tuple[float, float]) -> np.ndarray:
    return np.array(corners, np.float32)


SQUARE = polygon((10, 10), (20, 10), (20, 20), (10, 20))
TRIANGLE = polygon((0, 0), (4, 0), (0, 4))


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (box(0, 0, 10, 10), box(5, 0, 10, 10), 50 / 150),
        (box(0, 0, 10, 10), box(10, 0, 10, 10), 0),
        (box(0, 0, 10, 10), box(5.5, 0, 10, 10), 40 / 160),  # 5.5 is rounded to 6
        (box(0, 0, 10, 10), box(4.5, 0, 10, 10), 60 / 140),  # 4.5 is rounded to 4
        (box(0, 0, 10, 10), box(0, 0, 10.4, 9.6), 1),
        (SQUARE, box(10, 10, 11, 11), 1),  # a polygon's corners belong to it
        (SQUARE, box(10, 10, 10, 10), 100 / 121),
        (SQUARE, SQUARE[::-1], 1),
        (TRIANGLE, box(0, 0, 5, 5), 15 / 25),  # rows of 5, 4, 3, 2, 1 pixels
        (box(-5, 0, 10, 10), box(0, 0, 10, 10), 50 / 100),  # what is outside of the image does not count
        (box(95, 75, 20, 20), box(90, 70, 20, 20), 25 / 100),
        (SQUARE - 15, box(0, 0, 6, 6), 1),
        (box(-50, 0, 10, 10), box(-50, 0, 10, 10), 0),  # nothing inside
        (box(3, 3, 1, 9), box(3, 3, 1, 2), 1),  # one column: a fault of the toolkit
        (box(0, 0, 10, 10), box(0, 0, 0, 0), 0),
        (box(0, 0, 10, 10), box(np.nan, 0, 5, 5), 0),
        (box(0, 0, 10, 10), Code.FAILURE, 0),
        (Code.UNKNOWN, Code.UNKNOWN, 0),
    ],
)
def test_overlap_by_hand(a, b, expected):
    assert overlap(a, b, SIZE) == pytest.approx(expected, abs=1e-12)
    assert overlap(b, a, SIZE) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("a", "b", "size_wh", "expected"),
    [
        (
            [[17, 152], [17, 142], [22, 143], [22, 143], [23, 145]],
            [[11.9, 156.1], [16.1, 136.1], [26.4, 146.9], [20.5, 145.6], [21.9, 145.2]],
            (84, 182),
            0.3017241379310345,
        ),
        (
            [[143, 145], [213, 143], [216, 144], [214, 143], [159, 146], [208, 143]],
            [[143.8, 145.4], [215.1, 139.6], [220.8, 146.6], [221, 143.2], [157.2, 140.6], [206.6, 139.2]],
            (185, 146),
            0.32,
        ),
        (
            [[192, 35], [181, -27], [199, 25], [190, -39], [203, -11]],
            [[189.8, 38.1], [184.2, -21], [205.3, 22.8], [187.9, -41.7], [202.9, -11.4]],
            (190, 151),
            0.6494845360824743,
        ),
        (
            [[-44, 52], [1, 27], [-11, 64], [27, 66], [65, 31], [12, 66]],
            [[-42.2, 54.7], [0.5, 29.9], [-14.6, 69.1], [24.5, 65], [63.3, 31.2], [9.3, 68.4]],
            (159, 79),
            0.4891891891891892,
        ),
    ],
)
def test_overlap_of_odd_polygons_is_that_of_the_toolkit(a, b, size_wh, expected):
    assert overlap(np.array(a), np.array(b), size_wh) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("region", [box(1.5, 2.25, 3, 0.1), SQUARE / 3, Code.START, Code.UNKNOWN])
def test_a_line_gives_the_region_back(region):
    read = parse_region(format_region(region))
    assert np.array_equal(read, region)
    assert np.shape(read) == np.shape(region)


def test_special_lines():
    assert parse_region("nan,nan,nan,nan") == Code.UNKNOWN
    assert parse_region("2.0000") == Code.FAILURE
    assert parse_region("1,2,3,4,5,6").shape == (3, 2)


@pytest.mark.parametrize("line", ["1,2", "1,2,3", "1,2,3,4,5", "m0,0,2,2,1,3", "", "a,b,c,d"])
def test_lines_that_are_no_region(tmp_path, line):
    path = tmp_path / "results.txt"
    path.write_text(f"1\n{line}\n2\n")
    with pytest.raises(DataError, match=r"results.txt line 2 should be a rectangle, polygon or code"):
        read_regions(path)


def test_files(tmp_path):
    regions = [Code.START, box(1, 2, 3, 4), SQUARE, Code.FAILURE, Code.UNKNOWN]
    write_regions(tmp_path / "a.txt", regions)
    assert (tmp_path / "a.txt").read_text() == "1\n1,2,3,4\n10,10,20,10,20,20,10,20\n2\n0\n"
    read = read_regions(tmp_path / "a.txt")
    assert [np.array_equal(a, b) for a, b in zip(read, regions, strict=True)] == [True] * 5
    with pytest.raises(DataError, match="there is no such file"):
        read_regions(tmp_path / "b.txt")
    (tmp_path / "b.txt").write_text("\n")
    with pytest.raises(DataError, match="it is empty"):
        read_regions(tmp_path / "b.txt")


def test_binary_files(tmp_path):
    start, rectangle = struct.pack("<BI", 0, 1), struct.pack("<B4f", 1, 1, 2, 3, 4.5)
    corners = struct.pack("<BH6f", 2, 3, 0, 0, 4, 0, 0, 4)
    path = tmp_path / "a.bin"
    path.write_bytes(struct.pack("<hI", 1, 3) + start + rectangle + corners)
    code, read, triangle = read_regions(path)
    assert code == Code.START
    assert read.tolist() == [1, 2, 3, 4.5]
    assert triangle.tolist() == TRIANGLE.tolist()
    for content in (
        struct.pack("<hI", 1, 3) + start,  # ends early
        struct.pack("<hI", 2, 1) + start,  # another version
        struct.pack("<hI", 1, 1) + struct.pack("<BhhHHH", 3, 0, 0, 1, 1, 0),  # a mask
        struct.pack("<hI", 1, 1) + rectangle[:9],
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"a\.bin should be a trajectory of rectangles, polygons and codes"):
            read_regions(path)
