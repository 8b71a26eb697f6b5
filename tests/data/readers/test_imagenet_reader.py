from __future__ import annotations

import numpy as np
import pytest

from roam_jax.data.layouts import read_layout
from roam_jax.data.readers.imagenet import read_det, read_vid
from roam_jax.data.readers.tree import Tree
from roam_jax.data.sequences import DataError

OBJECT = """<object>{track}<name>n02691156</name>
<bndbox><xmax>{x1}</xmax><xmin>{x0}</xmin><ymax>{y1}</ymax><ymin>{y0}</ymin></bndbox>
<occluded>{occluded}</occluded><generated>{generated}</generated></object>"""


def describe(*objects, width=12, height=8):
    """XML of objects (track or None, x0, y0, x1, y1, occluded, generated)."""
    keys = ("x0", "y0", "x1", "y1", "occluded", "generated")
    parts = [
        OBJECT.format(track="" if t is None else f"<trackid>{t}</trackid>", **dict(zip(keys, rest, strict=True)))
        for t, *rest in objects
    ]
    size = f"<size><width>{width}</width><height>{height}</height></size>"
    return f"<annotation><folder>f</folder>{size}{''.join(parts)}</annotation>"


@pytest.fixture
def vid(tmp_path, pictures, text):
    """Object 0 is gone in the middle frame, object 1 comes in the second; the last frame shows nothing."""
    name = "ILSVRC2015_VID_train_0001/ILSVRC2015_train_00139005"
    pictures(tmp_path / "Data/VID/train" / name, [f"{n:06d}.JPEG" for n in range(4)])
    notes = [
        [(0, 0, 0, 11, 7, 0, 0)],
        [(1, 2, 3, 5, 6, 1, 0)],
        [(0, 1, 0, 11, 7, 0, 1), (1, 2, 3, 5, 6, 0, 0)],
        [],
    ]
    for index, objects in enumerate(notes):
        text(tmp_path / "Annotations/VID/train" / name / f"{index:06d}.xml", describe(*objects))
    pictures(tmp_path / "Data/VID/val/ILSVRC2015_val_00000000", ["000000.JPEG"])
    text(tmp_path / "Annotations/VID/val/ILSVRC2015_val_00000000/000000.xml", describe((0, 1, 1, 4, 4, 0, 0)))
    return tmp_path


def test_every_object_is_a_sequence(vid, numbers):
    plane, other = read_vid(vid)
    assert (plane.name, other.name) == ("ILSVRC2015_train_00139005-0", "ILSVRC2015_train_00139005-1")
    assert (numbers(plane), numbers(other)) == ([0, 1, 2], [1, 2])
    np.testing.assert_array_equal(plane.boxes_xywh, [[0, 0, 12, 8], [np.nan] * 4, [1, 0, 11, 8]])
    np.testing.assert_array_equal(other.boxes_xywh, [[2, 3, 4, 4]] * 2)
    assert plane.visible.tolist() == [True, False, True]
    assert plane.labels["generated"].tolist() == [False, False, True]
    assert other.labels["occluded"].tolist() == [True, False]
    assert other.frames[1][0, 0, 0] == 2


def test_val_has_no_parts(vid):
    (sequence,) = read_layout("imagenet-vid-val", vid)
    assert sequence.name == "ILSVRC2015_val_00000000-0"


def test_what_vid_lacks_is_said(vid):
    with pytest.raises(DataError, match="VID/train should hold the annotations"):
        read_vid(vid / "Data")
    folder = vid / "Annotations/VID/train/ILSVRC2015_VID_train_0001/ILSVRC2015_train_00139005"
    (folder / "000003.xml").rename(folder / "000009.xml")
    with pytest.raises(DataError, match="named like the pictures"):
        read_vid(vid)
    (folder / "000009.xml").unlink()
    with pytest.raises(DataError, match="there are 3 and 4"):
        read_vid(vid)
    (folder / "000003.xml").write_text("<annotation>")
    with pytest.raises(DataError, match=r"000003\.xml should describe the objects"):
        read_vid(vid)
    (folder / "000003.xml").write_text(describe(("a", 1, "?", 3, 4, 0, 0)))
    with pytest.raises(DataError, match="should describe the objects"):
        read_vid(vid)


@pytest.fixture
def det(tmp_path, pictures, text):
    part = "ILSVRC2014_train_0006"
    pictures(tmp_path / "Data/DET/train" / part, ["ILSVRC2014_train_00060001.JPEG", "unannotated.JPEG"])
    large, tiny, crossing = (None, 10, 20, 59, 69, 0, 0), (None, 1, 1, 5, 5, 0, 0), (None, 170, 20, 219, 69, 0, 0)
    text(
        tmp_path / "Annotations/DET/train" / part / "ILSVRC2014_train_00060001.xml",
        describe(large, tiny, crossing, width=200, height=100),
    )
    pictures(tmp_path / "Data/DET/val", ["ILSVRC2012_val_00000001.JPEG"])
    text(tmp_path / "Annotations/DET/val/ILSVRC2012_val_00000001.xml", describe(large, width=200, height=100))
    return tmp_path


def test_stills(det):
    first, second = read_det(det)
    assert (first.name, second.name) == ("ILSVRC2014_train_00060001_0", "ILSVRC2014_train_00060001_2")
    np.testing.assert_array_equal(first.boxes_xywh, [[10, 20, 50, 50]])
    np.testing.assert_array_equal(second.boxes_xywh, [[170, 20, 30, 50]], "what lies outside is cut off")
    assert first.still
    assert first.frames[0].shape == (8, 12, 3)
    assert [s.name for s in read_det(det, split="val")] == ["ILSVRC2012_val_00000001_0"]


def test_what_det_lacks_is_said(det):
    with pytest.raises(DataError, match="none is usable"):
        read_det(det, min_side_px=90)
    part = det / "Data/DET/train/ILSVRC2014_train_0006"
    (part / "ILSVRC2014_train_00060001.JPEG").unlink()
    with pytest.raises(DataError, match=r"00060001\.JPEG should be the picture"):
        read_det(det)
    problems: list[str] = []
    (det / "Annotations/DET/train/good.xml").write_text(describe((None, 10, 20, 59, 69, 0, 0), width=200, height=100))
    (det / "Data/DET/train/good.JPEG").touch()
    assert [s.name for s in read_det(Tree(det, problems=problems))] == ["good_0"]
    assert len(problems) == 1
