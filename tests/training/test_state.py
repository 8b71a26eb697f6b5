from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from roam_jax.config import MetaConfig
from roam_jax.method import OPTIMIZERS
from roam_jax.training.state import (
    MODEL_CLIP,
    NECK_CLIP,
    OPTIMIZER_CLIP,
    apply_gradient,
    make_meta_optimizer,
    make_schedule,
    make_state,
    norms_of,
)  # fmt: skip

META = MetaConfig(model_rate=1e-3, lambda_rate=2e-3, optimizer_rate=3e-3, neck_rate=4e-3)


def constant(learned, value):
    return jax.tree.map(lambda leaf: jnp.full(leaf.shape, value), learned)


def test_each_part_has_its_rate_and_the_statistics_stay(make_learned):
    learned, transform = make_learned(), make_meta_optimizer(META)
    state = apply_gradient(make_state(learned, transform), constant(learned, 1.0), transform)
    assert (int(state.step), int(state.refused), int(state.refused_in_a_row)) == (1, 0, 0)
    parts = {"theta0": 1e-3, "lambda0": 2e-3, "omega": 3e-3}
    for name, rate in parts.items():
        for leaf in jax.tree.leaves(getattr(state.learned, name)):
            np.testing.assert_allclose(leaf, -rate, rtol=1e-4)  # Adam's first step is the rate
    for name in ("project", "mix"):
        for leaf in jax.tree.leaves(state.learned.neck[name]):
            np.testing.assert_allclose(leaf, -4e-3, rtol=1e-3)
    for leaf in jax.tree.leaves(state.learned.stats):
        np.testing.assert_array_equal(leaf, 0)


def test_gradients_are_clipped_by_element_and_by_norm(make_learned):
    learned, transform = make_learned(), make_meta_optimizer(META)
    mu = {}
    for part, inner in apply_gradient(
        make_state(learned, transform), constant(learned, 100.0), transform
    ).opt_state.inner_states.items():
        moments = [leaf for path, leaf in jax.tree.leaves_with_path(inner) if ".mu" in jax.tree_util.keystr(path)]
        mu[part] = np.concatenate([np.ravel(leaf) for leaf in moments]) if moments else None
    np.testing.assert_allclose(mu["theta0"], 0.1 * MODEL_CLIP, rtol=1e-6)
    np.testing.assert_allclose(mu["omega"], 0.1 * OPTIMIZER_CLIP, rtol=1e-6)
    assert np.linalg.norm(mu["neck"]) == pytest.approx(0.1 * NECK_CLIP, rel=1e-5)
    assert mu["fixed"] is None


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_gradient_that_is_not_finite_changes_nothing_and_is_counted(make_learned, kind):
    learned, transform = make_learned(kind), make_meta_optimizer(META)
    step = jax.jit(lambda state, gradient: apply_gradient(state, gradient, transform))
    good, bad = constant(learned, 0.1), constant(learned, 0.1)
    theta = bad.theta0
    bad = bad._replace(theta0=theta._replace(cf=theta.cf._replace(bias=jnp.full(1, jnp.nan))))
    before = step(make_state(learned, transform), good)
    after = step(step(before, bad), bad)
    assert (int(after.step), int(after.refused), int(after.refused_in_a_row)) == (3, 2, 2)
    for new, old in zip(*(jax.tree.leaves((s.learned, s.opt_state)) for s in (after, before)), strict=True):
        np.testing.assert_array_equal(new, old)
    last = step(after, good)
    assert (int(last.refused), int(last.refused_in_a_row)) == (2, 0)
    assert not np.array_equal(last.learned.theta0.cf.bias, after.learned.theta0.cf.bias)


def test_rates_are_halved_every_few_epochs():
    rate = make_schedule(1e-3, MetaConfig(steps_per_epoch=10))
    values = [rate(step) for step in (0, 49, 50, 99, 100, 199)]
    np.testing.assert_allclose(values, [1e-3, 1e-3, 5e-4, 5e-4, 2.5e-4, 1.25e-4])
    warm = make_schedule(1e-3, MetaConfig(steps_per_epoch=10, warmup_steps=20))
    np.testing.assert_allclose([warm(step) for step in (0, 20, 50)], [5e-5, 1e-3, 5e-4], rtol=1e-5)


def test_rates_follow_a_cosine_to_the_last_step():
    rate = make_schedule(1e-3, MetaConfig(schedule="cosine", warmup_steps=10, steps=110))
    values = np.array([rate(step) for step in range(111)])
    assert values[0] == pytest.approx(5e-5)
    assert values.argmax() == 10
    assert values[10] == pytest.approx(1e-3)
    assert values[60] == pytest.approx((1e-3 + 2e-5) / 2, rel=1e-3)
    assert values[110] == pytest.approx(2e-5, rel=1e-3)
    assert (np.diff(values[10:]) < 0).all()


def test_norms_by_part(make_learned):
    norms = norms_of(constant(make_learned("sgd"), 1.0))
    assert norms["omega"] == 0
    count = sum(leaf.size for leaf in jax.tree.leaves(make_learned().theta0))
    assert float(norms["theta0"]) == pytest.approx(np.sqrt(count))


def test_rates_of_coordinates_and_learned_stages_are_parts_of_their_own(make_learned):
    learned = make_learned()
    omega = {"inner": learned.omega, "log_rates": jnp.zeros(3)}
    learned = learned._replace(omega=omega, top={"w": jnp.zeros(2)})
    transform = make_meta_optimizer(dataclasses.replace(META, coordinate_rate=6e-3, top_rate=5e-3))
    state = apply_gradient(make_state(learned, transform), constant(learned, 1.0), transform)
    np.testing.assert_allclose(state.learned.omega["log_rates"], -6e-3, rtol=1e-4)
    np.testing.assert_allclose(state.learned.top["w"], -5e-3, rtol=1e-3)
    for leaf in jax.tree.leaves(state.learned.omega["inner"]):
        np.testing.assert_allclose(leaf, -3e-3, rtol=1e-4)
