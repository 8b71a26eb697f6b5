"""(ours) The first-frame step of the response filter taken implicitly: Eq. 9 with the gradient at its end.

Eq. 9 is one explicit step, `theta1 = theta0 - lambda0 * grad L(theta0)`. With rates that are large enough to tell the
object from its look-alikes it is not stable, and with smaller ones the filter hardly fits. Its implicit form,

    theta1 = theta0 - lambda0 * grad L(theta1) = argmin L(theta) + 1/2 sum (theta - theta0)^2 / lambda0,

is stable for all rates and the same to first order for small ones. For the filter of the response and its bias, in
which the `paper` form of the loss is quadratic, it is a linear system; conjugate gradients solve it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from roam_jax.config import ModelConfig
from roam_jax.core.losses import Samples
from roam_jax.core.model import Branch, respond

TINY = 1e-20
"""keeps the iterations finite after they have converged"""


def implicit_step(
    cf: Branch,
    rates: Branch,
    samples: Samples,
    phi: Float[Array, "*g 2"],
    model: ModelConfig,
    iterations: int,
    scale: Branch | None = None,
) -> Branch:
    """`cf` with its filter and bias after one implicit step on the samples; the reduction stays as it is.

    Args:
        cf: branch before the step.
        rates: lambda; only those of the filter and the bias count.
        samples: updating samples; those of several clips are pooled.
        phi: filter size(s), (rows, columns) in cells.
        model: geometry.
        iterations: of the conjugate gradients.
        scale: epsilon of the random filter scaling (Eq. 15): the filter in use is `cf` times this.
    """
    before = (cf.filters, cf.bias)
    roots = jax.tree.map(jnp.sqrt, (rates.filters, rates.bias))

    def response(part):
        branch = cf._replace(filters=part[0], bias=part[1])
        used = branch if scale is None else jax.tree.map(jnp.multiply, branch, scale)
        one = lambda features, phi: respond(features, used, phi, model.max_filter)  # noqa: E731
        return (jax.vmap(one) if phi.ndim == 2 else one)(samples.features, phi)

    found, forward = jax.linearize(response, before)
    backward = jax.linear_transpose(forward, before)
    counts = samples.weights[..., None, None]
    counts = 2 * counts / jnp.maximum(jnp.sum(counts * samples.labels**2), 1e-6)

    def pull(maps):  # gradient with respect to u, where theta = theta0 + sqrt(lambda) u
        return jax.tree.map(jnp.multiply, roots, backward(counts * maps)[0])

    def operator(u):
        return jax.tree.map(jnp.add, u, pull(forward(jax.tree.map(jnp.multiply, roots, u))))

    u = conjugate_gradients(operator, pull(samples.labels - found), iterations)
    filters, bias = jax.tree.map(lambda b, r, x: b + r * x, before, roots, u)
    return cf._replace(filters=filters, bias=bias)


def conjugate_gradients(operator: Callable[[Any], Any], wanted: Any, iterations: int) -> Any:
    """Approximate solution u of `operator(u) = wanted` for a symmetric positive definite linear operator, from zero.

    A number of iterations, differentiated as they are: `jax.scipy.sparse.linalg.cg` differentiates the exact solution,
    which so few of them do not reach, and meta-training then runs away.
    """
    flat, unravel = ravel_pytree(wanted)

    def iterate(state, _):
        u, residual, direction, energy = state
        image = ravel_pytree(operator(unravel(direction)))[0]
        length = energy / jnp.maximum(direction @ image, TINY)
        residual = residual - length * image
        after = residual @ residual
        direction_next = residual + after / jnp.maximum(energy, TINY) * direction
        return (u + length * direction, residual, direction_next, after), None

    (u, *_), _ = jax.lax.scan(iterate, (jnp.zeros_like(flat), flat, flat, flat @ flat), length=iterations)
    return unravel(u)
