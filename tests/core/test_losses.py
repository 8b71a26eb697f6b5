from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import GEOMETRY, LOSS, PHI, assert_close, draw_samples, draw_theta

from roam_jax.core.boxes import anchor_boxes
from roam_jax.core.losses import (
    Loss,
    anchors_above_half,
    averaged_meta_loss,
    best_anchors,
    box_smooth_l1,
    cells_above,
    masked_response_l2,
    measure_terms,
    meta_loss,
    response_l2,
    smooth_l1,
    tracking_loss,
    update_loss,
)
from roam_jax.core.model import Predictions
from roam_jax.core.samples import Samples

WEIGHTS = (1.0, 0.0, 1.0)
OFFICIAL = Loss(
    LOSS.predict,
    {
        "response": partial(masked_response_l2, choose=partial(cells_above, ignore_below=0.1)),
        "box": partial(box_smooth_l1, choose=partial(best_anchors, count=9)),
    },
    LOSS.weights,
)
LOSSES = {"paper": LOSS, "official": OFFICIAL}
FORMS = pytest.mark.parametrize("form", list(LOSSES))


def test_smooth_l1():
    np.testing.assert_allclose(smooth_l1(jnp.array([0.0, 0.5, -0.5, 1.0, -3.0])), [0, 0.125, 0.125, 0.5, 2.5])


@pytest.fixture(scope="module")
def maps():
    rng = np.random.default_rng(0)
    return rng.uniform(-0.5, 1.2, (3, 4, 4)).astype(np.float32), rng.uniform(0, 1, (3, 4, 4)).astype(np.float32)


def response_term(term, response, labels):
    """A term that looks at nothing but responses and labels."""
    predictions = Predictions(jnp.asarray(response), jnp.zeros((*response.shape, 4)), jnp.zeros((4, 4, 4)))
    return float(
        term(predictions, Samples(jnp.zeros((3, 4, 4, 1)), labels, jnp.zeros((3, 4)), jnp.array(WEIGHTS), jnp.ones(3)))
    )


def test_response_loss_of_the_paper(maps):
    total = energy = 0.0
    for weight, r, m in zip(WEIGHTS, *maps, strict=True):
        for a, b in zip(r.ravel(), m.ravel(), strict=True):
            total += weight * (a - b) ** 2
            energy += weight * b**2
    assert response_term(response_l2, *map(jnp.asarray, maps)) == pytest.approx(total / energy, rel=1e-5)


def test_response_loss_of_the_official_code(maps):
    total = count = 0.0
    for weight, r, m in zip(WEIGHTS, *maps, strict=True):
        for a, b in zip(r.ravel(), m.ravel(), strict=True):
            if weight and abs(a - b) >= 0.1:
                total += np.exp(b) * (a - b) ** 2
                count += 1
    assert 0 < count < 32
    term = partial(masked_response_l2, choose=partial(cells_above, ignore_below=0.1))
    actual = response_term(term, *map(jnp.asarray, maps))
    assert actual == pytest.approx(total / (count + 1), rel=1e-5)


def box_errors(deltas, boxes, anchors):
    """IoU and mean smooth L1 error of every anchor, one at a time."""
    actual, errors = np.zeros(deltas.shape[:3]), np.zeros(deltas.shape[:3])
    for index in np.ndindex(*deltas.shape[:3]):
        (cx, cy, w, h), (ax, ay, aw, ah) = boxes[index[0]].astype(float), anchors[index[1:]].astype(float)
        inter = max(min(cx + w / 2, ax + aw / 2) - max(cx - w / 2, ax - aw / 2), 0)
        inter *= max(min(cy + h / 2, ay + ah / 2) - max(cy - h / 2, ay - ah / 2), 0)
        actual[index] = inter / (w * h + aw * ah - inter)
        wrong = np.abs(deltas[index] - [(cx - ax) / aw, (cy - ay) / ah, np.log(w / aw), np.log(h / ah)])
        errors[index] = np.mean([0.5 * e * e if e < 1 else e - 0.5 for e in wrong])
    return actual, errors


