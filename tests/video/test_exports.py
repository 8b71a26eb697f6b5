"""Results in the formats of other tools, read again by a library where there is one."""

from __future__ import annotations

import io
import json
import zipfile
from typing import get_args
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

from roam_jax.track import Format
from roam_jax.video.exports import FORMATS, Clip, file_of, write_exports
from roam_jax.video.formats import Observation

SIZE_HW = (60, 80)


def observe(frame: int, target: int = 0, box=(10, 20, 30, 16), *, lost: bool = False) -> Observation:
    return Observation(frame, target, np.array(box, np.float32), 0.75, lost, 0.01, frame / 10)


CLIP = Clip(
    "clip.mp4",
    SIZE_HW,
    10.0,
    [
        observe(0),
        observe(1, box=(11, 20, 30, 16)),
        observe(1, 1, (-5, 50, 20, 20)),
        observe(2, lost=True),
        observe(2, 1, (70, 50.5, 20, 20)),
        observe(3, box=(13, 20, 30, 16)),
    ],
)


@pytest.fixture
def folder(tmp_path):
    names = write_exports(tmp_path, list(FORMATS), CLIP)
    assert sorted(names) == sorted(path.name for path in tmp_path.iterdir())
    return tmp_path


def test_the_command_offers_all_of_them():
    assert get_args(Format) == tuple(FORMATS)


def test_csv_is_a_table(folder):
    pandas = pytest.importorskip("pandas")
    table = pandas.read_csv(folder / "track.csv")
    assert table["frame"].tolist() == [0, 1, 1, 2, 2, 3]
    assert table["target"].tolist() == [1, 1, 2, 1, 2, 1]
    assert table.loc[4, ["x", "y", "w", "h"]].tolist() == [70, 50.5, 20, 20]
    assert table["lost"].tolist() == [0, 0, 0, 1, 0, 0]
    assert table["time"].tolist() == [0, 0.1, 0.1, 0.2, 0.2, 0.3]


def test_mot_counts_frames_and_pixels_from_one(folder):
    rows = np.loadtxt(folder / "mot.txt", delimiter=",")
    assert rows.shape == (5, 10), "the frame in which it is lost is left out"
    np.testing.assert_allclose(rows[0], [1, 1, 11, 21, 30, 16, 0.75, -1, -1, -1])
    assert rows[:, :2].tolist() == [[1, 1], [2, 1], [2, 2], [3, 2], [4, 1]]


@pytest.fixture
def pictures(folder):
    (folder / "images").mkdir()
    for frame in range(4):
        cv2.imwrite(str(folder / "images" / f"{file_of(frame)}.jpg"), np.zeros((*SIZE_HW, 3), np.uint8))
    return folder / "images"


def boxes_of(data) -> dict[int, list[list[float]]]:
    return {
        int(path.rpartition("_")[2].removesuffix(".jpg")): sorted(detections.xyxy.round(3).tolist())
        for path, _, detections in data
    }


@pytest.mark.filterwarnings("ignore")
def test_coco_is_read_by_supervision(folder, pictures):
    supervision = pytest.importorskip("supervision")
    data = supervision.DetectionDataset.from_coco(str(pictures), str(folder / "coco.json"))
    assert data.classes == ["object"]
    boxes = boxes_of(data)
    assert boxes[0] == [[10, 20, 40, 36]]
    assert boxes[1] == [[-5, 50, 15, 70], [11, 20, 41, 36]]
    assert boxes[2] == [[70, 50.5, 90, 70.5]]
    tracks = [each["track_id"] for each in json.loads((folder / "coco.json").read_text())["annotations"]]
    assert tracks == [1, 1, 2, 2, 1]


@pytest.mark.filterwarnings("ignore")
def test_yolo_is_read_by_supervision(folder, pictures):
    supervision = pytest.importorskip("supervision")
    with zipfile.ZipFile(folder / "yolo.zip") as archive:
        archive.extractall(folder)
    data = supervision.DetectionDataset.from_yolo(str(pictures), str(folder / "labels"), str(folder / "data.yaml"))
    boxes = boxes_of(data)
    np.testing.assert_allclose(boxes[0], [[10, 20, 40, 36]], atol=0.01)
    np.testing.assert_allclose(boxes[1], [[0, 50, 15, 60], [11, 20, 41, 36]], atol=0.01)
    np.testing.assert_allclose(boxes[2], [[70, 50.5, 80, 60]], atol=0.01)


def test_cvat_has_a_track_for_each_object(folder):
    root = ElementTree.parse(folder / "cvat.xml").getroot()
    assert root.findtext("version") == "1.1"
    assert root.findtext("meta/task/size") == "4"
    assert root.findtext("meta/task/mode") == "interpolation"
    first, second = root.findall("track")
    assert [(box.get("frame"), box.get("outside")) for box in first] == [("0", "0"), ("1", "0"), ("2", "1"), ("3", "0")]
    assert [(box.get("frame"), box.get("outside")) for box in second] == [("1", "0"), ("2", "0"), ("3", "1")]
    assert [float(second[1].get(name)) for name in ("xtl", "ytl", "xbr", "ybr")] == [70, 50.5, 90, 70.5]


def test_label_studio_has_a_region_for_each_object(folder):
    (task,) = json.loads((folder / "labelstudio.json").read_text())
    assert task["data"] == {"video": "clip.mp4"}
    first, second = task["predictions"][0]["result"]
    assert first["type"] == "videorectangle"
    assert first["value"]["framesCount"] == 4
    assert [at["frame"] for at in first["value"]["sequence"]] == [1, 2, 3, 4]
    assert [at["enabled"] for at in first["value"]["sequence"]] == [True, True, False, True]
    assert [second["value"]["sequence"][1][name] for name in ("x", "y", "width", "height")] == [
        87.5,
        84.1667,
        25,
        33.3333,
    ]


@pytest.mark.parametrize("name", list(FORMATS))
def test_nothing_tracked_is_a_file_too(name):
    assert isinstance(FORMATS[name][1](Clip("nothing", SIZE_HW, 10.0, [])), bytes)
    box = [observe(0, box=(np.nan,) * 4)]
    data = FORMATS[name][1](Clip("unknown", SIZE_HW, 10.0, box))
    if name == "yolo":
        assert zipfile.ZipFile(io.BytesIO(data)).read("labels/frame_000000.txt") == b""
