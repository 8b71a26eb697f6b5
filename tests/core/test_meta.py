from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from small import GEOMETRY, LOSS, assert_close, draw, draw_samples, draw_theta

from roam_jax.core.losses import Loss, meta_loss
from roam_jax.core.meta import QUANTILES, Episode, MetaParams, Method, unroll
from roam_jax.core.optimizer import signed_log_inputs
from roam_jax.core.scaling import divide, multiply
from roam_jax.core.variants import lstm

UPDATES = 3
RATE = 1e-3
BIAS = -6.0
"""of the optimizer: rates large enough that the recurrent updates matter"""
PHIS = jnp.array([[3.0, 1.0], [1.0, 3.0], [3.0, 3.0]])
WEIGHTS = {"response": 1.0, "box": 2.0}
METHOD = Method(
    GEOMETRY, loss=LOSS, meta=Loss(LOSS.predict, LOSS.terms, WEIGHTS), optimizer=lstm(signed_log_inputs(), hidden=4)
)


@pytest.fixture(scope="module")
def meta():
    theta0 = draw_theta(0)
    shapes = jax.eval_shape(lambda key: METHOD.optimizer.init(theta0, key=key), jax.random.key(0))
    omega = draw(shapes, 1)
    omega["head"]["b"] = jnp.full(1, BIAS)
    return MetaParams(theta0, jax.tree.map(lambda x: jnp.full(x.shape, RATE), theta0), omega)


@pytest.fixture(scope="module")
def scale(meta):
    return jax.tree.map(jnp.exp, draw(meta.theta0, 2))


@pytest.fixture(scope="module")
def episode():
    return Episode(draw_samples(0, 3), draw_samples(1, UPDATES - 1, 2), draw_samples(2, UPDATES, 1), PHIS)


def short(episode):
    """The same clip with one update only."""
    return Episode(
        episode.first,
        jax.tree.map(lambda x: x[:0], episode.updates),
        jax.tree.map(lambda x: x[:1], episode.tests),
        episode.phis[:1],
    )


def at(tree, index):
    return jax.tree.map(lambda x: x[index], tree)


@pytest.fixture(scope="module")
def scaled(episode):
    """The unroll with a random filter scaling, of the first step too or of the later ones only."""

    @partial(jax.jit, static_argnames="scale_first")
    def run(meta, scale, scale_first):
        return unroll(meta, episode, METHOD, scale, scale_first=scale_first)

    return run


def with_gradient(episode, truncate=True):
    """The unroll and its meta-gradient."""

    def run(meta):
        result = unroll(meta, episode, METHOD, truncate=truncate)
        return result.total, result

    both = jax.jit(jax.value_and_grad(run, has_aux=True))

    def split(meta):
        (_, result), gradient = both(meta)
        return result, gradient

    return split


@pytest.fixture(scope="module")
def truncated(meta, episode):
    return with_gradient(episode)(meta)


@pytest.fixture(scope="module")
def plain(truncated):
    return truncated[0]


@pytest.fixture(scope="module")
def run_full(episode):
    return with_gradient(episode, truncate=False)


@pytest.fixture(scope="module")
def full(meta, run_full):
    return run_full(meta)


@pytest.fixture(scope="module")
def judge():
    return jax.jit(partial(meta_loss, loss=METHOD.meta))


def test_unroll_is_algorithm_1_step_by_step(meta, episode, plain, judge):
    update = jax.jit(METHOD.update)
    state, loss = jax.jit(METHOD.start)(meta, meta.theta0, episode.first, PHIS[0])
    losses, tests, rates = [loss], [judge(state.theta, at(episode.tests, 0), PHIS[0])], [state.rates]
    for t in range(1, UPDATES):
        state, loss = update(meta.omega, state, at(episode.updates, t - 1), PHIS[t])
        losses.append(loss)
        tests.append(judge(state.theta, at(episode.tests, t), PHIS[t]))
        rates.append(state.rates)
    np.testing.assert_allclose(plain.update, losses, rtol=1e-4)
    np.testing.assert_allclose(plain.meta, [loss for loss, _ in tests], rtol=1e-4)
    for name in ("response", "box"):
        np.testing.assert_allclose(plain.terms[name], [terms[name] for _, terms in tests], rtol=1e-4)
    np.testing.assert_allclose(plain.meta, plain.terms["response"] + 2 * plain.terms["box"], rtol=1e-5)  # (Eq. 13)
    assert float(plain.total) == pytest.approx(float(np.mean(plain.meta)), rel=1e-4)  # (Eq. 14)
    flat = np.stack([ravel_pytree(each)[0] for each in rates])
    np.testing.assert_allclose(plain.rates, flat.mean(axis=1), rtol=1e-3)
    assert plain.spread.shape == (UPDATES, QUANTILES)
    np.testing.assert_allclose(plain.spread[:, [0, -1]], np.stack([flat.min(axis=1), flat.max(axis=1)], 1), rtol=1e-3)
    assert float(plain.rates[0]) == pytest.approx(RATE, rel=1e-3)


