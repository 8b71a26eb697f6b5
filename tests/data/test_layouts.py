from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from roam_jax.data.layouts import LAYOUTS, Layout, find_reader, read_layout
from roam_jax.data.sequences import DataError, FolderPaths, ImageFiles, Sequence


def test_command_lines_know_every_layout():
    assert get_args(Layout) == tuple(LAYOUTS)
    assert find_reader("otb2015").origin == 1
    assert find_reader("lasot-test").origin == 0


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_empty_folder_is_none_of_them(tmp_path, layout):
    """One sentence that says what should be there, and where."""
    with pytest.raises(DataError) as error:
        read_layout(layout, tmp_path)
    message = str(error.value)
    assert message.startswith(str(tmp_path))
    assert " should " in message
    assert "\n" not in message
    with pytest.raises(DataError, match="nowhere"):
        read_layout(layout, tmp_path / "nowhere")


def test_broken_sequences_are_left_out_if_their_problems_are_wanted(tmp_path):
    for name, boxes in (("a", "1,2,3,4\n"), ("b", "1,2,3\n"), ("c", "1,2,3,4\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.jpg").touch()
        (tmp_path / name / "groundtruth.txt").write_text(boxes)
    problems: list[str] = []
    assert [s.name for s in read_layout("images", tmp_path, "mine", problems=problems)] == ["a", "c"]
    (problem,) = problems
    assert "b/groundtruth.txt line 1" in problem
    with pytest.raises(DataError, match="line 1"):
        read_layout("images", tmp_path)


def test_pictures_are_in_the_order_of_their_numbers(tmp_path):
    (tmp_path / "a").mkdir()
    for name in ("10.png", "9.jpg", "100.jpg", "0011.jpg", ".hidden.jpg", "note.txt"):
        (tmp_path / "a" / name).touch()
    (tmp_path / "a" / "groundtruth.txt").write_text("1,2,3,4\n" * 4)
    (sequence,) = read_layout("images", tmp_path)
    assert [path.name for path in sequence.frames.paths] == ["9.jpg", "10.png", "0011.jpg", "100.jpg"]
    (tmp_path / "a" / "b.jpg").touch()
    (tmp_path / "a" / "groundtruth.txt").write_text("1,2,3,4\n" * 5)
    (sequence,) = read_layout("images", tmp_path)
    assert [path.name for path in sequence.frames.paths] == ["0011.jpg", "10.png", "100.jpg", "9.jpg", "b.jpg"]


def test_paths_of_a_folder(tmp_path):
    paths = FolderPaths(tmp_path, ["a.jpg", "\u00fc.b.jpg", "c.jpg"])
    assert list(paths) == [tmp_path / "a.jpg", tmp_path / "\u00fc.b.jpg", tmp_path / "c.jpg"]
    assert paths[-1] == tmp_path / "c.jpg"
    assert list(paths[1:]) == [tmp_path / "\u00fc.b.jpg", tmp_path / "c.jpg"]
    assert list(paths.select([True, False, True])) == [tmp_path / "a.jpg", tmp_path / "c.jpg"]
    assert paths.stems == ["a", "\u00fc.b", "c"]
    with pytest.raises(IndexError):
        paths[3]


def test_labels_have_a_row_per_frame(tmp_path):
    frames = ImageFiles(FolderPaths(tmp_path, ["a.jpg", "b.jpg"]))
    boxes = np.ones((2, 4), np.float32)
    assert Sequence("a", frames, boxes, labels={"cover": np.array([1, 2])}).labels["cover"].tolist() == [1, 2]
    with pytest.raises(DataError, match="one cover per frame: 2 and 3"):
        Sequence("a", frames, boxes, labels={"cover": np.array([1, 2, 3])})