@pytest.fixture(scope="module")
def boxes():
    rng = np.random.default_rng(1)
    true = np.concatenate([rng.uniform(-3, 3, (3, 2)), rng.uniform(10, 16, (3, 2))], axis=1).astype(np.float32)
    anchors = np.asarray(anchor_boxes(4, 4, jnp.array([11.0, 13.0])))
    return rng.normal(size=(3, 4, 4, 4)).astype(np.float32), true, anchors


@partial(jax.jit, static_argnames="choose")
def box_term(deltas, true, anchors, weights, choose):
    """The box term, which looks at nothing but shifts and boxes."""
    nothing = jnp.zeros(deltas.shape[:3])
    samples = Samples(jnp.zeros((*nothing.shape, 1)), nothing, true, jnp.asarray(weights), jnp.ones(len(true)))
    return box_smooth_l1(Predictions(nothing, deltas, anchors), samples, choose=choose)


def test_box_loss_of_the_paper(boxes):
    actual, errors = box_errors(*boxes)
    chosen = [errors[n][(actual[n] >= 0.5) | (actual[n] == actual[n].max())] for n in (0, 2)]
    expected = np.mean(np.concatenate(chosen))
    assert float(box_term(*boxes, WEIGHTS, anchors_above_half)) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("count", [9, 3, 6])
def test_box_loss_of_the_official_code(boxes, count):
    actual, errors = box_errors(*boxes)
    actual, errors = actual[[0, 2]].ravel(), errors[[0, 2]].ravel()
    best = np.argsort(actual)[::-1][:count]
    ours = box_term(*boxes, WEIGHTS, partial(best_anchors, count=count))
    assert float(ours) == pytest.approx(errors[best].mean(), rel=1e-4)


def test_box_loss_has_an_anchor_even_where_none_fits(boxes):
    deltas, true, anchors = boxes
    small = np.concatenate([true[:, :2], np.full((3, 2), 0.5, np.float32)], axis=1)
    assert float(box_term(deltas, small, anchors, (1.0, 1.0, 1.0), anchors_above_half)) > 0


def test_equal_overlaps_go_to_the_later_anchor():
    anchors = jnp.broadcast_to(jnp.array([0.0, 0.0, 4.0, 4.0]), (2, 2, 4))
    deltas = jnp.zeros((1, 2, 2, 4)).at[0, 1, 1].set(3.0)
    true = jnp.array([[0.0, 0.0, 4.0, 4.0]])
    assert float(box_term(deltas, true, anchors, (1.0,), partial(best_anchors, count=1))) == pytest.approx(2.5)


def test_the_box_loss_is_the_mean_over_the_chosen_anchors(boxes):
    _, errors = box_errors(*boxes)
    chosen = jnp.zeros((3, 4, 4)).at[0, 1, 2].set(1.0).at[2, 3, 3].set(0.5)
    actual = box_term(*boxes, (1.0, 1.0, 1.0), lambda overlaps: chosen)
    assert float(actual) == pytest.approx((errors[0, 1, 2] + 0.5 * errors[2, 3, 3]) / 1.5, rel=1e-4)


@pytest.fixture(scope="module")
def theta():
    return draw_theta(0)


@pytest.fixture(scope="module")
def judge():
    """Loss and gradient in both forms, of a model on three samples."""
    forms = {form: jax.value_and_grad(partial(update_loss, phi=PHI, loss=loss)) for form, loss in LOSSES.items()}
    return jax.jit(lambda theta, samples: {form: both(theta, samples) for form, both in forms.items()})


@FORMS
def test_a_sample_of_weight_zero_is_left_out(theta, judge, form):
    samples = draw_samples(0, 3)._replace(weights=jnp.array(WEIGHTS))
    other = jax.tree.map(lambda a, b: a.at[1].set(b), samples, Samples(9.0, 0.3, 5.0, 0.0, 1.0))
    actual = judge(theta, samples)[form]
    assert_close(judge(theta, other)[form], actual, rtol=1e-5)
    counted, _ = judge(theta, samples._replace(weights=jnp.ones(3)))[form]
    assert float(counted) != pytest.approx(float(actual[0]), rel=1e-4)


