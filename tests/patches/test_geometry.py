from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from roam_jax.patches.geometry import Roi, box_to_image, box_to_patch, on_whole_pixels, roi_of_box


def test_roi_is_a_square_around_the_box():
    roi = roi_of_box(jnp.array([30.0, 40.0, 9.0, 16.0]), 5.0)
    np.testing.assert_array_equal(roi.center_xy, [30, 40])
    np.testing.assert_allclose(roi.size_wh, [60, 60], rtol=1e-6)


def test_roi_of_an_empty_box_is_not_empty():
    assert np.all(roi_of_box(jnp.zeros(4), 4.0).size_wh > 0)


def test_box_to_patch():
    roi = Roi(jnp.array([100.0, 50.0]), jnp.array([200.0, 50.0]))
    actual = box_to_patch(jnp.array([120.0, 40.0, 20.0, 10.0]), roi, 100)
    np.testing.assert_allclose(actual, [10.0, -20.0, 10.0, 20.0], rtol=1e-6)


def test_there_and_back():
    boxes = jnp.asarray(np.random.default_rng(0).uniform(1, 300, (20, 4)), jnp.float32)
    roi = Roi(jnp.array([120.5, -7.25]), jnp.array([310.0, 77.0]))
    again = jax.vmap(lambda box: box_to_image(box_to_patch(box, roi, 64), roi, 64))(boxes)
    np.testing.assert_allclose(again, boxes, rtol=1e-5, atol=1e-4)


def test_windows_on_whole_pixels():
    for xp in (np, jnp):
        roi = on_whole_pixels(Roi(xp.array([10.3, 20.0]), xp.array([7.6, 0.2])))
        assert isinstance(roi.size_wh, np.ndarray if xp is np else jax.Array)
        np.testing.assert_allclose(roi.size_wh, [8, 1])  # at least a pixel
        np.testing.assert_allclose(roi.center_xy, [10, 20.5])  # from 6 to 14, and from 20 to 21
