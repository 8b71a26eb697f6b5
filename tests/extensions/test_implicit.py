from __future__ import annotations

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import CONFIG, GEOMETRY, LOSS, assert_close, draw, draw_meta, draw_samples

from roam_jax import presets
from roam_jax.config import ImplicitConfig, LossConfig
from roam_jax.core.losses import anchors_above_half, measure_terms
from roam_jax.core.scaling import divide, multiply
from roam_jax.extensions.implicit import box_part, response_part, solve
from roam_jax.method import fill_rates, make_method

PHI = jnp.array([3.0, 3.0])
"""filters for anchors as large as the objects are"""
ENOUGH = 40
"""iterations until float32 gains nothing more"""
BOX_WEIGHT = 5.0
NO_LIMIT = 1e6
PARTS = {
    "response": partial(response_part, geometry=GEOMETRY, largest_rate=NO_LIMIT),
    "box": partial(box_part, geometry=GEOMETRY, choose=anchors_above_half, box_weight=BOX_WEIGHT),
}
BRANCH = {"response": "cf", "box": "reg"}
WEIGHT = {"response": 1.0, "box": BOX_WEIGHT}


def configure(**implicit):
    """The small configuration with implicit steps and the paper's losses."""
    return dataclasses.replace(
        CONFIG,
        loss=LossConfig(response_form="paper", box_form="paper", box_weight=BOX_WEIGHT),
        implicit=ImplicitConfig(**{"iterations": ENOUGH, "lambda0": 3.0, "largest_rate": NO_LIMIT} | implicit),
    )


def start_of(config):
    """Meta-parameters whose predictions are small: errors of the boxes are below 1, where their loss is quadratic."""
    meta = draw_meta(config, 0)
    return meta._replace(theta0=jax.tree.map(lambda x: 0.3 * x, meta.theta0))


@pytest.fixture(scope="module")
def samples():
    return draw_samples(0, 3)


@pytest.fixture(scope="module")
def theta():
    return start_of(configure()).theta0


@pytest.fixture(scope="module")
def terms():
    """Losses of both parts and their gradients, by part."""

    def weighted(theta, samples, name):
        return WEIGHT[name] * measure_terms(theta, samples, PHI, LOSS)[name]

    @jax.jit
    def run(theta, samples):
        return {name: jax.value_and_grad(weighted)(theta, samples, name) for name in PARTS}

    return run


@pytest.fixture(scope="module")
def fit():
    """A model after implicit steps of a part alone, by part."""

    @jax.jit
    def run(theta, rates, samples, scale=None):
        parts = {name: make(samples, PHI, scale) for name, make in PARTS.items()}
        return {name: part.put(theta, solve(part, theta, rates, ENOUGH)) for name, part in parts.items()}

    return run


def equal_rates(theta, rate):
    return jax.tree.map(lambda leaf: jnp.full(leaf.shape, rate), theta)


@pytest.mark.parametrize(
    ("part", "rate"), [("response", 1e-3), ("response", 0.1), ("response", 3.0), ("box", 1e-3), ("box", 0.1)]
)
def test_is_a_gradient_step_with_the_gradient_at_its_end(theta, samples, terms, fit, part, rate):
    after = fit(theta, equal_rates(theta, rate), samples)[part]
    loss, gradient = terms(after, samples)[part]
    for name, old in theta._asdict().items():
        new, wanted = getattr(after, name), getattr(gradient, name)
        for leaf in old._fields:
            moved = getattr(new, leaf) - getattr(old, leaf)
            if name == BRANCH[part] and leaf in ("filters", "bias"):
                size = float(np.max(np.abs(moved)))
                assert size > 0
                np.testing.assert_allclose(moved, -rate * getattr(wanted, leaf), atol=2e-3 * size)
            else:
                np.testing.assert_array_equal(moved, 0)
    assert loss < terms(theta, samples)[part][0]


def test_larger_rates_fit_better(theta, samples, terms, fit):
    after = [fit(theta, equal_rates(theta, rate), samples)["response"] for rate in (1.0, 10.0, 100.0)]
    losses = [terms(each, samples)["response"][0] for each in after]
    assert losses[0] > losses[1] > losses[2]


