from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from roam_jax.config import Config
from roam_jax.core.labels import label_of_box
from roam_jax.core.losses import Samples

CHANNELS = 3


def random_samples(config: Config, seed: int, *shape: int) -> Samples:
    """Features of noise, with boxes near the patch centre; `shape` is (n,) or (g, n)."""
    rng = np.random.default_rng(seed)
    m = config.model
    boxes = np.concatenate([rng.uniform(-6, 6, (*shape, 2)), rng.uniform(12, 20, (*shape, 2))], axis=-1)
    boxes = jnp.asarray(boxes, jnp.float32)
    features = jnp.asarray(rng.normal(size=(*shape, m.map_size, m.map_size, CHANNELS)), jnp.float32)
    return Samples(features, label_of_box(boxes, m.map_size, m.stride, config.loss.alpha), boxes, jnp.ones(shape))


@pytest.fixture(scope="session")
def config():
    return Config.tiny()


@pytest.fixture(scope="session")
def channels():
    return CHANNELS


@pytest.fixture(scope="session")
def make_samples():
    return random_samples
