from __future__ import annotations

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from roam_jax.config import Config, LossConfig
from roam_jax.core.losses import tracking_loss
from roam_jax.core.scaling import divide, draw_scale, multiply, scale_of_uniform
from roam_jax.core.update import first_update, init_meta, initial_rates, is_finite, loss_and_gradient, update

PHI = jnp.array([7.0, 5.0])
init = jax.jit(init_meta, static_argnums=(0, 1))


@pytest.fixture(scope="module")
def config():
    """With the smooth form of the response loss: the official one jumps where cells enter or leave it."""
    return dataclasses.replace(Config.tiny(), loss=LossConfig(response_form="paper"))


@pytest.fixture(scope="module")
def meta(config, channels):
    return init(config, channels, key=jax.random.key(0))


@pytest.fixture(scope="module")
def samples(config, make_samples):
    return make_samples(config, 0, 3)


@pytest.fixture(scope="module")
def steps(config, meta, samples):
    """Model after the first-frame step and after two recurrent ones, with the loss before each."""
    other = jax.tree.map(lambda x: x[::-1] * 0.9, samples)

    @jax.jit
    def run(meta):
        state, first = first_update(meta, meta.theta0, samples, PHI, config)
        states, losses = [state], [first]
        for seen in (samples, other):
            state, loss = update(meta.omega, state, seen, PHI, config)
            states.append(state)
            losses.append(loss)
        used = zip(states[:2], (samples, other), strict=True)
        gradients = [loss_and_gradient(state.theta, seen, PHI, config, None)[1] for state, seen in used]
        return states, losses, gradients, tracking_loss(states[0].theta, samples, PHI, config.model, config.loss)

    return run(meta)


def test_first_step_descends_with_lambda0(config, meta, samples, steps):
    states, losses, _, after = steps
    loss, gradient = jax.jit(lambda t: loss_and_gradient(t, samples, PHI, config, None))(meta.theta0)
    rates = jax.tree.map(jnp.exp, meta.lambda0)
    expected = jax.tree.map(lambda t, r, g: t - r * g, meta.theta0, rates, gradient)
    for ours, theirs in zip(jax.tree.leaves(states[0].theta), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(ravel_pytree(states[0].rates)[0], config.optimizer.lambda0, rtol=1e-4)
    assert float(losses[0]) == pytest.approx(float(loss), rel=1e-5)
    assert float(after) < float(losses[0])  # lambda0 is small: the step goes down
    assert float(losses[1]) == pytest.approx(float(after), rel=1e-5)


def test_recurrent_step_is_theta_minus_rates_times_gradient(steps):
    states, _, gradients, _ = steps
    for before, after, gradient in zip(states, states[1:], gradients, strict=False):
        expected = jax.tree.map(lambda t, r, g: t - r * g, before.theta, after.rates, gradient)
        for ours, theirs in zip(jax.tree.leaves(after.theta), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-8)
        rates = ravel_pytree(after.rates)[0]
        assert np.all((rates > 0) & (rates < 1))
        assert np.ptp(rates) > 0


def test_the_recurrent_state_evolves(steps):
    states = steps[0]
    for before, after in itertools.pairwise(states):
        for old, new in zip(jax.tree.leaves(before.carry), jax.tree.leaves(after.carry), strict=True):
            assert old.shape == new.shape
            assert np.any(old != new)


def test_gradient_against_finite_differences(config, channels, make_samples):
    samples = make_samples(config, 5, 2)
    theta = init(config, channels, key=jax.random.key(3)).theta0
    flat, unravel = ravel_pytree(theta)
    _, gradient = jax.jit(lambda t: loss_and_gradient(t, samples, PHI, config, None))(theta)
    gradient = np.asarray(ravel_pytree(gradient)[0])
    loss = jax.jit(lambda x: tracking_loss(unravel(x), samples, PHI, config.model, config.loss))
    strongest = np.argsort(np.abs(gradient))[::-1]
    for index in [*strongest[:3], *strongest[20:23]]:
        step = 1e-2
        up, down = (float(loss(flat.at[index].add(sign * step))) for sign in (1, -1))
        assert (up - down) / (2 * step) == pytest.approx(gradient[index], rel=0.03, abs=1e-4)


def test_a_small_sgd_step_decreases_the_loss(config, channels, make_samples):
    config = dataclasses.replace(config, optimizer=dataclasses.replace(config.optimizer, kind="sgd", sgd_rate=1e-3))
    meta, samples = init(config, channels, key=jax.random.key(1)), make_samples(config, 2, 3)

    @jax.jit
    def run(meta):
        state, _ = first_update(meta, meta.theta0, samples, PHI, config)

        def body(state, _):
            return update(meta.omega, state, samples, PHI, config)

        return jax.lax.scan(body, state, length=5)[1]

    losses = np.asarray(run(meta))
    assert np.all(np.diff(losses) < 0)


def test_lambda0_is_stored_as_such_or_as_its_logarithm(config, channels):
    for log in (False, True):
        other = dataclasses.replace(config, optimizer=dataclasses.replace(config.optimizer, log_lambda0=log))
        meta = init(other, channels, key=jax.random.key(0))
        stored = float(meta.lambda0.cf.bias[0])
        assert stored == pytest.approx(np.log(1e-3) if log else 1e-3, rel=1e-5)
        assert float(initial_rates(meta, other).cf.bias[0]) == pytest.approx(1e-3, rel=1e-4)


def test_is_finite(meta):
    assert bool(is_finite(meta))
    for bad in (jnp.nan, jnp.inf):
        broken = meta._replace(theta0=meta.theta0._replace(reg=meta.theta0.reg._replace(bias=jnp.full(4, bad))))
        assert not bool(is_finite(broken))


def test_random_filter_scaling(meta):
    theta = meta.theta0
    scale = jax.jit(lambda key: draw_scale(theta, 1.6, 1.3, key=key))(jax.random.key(7))
    cf, reg = (np.log(np.asarray(ravel_pytree(branch)[0])) for branch in scale)
    assert np.abs(cf).max() <= 1.6 + 1e-6
    assert np.abs(reg).max() <= 1.3 + 1e-6
    assert np.abs(cf).max() > 1.4 > 1.3 > np.abs(reg).max() > 1.1  # uniform in +-kappa
    for ours, theirs in zip(
        jax.tree.leaves(divide(multiply(theta, scale), scale)), jax.tree.leaves(theta), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    assert multiply(theta, None) is theta
    half = scale_of_uniform(jax.tree.map(lambda x: jnp.full(x.shape, 0.5), theta), 1.6, 1.3)
    np.testing.assert_allclose(ravel_pytree(half)[0], 1.0)
