"""(ours) The first-frame step of the response filter taken implicitly: Eq. 9 with the gradient at its end.

Eq. 9 is one explicit step, `theta1 = theta0 - lambda0 * grad L(theta0)`. With rates that are large enough to tell the
object from its look-alikes it is not stable, and with smaller ones the filter hardly fits. Its implicit form,

    theta1 = theta0 - lambda0 * grad L(theta1) = argmin L(theta) + 1/2 sum (theta - theta0)^2 / lambda0,

is stable for all rates and the same to first order for small ones. For the filter of the response and its bias, in
which the `paper` form of the loss is quadratic, it is a linear system; conjugate gradients solve it.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.scipy.sparse.linalg import cg
from jaxtyping import Array, Float

from roam_jax.config import ModelConfig
from roam_jax.core.losses import Samples
from roam_jax.core.model import Branch, respond


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

    The meta-gradient is that of the exact solution (implicit differentiation), by as many iterations again.

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

    u, _ = cg(operator, pull(samples.labels - found), tol=0.0, maxiter=iterations)
    filters, bias = jax.tree.map(lambda b, r, x: b + r * x, before, roots, u)
    return cf._replace(filters=filters, bias=bias)