def test_rates_above_the_largest_count_as_that(theta, samples):
    @partial(jax.jit, static_argnums=1)
    def run(rates, largest_rate):
        part = response_part(samples, PHI, None, GEOMETRY, largest_rate)
        return part.put(theta, solve(part, theta, rates, ENOUGH))

    mixed = jax.tree.map(jnp.exp, draw(theta, 3))
    limited = jax.tree.map(lambda rate: jnp.minimum(rate, 0.8), mixed)
    assert_close(run(mixed, 0.8), run(limited, NO_LIMIT), rtol=0, atol=0)
    assert np.abs(run(mixed, 0.8).cf.filters - run(mixed, NO_LIMIT).cf.filters).max() > 1e-3


def test_rounding_is_not_amplified():
    """With the rates of the preset, and as many iterations: features that differ by rounding give the same filter."""
    config = presets.lite().implicit
    samples, theta = draw_samples(0, 3), start_of(configure()).theta0
    near = samples._replace(features=samples.features * (1 + 1e-7 * np.sign(draw(samples.features, 5))))

    @jax.jit
    def run(samples):
        part = response_part(samples, PHI, None, GEOMETRY, config.largest_rate)
        return solve(part, theta, equal_rates(theta, 1e6), config.iterations)[0]

    one, other = run(samples), run(near)
    assert np.linalg.norm(one - other) < 1e-5 * np.linalg.norm(one)


def test_empty_places_do_not_count(theta, samples, fit):
    padded = jax.tree.map(lambda x: jnp.concatenate([x, 5 + 0 * x[:2]]), samples)
    padded = padded._replace(weights=jnp.array([1.0, 1, 1, 0, 0]))
    rates = equal_rates(theta, 1.0)
    a, b = fit(theta, rates, samples), fit(theta, rates, padded)
    np.testing.assert_allclose(a["response"].cf.filters, b["response"].cf.filters, atol=1e-5)
    np.testing.assert_allclose(a["box"].reg.filters, b["box"].reg.filters, atol=1e-5)


def test_scaling_changes_nothing_when_rates_shrink_with_its_square(theta, samples, fit):
    """As for the explicit step: a rate is a parameter over a gradient."""
    scale, rates = jax.tree.map(jnp.exp, draw(theta, 3)), fill_rates(theta, 1e-2, cf_filters=3.0)
    scaled = fit(divide(theta, scale), divide(divide(rates, scale), scale), samples, scale)
    for part, plain in fit(theta, rates, samples).items():
        assert_close(multiply(scaled[part], scale), plain, rtol=1e-2, atol=1e-5)


def test_meta_gradient_is_that_of_finite_differences(theta, samples):
    test = draw_samples(1, 2)

    @jax.jit
    @jax.value_and_grad
    def judged(shift):
        part = response_part(samples, PHI, None, GEOMETRY, NO_LIMIT)
        after = part.put(theta, solve(part, theta, equal_rates(theta, 3 * jnp.exp(shift)), ENOUGH))
        return measure_terms(after, test, PHI, LOSS)["response"]

    slope = judged(0.0)[1]
    numeric = (judged(0.05)[0] - judged(-0.05)[0]) / 0.1
    assert abs(float(slope)) > 1e-5
    np.testing.assert_allclose(slope, numeric, rtol=2e-2)


def test_gradient_after_convergence_is_finite(theta, samples):
    """With small rates the system is almost the identity: the iterations have nothing left to do after two or three."""

    @jax.jit
    @jax.grad
    def slope(shift):
        part = PARTS["box"](samples, PHI, None)
        after = part.put(theta, solve(part, theta, equal_rates(theta, 1e-7 * jnp.exp(shift)), ENOUGH))
        return measure_terms(after, samples, PHI, LOSS)["box"]

    assert np.isfinite(slope(0.0))


@pytest.fixture(scope="module")
def first_steps(samples):
    """First-frame steps of three methods from the same theta0: explicit, of the response, and of the boxes too."""
    configs = {
        "explicit": configure(iterations=0),
        "response": configure(),
        "both": configure(boxes=True, box_lambda0=1e-2),
    }
    methods = {name: make_method(config) for name, config in configs.items()}
    metas = {name: start_of(config) for name, config in configs.items()}

    @jax.jit
    def run(metas):
        return {name: methods[name].start(meta, meta.theta0, samples, PHI) for name, meta in metas.items()}

    return run(metas)


