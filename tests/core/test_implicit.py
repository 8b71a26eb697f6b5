from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from roam_jax.config import Config, LossConfig
from roam_jax.core.implicit import implicit_box_step, implicit_response_step
from roam_jax.core.losses import anchors_of, box_loss, predict, response_loss
from roam_jax.core.scaling import divide, draw_scale
from roam_jax.core.update import first_update, init_meta, initial_rates, update

PHI = jnp.array([7.0, 5.0])
ENOUGH = 40
"""iterations until float32 gains nothing more"""


@pytest.fixture(scope="module")
def config():
    tiny = Config.tiny()
    return dataclasses.replace(
        tiny,
        loss=LossConfig(response_form="paper"),
        optimizer=dataclasses.replace(tiny.optimizer, implicit_iterations=ENOUGH, implicit_lambda0=3.0),
    )


@pytest.fixture(scope="module")
def samples(config, make_samples):
    return make_samples(config, 0, 3)


@pytest.fixture(scope="module")
def meta(config, channels):
    return init_meta(config, channels, key=jax.random.key(0))


def loss_of(cf, theta, samples, config):
    response, _, _ = predict(theta._replace(cf=cf), samples.features, PHI, config.model)
    return response_loss(response, samples.labels, samples.weights, config.loss)


def step_with(meta, rate, samples, config):
    cf = meta.theta0.cf
    rates = jax.tree.map(lambda leaf: jnp.full(leaf.shape, rate), cf)
    return jax.jit(lambda: implicit_response_step(cf, rates, samples, PHI, config.model, ENOUGH))()


@pytest.mark.parametrize("rate", [1e-3, 0.1, 3.0])
def test_is_a_gradient_step_with_the_gradient_at_its_end(config, meta, samples, rate):
    before = meta.theta0.cf
    after = step_with(meta, rate, samples, config)
    gradient = jax.jit(jax.grad(lambda cf: loss_of(cf, meta.theta0, samples, config)))(after)
    for name in ("filters", "bias"):
        moved = getattr(after, name) - getattr(before, name)
        error = moved + rate * getattr(gradient, name)
        assert np.max(np.abs(moved)) > 0
        np.testing.assert_allclose(error, 0, atol=2e-3 * float(np.max(np.abs(moved))))
    np.testing.assert_array_equal(after.reduce_w, before.reduce_w)
    assert loss_of(after, meta.theta0, samples, config) < loss_of(before, meta.theta0, samples, config)


def test_larger_rates_fit_better(config, meta, samples):
    losses = [loss_of(step_with(meta, rate, samples, config), meta.theta0, samples, config) for rate in (1, 10, 100)]
    assert losses[0] > losses[1] > losses[2]


def test_empty_places_do_not_count(config, meta, samples):
    padded = jax.tree.map(lambda x: jnp.concatenate([x, 5 + 0 * x[:2]]), samples)
    padded = padded._replace(weights=jnp.array([1.0, 1, 1, 0, 0]))
    a, b = step_with(meta, 1.0, samples, config), step_with(meta, 1.0, padded, config)
    np.testing.assert_allclose(a.filters, b.filters, atol=1e-5)


def test_clips_that_share_a_model_are_pooled(config, meta, samples):
    grouped = jax.tree.map(lambda x: jnp.stack([x, x]), samples)
    cf, rates = meta.theta0.cf, initial_rates(meta, config).cf
    one = jax.jit(lambda: implicit_response_step(cf, rates, samples, PHI, config.model, ENOUGH))()
    two = jax.jit(lambda: implicit_response_step(cf, rates, grouped, jnp.stack([PHI, PHI]), config.model, ENOUGH))()
    np.testing.assert_allclose(one.filters, two.filters, atol=1e-5)


def test_scaling_changes_nothing_when_rates_shrink_with_its_square(config, meta, samples):
    """As for the explicit step: a rate is a parameter over a gradient."""
    scale = draw_scale(meta.theta0, 0.5, 0.5, key=jax.random.key(3))
    theta, rates = divide(meta.theta0, scale), divide(divide(initial_rates(meta, config), scale), scale)
    scaled = jax.jit(lambda: implicit_response_step(theta.cf, rates.cf, samples, PHI, config.model, ENOUGH, scale.cf))()
    plain = jax.jit(
        lambda: implicit_response_step(
            meta.theta0.cf, initial_rates(meta, config).cf, samples, PHI, config.model, ENOUGH
        )
    )()
    np.testing.assert_allclose(scaled.filters * scale.cf.filters, plain.filters, rtol=1e-2, atol=1e-5)


def test_first_update_fits_the_response_and_hands_on_no_rates_for_it(config, meta, samples):
    state, _ = jax.jit(lambda m: first_update(m, m.theta0, samples, PHI, config))(meta)
    explicit = dataclasses.replace(config, optimizer=dataclasses.replace(config.optimizer, implicit_iterations=0))
    slow, _ = jax.jit(lambda m: first_update(m, m.theta0, samples, PHI, explicit))(
        init_meta(explicit, samples.features.shape[-1], key=jax.random.key(0))
    )
    assert loss_of(state.theta.cf, state.theta, samples, config) < loss_of(slow.theta.cf, slow.theta, samples, config)
    assert not np.any(state.rates.cf.filters)
    assert np.all(state.rates.reg.filters > 0)
    np.testing.assert_array_equal(state.theta.reg.filters, slow.theta.reg.filters)


