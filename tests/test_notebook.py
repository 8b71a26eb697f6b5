"""The notebook's widget, without a browser: the same methods, traits and messages."""

from __future__ import annotations

import cv2
import jax
import numpy as np
import pytest

import roam_jax
from roam_jax import presets
from roam_jax.checkpoints import Checkpoint
from roam_jax.data.synthetic import synthetic_sequence
from roam_jax.errors import UsageError
from roam_jax.notebook import GIVEN, NOTHING, TRACKED, WAS_LOST, Tracking
from roam_jax.tracking.params import init_params, params_to_dict

COUNT = 10


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    config = presets.tiny()
    params = jax.jit(lambda key: init_params(config, key=key))(jax.random.key(0))
    return Checkpoint(config, jax.tree.map(np.asarray, params_to_dict(params)), "for tests")


@pytest.fixture(scope="module")
def clip() -> tuple[list[np.ndarray], np.ndarray]:
    sequence = synthetic_sequence(0, length=COUNT)
    return list(sequence.frames.get(range(COUNT))), sequence.boxes_xywh


@pytest.fixture
def tracking(checkpoint, clip):
    widget = Tracking(clip[0], checkpoint=checkpoint)
    yield widget
    widget.close()


def run(widget: Tracking) -> None:
    widget.track()
    assert widget.wait(60)


def sent(widget: Tracking, **content) -> None:
    """A message as the browser sends it."""
    widget._handle_custom_msg(content, [])


def test_a_frame_is_sent_when_it_is_looked_at(tracking, clip):
    assert tracking.video["count"] == COUNT
    for number in (0, 7, 3):
        tracking.frame = number
        assert tracking.shown["number"] == number
        picture = cv2.imdecode(np.frombuffer(tracking.shown["jpeg"], np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        assert np.mean(np.abs(picture.astype(float) - clip[0][number])) < 6
    tracking.frame = 99
    assert tracking.frame == COUNT - 1
