from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from roam_jax.core.boxes import anchor_boxes, encode
from roam_jax.core.model import Predictions
from roam_jax.core.samples import Samples
from roam_jax.extensions.giou import giou, giou_term

GIOU = jax.jit(giou)


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ((0.0, 0.0, 2.0, 2.0), 1.0),
        ((1.0, 0.0, 2.0, 2.0), 1 / 3),  # the hull is their union
        ((1.0, 1.0, 2.0, 2.0), 1 / 7 - 2 / 9),
        ((4.0, 0.0, 2.0, 2.0), -4 / 12),
    ],
)
def test_known_boxes(other, expected):
    box = jnp.array([0.0, 0.0, 2.0, 2.0])
    assert float(GIOU(box, jnp.array(other))) == pytest.approx(expected, abs=1e-6)
    assert float(GIOU(jnp.array(other), box)) == pytest.approx(expected, abs=1e-6)


def test_it_pulls_boxes_together_that_do_not_touch():
    gradient = jax.jit(jax.grad(giou))(jnp.array([0.0, 0.0, 2.0, 2.0]), jnp.array([9.0, 0.0, 2.0, 2.0]))
    assert float(gradient[0]) > 0
    assert np.isfinite(gradient).all()


def test_the_term_is_zero_for_the_true_boxes_only():
    rng = np.random.default_rng(1)
    true = jnp.asarray(np.concatenate([rng.uniform(-3, 3, (3, 2)), rng.uniform(10, 16, (3, 2))], axis=1), jnp.float32)
    anchors = anchor_boxes(4, 4, jnp.array([11.0, 13.0]))
    chosen = jnp.zeros((3, 4, 4)).at[:, 1:3, 1:3].set(1.0)
    nothing = jnp.zeros((3, 4, 4))
    samples = Samples(nothing[..., None], nothing, true, jnp.ones(3), jnp.ones(3))

    @jax.jit
    def term(deltas):
        return giou_term(Predictions(nothing, deltas, anchors), samples, choose=lambda ious: chosen)

    exact = encode(true[:, None, None], anchors[None])
    far = exact.at[..., 0].add(5.0)  # five widths away: nothing overlaps
    assert float(term(exact)) == pytest.approx(0.0, abs=1e-5)
    assert 1.0 < float(term(far)) < 2.0
    elsewhere = exact.at[:, 0].add(3.0)  # only anchors that are not chosen
    assert float(term(elsewhere)) == pytest.approx(0.0, abs=1e-5)
