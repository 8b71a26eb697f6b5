from __future__ import annotations

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from roam_jax.config import LossConfig
from roam_jax.core.boxes import anchor_boxes, encode
from roam_jax.core.losses import (
    Losses,
    Samples,
    box_loss,
    choose_anchors,
    giou_loss,
    meta_loss,
    peak_loss,
    predict,
    response_loss,
    smooth_l1,
    tracking_loss,
    tracking_losses,
)
from roam_jax.core.model import init_theta

PAPER = LossConfig(response_form="paper", box_form="paper", top_anchors=3)
OFFICIAL = LossConfig(top_anchors=3)
FORMS = pytest.mark.parametrize("loss", [PAPER, OFFICIAL], ids=["paper", "official"])
WEIGHTS = (1.0, 0.0, 1.0)
RESPONSE = jax.jit(response_loss, static_argnums=3)
THETA = jax.jit(init_theta, static_argnums=(0, 1))


@partial(jax.jit, static_argnums=(4, 5))
def BOX(deltas, true, anchors, weights, config, frames=None):
    return box_loss(deltas, true, anchors, choose_anchors(true, anchors, weights, config, frames))


def test_smooth_l1():
    np.testing.assert_allclose(smooth_l1(jnp.array([0.0, 0.5, -0.5, 1.0, -3.0])), [0, 0.125, 0.125, 0.5, 2.5])


@pytest.fixture
def maps():
    rng = np.random.default_rng(0)
    return rng.uniform(-0.5, 1.2, (3, 4, 4)).astype(np.float32), rng.uniform(0, 1, (3, 4, 4)).astype(np.float32)


def test_response_loss_of_the_paper(maps):
    response, labels = maps
    total = energy = 0.0
    for weight, r, m in zip(WEIGHTS, response, labels, strict=True):
        for a, b in zip(r.ravel(), m.ravel(), strict=True):
            total += weight * (a - b) ** 2
            energy += weight * b**2
    found = RESPONSE(jnp.asarray(response), jnp.asarray(labels), jnp.array(WEIGHTS), PAPER)
    assert float(found) == pytest.approx(total / energy, rel=1e-5)


def test_response_loss_of_the_official_code(maps):
    response, labels = maps
    total = count = 0.0
    for weight, r, m in zip(WEIGHTS, response, labels, strict=True):
        for a, b in zip(r.ravel(), m.ravel(), strict=True):
            if weight and abs(a - b) >= 0.1:
                total += np.exp(b) * (a - b) ** 2
                count += 1
    assert 0 < count < 32
    found = RESPONSE(jnp.asarray(response), jnp.asarray(labels), jnp.array(WEIGHTS), OFFICIAL)
    assert float(found) == pytest.approx(total / (count + 1), rel=1e-5)


def box_errors(deltas, boxes, anchors):
    """Overlap and mean smooth L1 error of every anchor, one at a time."""
    found, errors = np.zeros(anchors.shape[:3]), np.zeros(anchors.shape[:3])
    for index in np.ndindex(*anchors.shape[:3]):
        (cx, cy, w, h), (ax, ay, aw, ah) = boxes[index[0]].astype(float), anchors[index].astype(float)
        wide = min(cx + w / 2, ax + aw / 2) - max(cx - w / 2, ax - aw / 2)
        high = min(cy + h / 2, ay + ah / 2) - max(cy - h / 2, ay - ah / 2)
        inter = max(wide, 0) * max(high, 0)
        found[index] = inter / (w * h + aw * ah - inter)
        wrong = np.abs(deltas[index] - [(cx - ax) / aw, (cy - ay) / ah, np.log(w / aw), np.log(h / ah)])
        errors[index] = np.mean([0.5 * e * e if e < 1 else e - 0.5 for e in wrong])
    return found, errors


@pytest.fixture
def boxes():
    rng = np.random.default_rng(1)
    true = np.concatenate([rng.uniform(-3, 3, (3, 2)), rng.uniform(10, 16, (3, 2))], axis=1).astype(np.float32)
    anchors = np.broadcast_to(np.asarray(anchor_boxes(4, 4, jnp.array([11.0, 13.0]))), (3, 4, 4, 4))
    return rng.normal(size=(3, 4, 4, 4)).astype(np.float32), true, anchors


