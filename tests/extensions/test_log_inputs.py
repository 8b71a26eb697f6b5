from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from roam_jax.core.optimizer import stack_inputs
from roam_jax.extensions.log_inputs import log_inputs


def test_what_the_network_is_shown():
    rates, gradient, theta = jnp.array([0.1, 0.2]), jnp.array([0.5, -1e-6]), jnp.array([3.0, 4.0])
    inputs = log_inputs()
    actual = inputs.prepare(stack_inputs(rates, gradient, theta, jnp.float32(7.0)))
    shown = [[np.log(0.5) / 10, -1.0], [1.0, -1e-6 * np.exp(10)]]
    expected = [np.log([0.1, 0.2]) / 10, *shown, np.log([3.0, 4.0]) / 10, [1.0, 1.0], [7.0, 7.0]]
    np.testing.assert_allclose(actual, expected, rtol=1e-4)
    assert inputs.width == len(actual)


def test_a_rate_of_zero_is_finite():
    zeros = jnp.zeros(3)
    assert np.isfinite(log_inputs().prepare(stack_inputs(zeros, zeros, zeros, jnp.float32(0.0)))).all()
