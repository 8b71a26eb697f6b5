from __future__ import annotations

import os

import numpy as np
import pytest

from roam_jax.data import index as index_module
from roam_jax.data.index import index_path, load_index, read_with_index, save_index
from roam_jax.data.layouts import read_layout
from roam_jax.data.readers.got10k import read_got10k
from roam_jax.data.readers.own import read_videos
from roam_jax.data.readers.tree import Tree
from roam_jax.data.sequences import DataError, FolderPaths, ImageFiles, Sequence


@pytest.fixture
def root(tmp_path):
    """Three sequences of GOT-10k with empty pictures: nothing here opens one."""
    (tmp_path / "data").mkdir()
    for number in range(3):
        add(tmp_path / "data", f"s{number}", 2 + number)
    return tmp_path / "data"


def add(root, name, count):
    (root / name).mkdir()
    for frame in range(count):
        (root / name / f"{frame:03d}.jpg").touch()
    (root / name / "groundtruth.txt").write_text("1,2,3,4\n" * count)
    if name != "s0":
        (root / name / "cover.label").write_text("7\n" * count)
        (root / name / "absence.label").write_text("1\n" + "0\n" * (count - 1))
        (root / name / "meta_info.ini").write_text("object_class: dog\n")


@pytest.fixture
def read(root, tmp_path):
    """Reads with an index; `read.calls` counts how often the reader had to work."""

    def read_it(min_size=0):
        return read_with_index("got10k", root, reader, folder=tmp_path / "cache", min_size=min_size)

    def reader(tree):
        read_it.calls += 1
        return read_got10k(tree)

    read_it.calls = 0
    return read_it


def same(a: Sequence, b: Sequence) -> bool:
    def key(s):
        plain = (s.name, s.source, s.still, s.attributes, s.first_box_only, s.frames.files, sorted(s.labels))
        return *plain, s.visible.tolist(), {k: (v.dtype, v.tolist()) for k, v in s.labels.items()}

    return key(a) == key(b) and np.array_equal(a.boxes_xywh, b.boxes_xywh, equal_nan=True)


def test_the_index_gives_the_same(read):
    first, again = read(), read()
    assert read.calls == 1
    assert len(first) == 3
    assert all(map(same, first, again))
    assert first[1].labels["cover"].tolist() == [7] * 3
    assert first[1].visible.tolist() == [False, True, True]


def change_nothing(root):
    (root / "s1" / "groundtruth.txt").read_text()


def edit_boxes(root):
    (root / "s1" / "groundtruth.txt").write_text("1,2,3,5\n" * 3)


def lengthen_a_label(root):
    (root / "s2" / "cover.label").write_text("7\n" * 4 + "\n")


def add_a_sequence(root):
    add(root, "s3", 2)


def remove_a_sequence(root):
    (root / "s2").rename(root.parent / "s2")


def add_a_label(root):
    (root / "s0" / "absence.label").write_text("0\n1\n")


def exchange_a_picture(root):
    (root / "s0" / "001.jpg").rename(root / "s0" / "002.jpg")


def add_a_list(root):
    (root / "list.txt").write_text("s2\ns1\n")


@pytest.mark.parametrize(
    "change",
    [edit_boxes, lengthen_a_label, add_a_sequence, remove_a_sequence, add_a_label, exchange_a_picture, add_a_list],
)
def test_a_change_is_noticed(read, root, change):
    read()
    change(root)
    changed = read()
    assert read.calls == 2
    expected = read_got10k(root)
    assert len(changed) == len(expected)
    assert all(map(same, changed, expected))
    read()
    assert read.calls == 2


def test_no_change_is_no_change(read, root):
    read()
    change_nothing(root)
    read()
    assert read.calls == 1


def test_time_alone_is_a_change(read, root):
    read()
    os.utime(root / "s1" / "groundtruth.txt", ns=(1, 1))
    read()
    assert read.calls == 2


def test_small_data_sets_have_no_index(read, tmp_path):
    read(min_size=1000)
    read(min_size=1000)
    assert read.calls == 2
    assert not (tmp_path / "cache").exists()


def test_a_damaged_index_is_made_anew(read, root, tmp_path, caplog):
    read()
    path = index_path("got10k", root, tmp_path / "cache")
    for damage in (b"", path.read_bytes()[:-500], b"x" * 300):
        path.write_bytes(damage)
        calls = read.calls
        assert len(read()) == 3
        assert read.calls == calls + 1
        assert "damaged" in caplog.text
        caplog.clear()


def test_an_index_that_cannot_be_written(read, tmp_path, caplog):
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert len(read()) == 3
    assert "cannot be written" in caplog.text


def test_a_broken_data_set_leaves_no_index(read, root, tmp_path):
    (root / "s1" / "groundtruth.txt").write_text("1,2,3\n")
    with pytest.raises(DataError, match="line 1"):
        read()
    assert not (tmp_path / "cache").exists()


def test_names_beyond_ascii(tmp_path):
    paths = FolderPaths(tmp_path / "ordner", ["\u00e4.jpg", "b.jpg"])
    boxes = np.array([[1, 2, 3, 4], [np.nan] * 4], np.float32)
    sequences = [Sequence("gr\u00fcn", ImageFiles(paths), boxes, "\u00e9", first_box_only=True)]
    save_index(tmp_path / "i.npz", sequences, {str(tmp_path / "none"): None})
    (restored,) = load_index(tmp_path / "i.npz")
    assert same(restored, sequences[0])
    assert restored.frames.paths[0].name == "\u00e4.jpg"


def test_no_sequences_is_an_index_too(tmp_path):
    save_index(tmp_path / "i.npz", [], {})
    assert load_index(tmp_path / "i.npz") == []


def test_videos_are_listed_anew(tmp_path):
    (tmp_path / "a.mp4").touch()
    (tmp_path / "a.txt").write_text("1,2,3,4\n")
    for _ in range(2):
        actual = read_with_index("videos", tmp_path, read_videos, folder=tmp_path / "cache", min_size=0)
        assert [s.name for s in actual] == ["a"]
    assert not (tmp_path / "cache").exists()


def test_layouts_use_it(root, tmp_path, monkeypatch):
    monkeypatch.setattr(index_module.platformdirs, "user_cache_dir", lambda name: str(tmp_path / name))
    for number in range(3, 600):
        (root / f"s{number}").mkdir()
        (root / f"s{number}" / "0.jpg").touch()
        (root / f"s{number}" / "groundtruth.txt").write_text("1,2,3,4\n")
    first = read_layout("got10k", root)
    (index,) = (tmp_path / "roam_jax" / "indices").iterdir()
    assert index.name.startswith("got10k-")
    monkeypatch.setattr(Tree, "each", None)
    again = read_layout("got10k", root, "mine")
    assert [s.name for s in again] == [s.name for s in first]
    assert {s.source for s in again} == {"mine"}
    with pytest.raises(TypeError):
        read_layout("got10k", root, index=False)
