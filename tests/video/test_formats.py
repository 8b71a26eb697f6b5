from __future__ import annotations

import json

import numpy as np
import pytest

from roam_jax.errors import InputError, UsageError
from roam_jax.video.formats import (
    Observation,
    check_box,
    format_box,
    format_observation,
    parse_box,
    read_boxes,
    read_corrections,
    read_observations,
)


@pytest.mark.parametrize("text", ["1,2,3,4", " 1 2 3 4 ", "1;2;3;4", "1.0, 2e0,\t3 , 4"])
def test_a_box_is_read_whatever_stands_between_its_numbers(text):
    np.testing.assert_array_equal(parse_box(text), [1, 2, 3, 4])
    np.testing.assert_array_equal(parse_box(text, one_based=True), [0, 1, 3, 4])


@pytest.mark.parametrize("text", ["", "1,2,3", "1,2,3,4,5", "a,b,c,d", "1 2 3 x"])
def test_text_that_is_no_box_is_refused(text):
    with pytest.raises(UsageError, match="four numbers x,y,w,h"):
        parse_box(text)


@pytest.mark.parametrize("line", ["10,20,30,40", "10\t20\t30\t40", "10 20  30 40"])
def test_boxes_files_come_with_commas_tabs_or_spaces(tmp_path, line):
    path = tmp_path / "boxes.txt"
    path.write_text(f"{line}\n{line}\n\n")
    np.testing.assert_array_equal(read_boxes(path), [[10, 20, 30, 40]] * 2)
    np.testing.assert_array_equal(read_boxes(path, one_based=True), [[9, 19, 30, 40]] * 2)


@pytest.mark.parametrize("content", ["", "1,2,3\n", "1,2,3,four\n", b"\xff\xfe\x00"])
def test_a_boxes_file_without_boxes_is_refused(tmp_path, content):
    path = tmp_path / "boxes.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError):
        read_boxes(path)


@pytest.mark.parametrize("frame", ["inf", "nan", "1e400", "-1", "2.5"])
def test_frames_are_counted_by_whole_numbers(tmp_path, frame):
    path = tmp_path / "corrections.txt"
    path.write_text(f"{frame},1,2,3,4\n")
    with pytest.raises(InputError, match="whole numbers, but has"):
        read_corrections(path)


@pytest.mark.parametrize("one_based", [False, True])
def test_boxes_survive_writing_and_reading(tmp_path, one_based):
    boxes = np.random.default_rng(0).uniform(-50, 2000, (20, 4)).astype(np.float32)
    path = tmp_path / "boxes.txt"
    path.write_text("".join(format_box(box, one_based=one_based) + "\n" for box in boxes))
    np.testing.assert_allclose(read_boxes(path, one_based=one_based), boxes, atol=0.006)


def test_one_based_text_starts_at_one():
    assert format_box(np.zeros(4, np.float32), one_based=True) == "1.00,1.00,0.00,0.00"


def test_an_observation_is_a_line_of_json(tmp_path):
    line = format_observation(Observation(3, 1, np.array([1, 2, 3, 4.5], np.float32), 0.25, True, 0.125, 1.5))
    assert json.loads(line) == {
        "frame": 3, "time": 1.5, "target": 2, "box": [1, 2, 3, 4.5], "score": 0.25, "lost": True,
        "compute_seconds": 0.125,
    }  # fmt: skip


def test_numbers_that_are_not_finite_become_null():
    box = np.array([np.nan, np.inf, 1, 1], np.float32)
    row = json.loads(format_observation(Observation(0, 0, box, float("nan"), False, 0.0)), parse_constant=pytest.fail)
    assert (row["box"], row["score"]) == ([None, None, 1, 1], None)


def test_a_last_line_that_was_cut_short_is_left_out(tmp_path):
    path = tmp_path / "track.jsonl"
    path.write_text('{"frame": 0}\n{"frame": 1}\n{"fra')
    assert [row["frame"] for row in read_observations(path)] == [0, 1]
    path.write_text('{"frame": 0}\n{"fra\n{"frame": 2}\n')
    with pytest.raises(InputError, match="line 2"):
        read_observations(path)
    path.write_bytes(b'{"frame": 0}\n{"frame\xff": 1\n{"frame": 2}\n')
    with pytest.raises(InputError, match="line 2"):
        read_observations(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_observations(tmp_path / "none.jsonl")


@pytest.mark.parametrize("box", [(0, 0, 20, 10), (-5, -5, 10, 10), (18.5, 3, 100, 100), (3, 3, 1, 1)])
def test_a_box_may_stick_out_of_the_image(box):
    np.testing.assert_array_equal(check_box(np.array(box, np.float32), (10, 20)), np.array(box, np.float32))


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        ((0, 0, 0, 5), "is empty"),
        ((0, 0, 5, -5), "is empty"),
        ((np.nan, 0, 5, 5), "not finite"),
        ((0, 0, np.inf, 5), "not finite"),
        ((20, 0, 5, 5), "outside the image, which is 20 pixels wide and 10 high"),
        ((0, 9.5, 5, 5), "outside the image"),
        ((-5, 0, 5, 5), "outside the image"),
    ],
)
def test_a_box_without_an_object_in_it_is_refused(box, reason):
    with pytest.raises(UsageError, match=reason):
        check_box(np.array(box, np.float32), (10, 20))
