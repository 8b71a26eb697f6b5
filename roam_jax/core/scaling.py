"""Random filter scaling (Eq. 15)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array

from roam_jax.core.model import Branch, Theta


def scale_of_uniform(uniform: Theta, kappa_cf: float, kappa_reg: float) -> Theta:
    """epsilon = exp(kappa (2 u - 1)) for u uniform in [0, 1), with one kappa per branch."""

    def grow(branch: Branch, kappa: float) -> Branch:
        return jax.tree.map(lambda u: jnp.exp(kappa * (2 * u - 1)), branch)

    return Theta(grow(uniform.cf, kappa_cf), grow(uniform.reg, kappa_reg))


def draw_scale(theta: Theta, kappa_cf: float, kappa_reg: float, *, key: Array) -> Theta:
    """(Eq. 15) epsilon = exp(U(-kappa, kappa)), one for each coordinate of theta.

    The paper keeps epsilon times theta, and the model uses it divided by epsilon; here it is kept divided and used
    multiplied. Both are alike, as one over epsilon has the distribution of epsilon.
    """
    leaves, structure = jax.tree.flatten(theta)
    keys = jax.random.split(key, len(leaves))
    uniform = [jax.random.uniform(k, leaf.shape) for k, leaf in zip(keys, leaves, strict=True)]
    return scale_of_uniform(jax.tree.unflatten(structure, uniform), kappa_cf, kappa_reg)


def multiply(theta: Theta, scale: Theta | None) -> Theta:
    """The theta that the model uses: the stored one times epsilon; without a scale, itself."""
    return theta if scale is None else jax.tree.map(jnp.multiply, theta, scale)


def divide(theta: Theta, scale: Theta | None) -> Theta:
    """Inverse of `multiply`."""
    return theta if scale is None else jax.tree.map(jnp.divide, theta, scale)
