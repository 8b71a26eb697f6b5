from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from roam_jax.config import OnlineConfig
from roam_jax.tracking.scoring import change_penalty, choose, keep_inside, motion_map

SIZE = jnp.array([20.0, 10.0])
CONFIG = OnlineConfig()


def test_an_unchanged_size_costs_nothing():
    assert float(change_penalty(SIZE, SIZE, 0.05)) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(
    ("factors", "product"),
    [
        ((2.0, 2.0), 2.0),  # scale only
        ((0.5, 0.5), 2.0),  # shrinking costs what growing costs
        ((2.0, 0.5), 4.0),  # ratio only
        ((0.5, 2.0), 4.0),
        ((4.0, 1.0), 8.0),  # both: scale 2, ratio 4
    ],
)
def test_change_penalty(factors, product):
    expected = np.exp(-0.05 * (product - 1))
    assert float(change_penalty(SIZE * jnp.array(factors), SIZE, 0.05)) == pytest.approx(expected, rel=1e-5)


def test_motion_map():
    actual = np.asarray(motion_map(jnp.array([32.0, 16.0]), 17, 4, 0.5))
    assert actual.shape == (17, 17)
    assert actual[8, 8] == 1.0
    np.testing.assert_allclose(actual, actual[::-1], rtol=1e-5)
    np.testing.assert_allclose(actual, actual[:, ::-1], rtol=1e-5)
    assert actual[8, 11] > actual[11, 8]  # a wide object may move further sideways
    assert actual[8, 10] == pytest.approx(np.exp(-0.2 * (2 / 4) ** 2), rel=1e-5)
    np.testing.assert_allclose(actual, np.outer(actual[:, 8], actual[8]), rtol=1e-5)


def run(response, *, loose, tight=(1.0, 1.0, 1.0), wide=(1.0, 1.0, 1.0), sizes=None, reference=1.0):
    sizes = jnp.broadcast_to(SIZE, (3, 2)) if sizes is None else sizes
    return choose(
        jnp.array(response), sizes, SIZE, jnp.array(tight), jnp.array(wide), jnp.float32(reference),
        jnp.asarray(loose), CONFIG,
    )  # fmt: skip


def test_the_highest_score_wins():
    choice = run([0.2, 0.7, 0.5], loose=False)
    assert int(choice.best) == 1
    assert float(choice.score) == pytest.approx(0.7)
    assert float(choice.size_weight) == pytest.approx(0.7 * CONFIG.size_rate, rel=1e-5)


def test_the_penalty_turns_the_choice():
    sizes = jnp.stack([SIZE, 4 * SIZE, SIZE])
    choice = run([0.2, 0.5, 0.49], loose=False, sizes=sizes)
    assert int(choice.best) == 2


def test_the_motion_map_in_use():
    maps = {"tight": (1.0, 0.5, 1.0), "wide": (1.0, 0.9, 1.0)}
    response = [0.1, 0.9, 0.6]
    assert int(run(response, loose=False, **maps).best) == 2
    choice = run(response, loose=True, **maps)
    assert int(choice.best) == 1
    assert float(choice.score) == pytest.approx(0.81, rel=1e-5)
    assert float(choice.size_weight) == pytest.approx(0.9 * CONFIG.size_rate, rel=1e-5)  # the size ignores the map


def test_a_lost_object_is_searched_widely_until_it_is_surely_found():
    maps = {"tight": (0.01, 0.01, 0.01), "wide": (0.5, 0.5, 0.5)}
    low = run([0.9, 0.1, 0.1], loose=False, **maps)  # 0.009 is below a tenth of the reference
    assert float(low.score) == pytest.approx(0.45, rel=1e-5)
    assert bool(low.loose)  # 0.45 is not above 0.6
    assert not bool(run([0.9, 0.1, 0.1], loose=False, tight=(0.2, 0.2, 0.2)).loose)
    assert bool(run([0.55, 0.1, 0.1], loose=True).loose)
    assert not bool(run([0.65, 0.1, 0.1], loose=True).loose)
    assert bool(run([0.65, 0.1, 0.1], loose=True, reference=2.0).loose)


def test_size_weight_is_a_weight():
    assert float(run([9.0, 0.0, 0.0], loose=False).size_weight) == 1.0
    assert float(run([-1.0, -2.0, -3.0], loose=False).size_weight) == 0.0


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((50.0, 40.0, 20.0, 10.0), (50.0, 40.0, 20.0, 10.0)),
        ((-5.0, 90.0, 20.0, 10.0), (0.0, 80.0, 20.0, 10.0)),
        ((50.0, 40.0, 900.0, 0.5), (50.0, 40.0, 100.0, 4.0)),
    ],
)
def test_keep_inside(box, expected):
    np.testing.assert_array_equal(keep_inside(jnp.array(box), jnp.array([100.0, 80.0])), expected)
