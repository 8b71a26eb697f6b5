from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from roam_jax.core.correlate import correlate
from roam_jax.core.warp import filter_size, warp

CANVAS = 11
SIZES = [(1, 1), (1, 5), (3, 1), (3, 3), (5, 5), (7, 9), (11, 3), (11, 11)]


def resize_align_corners(filters, rows, columns):
    """Bilinear resize whose corner samples are the corners; a single sample is the first."""

    def along(array, count):
        base = array.shape[0]
        out = np.zeros((count, *array.shape[1:]))
        for index in range(count):
            at = index * (base - 1) / (count - 1) if count > 1 else 0.0
            low = min(math.floor(at), base - 1)
            high = min(low + 1, base - 1)
            out[index] = array[low] * (1 - (at - low)) + array[high] * (at - low)
        return out

    return np.swapaxes(along(np.swapaxes(along(np.asarray(filters, float), rows), 0, 1), columns), 0, 1)


@pytest.fixture(scope="module")
def filters():
    return jnp.asarray(np.random.default_rng(0).normal(size=(5, 5, 2, 3)), jnp.float32)


@pytest.mark.parametrize(("rows", "columns"), SIZES)
def test_warp_is_a_centred_bilinear_resize(filters, rows, columns):
    actual = warp(filters, jnp.array([rows, columns], jnp.float32), CANVAS)
    expected = np.zeros((CANVAS, CANVAS, 2, 3))
    top, left = (CANVAS - rows) // 2, (CANVAS - columns) // 2
    expected[top : top + rows, left : left + columns] = resize_align_corners(filters, rows, columns)
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_warp_to_the_base_size_is_the_identity(filters):
    np.testing.assert_array_equal(warp(filters, jnp.array([5.0, 5.0]), 5), filters)


def test_one_program_serves_all_sizes(filters):
    traced = []

    @jax.jit
    def run(phi):
        traced.append(phi)
        return warp(filters, phi, CANVAS)

    for size in SIZES:
        run(jnp.array(size, jnp.float32))
    assert len(traced) == 1


def test_second_order_gradients_are_finite(filters):
    features = jax.random.normal(jax.random.key(1), (1, 8, 8, 2))

    def loss(filters, phi):
        return jnp.mean(jnp.tanh(correlate(features, filters, phi, CANVAS)) ** 2)

    @jax.jit
    def second(filters, phi):
        return jax.grad(lambda f: sum(jnp.sum(g**2) for g in [jax.grad(loss)(f, phi)]))(filters)

    for size in SIZES:
        gradient = second(filters, jnp.array(size, jnp.float32))
        assert np.isfinite(gradient).all()
        assert np.abs(gradient).max() > 0


def sizes_of(boxes, limit=99):
    return np.asarray(filter_size(jnp.asarray(boxes, jnp.float32), 16.0, 1.5, 4.0, limit))


def test_filter_size_is_that_of_the_normalised_box_made_odd():
    rng = np.random.default_rng(1)
    boxes = rng.uniform(3, 90, (200, 2)).astype(np.float32)
    for (w, h), actual in zip(boxes, sizes_of(boxes), strict=True):
        scale = 16.0 / math.sqrt(float(w) * float(h))
        for side, cells in zip((h, w), actual, strict=True):
            up = math.ceil(1.5 * scale * float(side) / 4.0 - 1e-4)
            assert cells == up + (up % 2 == 0)


def test_only_the_aspect_ratio_matters():
    np.testing.assert_array_equal(sizes_of([[20, 30]]), sizes_of([[200, 300]]))
    rows, columns = sizes_of([[10, 40]])[0]
    assert rows > columns
    np.testing.assert_array_equal(sizes_of([[40, 10]])[0], [columns, rows])


def test_filter_size_stays_within_the_canvas_and_at_least_one():
    np.testing.assert_array_equal(sizes_of([[1, 10_000], [10_000, 1]], limit=11), [[11, 1], [1, 11]])
