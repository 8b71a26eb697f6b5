from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from roam_jax.data.layouts import read_layout
from roam_jax.data.readers.coco import read_coco
from roam_jax.data.readers.got10k import read_got10k
from roam_jax.data.readers.otb import read_otb_folder
from roam_jax.data.readers.own import VideoFrames, read_image_folder, read_videos
from roam_jax.data.readers.text import read_boxes
from roam_jax.data.sequences import (
    DataError,
    Frames,
    ImageFiles,
    Sequence,
    digest_sequences,
    group_by_source,
    name_sources,
    without_stills,
)


def write_video(path, count, title=""):
    """Grey frames whose level is ten times their number."""
    with av.open(str(path), "w") as container:
        container.metadata["title"] = title
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index in range(count):
            picture = np.full((48, 64, 3), 10 * index + 20, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def write_pictures(folder, names, height=20, width=30):
    """Blue pictures whose green level is the number in their name."""
    folder.mkdir(parents=True)
    for name in names:
        picture = np.full((height, width, 3), (0, int(name.split(".")[0]), 200), np.uint8)
        cv2.imwrite(str(folder / name), picture[..., ::-1])


def levels(frames):
    return [round((float(frame.mean()) - 20) / 10) for frame in frames]


@pytest.mark.parametrize(
    "text",
    ["1,2,3,4\n5,6,7,8\n", "1\t2\t3\t4\r\n5\t6\t7\t8", "1 2  3 4\n 5 6 7 8 \n\n\n", "\ufeff1, 2;3 ,4\n5.0,6e0,7,8\n"],
)
def test_boxes_of_any_separator(tmp_path, text):
    path = tmp_path / "boxes.txt"
    path.write_text(text, encoding="utf-8", newline="")
    boxes = read_boxes(path)
    assert boxes.dtype == np.float32
    np.testing.assert_array_equal(boxes, [[1, 2, 3, 4], [5, 6, 7, 8]])


@pytest.mark.parametrize(
    ("text", "message"),
    [("1,2,3,4\n1,2,3\n", "line 2"), ("1,2,x,4", "line 1"), ("", "empty"), ("1,2,3,4\n\n5,6,7,8", "line 2")],
)
def test_boxes_that_are_none(tmp_path, text, message):
    path = tmp_path / "boxes.txt"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_boxes(path)


def test_absent_and_invisible():
    boxes = np.array([[1, 2, 3, 4], [np.nan] * 4, [0, 0, 0, 0], [5, 6, 7, 8]], np.float32)
    frames = ImageFiles(tuple(Path(f"{i}.jpg") for i in range(4)))
    plain = Sequence("a", frames, boxes)
    assert plain.visible.tolist() == [True, False, False, True]
    assert np.isnan(plain.boxes_xywh[1:3]).all()
    hidden = Sequence("a", frames, boxes, visible=np.array([True, True, True, False]))
    assert hidden.visible.tolist() == [True, False, False, False]
    np.testing.assert_array_equal(hidden.boxes_xywh[3], [5, 6, 7, 8])
    with pytest.raises(DataError, match="one box per frame: 4 and 3"):
        Sequence("a", frames, boxes[:3])


def test_videos(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    write_video(folder / "one.mp4", 12)
    (folder / "one.txt").write_text("1,2,3,4\n" * 11 + "nan,nan,nan,nan")
    (sequence,) = read_videos(folder)
    assert (sequence.name, sequence.source, len(sequence), sequence.still) == ("one", "mine", 12, False)
    assert sequence.visible.tolist() == [True] * 11 + [False]
    np.testing.assert_array_equal(sequence.boxes_xywh[0], [1, 2, 3, 4])
    frames = sequence.frames
    assert frames[0].shape == (48, 64, 3)
    assert frames[0].dtype == np.uint8
    assert levels(frames.get([7, 2, 7, 11, 0])) == [7, 2, 7, 11, 0]
    assert levels([frames[-1], frames[3]]) == [11, 3]
    assert levels(frames) == list(range(12))
    assert levels(pickle.loads(pickle.dumps(frames)).get([5])) == [5]
    with pytest.raises(IndexError):
        frames[12]


def test_a_video_with_a_title_in_latin_1(tmp_path):
    write_video(tmp_path / "one.mp4", 3, title="cafe noir")
    data = (tmp_path / "one.mp4").read_bytes()
    (tmp_path / "one.mp4").write_bytes(data.replace(b"cafe noir", "café noir".encode("latin-1")))
    (tmp_path / "one.txt").write_text("1,2,3,4\n" * 3)
    (sequence,) = read_videos(tmp_path)
    assert levels(sequence.frames) == [0, 1, 2]


def test_videos_that_are_not_as_said(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        read_videos(tmp_path / "nowhere")
    with pytest.raises(DataError, match="no video is there"):
        read_videos(tmp_path)
    write_video(tmp_path / "one.mp4", 5)
    with pytest.raises(DataError, match=r"one\.txt should hold one box"):
        read_videos(tmp_path)
    short = VideoFrames(tmp_path / "one.mp4", 9)
    with pytest.raises(DataError, match="should have 9 frames"):
        short.get([2, 7])
    with pytest.raises(DataError, match="should have 9 frames"):
        list(short)
    (tmp_path / "bad.mp4").write_bytes(b"no video at all")
    with pytest.raises(DataError, match="cannot be decoded"):
        VideoFrames(tmp_path / "bad.mp4", 1).get([0])


def test_image_folders(tmp_path):
    write_pictures(tmp_path / "set" / "a", ["002.png", "001.png", "010.png"])
    (tmp_path / "set" / "a" / "groundtruth.txt").write_text("1 2 3 4\n" * 3)
    for root in (tmp_path / "set", tmp_path / "set" / "a"):
        (sequence,) = read_image_folder(root)
        assert sequence.name == "a"
        assert sequence.source == root.name
        np.testing.assert_array_equal(sequence.boxes_xywh, [[1, 2, 3, 4]] * 3)
        np.testing.assert_array_equal([f[0, 0] for f in sequence.frames], [[0, i, 200] for i in (1, 2, 10)])
    (tmp_path / "set" / "a" / "groundtruth.txt").write_text("1 2 3 4\n" * 2)
    with pytest.raises(DataError, match="there are 2 and 3"):
        read_image_folder(tmp_path / "set")
    with pytest.raises(DataError, match=r"should hold groundtruth\.txt"):
        read_image_folder(tmp_path)
    missing = ImageFiles((tmp_path / "none.png",))
    with pytest.raises(DataError, match="cannot be read"):
        missing[0]


def test_otb(tmp_path):
    write_pictures(tmp_path / "Deer" / "img", ["0001.png", "0002.png"])
    (tmp_path / "Deer" / "groundtruth_rect.txt").write_text("306,5,95,65\n307,6,95,65\n")
    write_pictures(tmp_path / "Jogging" / "img", ["0001.png"])
    (tmp_path / "Jogging" / "groundtruth_rect.1.txt").write_text("1\t1\t5\t6")
    (tmp_path / "Jogging" / "groundtruth_rect.2.txt").write_text("2 2 5 6")
    sequences = read_otb_folder(tmp_path)
    assert [s.name for s in sequences] == ["Deer", "Jogging-1", "Jogging-2"]
    np.testing.assert_array_equal(sequences[0].boxes_xywh, [[305, 4, 95, 65], [306, 5, 95, 65]])
    np.testing.assert_array_equal(sequences[2].boxes_xywh, [[1, 1, 5, 6]])
    assert [s.name for s in read_otb_folder(tmp_path / "Deer")] == ["Deer"]
    (tmp_path / "Deer" / "groundtruth_rect.txt").write_text("306,5,95,65\n")
    with pytest.raises(DataError, match="there are 1 and 2"):
        read_otb_folder(tmp_path)


def test_otb_sequences_with_a_known_range(tmp_path):
    write_pictures(tmp_path / "Football1" / "img", [f"{i:04d}.png" for i in range(1, 80)], 4, 4)
    (tmp_path / "Football1" / "groundtruth_rect.txt").write_text("1,1,5,5\n" * 74)
    (sequence,) = read_otb_folder(tmp_path)
    assert len(sequence) == 74


def test_a_sequence_has_frames(tmp_path):
    with pytest.raises(DataError, match="sequence nothing should have frames"):
        Sequence("nothing", ImageFiles([]), np.zeros((0, 4), np.float32))


def test_got10k(tmp_path):
    folder = tmp_path / "GOT-10k_Train_000001"
    write_pictures(folder, ["00000001.png", "00000002.png"])
    (folder / "groundtruth.txt").write_text("347.0000,443.0000,429.0000,272.0000\n1.5,2,3,4\n")
    (sequence,) = read_got10k(tmp_path)
    assert sequence.visible.all()
    np.testing.assert_array_equal(sequence.boxes_xywh[0], [347, 443, 429, 272])
    (folder / "absence.label").write_text("0\n1\n")
    assert read_got10k(tmp_path)[0].visible.tolist() == [True, False]
    for wrong in ("0\n", "0\n2\n"):
        (folder / "absence.label").write_text(wrong)
        with pytest.raises(DataError, match="each of the 2 frames"):
            read_got10k(tmp_path)


def write_coco(root, annotations):
    write_pictures(root / "images", ["001.png"], 100, 200)
    images = [{"id": 1, "file_name": "001.png", "width": 200, "height": 100}]
    (root / "instances.json").write_text(json.dumps({"images": images, "annotations": annotations}))


def test_coco(tmp_path):
    def note(key, bbox, **extra):
        return {"id": key, "image_id": 1, "bbox": bbox, **extra}

    usable = [note(1, [10, 20, 30, 40], main=1, iscrowd=0), note(2, [180, 20, 40.5, 40])]
    tiny, crowd = note(3, [10, 10, 5, 40]), note(4, [10, 10, 40, 40], iscrowd=1)
    thin, vast, outside = note(5, [1, 1, 150, 13]), note(6, [1, 1, 198, 60]), note(7, [300, 10, 40, 40])
    write_coco(tmp_path, [*usable, tiny, crowd, thin, vast, outside])
    path = tmp_path / "instances.json"
    sequences = read_coco(tmp_path / "images", path)
    assert [s.name for s in sequences] == ["001_1", "001_2"]
    np.testing.assert_array_equal(sequences[0].boxes_xywh, [[10, 20, 30, 40]])
    np.testing.assert_array_equal(sequences[1].boxes_xywh, [[180, 20, 20, 40]])
    assert all(s.still and s.visible.tolist() == [True] and s.frames[0].shape == (100, 200, 3) for s in sequences)
    assert [s.name for s in read_coco(tmp_path / "images", path, main_only=True)] == ["001_1"]
    with pytest.raises(DataError, match="none is usable"):
        read_coco(tmp_path / "images", path, min_side_px=90.0)
    with pytest.raises(DataError, match="no such file"):
        read_coco(tmp_path / "images", tmp_path / "none.json")
    for wrong in ("{", "[]", '{"images": []}', '{"images": [], "annotations": [{"image_id": 1}]}'):
        path.write_text(wrong)
        with pytest.raises(DataError, match="COCO's detection format"):
            read_coco(tmp_path / "images", path)


def test_digest_says_what_the_data_are():
    frames = ImageFiles((Path("a.jpg"), Path("b.jpg")))
    boxes = np.array([[1, 2, 3, 4], [np.nan] * 4], np.float32)
    plain = Sequence("a", frames, boxes)
    others = [
        replace(plain, name="b"),
        replace(plain, source="s"),
        replace(plain, still=True),
        replace(plain, boxes_xywh=boxes + 1),
        replace(plain, visible=np.array([False, False])),
    ]
    digests = [digest_sequences([sequence]) for sequence in (plain, *others)]
    assert len(set(digests)) == 6
    assert digest_sequences([Sequence("a", ImageFiles((Path("c.jpg"), Path("d.jpg"))), boxes.copy())]) == digests[0]
    assert digest_sequences([plain, others[0]]) != digest_sequences([others[0], plain])


def test_layouts_by_name_and_sources(tmp_path):
    write_coco(tmp_path, [{"id": 1, "image_id": 1, "bbox": [10, 20, 30, 40]}])
    (sequence,) = read_layout("coco", tmp_path)
    assert sequence.source == "coco"
    (sequence,) = read_layout("coco", tmp_path, "stills")
    assert sequence.source == "stills"
    assert list(group_by_source(name_sources([sequence]))) == ["001"]
    with pytest.raises(DataError, match="the layout should be one of videos, images"):
        read_layout("ucf", tmp_path)
    with pytest.raises(DataError, match=r"index\.npz"):
        read_layout("prepared", tmp_path)


def test_head_is_the_first_frames():
    boxes = np.array([[0, 0, 4, 4], [1, 0, 4, 4], [2, 0, 4, 4]], np.float32)

    class Counted(Frames):
        def __len__(self):
            return 3

        def read(self, index):
            return np.full((8, 8, 3), index, np.uint8)

    whole = Sequence("s", Counted(), boxes, labels={"cover": np.array([8, 4, 0])})
    cut = whole.head(2)
    assert len(cut) == 2
    assert [int(image[0, 0, 0]) for image in cut.frames] == [0, 1]
    np.testing.assert_array_equal(cut.boxes_xywh, boxes[:2])
    np.testing.assert_array_equal(cut.labels["cover"], [8, 4])
    assert len(whole.head(9)) == 3


def test_stills_are_left_out_where_something_moves():
    still, clip = (
        Sequence(f"{count}", ImageFiles((Path("a.png"),) * count), np.ones((count, 4), np.float32)) for count in (1, 3)
    )
    still = replace(still, still=True)
    assert without_stills([still, clip]) == [clip]
    assert without_stills([]) == []
    for stills in ([still, still], [replace(still, still=False)]):  # a folder with a single picture in it
        with pytest.raises(DataError, match=f"still pictures, and the data hold nothing else: {len(stills)} of them"):
            without_stills(stills)
