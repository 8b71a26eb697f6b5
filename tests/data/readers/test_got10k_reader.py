from __future__ import annotations

import numpy as np
import pytest

from roam_jax.data.layouts import read_layout
from roam_jax.data.readers.got10k import read_got10k
from roam_jax.data.sequences import DataError

META = "[METAINFO]\nurl: https://example.org\nobject_class: snake\nmotion_class: slithering\nresolution: (12, 8)\n"


@pytest.fixture
def root(tmp_path, pictures, text):
    for split, names in (
        ("train", ["Train_000002", "Train_000001"]),
        ("val", ["Val_000001"]),
        ("test", ["Test_000001"]),
    ):
        names = [f"GOT-10k_{name}" for name in names]
        text(tmp_path / split / "list.txt", "\n".join(names) + "\n")
        for name in names:
            folder = tmp_path / split / name
            pictures(folder, [f"{n:08d}.jpg" for n in (1, 2, 3)])
            box = "347.0000,443.0000,429.0000,272.0000\n"
            text(folder / "groundtruth.txt", box if split == "test" else box * 3)
            text(folder / "meta_info.ini", META)
            if split != "test":
                text(folder / "absence.label", "0\n0\n1\n")
                text(folder / "cover.label", "8\n4\n0\n")
                text(folder / "cut_by_image.label", "0\n1\n0\n")
    return tmp_path


def test_labels(root):
    train = read_got10k(root, split="train")
    assert [s.name for s in train] == ["GOT-10k_Train_000002", "GOT-10k_Train_000001"], "the order of list.txt"
    first = train[0]
    assert first.visible.tolist() == [True, True, False]
    assert np.isfinite(first.boxes_xywh).all()
    assert first.labels["cover"].tolist() == [8, 4, 0]
    assert first.labels["cut_by_image"].tolist() == [False, True, False]
    assert first.attributes == ("object_class: snake", "motion_class: slithering")
    np.testing.assert_array_equal(first.boxes_xywh[0], [347, 443, 429, 272])
    assert not first.first_box_only


def test_the_root_may_be_the_split(root):
    names = [s.name for s in read_got10k(root / "val")]
    assert names == [s.name for s in read_got10k(root, split="val")] == ["GOT-10k_Val_000001"]
    assert [s.name for s in read_got10k(root / "val", split="val")] == names


def test_boxes_of_the_test_split_are_secret(root):
    (sequence,) = read_layout("got10k-test", root)
    assert len(sequence) == 3
    assert sequence.first_box_only
    assert sequence.visible.tolist() == [True, False, False]
    assert np.isnan(sequence.boxes_xywh[1:]).all()
    with pytest.raises(DataError, match="there are 1 and 3"):
        read_got10k(root / "test")


def test_forbidden_sequences(root, tmp_path):
    forbidden = tmp_path / "forbidden.txt"
    forbidden.write_text("GOT-10k_Train_000001\nGOT-10k_Train_000099\n")
    assert [s.name for s in read_layout("got10k-train", root, exclude=forbidden)] == ["GOT-10k_Train_000002"]
    with pytest.raises(DataError, match="names of sequences to leave out"):
        read_layout("got10k-train", root, exclude=tmp_path / "none.txt")


def test_what_is_missing_is_said(root):
    folder = root / "train" / "GOT-10k_Train_000001"
    (folder / "cover.label").write_text("8\n4\n")
    with pytest.raises(DataError, match=r"cover\.label should hold one integer for each of the 3 frames"):
        read_got10k(root, split="train")
    (folder / "cover.label").write_text("8\n4\nx\n")
    with pytest.raises(DataError, match="one integer"):
        read_got10k(root, split="train")
    (folder / "cover.label").unlink()
    (folder / "00000002.jpg").unlink()
    with pytest.raises(DataError, match="each of the 2 frames"):
        read_got10k(root, split="train")
    folder.rename(root / "train" / "elsewhere")
    with pytest.raises(DataError, match=r"000001 should be a sequence of list\.txt"):
        read_got10k(root, split="train")
    with pytest.raises(DataError, match=r"should hold groundtruth\.txt"):
        read_got10k(root)