def test_the_full_gradient_is_of_the_same_loss(plain, full):
    assert_close(full[0], plain)


@pytest.mark.parametrize("scale_first", [True, False])
def test_a_scale_of_one_changes_nothing(meta, scaled, plain, scale_first):
    ones = jax.tree.map(jnp.ones_like, meta.theta0)
    assert_close(scaled(meta, ones, scale_first), plain, rtol=1e-5)


def test_scaling_the_first_step_or_only_the_later_ones(meta, episode, scale, scaled, plain, judge):
    both, later = scaled(meta, scale, True), scaled(meta, scale, False)
    # The stored model is divided and the used one multiplied: the first update loss does not see the scale.
    assert float(both.update[0]) == pytest.approx(float(plain.update[0]), rel=1e-4)
    assert float(later.update[0]) == pytest.approx(float(plain.update[0]), rel=1e-4)
    # Unscaled, the first step is that without scaling, and so are its test and the loss after it.
    assert_close(at(later.terms, 0), at(plain.terms, 0))
    assert float(later.update[1]) == pytest.approx(float(plain.update[1]), rel=1e-4)
    # Rates are then handed on as those of the scaled model: a parameter over a gradient.
    handed_on = ravel_pytree(divide(divide(meta.lambda0, scale), scale))[0]
    np.testing.assert_allclose(later.rates[0], jnp.mean(handed_on), rtol=1e-5)
    assert float(both.terms["response"][0]) != pytest.approx(float(plain.terms["response"][0]), rel=1e-5)
    assert float(later.terms["response"][-1]) != pytest.approx(float(plain.terms["response"][-1]), rel=1e-5)

    state, _ = jax.jit(METHOD.start)(meta, divide(meta.theta0, scale), episode.first, PHIS[0], scale)
    _, terms = judge(multiply(state.theta, scale), at(episode.tests, 0), PHIS[0])
    assert_close(at(both.terms, 0), terms)


def test_truncated_theta0_and_lambda0_learn_from_the_first_test_only(meta, episode, truncated):
    _, gradient = truncated
    _, one = with_gradient(short(episode))(meta)
    first = jax.tree.map(lambda x: x / UPDATES, one)  # the mean is over UPDATES tests
    assert_close(gradient.theta0, first.theta0, atol=1e-7)
    assert_close(gradient.lambda0, first.lambda0, atol=1e-6)
    for part in (gradient.theta0, gradient.lambda0):
        assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(part)) > 1e-3
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(one.omega))
    assert all(np.any(leaf) for leaf in jax.tree.leaves(gradient.omega))


def test_the_full_gradient_sees_all_tests(truncated, full):
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(full))
    for part in ("theta0", "lambda0", "omega"):
        ours, theirs = (np.asarray(ravel_pytree(getattr(gradient, part))[0]) for _, gradient in (full, truncated))
        assert np.abs(ours - theirs).max() > 1e-3 * np.abs(theirs).max()


def test_full_gradient_against_finite_differences(meta, run_full, full):
    """Along the bias of the rates, through which every later test depends on every update."""

    def total(bias):
        omega = {**meta.omega, "head": {**meta.omega["head"], "b": jnp.full(1, bias)}}
        return float(run_full(meta._replace(omega=omega))[0].total)

    step = 0.05
    slope = (total(BIAS + step) - total(BIAS - step)) / (2 * step)
    assert slope == pytest.approx(float(full[1].omega["head"]["b"][0]), rel=0.05)
