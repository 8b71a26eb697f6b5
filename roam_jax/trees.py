"""Small functions of pytrees that several parts need."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool


def is_finite(tree: Any) -> Bool[Array, ""]:
    """Whether every number of a pytree is finite."""
    return jnp.all(jnp.isfinite(ravel_pytree(tree)[0]))  # at once: leaf by leaf takes long to compile
