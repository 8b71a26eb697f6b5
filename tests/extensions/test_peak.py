from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from roam_jax.core.model import Predictions
from roam_jax.core.samples import Samples
from roam_jax.extensions.peak import peak_term


@jax.jit
def term(response, weights, visible=1.0):
    """Of maps whose object is at (1, 2)."""
    labels = jnp.zeros_like(response).at[:, 1, 2].set(1.0)
    visible = jnp.broadcast_to(visible, weights.shape)
    samples = Samples(response[..., None], labels, jnp.zeros((len(response), 4)), weights, visible)
    predictions = Predictions(response, jnp.zeros((*response.shape, 4)), jnp.zeros((4, 4, 4)))
    return peak_term(predictions, samples, sharpness=20.0)


def test_it_is_least_where_the_peak_is():
    actual = [float(term(jnp.zeros((1, 4, 4)).at[0, 1, at].set(1.0), jnp.ones(1))) for at in (2, 3)]
    assert actual[0] == pytest.approx(0.0, abs=1e-6)
    assert actual[1] == pytest.approx(20.0, rel=1e-3)
    assert float(term(jnp.zeros((1, 4, 4)), jnp.ones(1))) == pytest.approx(np.log(16), rel=1e-5)


def test_samples_without_the_object_are_left_out():
    maps = jnp.zeros((2, 4, 4)).at[1, 0, 0].set(9.0)
    one, none = (term(maps, jnp.ones(2), jnp.array(visible)) for visible in ((1.0, 0.0), (0.0, 0.0)))
    assert float(one) == pytest.approx(np.log(16), rel=1e-5)
    assert float(none) == 0.0


def test_samples_of_weight_zero_are_left_out():
    maps = jnp.zeros((2, 4, 4)).at[1, 0, 0].set(9.0)
    one, none = (partial(term, maps)(jnp.array(weights)) for weights in ((1.0, 0.0), (0.0, 0.0)))
    assert float(one) == pytest.approx(np.log(16), rel=1e-5)
    assert float(none) == 0.0
