"""From the configuration to the method: the one place that reads the switches between the paper's choices and ours."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from roam_jax.config import Config, ImplicitConfig, LossConfig, OptimizerConfig
from roam_jax.core import variants
from roam_jax.core.losses import (
    ChooseAnchors,
    Loss,
    Term,
    anchors_above_half,
    best_anchors,
    box_smooth_l1,
    cells_above,
    masked_response_l2,
    response_l2,
)
from roam_jax.core.meta import MakeStep, MetaParams, Method, as_they_are, box_of_best, plain_step
from roam_jax.core.model import Branch, Geometry, Theta, init_theta, predict
from roam_jax.core.optimizer import CoordinateOptimizer, Inputs, raw_inputs, signed_log_inputs
from roam_jax.core.samples import Samples
from roam_jax.core.update import Step
from roam_jax.extensions.coordinate_rates import with_coordinate_rates
from roam_jax.extensions.giou import giou_term
from roam_jax.extensions.implicit import (
    LinearPart,
    box_part,
    implicit_step,
    implicit_step_before,
    response_part,
)
from roam_jax.extensions.log_inputs import log_inputs
from roam_jax.extensions.peak import peak_term
from roam_jax.extensions.voting import vote

OPTIMIZERS: dict[str, Callable[[OptimizerConfig], CoordinateOptimizer]] = {
    "lstm": lambda o: variants.lstm(make_inputs(o), hidden=o.hidden, output_bias=o.output_bias),
    "gru": lambda o: variants.gru(make_inputs(o), hidden=o.hidden, output_bias=o.output_bias),
    "fc": lambda o: variants.fc(make_inputs(o), hidden=o.hidden, output_bias=o.output_bias),
    "constant": lambda o: variants.constant(o.output_bias),
    "sgd": lambda o: variants.sgd(o.sgd_rate),
}
"""optimizers by the name that `optimizer.kind` gives"""
OWN_OPTIMIZERS = frozenset(OPTIMIZERS)
"""names of the package"""


def register_optimizer(name: str, make: Callable[[OptimizerConfig], CoordinateOptimizer]) -> None:
    """Give an optimizer of your own a name for `optimizer.kind`; checkpoints keep the name.

    Raises:
        ValueError: the name is taken.
    """
    if OPTIMIZERS.setdefault(name, make) is not make:
        raise ValueError(f"an optimizer is called {name!r} already")


def make_method(config: Config) -> Method:
    """The method that a configuration asks for."""
    o, loss, geometry = config.optimizer, config.loss, make_geometry(config)
    update_terms = {"response": make_response_term(loss), "box": partial(box_smooth_l1, choose=choose_anchors(loss))}
    weights = {"response": 1.0, "box": loss.box_weight}
    ours = {"peak": peak_term, "giou": partial(giou_term, choose=choose_anchors(loss))}
    see = partial(predict, geometry=geometry)
    method = Method(
        geometry=geometry,
        loss=Loss(see, update_terms, weights),
        meta=Loss(see, update_terms | ours, weights | {"peak": loss.peak_weight, "giou": loss.giou_weight}),
        optimizer=make_optimizer(config),
        first_rates=exponential if o.log_lambda0 else as_they_are,
        choose_box=partial(vote, sharpness=config.online.vote) if config.online.vote else box_of_best,
    )
    if not config.implicit.iterations:
        return method
    return method._replace(
        first_step=make_first_step(method, config),
        update_step=make_implicit_update(method, config.implicit) if config.implicit.updates else plain_step,
        fed_back=partial(rates_for_updates, config=config.implicit),
    )


def make_geometry(config: Config) -> Geometry:
    """Sizes of map, filters and label."""
    m = config.model
    return Geometry(m.map_size, m.stride, m.filter_scale, m.max_filter, m.target_side_patch, config.loss.alpha)


def init_meta(config: Config, channels: int, *, key: Array) -> MetaParams:
    """Meta-parameters before training, for feature maps with that many channels."""
    m, o = config.model, config.optimizer
    key_theta, key_omega = jax.random.split(key)
    theta0 = init_theta(
        channels,
        base_filter=m.base_filter,
        reduced_channels=m.reduced_channels,
        init_scale=m.init_scale,
        key=key_theta,
    )
    i = config.implicit
    cf = i.lambda0 if i.iterations else None
    reg = i.box_lambda0 if i.iterations and i.boxes else None
    lambda0 = fill_rates(theta0, o.lambda0, cf_filters=cf, reg_filters=reg)
    omega = make_optimizer(config).init(theta0, key=key_omega)
    return MetaParams(theta0, jax.tree.map(jnp.log, lambda0) if o.log_lambda0 else lambda0, omega)


def make_optimizer(config: Config) -> CoordinateOptimizer:
    """The optimizer that `optimizer.kind` names.

    Raises:
        ValueError: none has that name.
    """
    o = config.optimizer
    if o.kind not in OPTIMIZERS:
        raise ValueError(
            f"no optimizer is called {o.kind!r}; there are {', '.join(OPTIMIZERS)}, and those that a program gives to "
            "roam_jax.register_optimizer before"
        )
    made = OPTIMIZERS[o.kind](o)
    if not o.coordinate_rates:
        return made
    cf = config.implicit.lambda0 if config.implicit.updates else None
    return with_coordinate_rates(made, partial(fill_rates, explicit=o.coordinate_rates, cf_filters=cf))


def make_inputs(config: OptimizerConfig) -> Inputs:
    """How the network is shown the input stack."""
    return {"paper": raw_inputs, "official": signed_log_inputs, "log": log_inputs}[config.inputs]()


def make_response_term(loss: LossConfig) -> Term:
    """First term of L, in the form that is asked for."""
    if loss.response_form == "paper":
        return response_l2
    return partial(masked_response_l2, choose=partial(cells_above, ignore_below=loss.ignore_below))


def choose_anchors(loss: LossConfig) -> ChooseAnchors:
    """The anchors of the second term of L."""

    def best_of_each(ious: Float[Array, "n m m"]) -> Float[Array, "n m m"]:
        return best_anchors(ious, loss.top_anchors * len(ious))

    return anchors_above_half if loss.box_form == "paper" else best_of_each


def make_first_step(method: Method, config: Config) -> MakeStep:
    """The implicit first-frame step: of the response, and of the boxes if they are to step so too."""
    i, choose, geometry = config.implicit, choose_anchors(config.loss), method.geometry

    def make(samples: Samples, phi: Float[Array, "2"], scale: Theta | None) -> Step:
        parts: list[LinearPart] = [response_part(samples, phi, scale, geometry, i.largest_rate)]
        if i.boxes:
            parts.append(box_part(samples, phi, scale, geometry, choose, config.loss.box_weight))
        return implicit_step_before(parts, i.iterations, method.loss_on(samples, phi, scale))

    return make


def make_implicit_update(method: Method, config: ImplicitConfig) -> MakeStep:
    """The step of later updates, in which the response filter alone is implicit.

    The box regression is not: what it learned from the first frame is better than what it would from boxes that the
    tracker itself found.
    """

    def make(samples: Samples, phi: Float[Array, "2"], scale: Theta | None) -> Step:
        part = response_part(samples, phi, scale, method.geometry, config.largest_rate)
        return implicit_step([part], config.iterations)

    return make


def rates_for_updates(rates: Theta, config: ImplicitConfig) -> Theta:
    """lambda0 as the optimizer is shown it: 0 where it is that of an implicit step and later updates are explicit."""
    if not config.updates:
        rates = fill_filters(rates, cf=0.0)
    return fill_filters(rates, reg=0.0) if config.boxes else rates


def fill_rates(
    theta: Theta, explicit: float, *, cf_filters: float | None = None, reg_filters: float | None = None
) -> Theta:
    """Rates of one value, and of another for the filter and bias of a branch that steps implicitly."""
    rates = jax.tree.map(lambda leaf: jnp.full(leaf.shape, explicit), theta)
    return fill_filters(rates, cf=cf_filters, reg=reg_filters)


def fill_filters(rates: Theta, *, cf: float | None = None, reg: float | None = None) -> Theta:
    """The rates, with one value for the filter and bias of a branch where one is given."""

    def fill(branch: Branch, value: float | None) -> Branch:
        if value is None:
            return branch
        return branch._replace(
            filters=jnp.full_like(branch.filters, value), bias=jnp.full_like(branch.bias, value)
        )  # fmt: skip

    return Theta(fill(rates.cf, cf), fill(rates.reg, reg))


def exponential(logs: Theta) -> Theta:
    """Rates from their logarithms."""
    return jax.tree.map(jnp.exp, logs)