def test_later_updates_step_implicitly_with_the_emitted_rates(config, samples, make_samples):
    optimizer = dataclasses.replace(
        config.optimizer, implicit_boxes=True, implicit_updates=True, coordinate_rates=1e-4, output_bias=0.0
    )
    config = dataclasses.replace(config, optimizer=optimizer)
    explicit = dataclasses.replace(config, optimizer=dataclasses.replace(optimizer, implicit_updates=False))
    start = init_meta(config, samples.features.shape[-1], key=jax.random.key(0))
    first, _ = jax.jit(lambda m: first_update(m, m.theta0, samples, PHI, config))(start)
    np.testing.assert_allclose(first.rates.cf.filters, 3.0, rtol=1e-5)
    later = make_samples(config, 3, 2)
    after, loss = jax.jit(lambda m: update(m.omega, first, later, PHI, config))(start)
    plain, same_loss = jax.jit(lambda m: update(m.omega, first, later, PHI, explicit))(start)
    assert not np.any(first.rates.reg.filters)
    for rates, begun in ((after.rates.cf, 3.0), (after.rates.reg, 1e-4)):
        assert np.all((rates.filters > 0) & (rates.filters < 2 * begun))
        assert np.all((rates.reduce_w > 0) & (rates.reduce_w < 2e-4))
    wanted = implicit_response_step(first.theta.cf, after.rates.cf, later, PHI, config.model, ENOUGH)
    for name in ("filters", "bias"):
        np.testing.assert_allclose(getattr(after.theta.cf, name), getattr(wanted, name), rtol=1e-3, atol=1e-5)
    np.testing.assert_array_equal(after.theta.cf.reduce_w, plain.theta.cf.reduce_w)
    jax.tree.map(np.testing.assert_array_equal, after.theta.reg, plain.theta.reg)
    assert loss == same_loss
    assert loss_of(after.theta.cf, after.theta, later, config) < loss_of(first.theta.cf, first.theta, later, config)


def test_meta_gradient_is_that_of_finite_differences(config, meta, samples, make_samples):
    test = make_samples(config, 1, 2)

    @jax.jit
    def judged(shift):
        rates = jax.tree.map(lambda leaf: jnp.exp(leaf + shift), meta.lambda0)
        cf = implicit_response_step(meta.theta0.cf, rates.cf, samples, PHI, config.model, ENOUGH)
        return loss_of(cf, meta.theta0, test, config)

    slope = jax.jit(jax.grad(judged))(0.0)
    numeric = (judged(0.05) - judged(-0.05)) / 0.1
    assert abs(float(slope)) > 1e-5
    np.testing.assert_allclose(slope, numeric, rtol=2e-2)


def boxes_loss(reg, theta, samples, config):
    _, deltas, _ = predict(theta._replace(reg=reg), samples.features, PHI, config.model)
    return config.loss.box_weight * box_loss(
        deltas, samples.boxes_cxcywh, *anchors_of(samples, PHI, config.model, config.loss)
    )


@pytest.mark.parametrize("rate", [1e-4, 1e-2])
def test_the_box_step_is_a_gradient_step_too(config, meta, samples, rate):
    config = dataclasses.replace(config, loss=dataclasses.replace(config.loss, box_weight=5.0))
    before = meta.theta0.reg
    rates = jax.tree.map(lambda leaf: jnp.full(leaf.shape, rate), before)
    step = lambda: implicit_box_step(before, rates, samples, PHI, config.model, config.loss, ENOUGH)  # noqa: E731
    after = jax.jit(step)()
    gradient = jax.jit(jax.grad(lambda reg: boxes_loss(reg, meta.theta0, samples, config)))(after)
    for name in ("filters", "bias"):
        moved = getattr(after, name) - getattr(before, name)
        assert np.max(np.abs(moved)) > 0
        np.testing.assert_allclose(moved, -rate * getattr(gradient, name), atol=2e-3 * float(np.max(np.abs(moved))))
    assert boxes_loss(after, meta.theta0, samples, config) < boxes_loss(before, meta.theta0, samples, config)


def test_first_update_with_implicit_boxes(config, samples, meta):
    both = dataclasses.replace(
        config,
        optimizer=dataclasses.replace(config.optimizer, implicit_boxes=True, implicit_box_lambda0=1e-2),
    )
    start = init_meta(both, samples.features.shape[-1], key=jax.random.key(0))
    np.testing.assert_allclose(initial_rates(start, both).reg.filters, 1e-2, rtol=1e-5)
    np.testing.assert_allclose(initial_rates(start, both).reg.reduce_w, config.optimizer.lambda0, rtol=1e-5)
    state, _ = jax.jit(lambda m: first_update(m, m.theta0, samples, PHI, both))(start)
    slow, _ = jax.jit(lambda m: first_update(m, m.theta0, samples, PHI, config))(meta)
    assert not np.any(state.rates.reg.filters)
    assert boxes_loss(state.theta.reg, state.theta, samples, both) < boxes_loss(
        slow.theta.reg, slow.theta, samples, both
    )
    np.testing.assert_array_equal(state.theta.cf.filters, slow.theta.cf.filters)


def test_gradient_after_convergence_is_finite(config, meta, samples):
    """With small rates the system is almost the identity: the iterations have nothing left to do after two or three."""

    @jax.jit
    def total(shift):
        rates = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 1e-7 * jnp.exp(shift)), meta.theta0.reg)
        after = implicit_box_step(meta.theta0.reg, rates, samples, PHI, config.model, config.loss, ENOUGH)
        return boxes_loss(after, meta.theta0, samples, config)

    assert np.isfinite(jax.grad(total)(0.0))
