from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from roam_jax.core.correlate import correlate
from roam_jax.core.warp import warp

MAPS = [(8, 8), (7, 7), (6, 9), (4, 4)]


def inputs(height, width):
    rng = np.random.default_rng(0)
    return tuple(jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((2, height, width, 3), (5, 5, 3, 2)))


@pytest.mark.parametrize("canvas", [5, 11])  # the larger one is larger than some of the maps
@pytest.mark.parametrize(("height", "width"), MAPS)
def test_both_methods_agree_in_values_and_gradients(height, width, canvas):
    features, filters = inputs(height, width)
    phi = jnp.array([5.0, 3.0]) if canvas == 5 else jnp.array([7.0, 11.0])

    def run(method):
        out, pull = jax.vjp(lambda *args: correlate(*args, phi, canvas, method), features, filters)
        return out, *pull(jnp.cos(out))

    for ours, theirs in zip(*jax.jit(lambda: (run("spectral"), run("direct")))(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("method", ["auto", "spectral", "direct"])
def test_it_is_a_correlation_with_zero_padding(method):
    features, filters = inputs(4, 5)
    phi = jnp.array([3.0, 5.0])
    kernel = np.asarray(warp(filters, phi, 7))
    actual = jax.jit(lambda f: correlate(f, filters, phi, 7, method))(features)
    padded = np.pad(np.asarray(features), ((0, 0), (3, 3), (3, 3), (0, 0)))
    assert actual.shape == (2, 4, 5, 2)
    for y in range(4):
        for x in range(5):
            expected = np.einsum("nhwc,hwco->no", padded[:, y : y + 7, x : x + 7], kernel)
            np.testing.assert_allclose(actual[:, y, x], expected, rtol=1e-4, atol=1e-4)


def test_no_program_holds_an_fft():
    """XLA's FFT on a CPU can wait for ever (experiments/fft_hang.py)."""
    features, filters = inputs(8, 6)

    def loss(features, filters):
        return jnp.sum(correlate(features, filters, jnp.array([3.0, 5.0]), 7) ** 2)

    assert "fft" not in jax.jit(jax.grad(loss, argnums=(0, 1))).lower(features, filters).as_text()
