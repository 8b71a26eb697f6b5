from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from roam_jax.backbones.neck import Neck, measure_stats, normalise, unit_stats


def init(module, levels, seed=0):
    """Parameters, for levels as they are."""
    return module.init(jax.random.key(seed), levels, unit_stats(12)).get("params", {})


@partial(jax.jit, static_argnums=0)
def apply(module, params, levels, stats):
    return module.apply({"params": params}, levels, stats)


@pytest.fixture
def levels():
    rng = np.random.default_rng(0)
    return (
        jnp.asarray(rng.normal(2.0, 3.0, (2, 8, 8, 5)), jnp.float32),
        jnp.asarray(rng.normal(-1.0, 0.1, (2, 4, 4, 7)), jnp.float32),
    )


@pytest.mark.parametrize("channels", [0, 6])
def test_map_has_unit_mean_square_per_image(levels, channels):
    neck = Neck(channels)
    features = apply(neck, init(neck, levels), levels, unit_stats(12))
    assert features.shape == (2, 8, 8, channels or 12)
    np.testing.assert_allclose(np.mean(np.square(features), axis=(1, 2, 3)), 1.0, atol=1e-4)


def test_empty_map_stays_finite():
    assert not np.any(normalise(jnp.zeros((1, 3, 3, 2))))


def test_stats_standardise_every_channel(levels):
    stats = measure_stats([levels, tuple(level + 1 for level in levels)])
    mean = np.concatenate([np.mean(level, axis=(0, 1, 2)) + 0.5 for level in levels])
    std = np.concatenate([np.sqrt(np.var(level, axis=(0, 1, 2)) + 0.25) for level in levels])
    np.testing.assert_allclose(stats["mean"], mean, rtol=1e-5)
    np.testing.assert_allclose(stats["scale"], std, rtol=1e-4)
    with pytest.raises(ValueError, match="no patches"):
        measure_stats([])


@pytest.mark.parametrize("names", [["mix"], ["mix", "mix2", "mix3"]])
def test_is_the_plain_formula(levels, names):
    """The neck projects before it resizes; the definition standardises, resizes and stacks first."""
    neck, stats = Neck(6, len(names)), measure_stats([levels])
    params = init(neck, levels, seed=1)
    params["project"]["b"] = jnp.arange(6.0)
    assert set(params) == {"project", *names}
    for name in names:
        params[name] = {"w": params[name]["w"] * 100, "b": jnp.linspace(-1, 1, 6)}
    big = jax.image.resize(levels[1], (2, 8, 8, 7), "bilinear")
    mean, scale = (stats[part][None, None, None] for part in ("mean", "scale"))
    stacked = (jnp.concatenate([levels[0], big], axis=-1) - mean) / scale
    y = stacked @ params["project"]["w"] + params["project"]["b"][None, None, None]
    for name in names:
        y += params[name]["b"][None, None, None] + lax.conv_general_dilated(
            jax.nn.relu(y), params[name]["w"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
    expected = normalise(y)
    np.testing.assert_allclose(apply(neck, params, levels, stats), expected, atol=1e-5)


def test_starts_as_a_linear_projection(levels):
    neck = Neck(64)
    params = init(neck, levels)
    linear = {**params, "mix": jax.tree.map(jnp.zeros_like, params["mix"])}
    ours, straight = (apply(neck, some, levels, unit_stats(12)) for some in (params, linear))
    assert np.mean(ours * straight) > 0.99
