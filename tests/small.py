"""The method in small, for tests of `core`, `extensions` and `method`: filters of at most 3 x 3 cells.

Compiling takes most of the time of these tests: so small filters are not correlated by spectra, and parameters are
drawn by numpy, where JAX would compile half a generator for each array.
"""

from __future__ import annotations

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from roam_jax import presets
from roam_jax.config import Config, ModelConfig
from roam_jax.core.losses import Loss, anchors_above_half, box_smooth_l1, response_l2
from roam_jax.core.meta import MetaParams
from roam_jax.core.model import Geometry, Theta, init_theta, predict
from roam_jax.core.samples import Samples, make_samples
from roam_jax.method import init_meta

CHANNELS = 3
GEOMETRY = Geometry(map_size=8, stride=2, filter_scale=0.75, canvas=3, target_side=8.0, alpha=20.0)
PHI = jnp.array([3.0, 1.0])
CONFIG = dataclasses.replace(
    presets.tiny(),
    model=ModelConfig(
        patch_size=16, roi_scale=2.0, stride=2, map_size=8, filter_scale=0.75, base_filter=3, max_filter=3,
        reduced_channels=2, init_scale=0.1,
    ),
)  # fmt: skip
"""of the method with this geometry"""
LOSS = Loss(
    partial(predict, geometry=GEOMETRY),
    {"response": response_l2, "box": partial(box_smooth_l1, choose=anchors_above_half)},
    {"response": 1.0, "box": 1.0},
)
"""the paper's, which is smooth: the official form jumps where cells enter or leave it"""


def draw(shapes, seed: int, spread: float = 0.3):
    """Normal random numbers in the shapes of a pytree."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(scale=spread, size=leaf.shape), jnp.float32), shapes)


def draw_theta(seed: int) -> Theta:
    """A tracking model."""
    make = partial(init_theta, CHANNELS, base_filter=3, reduced_channels=2, init_scale=0.1)
    return draw(jax.eval_shape(lambda key: make(key=key), jax.random.key(0)), seed)


def draw_samples(seed: int, *shape: int) -> Samples:
    """Features of noise, with boxes near the patch centre; `shape` is (n,), or (t, n) for those of t updates."""
    rng = np.random.default_rng(seed)
    m = GEOMETRY.map_size
    boxes = np.concatenate([rng.uniform(-3, 3, (*shape, 2)), rng.uniform(6, 10, (*shape, 2))], axis=-1)
    features = rng.normal(size=(*shape, m, m, CHANNELS))
    flat = _make_samples(
        jnp.asarray(features.reshape(-1, m, m, CHANNELS), jnp.float32), jnp.asarray(boxes.reshape(-1, 4), jnp.float32)
    )
    return jax.tree.map(lambda x: x.reshape(*shape, *x.shape[1:]), flat)


_make_samples = jax.jit(partial(make_samples, geometry=GEOMETRY))


def draw_meta(config: Config, seed: int) -> MetaParams:
    """Meta-parameters of a configuration; rates are those with which training begins."""

    def make(key):
        meta = init_meta(config, CHANNELS, key=key)
        return meta, (meta.lambda0, meta.omega.get("log_rates"))

    meta = draw(jax.eval_shape(make, jax.random.key(0))[0], seed)
    lambda0, log_rates = jax.jit(lambda key: make(key)[1])(jax.random.key(0))
    own = {} if log_rates is None else {"log_rates": log_rates}
    return meta._replace(lambda0=lambda0, omega=meta.omega | own)


def assert_close(ours, theirs, rtol: float = 1e-4, atol: float = 1e-6) -> None:
    """Every leaf of two pytrees agrees."""
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)
