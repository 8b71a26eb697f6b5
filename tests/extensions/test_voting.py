from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from roam_jax.extensions.voting import vote

BOXES = jnp.array([[0.0, 0.0, 10.0, 10.0], [2.0, 0.0, 12.0, 10.0], [90.0, 0.0, 10.0, 10.0]])


def test_a_vote_is_a_weighted_mean_over_the_boxes_of_the_same_object():
    scores = jnp.array([1.0, 0.8, 0.9])
    weight = np.exp(5 * (0.8 - 1))
    expected = (BOXES[0] + weight * BOXES[1]) / (1 + weight)  # the third one is somewhere else
    np.testing.assert_allclose(vote(BOXES, scores, jnp.array(0), sharpness=5.0), expected, rtol=1e-5)
    np.testing.assert_allclose(vote(BOXES, scores, jnp.array(0), sharpness=1e4), BOXES[0], atol=1e-5)


def test_a_vote_without_any_response_is_for_the_chosen_box():
    scores = jnp.array([-2.0, -1.0, -3.0])
    np.testing.assert_array_equal(vote(BOXES, scores, jnp.array(1), sharpness=5.0), BOXES[1])
