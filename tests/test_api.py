"""`roam_jax.track`: the command in Python."""

from __future__ import annotations

import dataclasses

import cv2
import jax
import numpy as np
import pytest

import roam_jax
from roam_jax import presets
from roam_jax.checkpoints import Checkpoint
from roam_jax.errors import UsageError
from roam_jax.tracking.params import init_params, params_to_dict
from roam_jax.video.files import VideoFile
from roam_jax.video.formats import read_boxes, read_observations

BOX = (40, 30, 24, 18)
COUNT = 6


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    config = presets.tiny()
    params = jax.jit(lambda key: init_params(config, key=key))(jax.random.key(0))
    return Checkpoint(config, jax.tree.map(np.asarray, params_to_dict(params)), "for tests")


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 255, (COUNT, 96, 128, 3), np.uint8))


@pytest.fixture
def folder(tmp_path, images):
    (tmp_path / "clip").mkdir()
    for number, image in enumerate(images):
        cv2.imwrite(str(tmp_path / "clip" / f"{number}.png"), image[..., ::-1])
    return tmp_path / "clip"


def test_the_result_is_that_of_the_tracker(checkpoint, images):
    result = roam_jax.track(images, BOX, checkpoint=checkpoint)
    tracker = roam_jax.Tracker(checkpoint)
    tracker.init(images[0], BOX)
    expected = [np.array(BOX, np.float32), *(tracker.update(image) for image in images[1:])]
    np.testing.assert_array_equal(result.boxes_xywh[:, 0], expected)
    assert result.scores[-1, 0] == np.float32(tracker.score)
    assert result.lost.shape == (COUNT, 1)
    assert len(result) == COUNT
    np.testing.assert_array_equal(result.frames, range(COUNT))
    np.testing.assert_allclose(result.times, np.arange(COUNT) / 30)
    assert str(result).startswith(f"{COUNT} frames tracked")
    assert repr(result) == f"<Result: {COUNT} frames of frames, objects: 1>"


def test_several_objects_of_a_part_of_a_folder(checkpoint, folder, tmp_path):
    result = roam_jax.track(folder, boxes=[BOX, (60, 20, 20, 20)], checkpoint=checkpoint, start=1, stop=5, step=2)
    np.testing.assert_array_equal(result.frames, [1, 3])
    assert result.boxes_xywh.shape == (2, 2, 4)
    result.save(tmp_path / "out")
    assert len(read_observations(tmp_path / "out" / "track.jsonl")) == 4
    np.testing.assert_allclose(read_boxes(tmp_path / "out" / "boxes_2.txt"), result.boxes_xywh[:, 1], atol=0.006)
    assert len(list(VideoFile(tmp_path / "out" / "video.mp4"))) == 2


def test_a_sequence_folder_has_its_box_and_is_measured(checkpoint, folder):
    (folder / "groundtruth.txt").write_text("40,30,24,18\n" * COUNT)
    result = roam_jax.track(str(folder), checkpoint=checkpoint)
    np.testing.assert_array_equal(result.boxes_xywh[0, 0], BOX)
    assert "success AUC" in str(result)


def test_a_notebook_shows_the_video(checkpoint, images):
    result = roam_jax.track(images, BOX, checkpoint=checkpoint)
    html = result._repr_html_()
    assert html.startswith('<video controls loop width="128" src="data:video/mp4;base64,AAAA')
    assert "6 frames tracked" in html
    assert result.show().data == html
    result.source.again = False
    assert result._repr_html_() == f"<pre>{result}</pre>"
    with pytest.raises(UsageError, match="read once only"):
        result.save("out")


def test_a_table(checkpoint, images):
    pandas = pytest.importorskip("pandas")
    table = roam_jax.track(images, BOX, checkpoint=checkpoint).to_pandas()
    assert isinstance(table, pandas.DataFrame)
    assert list(table.columns) == ["frame", "time", "target", "x", "y", "w", "h", "score", "lost"]
    assert table[["x", "y", "w", "h"]].iloc[0].tolist() == list(BOX)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({}, "give the object's box"),
        ({"box": (1, 2, 3)}, "a box is four numbers"),
        ({"box": (500, 2, 3, 4)}, "outside the image"),
        ({"box": BOX, "step": 0}, "--step must be at least 1"),
    ],
)
def test_what_cannot_be_tracked(checkpoint, images, arguments, reason):
    with pytest.raises(UsageError, match=reason):
        roam_jax.track(images, **arguments, checkpoint=checkpoint)


def test_other_settings(checkpoint, images):
    config = dataclasses.replace(checkpoint.config, online=dataclasses.replace(checkpoint.config.online, updates=False))
    assert len(roam_jax.track(images[:3], BOX, checkpoint=checkpoint, config=config)) == 3