def test_where_the_object_cannot_be_seen_the_response_shall_be_zero(maps):
    """It counts as every other sample, and the norm of the paper's form is that of all labels."""
    response, labels = maps
    seen = jnp.array([1.0, 1.0, 0.0])
    predictions = Predictions(jnp.asarray(response), jnp.zeros((*response.shape, 4)), jnp.zeros((4, 4, 4)))
    samples = Samples(jnp.zeros((3, 4, 4, 1)), jnp.asarray(labels), jnp.zeros((3, 4)), jnp.ones(3), seen)
    wanted = labels * np.asarray(seen)[:, None, None]
    expected = np.sum((response - wanted) ** 2) / np.sum(labels**2)
    assert float(response_l2(predictions, samples)) == pytest.approx(expected, rel=1e-5)
    empty = samples._replace(labels=jnp.asarray(wanted), visible=jnp.ones(3))
    official = partial(masked_response_l2, choose=partial(cells_above, ignore_below=0.1))
    assert float(official(predictions, samples)) == pytest.approx(float(official(predictions, empty)), rel=1e-6)


def test_where_the_object_cannot_be_seen_the_box_says_nothing(boxes):
    deltas, true, anchors = map(jnp.asarray, boxes)
    seen, nothing = jnp.array([1.0, 0.0, 1.0]), jnp.zeros((3, 4, 4))
    samples = Samples(nothing[..., None], nothing, true, jnp.ones(3), seen)
    actual = box_smooth_l1(Predictions(nothing, deltas, anchors), samples, choose=anchors_above_half)
    assert float(actual) == pytest.approx(float(box_term(*boxes, WEIGHTS, anchors_above_half)), rel=1e-5)


@FORMS
def test_without_any_sample_loss_and_gradient_are_zero(theta, judge, form):
    value, gradient = judge(theta, jax.tree.map(jnp.zeros_like, draw_samples(0, 3)))[form]
    assert float(value) == 0.0
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(gradient))


def test_a_loss_is_the_weighted_sum_of_its_terms(theta):
    samples = draw_samples(0, 3)
    loss = LOSS._replace(weights={"response": 2.0, "box": 3.0})

    @jax.jit
    def run(theta):
        predictions = LOSS.predict(theta, samples.features, PHI)
        own = {name: term(predictions, samples) for name, term in LOSS.terms.items()}
        actual = measure_terms(theta, samples, PHI, loss)
        return own, actual, update_loss(theta, samples, PHI, loss), *meta_loss(theta, samples, PHI, loss)

    own, actual, update, meta, terms = run(theta)
    assert own == actual == terms
    assert float(update) == float(meta) == pytest.approx(float(2 * own["response"] + 3 * own["box"]), rel=1e-6)
    values = dict(zip("abcd", map(jnp.float32, (1.0, 10.0, 100.0, 1000.0)), strict=True))
    assert float(tracking_loss(values, {"a": 1.0, "b": 2.0, "c": 3.0, "d": 5.0})) == 1 + 20 + 300 + 5000


def test_the_model_predicts_with_the_anchors_of_its_filter(theta):
    predictions = jax.jit(LOSS.predict)(theta, draw_samples(0, 3).features, PHI)
    assert predictions.response.shape == (3, 8, 8)
    assert predictions.deltas.shape == (3, 8, 8, 4)
    anchors = anchor_boxes(8, GEOMETRY.stride, jnp.array([1.0, 3.0]) / GEOMETRY.filter_scale * GEOMETRY.stride)
    np.testing.assert_allclose(predictions.anchors, anchors, rtol=1e-6)


def test_the_meta_loss_is_averaged_over_clips_and_updates():
    assert float(averaged_meta_loss(jnp.array([[1.0, 2.0], [3.0, 6.0]]))) == 3.0
