from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from roam_jax.config import Config, LossConfig
from roam_jax.core.losses import tracking_losses
from roam_jax.core.meta import Episode, unroll
from roam_jax.core.scaling import divide, draw_scale, multiply
from roam_jax.core.update import first_update, init_meta, update

UPDATES = 3
init = jax.jit(init_meta, static_argnums=(0, 1))
PHIS = jnp.array([[7.0, 5.0], [5.0, 9.0], [7.0, 7.0]])


@pytest.fixture(scope="module")
def config():
    """With the smooth form of the response loss: the official one jumps where cells enter or leave it."""
    return dataclasses.replace(Config.tiny(), loss=LossConfig(response_form="paper"))


@pytest.fixture(scope="module")
def meta(config, channels):
    meta = init(config, channels, key=jax.random.key(0))
    # Rates large enough that the recurrent updates matter.
    head = {**meta.omega["head"], "b": jnp.full(1, -4.0)}
    return meta._replace(omega={**meta.omega, "head": head})


@pytest.fixture(scope="module")
def scale(meta):
    return draw_scale(meta.theta0, 0.5, 0.4, key=jax.random.key(1))


@pytest.fixture(scope="module")
def episode(config, make_samples):
    return Episode(
        first=make_samples(config, 0, 3),
        updates=make_samples(config, 1, UPDATES - 1, 2),
        tests=make_samples(config, 2, UPDATES, 1),
        phis=PHIS,
    )


def short(episode):
    """The same clip with one update only."""
    return Episode(
        episode.first,
        jax.tree.map(lambda x: x[:0], episode.updates),
        jax.tree.map(lambda x: x[:1], episode.tests),
        episode.phis[:1],
    )


def with_train(config, **changes):
    return dataclasses.replace(config, train=dataclasses.replace(config.train, **changes))


def close(ours, theirs, rtol=1e-4, atol=1e-6):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)


run = jax.jit(unroll, static_argnums=2)


@pytest.fixture(scope="module")
def plain(meta, episode, config):
    return run(meta, episode, config)


def test_unroll_is_algorithm_1_step_by_step(meta, episode, config, plain):
    @jax.jit
    def by_hand(meta):
        at = lambda tree, index: jax.tree.map(lambda x: x[index], tree)  # noqa: E731
        state, loss = first_update(meta, meta.theta0, episode.first, PHIS[0], config)
        losses, tests = [loss], [tracking_losses(state.theta, at(episode.tests, 0), PHIS[0], config.model, config.loss)]
        for t in range(1, UPDATES):
            state, loss = update(meta.omega, state, at(episode.updates, t - 1), PHIS[t], config)
            losses.append(loss)
            tests.append(tracking_losses(state.theta, at(episode.tests, t), PHIS[t], config.model, config.loss))
        return losses, tests

    losses, tests = by_hand(meta)
    np.testing.assert_allclose(plain.update, losses, rtol=1e-4)
    np.testing.assert_allclose(plain.response, [test.response for test in tests], rtol=1e-4)
    np.testing.assert_allclose(plain.box, [test.box for test in tests], rtol=1e-4)
    expected = np.mean([float(test.response + test.box) for test in tests])  # (Eq. 14)
    assert float(plain.total) == pytest.approx(expected, rel=1e-4)
    assert plain.rates.shape == (UPDATES,)
    assert float(plain.rates[0]) == pytest.approx(config.optimizer.lambda0, rel=1e-3)


@pytest.mark.parametrize("scale_first", [True, False])
def test_a_scale_of_one_changes_nothing(meta, episode, config, plain, scale_first):
    ones = jax.tree.map(jnp.ones_like, meta.theta0)
    close(run(meta, episode, with_train(config, scale_first=scale_first), ones), plain, rtol=1e-5)


def test_scaling_the_first_step_or_only_the_later_ones(meta, episode, config, scale, plain):
    both = run(meta, episode, with_train(config, scale_first=True), scale)
    later = run(meta, episode, with_train(config, scale_first=False), scale)
    # The stored model is divided and the used one multiplied: the first update loss does not see the scale.
    assert float(both.update[0]) == pytest.approx(float(plain.update[0]), rel=1e-4)
    assert float(later.update[0]) == pytest.approx(float(plain.update[0]), rel=1e-4)
    # Unscaled, the first step is that without scaling, and so are its test and the loss after it.
    close((later.response[0], later.box[0]), (plain.response[0], plain.box[0]))
    assert float(later.update[1]) == pytest.approx(float(plain.update[1]), rel=1e-4)
    assert float(both.response[0]) != pytest.approx(float(plain.response[0]), rel=1e-5)
    assert float(later.response[-1]) != pytest.approx(float(plain.response[-1]), rel=1e-5)

    @jax.jit
    def first(meta):
        state, _ = first_update(meta, divide(meta.theta0, scale), episode.first, PHIS[0], config, scale)
        test = jax.tree.map(lambda x: x[0], episode.tests)
        return tracking_losses(multiply(state.theta, scale), test, PHIS[0], config.model, config.loss)

    close((both.response[0], both.box[0], both.peak[0], both.giou[0]), tuple(first(meta)))


@pytest.fixture(scope="module")
def gradients(meta, episode, config):
    """Meta-gradients: truncated, full, and of the clip with one update."""

    def of(episode, config):
        return jax.jit(jax.grad(lambda m: unroll(m, episode, config).total))(meta)

    return of(episode, config), of(episode, with_train(config, full_gradient=True)), of(short(episode), config)


def test_truncated_theta0_and_lambda0_learn_from_the_first_test_only(gradients):
    truncated, _, one = gradients
    first = jax.tree.map(lambda x: x / UPDATES, one)  # the mean is over UPDATES tests
    close(truncated.theta0, first.theta0, atol=1e-7)
    close(truncated.lambda0, first.lambda0, atol=1e-9)
    assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(truncated.theta0)) > 1e-3
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(one.omega))
    assert all(np.any(leaf) for leaf in jax.tree.leaves(truncated.omega))


def test_the_full_gradient_sees_all_tests(gradients):
    truncated, full, _ = gradients
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(full))
    for part in ("theta0", "lambda0", "omega"):
        ours = np.concatenate([np.ravel(x) for x in jax.tree.leaves(getattr(full, part))])
        theirs = np.concatenate([np.ravel(x) for x in jax.tree.leaves(getattr(truncated, part))])
        assert np.abs(ours - theirs).max() > 1e-3 * np.abs(theirs).max()


def test_full_gradient_against_finite_differences(meta, episode, config, gradients):
    """Along the bias of the rates, through which every later test depends on every update."""
    config = with_train(config, full_gradient=True)

    @jax.jit
    def total(bias):
        omega = {**meta.omega, "head": {**meta.omega["head"], "b": jnp.full(1, bias)}}
        return unroll(meta._replace(omega=omega), episode, config).total

    step = 0.05
    slope = (float(total(-4.0 + step)) - float(total(-4.0 - step))) / (2 * step)
    assert slope == pytest.approx(float(gradients[1].omega["head"]["b"][0]), rel=0.05)
