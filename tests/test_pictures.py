"""Pictures of every kind are the same pixels for whoever reads them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as pillow

from roam_jax.data.builder import decode_jpeg
from roam_jax.data.readers.own import read_image_folder
from roam_jax.errors import InputError
from roam_jax.pictures import as_rgb, read_image
from roam_jax.video.inputs import open_source


def draw_picture() -> np.ndarray:
    """Red on the left, green on the right, and a blue bar on top: no two turns of it look alike."""
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:, :32, 0] = picture[:, 32:, 1] = 250
    picture[:16] = (0, 0, 250)
    return picture


def write_turned(path: Path, orientation: int) -> None:
    exif = pillow.Exif()
    exif[0x0112] = orientation
    pillow.fromarray(draw_picture()).save(path, quality=95, exif=exif)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_all_readers_turn_a_picture_as_its_camera_noted(tmp_path, orientation):
    path = tmp_path / "clip" / "0.jpg"
    path.parent.mkdir()
    write_turned(path, orientation)
    (path.parent / "groundtruth.txt").write_text("1,1,9,9\n")
    turned = {
        1: lambda p: p,
        2: np.fliplr,
        3: lambda p: np.rot90(p, 2),
        4: np.flipud,
        5: lambda p: p.swapaxes(0, 1),
        6: lambda p: np.rot90(p, -1),
        7: lambda p: np.rot90(p, 2).swapaxes(0, 1),
        8: np.rot90,
    }[orientation](draw_picture())
    expected = read_image(path)
    assert expected.shape == turned.shape
    assert np.abs(expected.astype(int) - turned).mean() < 5
    (clip,) = read_image_folder(tmp_path)
    for image in (clip.frames[0], next(iter(open_source([str(path.parent)]))), next(iter(open_source([str(path)])))):
        np.testing.assert_array_equal(image, expected)
    np.testing.assert_array_equal(decode_jpeg(path.read_bytes()), expected)
    with pillow.open(path) as image:
        assert np.abs(as_rgb(image).astype(int) - expected).max() <= 4  # another JPEG decoder


def test_a_cut_picture_of_a_data_set_is_grey_where_it_is_missing(tmp_path):
    path = tmp_path / "0.jpg"
    write_turned(path, 6)
    picture = read_image(path)
    path.write_bytes(path.read_bytes()[:-30])
    (tmp_path / "groundtruth.txt").write_text("1,1,9,9\n")
    (clip,) = read_image_folder(tmp_path)
    assert clip.frames[0].shape == picture.shape, "and turned"
    assert 0.5 < np.mean(clip.frames[0] == picture) < 1
    with pytest.raises(InputError, match="cut short"):
        read_image(path)


GREY = np.linspace(0, 65535, 48 * 64).reshape(48, 64).astype(np.uint16)
WANTED = np.repeat((GREY // 257).astype(np.uint8)[..., None], 3, axis=2)


@pytest.mark.parametrize(
    "image",
    [
        pillow.fromarray(GREY),
        pillow.fromarray(GREY.astype(np.float32) / 65535),
        pillow.fromarray(WANTED[..., 0]),
        pillow.fromarray(WANTED).convert("RGBA"),
        pillow.fromarray(WANTED[..., 0]).convert("P"),
        pillow.fromarray(WANTED).convert("CMYK"),
    ],
    ids=lambda image: image.mode,
)
def test_pil_images_of_all_modes_are_scaled_to_eight_bits(image):
    rgb = as_rgb(image)
    assert rgb.dtype == np.uint8
    assert np.abs(rgb.astype(int) - WANTED).max() <= 1


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_pil_images_of_no_known_range_are_refused(dtype):
    with pytest.raises(ValueError, match="no known range: convert it to RGB"):
        as_rgb(pillow.fromarray(GREY.astype(dtype)))


def test_files_of_sixteen_bits_are_scaled_for_all_readers(tmp_path):
    cv2.imwrite(str(tmp_path / "0.png"), GREY)
    (tmp_path / "groundtruth.txt").write_text("1,1,9,9\n")
    (clip,) = read_image_folder(tmp_path)
    np.testing.assert_array_equal(clip.frames[0], WANTED)
    np.testing.assert_array_equal(next(iter(open_source([str(tmp_path)]))), WANTED)


@pytest.mark.parametrize("scale", [1.0, 255.0])
def test_floating_point_files_are_scaled_or_refused(tmp_path, scale):
    path = tmp_path / "0.tif"
    cv2.imwrite(str(path), np.float32(scale) * WANTED.astype(np.float32) / 255)
    if scale == 1:
        np.testing.assert_array_equal(read_image(path), WANTED)
    else:
        with pytest.raises(InputError, match="of no known range"):
            read_image(path)
