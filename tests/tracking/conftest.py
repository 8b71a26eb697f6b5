from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from roam_jax import presets
from roam_jax.checkpoints import Checkpoint
from roam_jax.tracking.online import Online
from roam_jax.tracking.params import init_params, params_to_dict

BOX_XYWH = np.array([40.0, 30.0, 24.0, 18.0], np.float32)


def draw_video(count=7, height=96, width=120):
    """A bright rectangle with a dark edge that moves over a smooth background."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width]
    ground = np.stack([x, y, x + y], axis=-1) + rng.integers(0, 30, (height, width, 3))
    video = np.repeat(ground[None].astype(np.uint8), count, axis=0)
    left, top, w, h = BOX_XYWH.astype(int)
    for index, frame in enumerate(video):
        dx, dy = 2 * index, index
        frame[top + dy : top + dy + h, left + dx : left + dx + w] = (40, 20, 60)
        frame[top + dy + 3 : top + dy + h - 3, left + dx + 3 : left + dx + w - 3] = (250, 220, 40)
    return video


@pytest.fixture(scope="session")
def config():
    return presets.tiny()


@pytest.fixture(scope="session")
def online(config):
    return Online(config)


@pytest.fixture(scope="session")
def params(config):
    """Random parameters; the first step is large enough, and the updates too, to change the model."""
    params = jax.jit(lambda key: init_params(config, key=key))(jax.random.key(0))
    head = {**params.omega["head"], "b": jnp.full(1, -5.0)}
    return params._replace(omega={**params.omega, "head": head})


@pytest.fixture(scope="session")
def checkpoint(config, params):
    return Checkpoint(config, jax.tree.map(np.asarray, params_to_dict(params)), "for tests")


@pytest.fixture(scope="session")
def video():
    return draw_video()


@pytest.fixture(scope="session")
def box_xywh():
    return BOX_XYWH


@pytest.fixture(scope="session")
def with_online(config):
    """The tiny tracker with other online constants."""

    def make(**changes):
        return Online(dataclasses.replace(config, online=dataclasses.replace(config.online, **changes)))

    return make
