from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from roam_jax.core.boxes import cell_centers
from roam_jax.extensions.confidence import (
    FIRST_FRAMES,
    SURE_WEIGHT,
    UNSURE_WEIGHT,
    Seen,
    begin,
    judge,
    look_at,
    see,
    signs_of,
    update_usual,
)

STRIDE = 4
WEIGHTS = (1.0, 0.5, -20.0)


@pytest.fixture
def features():
    """Of random numbers, with one channel that is far wider than the others."""
    return jnp.asarray(np.random.default_rng(0).normal(size=(12, 12, 5)) * [1, 1, 1, 1, 50], jnp.float32)


@pytest.fixture
def usual(features):
    return begin(features, jnp.array([0.0, 0, 24, 24]), STRIDE)


def test_a_look_is_the_mean_of_each_part_of_the_box():
    """Of channels that hold the cells' own places: the middle of each part."""
    at = cell_centers(12, STRIDE)
    places = jnp.stack(jnp.meshgrid(at, at), axis=-1)  # x, y
    look = look_at(places, jnp.array([4.0, -2.0, 12.0, 24.0]), STRIDE)
    assert look.shape == (3, 3, 2)
    np.testing.assert_allclose(look[:, :, 0], np.broadcast_to([0, 4, 8], (3, 3)), atol=1e-5)
    np.testing.assert_allclose(look[:, :, 1], np.broadcast_to([[-10], [-2], [6]], (3, 3)), atol=1.0)


def test_a_box_outside_of_the_patch_has_no_look(features):
    look = look_at(features, jnp.array([500.0, 0, 20, 20]), STRIDE)
    np.testing.assert_array_equal(look, 0)


def test_the_usual_frame_has_no_sign_of_a_change(usual):
    seen = Seen(usual.look, usual.log_response)
    np.testing.assert_allclose(signs_of(usual, seen), 0, atol=1e-6)


def test_signs(features, usual):
    look = look_at(features, jnp.array([0.0, 0, 24, 24]), STRIDE)
    np.testing.assert_allclose(signs_of(usual, see(usual, look, jnp.float32(0.5))), [np.log(0.5), 0], atol=1e-6)
    np.testing.assert_allclose(signs_of(usual, see(usual, -look, jnp.float32(1.0)))[1], 2, rtol=1e-5)
    brighter = signs_of(usual, see(usual, 3 * look, jnp.float32(1.0)))
    np.testing.assert_allclose(brighter, 0, atol=1e-6)
    # Each channel counts by its own spread.
    other = signs_of(usual, see(usual, look.at[..., 4].multiply(-1), jnp.float32(1.0)))[1]
    assert 0.05 < other < 1.0


@pytest.mark.parametrize("response", [0.0, -3.0])
def test_signs_are_finite_without_any_response(features, usual, response):
    look = look_at(features, jnp.array([500.0, 0, 20, 20]), STRIDE)
    assert np.isfinite(signs_of(usual, see(usual, look, jnp.float32(response)))).all()


def test_judge_is_logistic_regression():
    assert float(judge(jnp.zeros(2), WEIGHTS)) == pytest.approx(1 / (1 + np.exp(-1)))
    likelier, less = judge(jnp.array([0.5, 0.0]), WEIGHTS), judge(jnp.array([0.0, 0.2]), WEIGHTS)
    assert less < judge(jnp.zeros(2), WEIGHTS) < likelier


@pytest.mark.parametrize(
    ("sure", "frame", "weight"),
    [(True, 50, SURE_WEIGHT), (False, 50, UNSURE_WEIGHT), (False, 1, 1 / 2), (True, 2, 1 / 3),
     (False, FIRST_FRAMES + 1, UNSURE_WEIGHT)],
)  # fmt: skip
def test_what_is_usual_follows(usual, sure, frame, weight):
    seen = Seen(usual.look + 1, usual.log_response - 2)
    after = jax.jit(update_usual)(usual, seen, jnp.asarray(sure), jnp.int32(frame))
    np.testing.assert_allclose(after.look, usual.look + weight, rtol=1e-5)
    np.testing.assert_allclose(after.log_response, usual.log_response - 2 * weight, rtol=1e-5)
    np.testing.assert_array_equal(after.spread, usual.spread)


def test_a_frame_that_is_not_finite_is_left_out(usual):
    seen = Seen(usual.look * jnp.nan, usual.log_response)
    after = update_usual(usual, seen, jnp.asarray(True), jnp.int32(1))
    np.testing.assert_array_equal(after.look, usual.look)
