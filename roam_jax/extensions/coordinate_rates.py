"""A learned rate for each coordinate beside the network, in place of Eq. 11's rates between 0 and 1.

One network serves all coordinates, but their curvatures differ by many powers of ten, and rates of an implicit step may
be far above 1. So what the network emits, times 2, multiplies a learned rate of each coordinate: these are for the
curvatures, and the network for what changes while it tracks. Its output bias should be 0: a factor of 1.

Measured (experiments/LOG.md, fifth round): the rates alone, without the network, do as well as with it (AUC 0.644 on
ten sequences); one rate for all coordinates does not (0.577 at its best).
"""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from roam_jax.core.model import Theta
from roam_jax.core.optimizer import Carry, CoordinateOptimizer, Omega

RATES = "log_rates"
"""key of omega under which their logarithms are"""


def with_coordinate_rates(inner: CoordinateOptimizer, start_rates: Callable[[Theta], Theta]) -> CoordinateOptimizer:
    """An optimizer whose output, times 2, multiplies rates that are learned as their logarithms.

    Args:
        inner: what emits the factors.
        start_rates: gives the rates before training, one for each coordinate of theta.
    """

    def init(theta: Theta, *, key: Array) -> Omega:
        return {"inner": inner.init(theta, key=key), RATES: jnp.log(ravel_pytree(start_rates(theta))[0])}

    def apply(omega: Omega, inputs: Float[Array, "4 n"], carry: Carry) -> tuple[Float[Array, "n"], Carry]:
        factors, carry = inner.apply(omega["inner"], inputs, carry)
        return 2 * factors * jnp.exp(omega[RATES]), carry

    return inner._replace(init=init, apply=apply)


def has_coordinate_rates(omega: Omega) -> bool:
    """Whether it is that of such an optimizer."""
    return isinstance(omega, dict) and RATES in omega