def test_first_update_fits_the_response_and_hands_on_no_rates_for_it(samples, terms, first_steps):
    (state, _), (slow, _) = first_steps["response"], first_steps["explicit"]
    assert terms(state.theta, samples)["response"][0] < terms(slow.theta, samples)["response"][0]
    assert not np.any(state.rates.cf.filters)
    assert not np.any(state.rates.cf.bias)
    assert np.all(state.rates.cf.reduce_w > 0)
    assert_close(state.rates.reg, slow.rates.reg, rtol=0, atol=0)
    assert_close(state.theta.reg, slow.theta.reg, rtol=1e-6)


def test_first_update_with_implicit_boxes(samples, terms, first_steps):
    both = configure(boxes=True, box_lambda0=1e-2)
    rates = make_method(both).first_rates(start_of(both).lambda0)
    np.testing.assert_allclose(rates.reg.filters, 1e-2, rtol=1e-5)
    np.testing.assert_allclose(rates.reg.reduce_w, both.optimizer.lambda0, rtol=1e-5)
    (state, _), (slow, _) = first_steps["both"], first_steps["response"]
    assert not np.any(state.rates.reg.filters)
    assert terms(state.theta, samples)["box"][0] < terms(slow.theta, samples)["box"][0]
    assert_close(state.theta.cf.filters, slow.theta.cf.filters, rtol=1e-6)


def test_the_other_coordinates_step_after_the_filters(theta, samples, terms, first_steps):
    """With the gradient after the implicit step: before it, it can be huge."""
    (state, _) = first_steps["response"]
    fitted = theta._replace(cf=theta.cf._replace(filters=state.theta.cf.filters, bias=state.theta.cf.bias))
    late, early = (terms(at, samples)["response"][1].cf.reduce_w for at in (fitted, theta))
    step = CONFIG.optimizer.lambda0 * late
    np.testing.assert_allclose(state.theta.cf.reduce_w, theta.cf.reduce_w - step, rtol=1e-5, atol=1e-7)
    assert np.abs(late - early).max() > 0.1 * np.abs(early).max()


@pytest.mark.parametrize("name", ["explicit", "response", "both"])
def test_the_loss_is_that_before_the_whole_step(theta, samples, terms, first_steps, name):
    """With an implicit step too; the tracker's first score and the log of training rest on it."""
    state, loss = first_steps[name]
    before, after = (sum(float(loss) for loss, _ in terms(at, samples).values()) for at in (theta, state.theta))
    assert float(loss) == pytest.approx(before, rel=1e-5)
    assert after < 0.95 * before


def test_later_updates_step_implicitly_with_the_emitted_rates(samples, terms, fit):
    implicit = configure(boxes=True, updates=True)
    optimizer = dataclasses.replace(implicit.optimizer, coordinate_rates=1e-4, output_bias=0.0)
    implicit = dataclasses.replace(implicit, optimizer=optimizer).check()
    explicit = dataclasses.replace(implicit, implicit=dataclasses.replace(implicit.implicit, updates=False))
    start, later = start_of(implicit), draw_samples(3, 3)
    ours, theirs = make_method(implicit), make_method(explicit)

    @jax.jit
    def run(meta):
        first, _ = ours.start(meta, meta.theta0, samples, PHI)
        return first, ours.update(meta.omega, first, later, PHI), theirs.update(meta.omega, first, later, PHI)

    first, (after, loss), (plain, same_loss) = run(start)
    np.testing.assert_allclose(first.rates.cf.filters, 3.0, rtol=1e-5)
    assert not np.any(first.rates.reg.filters)
    for rates, begun in ((after.rates.cf, 3.0), (after.rates.reg, 1e-4)):
        assert np.all((rates.filters > 0) & (rates.filters < 2 * begun))
        assert np.all((rates.reduce_w > 0) & (rates.reduce_w < 2e-4))
    wanted = fit(first.theta, after.rates, later)["response"]
    for name in ("filters", "bias"):
        np.testing.assert_allclose(getattr(after.theta.cf, name), getattr(wanted.cf, name), rtol=1e-3, atol=1e-5)
    np.testing.assert_array_equal(after.theta.cf.reduce_w, plain.theta.cf.reduce_w)
    assert_close(after.theta.reg, plain.theta.reg, rtol=0, atol=0)
    assert loss == same_loss
    assert terms(after.theta, later)["response"][0] < terms(first.theta, later)["response"][0]
