from __future__ import annotations

import dataclasses
import pickle
import subprocess
import sys

import cv2
import numpy as np
import pytest

from roam_jax import presets
from roam_jax.data.builder import (
    RECORD_FRAMES,
    STILLS,
    _group_stills,
    decode_jpeg,
    encode_jpeg,
    prepare_sequences,
    read_prepared,
)
from roam_jax.data.clips import sample_clip
from roam_jax.data.prepare import main, prepare
from roam_jax.data.readers.own import read_image_folder
from roam_jax.data.sequences import DataError, ImageFiles
from roam_jax.data.synthetic import synthetic_sequence


def make_sequences():
    long = synthetic_sequence(0, length=2 * RECORD_FRAMES + 3, height=64, width=80)
    boxes = long.boxes_xywh.copy()
    boxes[5] = np.nan
    visible = np.arange(len(long)) != 7
    long = dataclasses.replace(long, boxes_xywh=boxes, visible=visible)
    still = dataclasses.replace(synthetic_sequence(1, length=1), name="still-\u00e9", source="stills", still=True)
    return [long, still]


def test_there_and_back(tmp_path):
    written = make_sequences()
    read = read_prepared(prepare_sequences(written, tmp_path / "deep" / "set"))
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["set"]
    for a, b in zip(written, read, strict=True):
        assert (a.name, a.source, a.still, len(a)) == (b.name, b.source, b.still, len(b))
        np.testing.assert_array_equal(a.boxes_xywh, b.boxes_xywh)
        np.testing.assert_array_equal(a.visible, b.visible)
        indices = [len(a) - 1, 0, len(a) // 2, 0]
        for picture, restored in zip(a.frames.get(indices), b.frames.get(indices), strict=True):
            assert restored.shape == picture.shape
            assert np.abs(restored.astype(int) - picture).mean() < 4
    frames = read[0].frames
    assert [f.tobytes() for f in frames] == [frames[i].tobytes() for i in range(len(frames))]
    assert pickle.loads(pickle.dumps(frames))[40].tobytes() == frames[40].tobytes()


def test_clip_of_a_prepared_sequence(tmp_path):
    written = make_sequences()
    read = read_prepared(prepare_sequences(written, tmp_path / "set"))
    clips = [sample_clip(data[0], presets.tiny(), rng=np.random.default_rng(2)) for data in (written, read)]
    np.testing.assert_array_equal(clips[0].boxes_cxcywh, clips[1].boxes_cxcywh)
    assert np.abs(clips[0].patches.astype(int) - clips[1].patches).mean() < 4


def test_jpeg_files_keep_their_bytes(tmp_path):
    folder = tmp_path / "a"
    folder.mkdir()
    picture = synthetic_sequence(0, length=1).frames[0]
    cv2.imwrite(str(folder / "1.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, 60])
    (folder / "groundtruth.txt").write_text("1,2,30,40")
    (sequence,) = read_image_folder(folder)
    (read,) = read_prepared(prepare_sequences([sequence], tmp_path / "set"))
    np.testing.assert_array_equal(read.frames[0], sequence.frames[0])
    assert read.frames.store.read(0)[0] == (folder / "1.jpg").read_bytes()


def test_interrupted_work_is_continued(tmp_path, rectangles):
    class Broken(type(rectangles(1).frames)):
        def read(self, index):
            raise DataError(f"frame {index} cannot be read")

    good, late = rectangles(3, source="a"), rectangles(3, source="b")
    bad = dataclasses.replace(late, frames=Broken(late.frames.pictures))
    with pytest.raises(DataError, match="frame 0 cannot be read"):
        prepare_sequences([good, bad], tmp_path / "set", workers=1)
    assert not (tmp_path / "set").exists()
    assert good.frames.asked == [0, 1, 2]
    prepare_sequences([good, late], tmp_path / "set", workers=1)
    assert good.frames.asked == [0, 1, 2]
    assert [s.source for s in read_prepared(tmp_path / "set")] == ["a", "b"]
    assert not (tmp_path / "set.partial").exists()


def test_many_stills_and_a_long_sequence(tmp_path):
    """Stills are collected together, in several files; frames of a long sequence come from many records."""
    stills = [dataclasses.replace(synthetic_sequence(i, length=1, height=24, width=32), still=True) for i in range(6)]
    long = synthetic_sequence(9, length=5 * RECORD_FRAMES + 1, height=24, width=32)
    written = [*stills[:4], long, *stills[4:]]
    read = read_prepared(prepare_sequences(written, tmp_path / "set", workers=3))
    assert [(s.name, s.still, len(s)) for s in read] == [(s.name, s.still, len(s)) for s in written]
    for a, b in zip(written, read, strict=True):
        np.testing.assert_array_equal(a.boxes_xywh, b.boxes_xywh)
        for index in (0, len(a) // 2, len(a) - 1):
            np.testing.assert_array_equal(b.frames[index], decode_jpeg(encode_jpeg(a.frames[index])))


def test_stills_are_grouped(tmp_path, rectangles):
    one = rectangles(1)
    stills = [rectangles(1, still=True, source=str(i)) for i in range(2 * STILLS + 1)]
    groups = list(_group_stills([one, *stills, one, one]))
    assert list(map(len, groups)) == [1, STILLS, STILLS, 1, 1, 1]
    assert [s for group in groups for s in group] == [one, *stills, one, one]


def test_a_group_is_taken_up_again(tmp_path, rectangles):
    """What one run has collected is not read again, and a file that was left half-way is."""
    stills = [rectangles(1, still=True, source=str(i)) for i in range(STILLS + 1)]
    broken = dataclasses.replace(stills[-1], frames=ImageFiles((tmp_path / "none.png",)))
    with pytest.raises(DataError, match="cannot be read"):
        prepare_sequences([*stills[:-1], broken], tmp_path / "set", workers=1)
    staged = list((tmp_path / "set.partial" / "staged").iterdir())
    assert sorted(path.suffix for path in staged) == [".jpegs", ".tmp"]
    prepare_sequences(stills, tmp_path / "set", workers=1)
    assert all(still.frames.asked == [0] for still in stills)
    assert len(read_prepared(tmp_path / "set")) == STILLS + 1


def test_sequences_that_look_alike(tmp_path, rectangles):
    """Twice the same, and two that differ in nothing but their pictures."""
    alike = []
    for level in (50, 200):
        folder = tmp_path / str(level) / "a"
        folder.mkdir(parents=True)
        cv2.imwrite(str(folder / "1.png"), np.full((30, 40, 3), level, np.uint8))
        (folder / "groundtruth.txt").write_text("1,2,30,20")
        alike += read_image_folder(folder)
    prepare_sequences([*alike, alike[0]], tmp_path / "set")
    assert [int(s.frames[0][0, 0, 0]) for s in read_prepared(tmp_path / "set")] == [50, 200, 50]


def test_nothing_is_overwritten(tmp_path, rectangles):
    (tmp_path / "set").mkdir()
    with pytest.raises(DataError, match="should not exist yet"):
        prepare_sequences([rectangles(1)], tmp_path / "set")
    with pytest.raises(DataError, match="there are none"):
        prepare_sequences([], tmp_path / "other")
    with pytest.raises(DataError, match=r"index\.npz"):
        read_prepared(tmp_path / "set")


def test_command_line(tmp_path, capsys):
    folder = tmp_path / "a"
    folder.mkdir()
    cv2.imwrite(str(folder / "1.png"), np.zeros((30, 40, 3), np.uint8))
    (folder / "groundtruth.txt").write_text("1,2,30,20")
    code = "import sys; from roam_jax.data.prepare import main; main(); assert 'tensorflow' not in sys.modules"
    arguments = ["images", str(tmp_path), str(tmp_path / "out"), "--source", "mine"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "1 sequences, 1 frames" in done.stdout
    assert read_prepared(tmp_path / "out")[0].source == "mine"
    (tmp_path / "b").mkdir()
    cv2.imwrite(str(tmp_path / "b" / "0.png"), np.zeros((30, 40, 3), np.uint8))
    (tmp_path / "b" / "groundtruth.txt").write_text("1,2,30,20")
    (tmp_path / "not.txt").write_text("a\n")
    prepare("images", tmp_path, tmp_path / "rest", exclude=tmp_path / "not.txt")
    assert [sequence.name for sequence in read_prepared(tmp_path / "rest")] == ["b"]
    assert main(arguments) == 3
    assert "out should not exist yet" in capsys.readouterr().err
