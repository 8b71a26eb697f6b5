from __future__ import annotations

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from small import CHANNELS, CONFIG, GEOMETRY, PHI, assert_close, draw, draw_meta, draw_samples

import roam_jax
from roam_jax import presets
from roam_jax.config import OptimizerConfig
from roam_jax.core.losses import meta_loss
from roam_jax.core.model import Predictions
from roam_jax.core.optimizer import CoordinateOptimizer, stack_inputs
from roam_jax.core.samples import Samples
from roam_jax.core.update import gradient_step
from roam_jax.method import OPTIMIZERS, init_meta, make_geometry, make_method, make_optimizer

COUNT = 6
RECURRENT = ("lstm", "gru")
THETA = jnp.zeros(COUNT)


def with_optimizer(**changes):
    return dataclasses.replace(CONFIG, optimizer=dataclasses.replace(CONFIG.optimizer, **changes))


def with_loss(**changes):
    return dataclasses.replace(CONFIG, loss=dataclasses.replace(CONFIG.loss, **changes))


@pytest.fixture(scope="module")
def stack():
    rng = np.random.default_rng(0)
    rates, gradient, theta = (jnp.asarray(rng.normal(size=COUNT), jnp.float32) for _ in range(3))
    return stack_inputs(jnp.abs(rates), gradient, theta, jnp.float32(0.7))


@pytest.mark.parametrize("inputs", ["paper", "official", "log"])
@pytest.mark.parametrize("kind", list(OPTIMIZERS))
def test_every_variant(kind, inputs, stack):
    config = with_optimizer(kind=kind, inputs=inputs, hidden=4, output_bias=-1.0)
    optimizer = make_optimizer(config)
    omega = draw(jax.eval_shape(lambda key: optimizer.init(THETA, key=key), jax.random.key(0)), 0)
    if kind == "constant":
        omega = optimizer.init(THETA, key=jax.random.key(0))
    elif kind != "sgd":
        first = omega["layer0"] if kind == "fc" else omega["layer0"]["x"]
        assert len(first["w"]) == {"paper": 4, "official": 5, "log": 6}[inputs]
    start = optimizer.start(THETA)
    apply = jax.jit(optimizer.apply)
    rates, carry = apply(omega, stack, start)
    again, _ = apply(omega, stack, carry)
    assert rates.shape == (COUNT,)
    assert np.all((rates > 0) & (rates < 1))
    assert jax.tree.map(jnp.shape, carry) == jax.tree.map(jnp.shape, start)
    if kind in RECURRENT:  # the state changes, and with it the answer to the same input
        assert all(np.any(leaf != 0) for leaf in jax.tree.leaves(carry))
        assert not np.allclose(again, rates, rtol=1e-4)
    else:
        np.testing.assert_array_equal(again, rates)
    if kind in ("constant", "sgd"):
        np.testing.assert_array_equal(apply(omega, -stack, start)[0], rates)
        expected = config.optimizer.sgd_rate if kind == "sgd" else 1 / (1 + np.exp(1.0))
        np.testing.assert_allclose(rates, expected, rtol=1e-6)
    else:  # every coordinate by itself
        turned, _ = apply(omega, stack[:, ::-1], start)
        np.testing.assert_allclose(turned[::-1], rates, rtol=1e-6)
        assert np.ptp(rates) > 0


def test_unknown_kind():
    message = "no optimizer is called 'adam'; there are lstm, gru, .*register_optimizer"
    with pytest.raises(ValueError, match=message):
        make_optimizer(with_optimizer(kind="adam"))


@pytest.fixture
def register():
    """`register_optimizer`, whose names are gone after the test."""
    before = set(OPTIMIZERS)
    yield roam_jax.register_optimizer
    for name in set(OPTIMIZERS) - before:
        del OPTIMIZERS[name]


