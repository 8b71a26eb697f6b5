from __future__ import annotations

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from small import LOSS, PHI, assert_close, draw, draw_samples, draw_theta

from roam_jax.core.losses import update_loss
from roam_jax.core.optimizer import signed_log_inputs
from roam_jax.core.update import ModelState, first_update, gradient_step, update
from roam_jax.core.variants import given_rates, lstm, sgd

RATE = 1e-3
OPTIMIZER = lstm(signed_log_inputs(), hidden=4)


def loss_on(samples):
    return partial(update_loss, samples=samples, phi=PHI, loss=LOSS)


@pytest.fixture(scope="module")
def theta0():
    return draw_theta(0)


@pytest.fixture(scope="module")
def lambda0(theta0):
    return jax.tree.map(lambda x: jnp.full(x.shape, RATE), theta0)


@pytest.fixture(scope="module")
def samples():
    """Those of the first frame and of two later updates."""
    first = draw_samples(0, 3)
    return first, first, jax.tree.map(lambda x: x[::-1] * 0.9, first)


@pytest.fixture(scope="module")
def value_and_gradient():
    return jax.jit(lambda theta, samples: jax.value_and_grad(loss_on(samples))(theta))


@pytest.fixture(scope="module")
def step():
    """One recurrent update; rates are of the order of `RATE`."""
    shapes = jax.eval_shape(lambda key: OPTIMIZER.init(draw_theta(0), key=key), jax.random.key(0))
    omega = draw(shapes, 1)
    omega["head"]["b"] = jnp.full(1, -7.0)
    return jax.jit(lambda state, samples: update(OPTIMIZER, omega, state, loss_on(samples)))


@pytest.fixture(scope="module")
def begin(theta0, lambda0, samples):
    """The first-frame step, and beside it `update` with lambda0 for rates."""

    @jax.jit
    def run(theta0, lambda0):
        loss = loss_on(samples[0])
        given = update(given_rates(), ravel_pytree(lambda0)[0], ModelState(theta0, lambda0, ()), loss)
        return first_update(OPTIMIZER, theta0, lambda0, loss), given

    return run(theta0, lambda0)


@pytest.fixture(scope="module")
def states(begin, step, samples):
    """Model after the first-frame step and after two recurrent ones, with the loss before each."""
    (state, loss), _ = begin
    states, losses = [state], [loss]
    for seen in samples[1:]:
        state, loss = step(state, seen)
        states.append(state)
        losses.append(loss)
    return states, losses


def test_first_step_descends_with_lambda0(theta0, lambda0, samples, states, value_and_gradient):
    (state, *_), losses = states
    loss, gradient = value_and_gradient(theta0, samples[0])
    expected = jax.tree.map(lambda t, r, g: t - r * g, theta0, lambda0, gradient)
    assert_close(state.theta, expected, rtol=1e-5, atol=1e-7)
    assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(gradient)) > 0.1
    np.testing.assert_allclose(ravel_pytree(state.rates)[0], RATE, rtol=1e-4)
    assert float(losses[0]) == pytest.approx(float(loss), rel=1e-5)
    after = float(value_and_gradient(state.theta, samples[1])[0])
    assert after < float(losses[0])  # lambda0 is small: the step goes down
    assert float(losses[1]) == pytest.approx(after, rel=1e-5)


def test_the_first_step_is_an_update_with_given_rates(theta0, begin):
    (first, loss), (given, same_loss) = begin
    assert_close((first.theta, first.rates, loss), (given.theta, given.rates, same_loss), rtol=0, atol=0)
    assert given.carry == ()
    assert_close(first.carry, OPTIMIZER.start(theta0), rtol=0, atol=0)  # the optimizer begins after it


def test_recurrent_step_is_theta_minus_rates_times_gradient(states, samples, value_and_gradient):
    for before, after, seen in zip(states[0], states[0][1:], samples[1:], strict=False):
        _, gradient = value_and_gradient(before.theta, seen)
        expected = jax.tree.map(lambda t, r, g: t - r * g, before.theta, after.rates, gradient)
        assert_close(after.theta, expected, rtol=1e-5, atol=1e-8)
        rates = ravel_pytree(after.rates)[0]
        assert np.all((rates > 0) & (rates < 1))
        assert np.ptp(rates) > 0


def test_the_recurrent_state_evolves(states):
    for before, after in itertools.pairwise(states[0]):
        for old, new in zip(jax.tree.leaves(before.carry), jax.tree.leaves(after.carry), strict=True):
            assert old.shape == new.shape
            assert np.any(old != new)


def test_gradient_against_finite_differences(samples, value_and_gradient):
    theta = draw_theta(3)
    flat, unravel = ravel_pytree(theta)
    gradient = np.asarray(ravel_pytree(value_and_gradient(theta, samples[0])[1])[0])
    strongest = np.argsort(np.abs(gradient))[::-1]
    for index in [*strongest[:3], *strongest[20:23]]:
        step = 1e-2
        up, down = (
            float(value_and_gradient(unravel(flat.at[index].add(sign * step)), samples[0])[0]) for sign in (1, -1)
        )
        assert (up - down) / (2 * step) == pytest.approx(gradient[index], rel=0.03, abs=1e-4)


def test_a_small_sgd_step_decreases_the_loss(theta0, lambda0):
    samples, optimizer = draw_samples(2, 3), sgd(RATE)

    @jax.jit
    def run(theta):
        def body(state, _):
            return update(optimizer, {}, state, loss_on(samples))

        return jax.lax.scan(body, ModelState(theta, lambda0, ()), length=6)[1]

    losses = np.asarray(run(theta0))
    assert np.all(np.diff(losses) < 0)


def test_a_step_of_ones_own(theta0, lambda0):
    """It is given theta, rates and gradient, and the loss that is returned is the one before it."""

    def loss(theta):
        return jnp.sum(theta.cf.bias**2)

    def far(theta, rates, gradient):
        return jax.tree.map(lambda t: t + 5, gradient_step(theta, rates, gradient))

    theta0 = theta0._replace(cf=theta0.cf._replace(bias=jnp.full(1, 3.0)))
    for state, value in (
        first_update(sgd(1.0), theta0, lambda0, loss, far),
        update(sgd(RATE), {}, ModelState(theta0, lambda0, ()), loss, far),
    ):
        assert float(value) == 9.0
        assert float(state.theta.cf.bias[0]) == pytest.approx(3 - RATE * 6 + 5)
