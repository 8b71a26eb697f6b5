from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from roam_jax.backbones import neck
from roam_jax.backbones.neck import init_neck, measure_stats, normalise

apply_neck = jax.jit(neck.apply_neck)


@pytest.fixture
def levels():
    rng = np.random.default_rng(0)
    return (
        jnp.asarray(rng.normal(2.0, 3.0, (2, 8, 8, 5)), jnp.float32),
        jnp.asarray(rng.normal(-1.0, 0.1, (2, 4, 4, 7)), jnp.float32),
    )


@pytest.mark.parametrize("channels", [0, 6])
def test_map_has_unit_mean_square_per_image(levels, channels):
    features = apply_neck(init_neck((5, 7), channels, key=jax.random.key(0)), levels)
    assert features.shape == (2, 8, 8, channels or 12)
    np.testing.assert_allclose(np.mean(np.square(features), axis=(1, 2, 3)), 1.0, atol=1e-4)


def test_empty_map_stays_finite():
    assert not np.any(normalise(jnp.zeros((1, 3, 3, 2))))


def test_stats_standardise_every_channel(levels):
    params = init_neck((5, 7), 0, key=jax.random.key(0))
    params["stats"] = measure_stats([levels, tuple(level + 1 for level in levels)])
    mean = np.concatenate([np.mean(level, axis=(0, 1, 2)) + 0.5 for level in levels])
    std = np.concatenate([np.sqrt(np.var(level, axis=(0, 1, 2)) + 0.25) for level in levels])
    np.testing.assert_allclose(params["stats"]["mean"], mean, rtol=1e-5)
    np.testing.assert_allclose(params["stats"]["scale"], std, rtol=1e-4)
    with pytest.raises(ValueError, match="no patches"):
        measure_stats([])


@pytest.mark.parametrize("names", [["mix"], ["mix", "mix2", "mix3"]])
def test_is_the_plain_formula(levels, names):
    """The neck projects before it resizes; the definition standardises, resizes and stacks first."""
    params = init_neck((5, 7), 6, len(names), key=jax.random.key(1))
    params["stats"] = measure_stats([levels])
    params["project"]["b"] = jnp.arange(6.0)
    assert set(params) == {"stats", "project", *names}
    for name in names:
        params[name] = {"w": params[name]["w"] * 100, "b": jnp.linspace(-1, 1, 6)}
    big = jax.image.resize(levels[1], (2, 8, 8, 7), "bilinear")
    stacked = (jnp.concatenate([levels[0], big], axis=-1) - params["stats"]["mean"]) / params["stats"]["scale"]
    y = stacked @ params["project"]["w"] + params["project"]["b"]
    for name in names:
        y += params[name]["b"] + lax.conv_general_dilated(
            jax.nn.relu(y), params[name]["w"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
    expected = normalise(y)
    np.testing.assert_allclose(apply_neck(params, levels), expected, atol=1e-5)


def test_starts_as_a_linear_projection(levels):
    params = init_neck((5, 7), 64, key=jax.random.key(0))
    linear = {**params, "mix": jax.tree.map(jnp.zeros_like, params["mix"])}
    assert np.mean(apply_neck(params, levels) * apply_neck(linear, levels)) > 0.99
