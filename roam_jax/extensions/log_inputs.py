"""Six numbers per coordinate, in place of Eq. 10's four (or the official five).

Rates and parameters may differ by many powers of ten between the parts of theta. As they are, the network cannot tell
small ones apart; here it is shown all magnitudes alike: the parameter in the form of the gradient, and the logarithm of
the last rate. Not measured against the official form by itself.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from roam_jax.core.optimizer import Inputs, signed_log

TINY_RATE = 1e-10
"""added to rates before their logarithm"""


def log_inputs(p: float = 10.0) -> Inputs:
    """Logarithm of the rate, gradient and parameter as (log magnitude, sign), loss."""

    def prepare(inputs: Float[Array, "4 n"]) -> Float[Array, "6 n"]:
        rates, gradient, theta, loss = inputs
        return jnp.concatenate(
            [jnp.log(rates + TINY_RATE)[None] / p, signed_log(gradient, p), signed_log(theta, p), loss[None]]
        )

    return Inputs(6, prepare)
