from __future__ import annotations

import cv2
import numpy as np
import pytest

from roam_jax import presets
from roam_jax.data.pipeline import make_pipeline
from roam_jax.data.sequences import DataError
from roam_jax.data.show import STRIP, draw_batch, draw_sample
from roam_jax.data.synthetic import synthetic_sequence

GROUNDS = [(0, 0, 0), (255, 255, 255), (255, 0, 0), (0, 255, 0), (0, 0, 255), (128, 128, 128)]


@pytest.mark.parametrize("ground", GROUNDS)
def test_box_and_label_are_seen_on_any_colour(ground):
    label = np.zeros((4, 4), np.float32)
    label[1, 2] = 1.0
    patch = np.full((64, 64, 3), ground, np.uint8)
    picture = draw_sample(patch, np.array([8.0, -8.0, 20.0, 10.0]), True, label).astype(int)
    framed, labelled = picture[:128], picture[128:]
    changed = (framed != ground).any(axis=-1)
    assert changed.any(axis=0).sum() <= 44
    assert [framed[38 + edge, 80].tolist() for edge in (-1, 0, 1)] == [[0] * 3, [255] * 3, [0] * 3]
    assert [framed[48, 60 + edge].tolist() for edge in (-1, 0, 1)] == [[0] * 3, [255] * 3, [0] * 3]
    cell, beside = labelled[48, 80], labelled[16, 16]
    assert beside.min() == beside.max()
    assert cell[0] - cell[1] > 150
    np.testing.assert_array_equal(labelled[100], beside * np.ones((128, 1)))


def test_what_cannot_be_seen_is_crossed_and_has_no_label():
    patch, label = np.full((64, 64, 3), 90, np.uint8), np.ones((4, 4), np.float32)
    box = np.array([8.0, -8.0, 20.0, 10.0])
    seen, hidden = (draw_sample(patch, box, visible, label) for visible in (True, False))
    assert (seen[47:49, 79:81] == 90).all()
    assert (hidden[47:49, 79:81] == 255).any()
    assert (hidden[128:] == hidden[128:, :, :1]).all()
    assert (seen[128:, :, 0] > seen[128:, :, 1]).all()


def test_batch(tmp_path):
    config = presets.tiny()
    batch = next(make_pipeline([synthetic_sequence(0, length=8, height=80, width=80)], config, seed=0))
    draw_batch(batch, config, tmp_path / "batch.png")
    sheet = cv2.imread(str(tmp_path / "batch.png"))
    assert sheet is not None
    tile = 2 * 128 + STRIP
    assert sheet.shape == (2 * (STRIP + 2 * tile), 10 * 128, 3)
    captions = sheet[STRIP + 256 : STRIP + tile]
    assert all(captions[:, 128 * i : 128 * (i + 1)].max() > 200 for i in range(10))
    assert sheet[:STRIP, :600].max() > 200
    first = sheet[STRIP + 128 : STRIP + 256, :128, ::-1].astype(int)
    reddest = (first[..., 0] - first[..., 1]).argmax()
    assert max(abs(np.array(np.unravel_index(reddest, (128, 128))) - 64)) <= 2 * config.model.stride
    for wrong in (tmp_path / "none" / "batch.png", tmp_path / "batch.txt"):
        with pytest.raises(DataError, match="cannot be written"):
            draw_batch(batch, config, wrong)