def test_a_registered_optimizer_is_one_of_the_method(register):
    """Rates are a learned factor times those of the update before, which its state counts."""

    def make(config: OptimizerConfig) -> CoordinateOptimizer:
        def apply(omega, inputs, carry):
            return omega["factor"] * inputs[0] * config.sgd_rate, carry + 1

        return CoordinateOptimizer(
            init=lambda theta, *, key: {"factor": jnp.full(ravel_pytree(theta)[0].shape, 4.0)},
            start=lambda theta: jnp.zeros((1, ravel_pytree(theta)[0].size)),
            apply=apply,
        )

    config = with_optimizer(kind="mine", sgd_rate=0.25, lambda0=1e-2)
    with pytest.raises(ValueError, match="no optimizer is called 'mine'"):
        make_method(config)
    register("mine", make)
    method, meta, samples = make_method(config.check()), draw_meta(config, 0), draw_samples(0, 2)
    meta = meta._replace(omega=jax.jit(lambda key: init_meta(config, CHANNELS, key=key).omega)(jax.random.key(0)))
    np.testing.assert_array_equal(meta.omega["factor"], 4.0)

    @jax.jit
    def run(meta):
        first, _ = method.start(meta, meta.theta0, samples, PHI)
        gradient = jax.grad(method.loss_on(samples, PHI, None))(first.theta)
        return first, gradient, method.update(meta.omega, first, samples, PHI)[0]

    first, gradient, after = run(meta)
    assert_close(after.rates, jax.tree.map(lambda rate: 4 * 0.25 * rate, first.rates), rtol=1e-6, atol=0)
    np.testing.assert_allclose(ravel_pytree(after.rates)[0], 1e-2, rtol=1e-4)
    assert_close(after.theta, gradient_step(first.theta, after.rates, gradient), rtol=1e-5)
    np.testing.assert_array_equal(after.carry, 1.0)


def test_a_name_is_given_once(register):
    make = OPTIMIZERS["sgd"]
    register("mine", make)
    register("mine", make)
    for name in ("mine", "lstm"):
        with pytest.raises(ValueError, match=f"an optimizer is called '{name}' already"):
            register(name, lambda config: make(config))


def test_the_geometry_follows_from_the_configuration():
    assert make_geometry(CONFIG) == GEOMETRY
    assert make_geometry(presets.official()).target_side == pytest.approx(56, abs=0.5)


@pytest.mark.parametrize("log", [False, True])
def test_lambda0_is_stored_as_such_or_as_its_logarithm(log):
    config = with_optimizer(log_lambda0=log)
    lambda0 = draw_meta(config, 0).lambda0
    assert float(lambda0.cf.bias[0]) == pytest.approx(np.log(1e-3) if log else 1e-3, rel=1e-5)
    assert float(make_method(config).first_rates(lambda0).cf.bias[0]) == pytest.approx(1e-3, rel=1e-4)


def test_every_term_has_its_weight():
    method = make_method(with_loss(box_weight=2.0, peak_weight=3.0, giou_weight=5.0))
    assert method.loss.weights == {"response": 1.0, "box": 2.0}
    assert method.meta.weights == {"response": 1.0, "box": 2.0, "peak": 3.0, "giou": 5.0}
    assert set(method.loss.terms) == set(method.loss.weights)

    run = jax.jit(partial(meta_loss, phi=PHI, loss=method.meta))
    total, terms = run(draw_meta(CONFIG, 0).theta0, draw_samples(0, 2))
    assert set(terms) == set(method.meta.weights)
    assert float(total) == pytest.approx(
        sum(method.meta.weights[name] * float(terms[name]) for name in terms), rel=1e-5
    )


@pytest.mark.parametrize(("form", "counts", "loss"), [("paper", [6, 1], 0.16), ("official", [6, 0], 0.0)])
def test_the_forms_of_the_loss(form, counts, loss):
    """The official one ignores small errors, and takes a number of anchors per frame from all frames together."""
    terms = make_method(with_loss(response_form=form, box_form=form, top_anchors=3, ignore_below=0.5)).loss.terms
    best = jnp.array([[0.95, 0.9, 0.85, 0.8], [0.7, 0.6, 0.2, 0.1]])
    ious = jnp.zeros((2, 4, 4)).at[0, :2].set(best).at[1, 0, 0].set(0.4)
    chosen = terms["box"].keywords["choose"](ious)
    np.testing.assert_array_equal(jnp.sum(chosen, axis=(1, 2)), counts)
    ones = jnp.ones((2, 4, 4))
    predictions = Predictions(0.6 * ones, jnp.zeros((2, 4, 4, 4)), jnp.ones((4, 4, 4)))
    samples = Samples(ones[..., None], ones, jnp.ones((2, 4)), jnp.ones(2), jnp.ones(2))
    assert float(terms["response"](predictions, samples)) == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize(("sharpness", "left"), [(0.0, 0.0), (5.0, 1.0)])
def test_the_box_is_that_of_the_best_cell_or_a_vote(sharpness, left):
    config = dataclasses.replace(CONFIG, online=dataclasses.replace(CONFIG.online, vote=sharpness))
    boxes = jnp.array([[0.0, 0.0, 10.0, 10.0], [2.0, 0.0, 10.0, 10.0]])
    actual = make_method(config).choose_box(boxes, jnp.ones(2), jnp.array(0))
    np.testing.assert_allclose(actual, [left, 0, 10, 10], rtol=1e-6)
