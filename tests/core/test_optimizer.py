from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from roam_jax.config import OptimizerConfig
from roam_jax.core.optimizer import input_width, preprocess_gradient, stack_inputs
from roam_jax.core.variants import OPTIMIZERS, make_optimizer

COUNT = 6
RECURRENT = ("lstm", "gru")


def setting(kind="lstm", inputs="official", **more):
    return OptimizerConfig(kind=kind, inputs=inputs, hidden=4, output_bias=-1.0, **more)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@functools.cache
def inputs_of(inputs="official"):
    rng = np.random.default_rng(0)
    rates, gradient, theta = (jnp.asarray(rng.normal(size=COUNT), jnp.float32) for _ in range(3))
    return stack_inputs(jnp.abs(rates), gradient, theta, jnp.float32(0.7), setting(inputs=inputs))


@pytest.mark.parametrize("inputs", ["paper", "official", "log"])
@pytest.mark.parametrize("kind", list(OPTIMIZERS))
def test_every_variant(kind, inputs):
    config = setting(kind, inputs)
    optimizer, stack = make_optimizer(config), inputs_of(inputs)
    assert stack.shape == (input_width(config), COUNT)
    omega = jax.jit(lambda key: optimizer.init(COUNT, key=key))(jax.random.key(0))
    start = optimizer.start(COUNT)
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
        np.testing.assert_allclose(rates, config.sgd_rate if kind == "sgd" else sigmoid(-1.0), rtol=1e-6)
    else:  # every coordinate by itself
        turned, _ = apply(omega, stack[:, ::-1], start)
        np.testing.assert_allclose(turned[::-1], rates, rtol=1e-6)
        assert np.ptp(rates) > 0


def to_numpy(tree):
    return jax.tree.map(lambda x: np.asarray(x, np.float64), tree)


def test_lstm_against_plain_numpy():
    config = setting()
    optimizer = make_optimizer(config)
    params = optimizer.init(COUNT, key=jax.random.key(1))
    omega, stack = to_numpy(params), np.asarray(inputs_of(), float)
    hidden, cell = np.zeros((2, COUNT, 4)), np.zeros((2, COUNT, 4))
    carry, apply = optimizer.start(COUNT), jax.jit(optimizer.apply)
    for step in range(3):
        rates, carry = apply(params, jnp.asarray(stack * (1 + step), jnp.float32), carry)
        for n in range(COUNT):
            x = stack[:, n] * (1 + step)
            for k in (0, 1):
                layer = omega[f"layer{k}"]
                gates = x @ layer["x"]["w"] + hidden[k, n] @ layer["h"] + layer["x"]["b"]
                i, f, g, o = gates[:4], gates[4:8], gates[8:12], gates[12:]
                cell[k, n] = sigmoid(f) * cell[k, n] + sigmoid(i) * np.tanh(g)
                hidden[k, n] = sigmoid(o) * np.tanh(cell[k, n])
                x = hidden[k, n]
            expected = sigmoid(x @ omega["head"]["w"] + omega["head"]["b"])
            np.testing.assert_allclose(rates[n], expected[0], rtol=1e-4)


def test_gru_against_plain_numpy():
    optimizer = make_optimizer(setting("gru"))
    params = optimizer.init(COUNT, key=jax.random.key(1))
    omega, stack = to_numpy(params), np.asarray(inputs_of(), float)
    hidden = np.zeros((2, COUNT, 4))
    carry, apply = optimizer.start(COUNT), jax.jit(optimizer.apply)
    for _ in range(2):
        rates, carry = apply(params, inputs_of(), carry)
        for n in range(COUNT):
            x = stack[:, n]
            for k in (0, 1):
                layer = omega[f"layer{k}"]
                a = x @ layer["x"]["w"] + layer["x"]["b"]
                b = hidden[k, n] @ layer["h"]["w"] + layer["h"]["b"]
                reset, keep = sigmoid(a[:4] + b[:4]), sigmoid(a[4:8] + b[4:8])
                x = hidden[k, n] = (1 - keep) * np.tanh(a[8:] + reset * b[8:]) + keep * hidden[k, n]
            expected = sigmoid(x @ omega["head"]["w"] + omega["head"]["b"])
            np.testing.assert_allclose(rates[n], expected[0], rtol=1e-4)


def test_the_input_stacks():
    rates, gradient, theta = jnp.array([0.1, 0.2]), jnp.array([0.5, -1e-6]), jnp.array([3.0, 4.0])
    paper = stack_inputs(rates, gradient, theta, jnp.float32(7.0), setting(inputs="paper"))
    np.testing.assert_array_equal(paper, [rates, gradient, theta, [7.0, 7.0]])
    official = stack_inputs(rates, gradient, theta, jnp.float32(7.0), setting())
    expected = [[0.1, 0.2], [np.log(0.5) / 10, -1.0], [1.0, -1e-6 * np.exp(10)], [3.0, 4.0], [7.0, 7.0]]
    np.testing.assert_allclose(official, expected, rtol=1e-4)
    log = stack_inputs(rates, gradient, theta, jnp.float32(7.0), setting(inputs="log"))
    seen = [np.log([0.1, 0.2]) / 10, *expected[1:3], np.log([3.0, 4.0]) / 10, [1.0, 1.0], [7.0, 7.0]]
    np.testing.assert_allclose(log, seen, rtol=1e-4)


@pytest.mark.parametrize("kind", ["lstm", "gru", "fc", "constant"])
def test_coordinate_rates_multiply_what_a_variant_emits(kind):
    plain, scaled = make_optimizer(setting(kind)), make_optimizer(setting(kind, coordinate_rates=1e-3))
    omega = scaled.init(COUNT, key=jax.random.key(0))
    np.testing.assert_allclose(np.exp(omega["log_rates"]), 1e-3, rtol=1e-5)
    own = jnp.log(jnp.arange(1.0, COUNT + 1))
    rates, carry = jax.jit(scaled.apply)({**omega, "log_rates": own}, inputs_of(), scaled.start(COUNT))
    factors, same = jax.jit(plain.apply)(omega["inner"], inputs_of(), plain.start(COUNT))
    np.testing.assert_allclose(rates, 2 * factors * np.arange(1, COUNT + 1), rtol=1e-5)
    assert jax.tree.all(jax.tree.map(np.array_equal, carry, same))


def test_preprocessing_is_finite_and_odd_in_the_sign():
    gradient = jnp.array([0.0, 1e-30, 1e-5, 1e-3, 1e6])
    up, down = preprocess_gradient(gradient, 10.0), preprocess_gradient(-gradient, 10.0)
    assert np.isfinite(up).all()
    np.testing.assert_array_equal(up[0], down[0])
    np.testing.assert_array_equal(up[1], -down[1])


def test_unknown_kind():
    config = setting()
    object.__setattr__(config, "kind", "adam")
    with pytest.raises(ValueError, match="no optimizer is called 'adam'; there are lstm, gru"):
        make_optimizer(config)


def test_the_output_bias_sets_the_first_rates():
    low, high = (dataclasses.replace(setting(), output_bias=bias) for bias in (-10.0, 3.0))
    for config in (low, high):
        optimizer = make_optimizer(config)
        rates, _ = optimizer.apply(optimizer.init(COUNT, key=jax.random.key(0)), inputs_of(), optimizer.start(COUNT))
        np.testing.assert_allclose(rates, sigmoid(config.output_bias), rtol=0.6 if config is low else 0.1)
