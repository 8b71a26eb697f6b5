from __future__ import annotations

import cv2
import numpy as np
import pytest

from roam_jax.config import Config
from roam_jax.data.pipeline import make_pipeline
from roam_jax.data.sequences import DataError
from roam_jax.data.show import draw_batch, draw_sample
from roam_jax.data.synthetic import synthetic_sequence


def test_sample():
    label = np.zeros((4, 4), np.float32)
    label[1, 2] = 1.0
    picture = draw_sample(np.full((64, 64, 3), 100, np.uint8), np.array([8.0, -8.0, 20.0, 10.0]), label)
    green = (picture == (0, 255, 0)).all(axis=-1)
    ys, xs = np.nonzero(green)
    assert (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1) == (30, 19, 50, 29)
    assert picture[24, 40].tolist() == [193, 40, 40]
    assert picture[60, 5].tolist() == [100, 100, 100]


def test_batch(tmp_path):
    config = Config.tiny()
    batch = next(make_pipeline([synthetic_sequence(0, length=8, height=80, width=80)], config, seed=0))
    draw_batch(batch, config, tmp_path / "batch.png")
    sheet = cv2.imread(str(tmp_path / "batch.png"))
    assert sheet is not None
    assert sheet.shape == (2 * (2 * 64 + 4), 10 * 64, 3)
    first = sheet[:64, :64, ::-1].astype(int)
    reddest = (first[..., 0] - first[..., 1] - batch.patches[0, 0, ..., 0] + batch.patches[0, 0, ..., 1]).argmax()
    assert max(abs(np.array(np.unravel_index(reddest, (64, 64))) - 32)) <= config.model.stride
    for wrong in (tmp_path / "none" / "batch.png", tmp_path / "batch.txt"):
        with pytest.raises(DataError, match="cannot be written"):
            draw_batch(batch, config, wrong)
