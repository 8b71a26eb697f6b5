"""Implicit steps, in place of Eq. 9 for filters and biases: the gradient is taken at the end of the step.

Eq. 9 is one explicit step, `theta1 = theta0 - lambda * grad L(theta0)`. With rates that are large enough to tell the
object from its look-alikes it is not stable, and with smaller ones the filter hardly fits. Its implicit form,

    theta1 = theta0 - lambda * grad L(theta1) = argmin L(theta) + 1/2 sum (theta - theta0)^2 / lambda,

is stable for all rates and the same to first order for small ones. In the filters and the bias of a branch the paper's
response loss is quadratic, and so is the box loss where errors are below 1: a linear system, which conjugate gradients
solve. The optimizer is shown, and the other coordinates step along, the gradient of the same loss: `Config.check`
refuses an implicit step of the response with another `loss.response_form` than the paper's.

The condition of the system is about that of 1 + lambda x curvature. With rates of 19 to 787, as training without a
limit found them, it is 5e6 to 1.6e7: the iterations end long before they converge, and then amplify rounding by 1e4, so
that another number of threads gives another filter. `implicit.largest_rate` limits it.

Measured (experiments/LOG.md, third and fifth round): on held-out clips the object is found in 0.982 of the frames
instead of 0.879; mean AUC on ten sequences of OTB without later updates 0.561, with implicit ones of the response
filter 0.644, with explicit ones at the best single rate 0.586.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from roam_jax.core.boxes import anchor_boxes, anchor_size, encode
from roam_jax.core.losses import ChooseAnchors, near_anchors
from roam_jax.core.model import Geometry, Theta, regress, respond
from roam_jax.core.samples import Samples
from roam_jax.core.scaling import multiply
from roam_jax.core.update import Step, gradient_step

TINY = 1e-12
"""keeps the iterations and their gradient finite after they have converged; its square is still a float32"""

Part = tuple[Array, Array]
"""filters and bias of a branch"""


class LinearPart(NamedTuple):
    """A part of theta in which a loss is quadratic: half the sum of weights x (predict(theta) - targets)^2."""

    take: Callable[[Theta], Part]
    put: Callable[[Theta, Part], Theta]
    predict: Callable[[Theta], Array]
    """maps, linear in the part"""
    targets: Array
    weights: Array
    largest_rate: float
    """rates above count as this: it bounds the condition of the linear system"""


LARGEST_BOX_RATE = 1.0
"""of the box regression: a hundred times what training found, so that no rate meets it"""


def response_part(
    samples: Samples, phi: Float[Array, "2"], scale: Theta | None, geometry: Geometry, largest_rate: float
) -> LinearPart:
    """Filter and bias of the response, with the paper's response loss.

    Args:
        samples: updating samples.
        phi: filter size (rows, columns), cells.
        scale: epsilon of the random filter scaling (Eq. 15): the filter in use is theta times this.
        geometry: of the model.
        largest_rate: rates above count as this.
    """
    weights = samples.weights[:, None, None]
    return LinearPart(
        take=lambda theta: (theta.cf.filters, theta.cf.bias),
        put=lambda theta, part: theta._replace(cf=theta.cf._replace(filters=part[0], bias=part[1])),
        predict=lambda theta: respond(samples.features, multiply(theta, scale).cf, phi, geometry.canvas),
        targets=samples.targets,
        weights=2 * weights / jnp.maximum(jnp.sum(weights * samples.labels**2), 1e-6),
        largest_rate=largest_rate,
    )


def box_part(
    samples: Samples,
    phi: Float[Array, "2"],
    scale: Theta | None,
    geometry: Geometry,
    choose: ChooseAnchors,
    box_weight: float,
) -> LinearPart:
    """Filters and biases of the box regression, with the box loss as if all errors were below 1.

    Args:
        samples: updating samples.
        phi: filter size (rows, columns), cells.
        scale: epsilon of the random filter scaling (Eq. 15): the filters in use are theta times this.
        geometry: of the model.
        choose: the anchors that count.
        box_weight: of the box term in the loss.
    """
    g = geometry
    anchors = anchor_boxes(samples.features.shape[-2], g.stride, anchor_size(phi, g.filter_scale, g.stride))
    near = near_anchors(anchors, samples, choose)
    return LinearPart(
        take=lambda theta: (theta.reg.filters, theta.reg.bias),
        put=lambda theta, part: theta._replace(reg=theta.reg._replace(filters=part[0], bias=part[1])),
        predict=lambda theta: regress(samples.features, multiply(theta, scale).reg, phi, g.canvas),
        targets=encode(samples.boxes_cxcywh[:, None, None], anchors[None]),
        weights=box_weight * near[..., None] / (4 * jnp.maximum(jnp.sum(near), 1.0)),
        largest_rate=LARGEST_BOX_RATE,
    )


def implicit_step(parts: Sequence[LinearPart], iterations: int) -> Step:
    """A step of the parts that is implicit, all from the same theta; Eq. 9 for the other coordinates."""

    def step(theta: Theta, rates: Theta, gradient: Theta) -> Theta:
        after = gradient_step(theta, rates, gradient)
        for part in parts:
            after = part.put(after, solve(part, theta, rates, iterations))
        return after

    return step


def implicit_step_before(
    parts: Sequence[LinearPart], iterations: int, loss: Callable[[Theta], Float[Array, ""]]
) -> Step:
    """An implicit step of the parts; then Eq. 9 for the other coordinates with the gradient after that.

    For the first frame: while the filters have not fitted, the gradients of the others can be huge.
    """

    def step(theta: Theta, rates: Theta, gradient: Theta) -> Theta:
        del gradient  # of the loss before
        fitted = theta
        for part in parts:
            fitted = part.put(fitted, solve(part, theta, rates, iterations))
            rates = hold(part, rates)
        return gradient_step(fitted, rates, jax.grad(loss)(fitted))

    return step


def hold(part: LinearPart, rates: Theta) -> Theta:
    """The rates, 0 for the part."""
    return part.put(rates, jax.tree.map(jnp.zeros_like, part.take(rates)))


def solve(part: LinearPart, theta: Theta, rates: Theta, iterations: int) -> Part:
    """The part of theta that minimises its loss and its own change, weighted by 1 / rates.

    Args:
        part: what may change, and the loss.
        theta: before the step.
        rates: lambda; only those of the part count, and above `part.largest_rate` as that.
        iterations: of the conjugate gradients.
    """
    before = part.take(theta)
    roots = jax.tree.map(lambda rate: jnp.sqrt(jnp.minimum(rate, part.largest_rate)), part.take(rates))
    predicted, forward = jax.linearize(lambda moved: part.predict(part.put(theta, moved)), before)
    backward = jax.linear_transpose(forward, before)

    def pull(maps: Array) -> Part:  # gradient with respect to u, where theta1 = theta0 + sqrt(lambda) u
        return jax.tree.map(jnp.multiply, roots, backward(part.weights * maps)[0])

    def operator(u: Part) -> Part:
        return jax.tree.map(jnp.add, u, pull(forward(jax.tree.map(jnp.multiply, roots, u))))

    u = conjugate_gradients(operator, pull(part.targets - predicted), iterations)
    return jax.tree.map(lambda b, r, x: b + r * x, before, roots, u)


def conjugate_gradients(operator: Callable[[Any], Any], target: Any, iterations: int) -> Any:
    """Approximate solution u of `operator(u) = target` for a symmetric positive definite linear operator, from zero.

    A number of iterations, differentiated as they are: `jax.scipy.sparse.linalg.cg` differentiates the exact solution,
    which so few of them do not reach, and meta-training then runs away.
    """
    flat, unravel = ravel_pytree(target)
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
