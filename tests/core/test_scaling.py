from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from small import assert_close, draw_theta

from roam_jax.core.scaling import divide, draw_scale, multiply, scale_of_uniform


def test_random_filter_scaling():
    theta = draw_theta(0)
    scale = jax.jit(lambda key: draw_scale(theta, 1.6, 1.3, key=key))(jax.random.key(7, impl="unsafe_rbg"))
    cf, reg = (np.log(np.asarray(ravel_pytree(branch)[0])) for branch in scale)
    assert np.abs(cf).max() <= 1.6 + 1e-6
    assert np.abs(reg).max() <= 1.3 + 1e-6
    assert np.abs(cf).max() > 1.4 > 1.3 > np.abs(reg).max() > 1.1  # uniform in +-kappa
    assert_close(divide(multiply(theta, scale), scale), theta, rtol=1e-6, atol=0)
    assert multiply(theta, None) is theta
    assert divide(theta, None) is theta
    half = scale_of_uniform(jax.tree.map(lambda x: jnp.full(x.shape, 0.5), theta), 1.6, 1.3)
    np.testing.assert_allclose(ravel_pytree(half)[0], 1.0)
