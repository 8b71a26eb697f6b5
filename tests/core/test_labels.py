from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from roam_jax.core.labels import gaussian_label, label_of_box


def test_formula_of_the_paper():
    (x0, y0), (sx, sy), alpha = (2.3, 4.1), (3.0, 5.0), 20.0
    actual = gaussian_label(jnp.array([x0, y0]), jnp.array([sx, sy]), 7, alpha)
    for y in range(7):
        for x in range(7):
            expected = np.exp(-alpha * ((x - x0) ** 2 / sx**2 + (y - y0) ** 2 / sy**2))
            np.testing.assert_allclose(actual[y, x], expected, rtol=1e-4, atol=1e-12)


def test_batches():
    centers, sizes = jnp.array([[1.0, 2.0], [3.0, 0.0]]), jnp.array([[2.0, 3.0], [4.0, 2.0]])
    actual = gaussian_label(centers, sizes, 5, 20.0)
    np.testing.assert_allclose(actual[1], gaussian_label(centers[1], sizes[1], 5, 20.0), rtol=1e-6)


def test_label_of_a_box_is_one_at_its_centre_and_wide_along_its_long_side():
    label = label_of_box(jnp.array([0.0, 4.0, 30.0, 9.0]), 9, 4, 20.0)  # one cell below the middle
    assert float(label[5, 4]) == 1.0
    assert float(label[5, 5]) > float(label[6, 4])


def test_sizes_are_rounded_up_to_cells():
    small, large = (label_of_box(jnp.array([0.0, 0.0, side, side]), 9, 4, 20.0) for side in (9.0, 12.0))
    np.testing.assert_array_equal(small, large)
    assert not np.array_equal(small, label_of_box(jnp.array([0.0, 0.0, 12.5, 12.5]), 9, 4, 20.0))


def test_an_empty_box_gives_a_finite_label():
    assert np.isfinite(label_of_box(jnp.zeros(4), 9, 4, 20.0)).all()
