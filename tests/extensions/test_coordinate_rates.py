from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from small import CONFIG, draw, draw_theta

from roam_jax.core import variants
from roam_jax.core.optimizer import count
from roam_jax.extensions.coordinate_rates import with_coordinate_rates
from roam_jax.method import OPTIMIZERS, fill_rates


@pytest.fixture(scope="module")
def theta():
    return draw_theta(0)


@pytest.mark.parametrize("kind", ["lstm", "gru", "fc", "constant"])
def test_they_multiply_what_a_variant_emits(kind, theta):
    plain = OPTIMIZERS[kind](CONFIG.optimizer)
    scaled = with_coordinate_rates(plain, partial(fill_rates, explicit=1e-3))
    n = count(theta)
    omega = draw(jax.eval_shape(lambda key: scaled.init(theta, key=key), jax.random.key(0)), 0)
    inputs = draw(jnp.zeros((4, n)), 1)
    rates, carry = jax.jit(scaled.apply)(omega, inputs, scaled.start(theta))
    factors, same = jax.jit(plain.apply)(omega["inner"], inputs, plain.start(theta))
    np.testing.assert_allclose(rates, 2 * factors * np.exp(omega["log_rates"]), rtol=1e-5)
    assert jax.tree.all(jax.tree.map(np.array_equal, carry, same))


def test_each_coordinate_begins_with_a_rate_of_its_own(theta):
    optimizer = with_coordinate_rates(variants.constant(0.0), partial(fill_rates, explicit=1e-3, cf_filters=5.0))
    omega = optimizer.init(theta, key=jax.random.key(0))
    _, unravel = ravel_pytree(theta)
    rates = unravel(jnp.exp(omega["log_rates"]))
    for part, expected in ((rates.cf.filters, 5.0), (rates.cf.bias, 5.0), (rates.cf.reduce_w, 1e-3)):
        np.testing.assert_allclose(part, expected, rtol=1e-5)
    np.testing.assert_allclose(ravel_pytree(rates.reg)[0], 1e-3, rtol=1e-5)
    first, _ = optimizer.apply(omega, jnp.zeros((4, count(theta))), optimizer.start(theta))
    np.testing.assert_allclose(first, np.exp(omega["log_rates"]), rtol=1e-6)  # an output bias of 0 is a factor of 1