def test_box_loss_of_the_paper(boxes):
    found, errors = box_errors(*boxes)
    chosen = [errors[n][(found[n] >= 0.5) | (found[n] == found[n].max())] for n in (0, 2)]
    expected = np.mean(np.concatenate(chosen))
    deltas, true, anchors = map(jnp.asarray, boxes)
    assert float(BOX(deltas, true, anchors, jnp.array(WEIGHTS), PAPER)) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("frames", [None, 1, 2])
def test_box_loss_of_the_official_code(boxes, frames):
    found, errors = box_errors(*boxes)
    found, errors = found[[0, 2]].ravel(), errors[[0, 2]].ravel()
    best = np.argsort(found)[::-1][: OFFICIAL.top_anchors * (frames or 3)]
    deltas, true, anchors = map(jnp.asarray, boxes)
    ours = BOX(deltas, true, anchors, jnp.array(WEIGHTS), OFFICIAL, frames)
    assert float(ours) == pytest.approx(errors[best].mean(), rel=1e-4)


def test_box_loss_has_an_anchor_even_where_none_fits(boxes):
    deltas, true, anchors = map(jnp.asarray, boxes)
    tiny = true.at[:, 2:].set(0.5)
    assert float(BOX(deltas, tiny, anchors, jnp.ones(3), PAPER)) > 0


def test_equal_overlaps_go_to_the_later_anchor():
    config = LossConfig(top_anchors=1)
    anchors = jnp.broadcast_to(jnp.array([0.0, 0.0, 4.0, 4.0]), (1, 2, 2, 4))
    deltas = jnp.zeros((1, 2, 2, 4)).at[0, 1, 1].set(3.0)
    true = jnp.array([[0.0, 0.0, 4.0, 4.0]])
    assert float(BOX(deltas, true, anchors, jnp.ones(1), config)) == pytest.approx(2.5)


