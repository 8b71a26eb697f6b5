"""(ours) A step of a branch's filters taken implicitly, at the first frame or later: Eq. 9, the gradient at its end.

Eq. 9 is one explicit step, `theta1 = theta0 - lambda0 * grad L(theta0)`. With rates that are large enough to tell the
object from its look-alikes it is not stable, and with smaller ones the filter hardly fits. Its implicit form,

    theta1 = theta0 - lambda0 * grad L(theta1) = argmin L(theta) + 1/2 sum (theta - theta0)^2 / lambda0,

is stable for all rates and the same to first order for small ones. In the filters and the bias of a branch the `paper`
form of the response loss is quadratic, and so is the box loss where errors are below 1: a linear system, which
conjugate gradients solve.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from roam_jax.config import LossConfig, ModelConfig
from roam_jax.core.boxes import encode
from roam_jax.core.losses import Samples, anchors_of
from roam_jax.core.model import Branch, regress, respond

TINY = 1e-12
"""keeps the iterations and their gradient finite after they have converged; its square is still a float32"""


def implicit_response_step(
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
    counts = samples.weights[..., None, None]
    counts = 2 * counts / jnp.maximum(jnp.sum(counts * samples.labels**2), 1e-6)
    apply = _over_groups(lambda used, features, phi: respond(features, used, phi, model.max_filter), samples, phi)
    return _step(cf, rates, apply, samples.labels, counts, iterations, scale)


def implicit_box_step(
    reg: Branch,
    rates: Branch,
    samples: Samples,
    phi: Float[Array, "*g 2"],
    model: ModelConfig,
    loss: LossConfig,
    iterations: int,
    scale: Branch | None = None,
) -> Branch:
    """`reg` with its filters and biases after one implicit step on the box loss, as if all errors were below 1.

    Args:
        reg: branch before the step.
        rates: lambda; only those of the filters and the biases count.
        samples: updating samples; those of several clips are pooled.
        phi: filter size(s), (rows, columns) in cells.
        model: geometry.
        loss: choice of the anchors, weight of the box loss.
        iterations: of the conjugate gradients.
        scale: epsilon of the random filter scaling (Eq. 15): the filters in use are `reg` times this.
    """
    anchors, chosen = anchors_of(samples, phi, model, loss)
    counts = loss.box_weight * chosen[..., None] / (4 * jnp.maximum(jnp.sum(chosen), 1.0))
    wanted = encode(samples.boxes_cxcywh[..., None, None, :], anchors)
    apply = _over_groups(lambda used, features, phi: regress(features, used, phi, model.max_filter), samples, phi)
    return _step(reg, rates, apply, wanted, counts, iterations, scale)


def _over_groups(
    one: Callable[[Branch, Array, Array], Array], samples: Samples, phi: Float[Array, "*g 2"]
) -> Callable[[Branch], Array]:
    """`one` of a branch on the samples of all clips."""
    mapped = jax.vmap(one, (None, 0, 0)) if phi.ndim == 2 else one
    return lambda used: mapped(used, samples.features, phi)


def _step(
    branch: Branch,
    rates: Branch,
    apply: Callable[[Branch], Array],
    wanted: Array,
    counts: Array,
    iterations: int,
    scale: Branch | None,
) -> Branch:
    """Branch whose filters and bias minimise half the sum of counts x (apply - wanted)^2, and their own change."""
    before = (branch.filters, branch.bias)
    roots = jax.tree.map(jnp.sqrt, (rates.filters, rates.bias))

    def predict(part: tuple[Array, Array]) -> Array:
        moved = branch._replace(filters=part[0], bias=part[1])
        return apply(moved if scale is None else jax.tree.map(jnp.multiply, moved, scale))

    found, forward = jax.linearize(predict, before)
    backward = jax.linear_transpose(forward, before)

    def pull(maps):  # gradient with respect to u, where theta = theta0 + sqrt(lambda) u
        return jax.tree.map(jnp.multiply, roots, backward(counts * maps)[0])

    def operator(u):
        return jax.tree.map(jnp.add, u, pull(forward(jax.tree.map(jnp.multiply, roots, u))))

    u = conjugate_gradients(operator, pull(wanted - found), iterations)
    filters, bias = jax.tree.map(lambda b, r, x: b + r * x, before, roots, u)
    return branch._replace(filters=filters, bias=bias)


def conjugate_gradients(operator: Callable[[Any], Any], wanted: Any, iterations: int) -> Any:
    """Approximate solution u of `operator(u) = wanted` for a symmetric positive definite linear operator, from zero.

    A number of iterations, differentiated as they are: `jax.scipy.sparse.linalg.cg` differentiates the exact solution,
    which so few of them do not reach, and meta-training then runs away.
    """
    flat, unravel = ravel_pytree(wanted)
    size = jnp.sqrt(flat @ flat + TINY**2)  # the system is linear: solved for a right-hand side of norm 1
    flat = flat / size

    def iterate(state, _):
        u, residual, direction, energy = state
        image = ravel_pytree(operator(unravel(direction)))[0]
        length = energy / jnp.maximum(direction @ image, TINY)
        residual = residual - length * image
        after = residual @ residual
        direction_next = residual + after / jnp.maximum(energy, TINY) * direction
        return (u + length * direction, residual, direction_next, after), None

    (u, *_), _ = jax.lax.scan(iterate, (jnp.zeros_like(flat), flat, flat, flat @ flat), length=iterations)
    return unravel(size * u)
