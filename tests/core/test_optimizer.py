from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from roam_jax.core import variants
from roam_jax.core.optimizer import bound_rates, raw_inputs, signed_log, signed_log_inputs, stack_inputs

COUNT, HIDDEN = 6, 4
THETA = {"some": jnp.zeros((2, 2)), "others": jnp.zeros(COUNT - 4)}
NETWORKS = {"lstm": variants.lstm, "gru": variants.gru, "fc": variants.fc}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def make(kind, **more):
    return NETWORKS[kind](signed_log_inputs(), hidden=HIDDEN, output_bias=-1.0, **more)


def start_parameters(kind):
    return jax.jit(partial(make(kind).init, THETA))(key=jax.random.key(1, impl="unsafe_rbg"))


@pytest.fixture(scope="module")
def omegas():
    """Parameters of every network as training begins."""
    return {kind: start_parameters(kind) for kind in NETWORKS}


@pytest.fixture(scope="module")
def stack():
    rng = np.random.default_rng(0)
    rates, gradient, theta = (jnp.asarray(rng.normal(size=COUNT), jnp.float32) for _ in range(3))
    return stack_inputs(jnp.abs(rates), gradient, theta, jnp.float32(0.7))


@pytest.mark.parametrize("kind", list(NETWORKS))
def test_parameters_of_a_network_begin_in_the_usual_range(omegas, kind):
    omega = omegas[kind]
    np.testing.assert_array_equal(omega["head"]["b"], -1.0)
    drawn = [leaf for leaf in jax.tree.leaves(omega) if leaf.shape != (1,)]
    assert len(drawn) == {"lstm": 7, "gru": 9, "fc": 5}[kind]
    for leaf in drawn:
        assert 0.5 * HIDDEN**-0.5 < np.abs(leaf).max() < HIDDEN**-0.5
        assert np.ptp(leaf) > 0


def to_numpy(tree):
    return jax.tree.map(lambda x: np.asarray(x, np.float64), tree)


def seen_by(network_inputs):
    """What a network sees of the stack at a step."""
    return np.asarray(signed_log_inputs().prepare(network_inputs), np.float64)


def test_lstm_against_plain_numpy(omegas, stack):
    optimizer, omega = make("lstm"), to_numpy(omegas["lstm"])
    hidden, cell = np.zeros((2, COUNT, HIDDEN)), np.zeros((2, COUNT, HIDDEN))
    carry, apply = optimizer.start(THETA), jax.jit(optimizer.apply)
    for step in range(3):
        inputs = stack * (1 + step)
        rates, carry = apply(omegas["lstm"], inputs, carry)
        for n, x in enumerate(seen_by(inputs).T):
            for k in (0, 1):
                layer = omega[f"layer{k}"]
                gates = x @ layer["x"]["w"] + hidden[k, n] @ layer["h"] + layer["x"]["b"]
                i, f, g, o = gates[:4], gates[4:8], gates[8:12], gates[12:]
                cell[k, n] = sigmoid(f) * cell[k, n] + sigmoid(i) * np.tanh(g)
                hidden[k, n] = sigmoid(o) * np.tanh(cell[k, n])
                x = hidden[k, n]
            expected = sigmoid(x @ omega["head"]["w"] + omega["head"]["b"])
            np.testing.assert_allclose(rates[n], expected[0], rtol=1e-4)


def test_gru_against_plain_numpy(omegas, stack):
    optimizer, omega = make("gru"), to_numpy(omegas["gru"])
    hidden = np.zeros((2, COUNT, HIDDEN))
    carry, apply = optimizer.start(THETA), jax.jit(optimizer.apply)
    for _ in range(2):
        rates, carry = apply(omegas["gru"], stack, carry)
        for n, x in enumerate(seen_by(stack).T):
            for k in (0, 1):
                layer = omega[f"layer{k}"]
                a = x @ layer["x"]["w"] + layer["x"]["b"]
                b = hidden[k, n] @ layer["h"]["w"] + layer["h"]["b"]
                reset, keep = sigmoid(a[:4] + b[:4]), sigmoid(a[4:8] + b[4:8])
                x = hidden[k, n] = (1 - keep) * np.tanh(a[8:] + reset * b[8:]) + keep * hidden[k, n]
            expected = sigmoid(x @ omega["head"]["w"] + omega["head"]["b"])
            np.testing.assert_allclose(rates[n], expected[0], rtol=1e-4)


def test_the_input_stack_and_how_networks_are_shown_it():
    rates, gradient, theta = jnp.array([0.1, 0.2]), jnp.array([0.5, -1e-6]), jnp.array([3.0, 4.0])
    stack = stack_inputs(rates, gradient, theta, jnp.float32(7.0))
    np.testing.assert_array_equal(stack, [rates, gradient, theta, [7.0, 7.0]])
    paper, official = raw_inputs(), signed_log_inputs()
    assert (paper.width, official.width) == (4, 5)
    np.testing.assert_array_equal(paper.prepare(stack), stack)
    expected = [[0.1, 0.2], [np.log(0.5) / 10, -1.0], [1.0, -1e-6 * np.exp(10)], [3.0, 4.0], [7.0, 7.0]]
    np.testing.assert_allclose(official.prepare(stack), expected, rtol=1e-4)


def test_preprocessing_is_finite_and_odd_in_the_sign():
    gradient = jnp.array([0.0, 1e-30, 1e-5, 1e-3, 1e6])
    up, down = signed_log(gradient, 10.0), signed_log(-gradient, 10.0)
    assert np.isfinite(up).all()
    np.testing.assert_array_equal(up[0], down[0])
    np.testing.assert_array_equal(up[1], -down[1])


def test_rates_are_between_0_and_1():
    np.testing.assert_allclose(bound_rates(jnp.array([-3.0, 0.0, 5.0])), sigmoid(np.array([-3.0, 0, 5])), rtol=1e-6)


@pytest.mark.parametrize(("bias", "rtol"), [(-10.0, 0.6), (3.0, 0.1)])
def test_the_output_bias_sets_the_first_rates(omegas, stack, bias, rtol):
    optimizer = make("lstm")
    omega = {**omegas["lstm"], "head": {**omegas["lstm"]["head"], "b": jnp.full(1, bias)}}
    rates, _ = jax.jit(optimizer.apply)(omega, stack, optimizer.start(THETA))
    np.testing.assert_allclose(rates, sigmoid(bias), rtol=rtol)