@FORMS
def test_a_sample_of_weight_zero_is_left_out(config, channels, make_samples, loss):
    theta = THETA(config.model, channels, key=jax.random.key(0))
    samples = make_samples(config, 0, 3)._replace(weights=jnp.array(WEIGHTS))
    other = jax.tree.map(lambda a, b: a.at[1].set(b), samples, Samples(9.0, 0.3, 5.0, 0.0))
    run = jax.jit(lambda s: jax.value_and_grad(tracking_loss)(theta, s, jnp.array([5.0, 7.0]), config.model, loss))
    for ours, theirs in zip(jax.tree.leaves(run(other)), jax.tree.leaves(run(samples)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    counted = float(run(samples._replace(weights=jnp.ones(3)))[0])
    assert counted != pytest.approx(float(run(samples)[0]), rel=1e-4)


@FORMS
def test_without_any_sample_loss_and_gradient_are_zero(config, channels, make_samples, loss):
    theta = THETA(config.model, channels, key=jax.random.key(0))
    empty = jax.tree.map(jnp.zeros_like, make_samples(config, 0, 2))
    run = jax.jit(lambda t: jax.value_and_grad(tracking_loss)(t, empty, jnp.array([5.0, 5.0]), config.model, loss))
    value, gradient = run(theta)
    assert float(value) == 0.0
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(gradient))


@FORMS
def test_clips_that_share_a_model_are_pooled(config, channels, make_samples, loss):
    theta = THETA(config.model, channels, key=jax.random.key(0))
    samples, phi = make_samples(config, 1, 2, 3), jnp.array([[5.0, 7.0], [9.0, 3.0]])
    found = jax.jit(lambda t: tracking_losses(t, samples, phi, config.model, loss))(theta)
    alone = jax.jit(lambda f, p: predict(theta, f, p, config.model))
    parts = [alone(samples.features[g], phi[g]) for g in (0, 1)]
    response = jnp.concatenate([p[0] for p in parts])
    deltas = jnp.concatenate([p[1] for p in parts])
    anchors = jnp.concatenate([jnp.broadcast_to(p[2], p[1].shape) for p in parts])
    labels, true = samples.labels.reshape(6, 16, 16), samples.boxes_cxcywh.reshape(6, 4)
    assert float(found.response) == pytest.approx(float(RESPONSE(response, labels, jnp.ones(6), loss)), rel=1e-5)
    expected = BOX(deltas, true, anchors, jnp.ones(6), loss, 3)
    assert float(found.box) == pytest.approx(float(expected), rel=1e-5)


def test_the_box_term_has_its_weight(config, channels, make_samples):
    theta = THETA(config.model, channels, key=jax.random.key(0))
    args = (make_samples(config, 0, 2), jnp.array([5.0, 5.0]), config.model)
    triple = dataclasses.replace(OFFICIAL, box_weight=3.0)
    both = jax.jit(lambda t: (tracking_losses(t, *args, OFFICIAL), tracking_loss(t, *args, triple)))
    terms, total = both(theta)
    assert float(total) == pytest.approx(float(terms.response + 3 * terms.box), rel=1e-6)


def test_the_box_loss_is_the_mean_over_the_chosen_anchors(boxes):
    _, errors = box_errors(*boxes)
    chosen = np.zeros((3, 4, 4), np.float32)
    chosen[0, 1, 2], chosen[2, 3, 3] = 1.0, 0.5
    deltas, true, anchors = map(jnp.asarray, boxes)
    found = jax.jit(box_loss)(deltas, true, anchors, jnp.asarray(chosen))
    assert float(found) == pytest.approx((errors[0, 1, 2] + 0.5 * errors[2, 3, 3]) / 1.5, rel=1e-4)


def test_peak_loss_is_least_where_the_peak_is():
    labels = jnp.zeros((1, 4, 4)).at[0, 1, 2].set(1.0)
    found = [float(peak_loss(jnp.zeros((1, 4, 4)).at[0, 1, at].set(1.0), labels, jnp.ones(1), 20.0)) for at in (2, 3)]
    assert found[0] == pytest.approx(0.0, abs=1e-6)
    assert found[1] == pytest.approx(20.0, rel=1e-3)
    assert float(peak_loss(jnp.zeros((1, 4, 4)), labels, jnp.ones(1), 20.0)) == pytest.approx(np.log(16), rel=1e-5)


def test_giou_loss_is_zero_for_the_true_boxes_only(boxes):
    _, true, anchors = map(jnp.asarray, boxes)
    chosen = jnp.zeros((3, 4, 4)).at[:, 1:3, 1:3].set(1.0)
    exact = encode(true[:, None, None], anchors)
    far = exact.at[..., 0].add(5.0)  # five widths away: nothing overlaps
    run = jax.jit(giou_loss)
    assert float(run(exact, true, anchors, chosen)) == pytest.approx(0.0, abs=1e-5)
    assert 1.0 < float(run(far, true, anchors, chosen)) < 2.0
    elsewhere = exact.at[:, 0].add(3.0)  # only anchors that are not chosen
    assert float(run(elsewhere, true, anchors, chosen)) == pytest.approx(0.0, abs=1e-5)


def test_meta_loss_weighs_every_term():
    loss = LossConfig(box_weight=2.0, peak_weight=3.0, giou_weight=5.0)
    assert float(meta_loss(Losses(*map(jnp.float32, (1.0, 10.0, 100.0, 1000.0))), loss)) == 1 + 20 + 300 + 5000


def test_anchors_of_the_samples_take_the_place_of_the_choice(config, channels, make_samples):
    theta = THETA(config.model, channels, key=jax.random.key(0))
    samples, phi = make_samples(config, 0, 2), jnp.array([5.0, 5.0])
    chosen = jnp.zeros((2, 16, 16)).at[0, 3, 4].set(1.0)
    given = samples._replace(anchors=chosen)
    run = jax.jit(lambda s: tracking_losses(theta, s, phi, config.model, OFFICIAL))
    _, deltas, anchors = jax.jit(lambda: predict(theta, samples.features, phi, config.model))()
    expected = box_loss(deltas, samples.boxes_cxcywh, jnp.broadcast_to(anchors, deltas.shape), chosen)
    assert float(run(given).box) == pytest.approx(float(expected), rel=1e-5)
    assert float(run(given).box) != pytest.approx(float(run(samples).box), rel=1e-3)
