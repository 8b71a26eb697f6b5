from __future__ import annotations

import json

import pytest

from roam_jax.data.layouts import read_layout
from roam_jax.data.sequences import DataError


@pytest.mark.parametrize("folder", ["val2017", "images/val2017"])
def test_as_downloaded(tmp_path, pictures, text, folder):
    pictures(tmp_path / folder, ["000000000139.jpg"])
    image = {"id": 139, "file_name": "000000000139.jpg", "width": 640, "height": 426}
    note = {"id": 7, "image_id": 139, "bbox": [236.98, 142.51, 24.7, 69.5], "iscrowd": 0, "category_id": 64}
    crowd = note | {"id": 8, "iscrowd": 1, "segmentation": {"counts": [1, 2], "size": [426, 640]}}
    content = {"info": {}, "images": [image], "annotations": [note, crowd], "categories": []}
    text(tmp_path / "annotations" / "instances_val2017.json", json.dumps(content))
    (sequence,) = read_layout("coco-val2017", tmp_path)
    assert sequence.name == "000000000139_7"
    assert sequence.still
    assert sequence.boxes_xywh[0].tolist() == pytest.approx([236.98, 142.51, 24.7, 69.5])
    assert sequence.frames[0][0, 0, 0] == 139


def test_what_is_missing_is_said(tmp_path):
    with pytest.raises(DataError, match="train2017 should be the folder of the photographs"):
        read_layout("coco-train2017", tmp_path)
    (tmp_path / "train2017").mkdir()
    with pytest.raises(DataError, match=r"instances_train2017\.json should hold boxes"):
        read_layout("coco-train2017", tmp_path)
