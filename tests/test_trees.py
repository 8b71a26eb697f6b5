from __future__ import annotations

import jax.numpy as jnp
import pytest

from roam_jax.trees import is_finite


@pytest.mark.parametrize(("number", "finite"), [(1.0, True), (jnp.nan, False), (jnp.inf, False), (-jnp.inf, False)])
def test_one_number_decides_whether_a_tree_is_finite(number, finite):
    assert bool(is_finite({"a": jnp.zeros((2, 3)), "b": (jnp.ones(4).at[2].set(number), jnp.zeros(()))})) is finite
