from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np
import pytest

from roam_jax.data.readers.davis import read_davis, read_mask
from roam_jax.data.sequences import DataError


def davis_palette():
    """256 colours: the bits of the number, from the lowest, go to red, green and blue in turn, from the highest."""
    palette = np.zeros((256, 3), np.uint8)
    for number in range(256):
        for bit in range(8):
            palette[number, bit % 3] |= (number >> bit & 1) << (7 - bit // 3)
    return palette


def write_palette_png(path, numbers):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = numbers.shape
    rows = b"".join(b"\0" + row.tobytes() for row in numbers.astype(np.uint8))
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    body = chunk(b"PLTE", davis_palette().tobytes()) + chunk(b"IDAT", zlib.compress(rows))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND", b""))


@pytest.fixture
def root(tmp_path, pictures, text):
    """Two objects, of which the second leaves after the first frame."""
    masks = tmp_path / "Annotations" / "480p" / "dogs-jump"
    masks.mkdir(parents=True)
    for index in range(3):
        numbers = np.zeros((8, 12), int)
        numbers[1:4, 2 + index : 6 + index] = 1
        if index == 0:
            numbers[5:7, 9:12] = 2
        write_palette_png(masks / f"{index:05d}.png", numbers)
    pictures(tmp_path / "JPEGImages" / "480p" / "dogs-jump", [f"{n:05d}.jpg" for n in range(3)])
    for year in ("2016", "2017"):
        text(tmp_path / "ImageSets" / year / "val.txt", "dogs-jump\n")
    return tmp_path


def test_palette(tmp_path):
    numbers = np.arange(255).reshape(15, 17)
    write_palette_png(tmp_path / "all.png", numbers)
    np.testing.assert_array_equal(read_mask(tmp_path / "all.png"), numbers)


def test_objects(root):
    first, second = read_davis(root)
    assert (first.name, second.name, first.source) == ("dogs-jump-1", "dogs-jump-2", "davis2017")
    np.testing.assert_array_equal(first.boxes_xywh, [[2, 1, 4, 3], [3, 1, 4, 3], [4, 1, 4, 3]])
    np.testing.assert_array_equal(second.boxes_xywh[0], [9, 5, 3, 2])
    assert second.visible.tolist() == [True, False, False]
    assert first.frames[2][0, 0, 0] == 2


def test_all_objects_together(root):
    (sequence,) = read_davis(root, year="2016")
    assert (sequence.name, sequence.source) == ("dogs-jump", "davis2016")
    np.testing.assert_array_equal(sequence.boxes_xywh, [[2, 1, 10, 6], [3, 1, 4, 3], [4, 1, 4, 3]])


def test_masks_of_2016_are_white(root, text):
    (root / "ImageSets" / "2016" / "val.txt").unlink()
    text(
        root / "ImageSets" / "480p" / "val.txt",
        "".join(f"/JPEGImages/480p/dogs-jump/{n:05d}.jpg /Annotations/480p/dogs-jump/{n:05d}.png\n" for n in range(3)),
    )
    for path in (root / "Annotations" / "480p" / "dogs-jump").iterdir():
        mask = np.zeros((8, 12), np.uint8)
        mask[2:5, 3:9] = 255
        cv2.imwrite(str(path), mask)
    (sequence,) = read_davis(root, year="2016")
    np.testing.assert_array_equal(sequence.boxes_xywh, [[3, 2, 6, 3]] * 3)


def test_what_is_missing_is_said(root):
    with pytest.raises(DataError, match=r"2017/train\.txt should hold the names"):
        read_davis(root, split="train")
    with pytest.raises(DataError, match="should hold the masks"):
        read_davis(root / "JPEGImages")
    assert len(read_davis(root, split=None)) == 2
    masks = root / "Annotations" / "480p" / "dogs-jump"
    (masks / "00002.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"00002\.png should be a mask"):
        read_davis(root)
    (masks / "00002.png").unlink()
    with pytest.raises(DataError, match="there are 2 and 3"):
        read_davis(root)
