from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from roam_jax import presets
from roam_jax.backbones import make_backbone
from roam_jax.core.samples import filter_size_of
from roam_jax.core.warp import filter_size
from roam_jax.method import make_geometry, make_method
from roam_jax.tracking.params import init_params
from roam_jax.training.episodes import clip_meta_loss, make_episode, meta_gradient

FIRST = 9


@pytest.fixture(scope="module")
def config():
    """With a neck, so that its gradient is tested too, and the three updates that reach all of the recurrent state."""
    config = presets.tiny()
    return dataclasses.replace(
        config,
        backbone=dataclasses.replace(config.backbone, neck_channels=4),
        unroll=dataclasses.replace(config.unroll, updates=3),
        meta=dataclasses.replace(config.meta, neck_rate=1e-3),
    )


@pytest.fixture(scope="module")
def backbone(config):
    return make_backbone(config)


@pytest.fixture(scope="module")
def learned(config):
    params = jax.jit(lambda key: init_params(config, key=key))(jax.random.key(0))
    return params._replace(trunk={})


@pytest.fixture(scope="module")
def batch(config, backbone):
    """Trunk features of two clips, and boxes whose shape changes."""
    rng = np.random.default_rng(0)
    frames = FIRST + config.unroll.clip_frames
    levels = tuple(jnp.asarray(rng.normal(size=(2, frames, *level.shape[1:])), jnp.float32) for level in backbone.seen)
    boxes = np.concatenate([rng.uniform(-6, 6, (2, frames, 2)), rng.uniform(10, 24, (2, frames, 2))], axis=-1)
    return levels, jnp.asarray(boxes, jnp.float32), jnp.ones((2, frames), bool)


def clip(batch, index):
    return jax.tree.map(lambda x: x[index], batch)


def make_one(config, backbone, batch):
    """Function of (learned, key) that cuts the first clip."""
    method = make_method(config)
    return jax.jit(lambda learned, key: make_episode(learned, *clip(batch, 0), backbone, method, config, key=key))


@pytest.fixture(scope="module")
def episode(config, backbone, learned, batch):
    return make_one(config, backbone, batch)(learned, jax.random.key(5))


def test_shapes(config, episode):
    t, m = config.unroll, config.model
    assert episode.first.features.shape == (FIRST, m.map_size, m.map_size, 4)
    assert episode.updates.features.shape == (t.updates - 1, t.look_ahead, m.map_size, m.map_size, 4)
    assert episode.tests.features.shape == (t.updates, t.tests, m.map_size, m.map_size, 4)
    assert episode.phis.shape == (t.updates, 2)
    for part in (episode.first, episode.updates, episode.tests):
        assert part.labels.shape == part.features.shape[:-1]
        assert part.boxes_cxcywh.shape == (*part.weights.shape, 4)
        np.testing.assert_array_equal(part.weights, 1)


def test_which_frame_goes_where(config, episode, batch):
    t, boxes = config.unroll, np.asarray(clip(batch, 0)[1])
    np.testing.assert_array_equal(episode.first.boxes_cxcywh, boxes[:FIRST])
    later = boxes[FIRST:].reshape(t.updates, t.look_ahead, 4)
    np.testing.assert_array_equal(episode.updates.boxes_cxcywh, later[:-1])
    for test, ahead in zip(np.asarray(episode.tests.boxes_cxcywh), later, strict=True):
        assert any(np.array_equal(test[0], box) for box in ahead)  # a frame after the update that it judges


def test_only_the_frames_that_judge_know_what_is_visible(config, backbone, learned, batch):
    visible = np.ones(batch[2].shape, bool)
    visible[:, FIRST:] = np.arange(config.unroll.clip_frames) % 2
    levels, boxes, _ = batch
    episode = make_one(config, backbone, (levels, boxes, jnp.asarray(visible)))(learned, jax.random.key(5))
    assert episode.first.visible.all()
    assert episode.updates.visible.all()
    known = {tuple(box): seen for box, seen in zip(np.asarray(boxes[0]), visible[0], strict=True)}
    judged = zip(np.asarray(episode.tests.boxes_cxcywh)[:, 0], episode.tests.visible[:, 0], strict=True)
    assert [bool(seen) for _, seen in judged] == [
        known[tuple(box)] for box in np.asarray(episode.tests.boxes_cxcywh)[:, 0]
    ]
    assert 0 < visible[0, FIRST:].sum() < config.unroll.clip_frames


def test_filter_sizes_follow_the_boxes(config, episode, batch):
    boxes, t, m = clip(batch, 0)[1], config.unroll, config.model
    sizes = [jnp.exp(jnp.log(boxes[:FIRST, 2:]).mean(axis=0))]  # of the first frame: the middle of its samples
    sizes += [boxes[FIRST + t.look_ahead * k, 2:] for k in range(1, t.updates)]
    expected = [filter_size(wh, m.target_side_patch, m.filter_scale, m.stride, m.max_filter) for wh in sizes]
    np.testing.assert_array_equal(episode.phis, np.stack(expected))
    np.testing.assert_array_equal(filter_size_of(jnp.stack(sizes), make_geometry(config)), np.stack(expected))


def test_some_of_the_first_frame_samples(config, backbone, learned, batch, episode):
    few = dataclasses.replace(config, unroll=dataclasses.replace(config.unroll, first_samples=4))
    make = make_one(few, backbone, batch)
    made = [make(learned, jax.random.key(seed)) for seed in range(2)]
    given = {tuple(box) for box in np.asarray(clip(batch, 0)[1][:FIRST])}
    chosen = [{tuple(box) for box in np.asarray(one.first.boxes_cxcywh)} for one in made]
    assert all(len(boxes) == 4 and boxes <= given for boxes in chosen)
    assert chosen[0] != chosen[1]
    np.testing.assert_array_equal(made[0].phis, episode.phis)
    np.testing.assert_array_equal(made[0].updates.boxes_cxcywh, episode.updates.boxes_cxcywh)


def test_tests_are_drawn_at_random_without_repetition(config, backbone, learned, batch):
    config = dataclasses.replace(config, unroll=dataclasses.replace(config.unroll, tests=2, look_ahead=2))
    make = make_one(config, backbone, batch)
    orders = set()
    for seed in range(8):
        tests = np.asarray(make(learned, jax.random.key(seed)).tests.boxes_cxcywh)
        assert not np.array_equal(tests[0, 0], tests[0, 1])
        orders.add(float(tests[0, 0, 0]))
    assert len(orders) == 2


@pytest.fixture(scope="module")
def gradients(config, backbone, learned, batch):
    """The batch's meta-gradient, and that of each clip with the key that the batch gives it."""
    keys = jax.random.split(jax.random.key(3), 2)
    whole = jax.jit(lambda learned: meta_gradient(learned, *batch, backbone, config, keys=keys))(learned)

    @jax.jit
    def one(learned, levels, boxes, visible, key):
        return jax.grad(clip_meta_loss, has_aux=True)(learned, levels, boxes, visible, backbone, config, key=key)

    return whole, [one(learned, *clip(batch, index), k) for index, k in enumerate(keys)]


def test_meta_gradient_is_the_mean_over_the_clips(gradients):
    whole, parts = gradients
    for ours, *clips in zip(*map(jax.tree.leaves, (whole, *parts)), strict=True):
        np.testing.assert_allclose(ours, np.mean(clips, axis=0), rtol=1e-3, atol=1e-6)
    assert float(parts[0][1].total) != pytest.approx(float(parts[1][1].total), rel=1e-4)


def test_everything_that_is_learned_has_a_finite_gradient(gradients):
    (gradient, loss), _ = gradients
    assert np.isfinite(loss.total)
    for path, leaf in jax.tree.leaves_with_path(gradient):
        assert np.isfinite(leaf).all(), path
        measured = path[0].name == "stats"  # of the trunk's features, never learned
        assert np.any(leaf) != measured, path


def test_a_part_whose_rate_is_zero_is_held(config, backbone, learned, batch):
    """Its gradient is zero, the others' are as before."""
    held = dataclasses.replace(config, meta=dataclasses.replace(config.meta, neck_rate=0.0, lambda_rate=0.0))

    def gradient(config):
        def loss(learned):
            return clip_meta_loss(learned, *clip(batch, 0), backbone, config, key=jax.random.key(3))

        return jax.jit(jax.grad(loss, has_aux=True))(learned)[0]

    some, everything = gradient(held), gradient(config)
    for part in (some.neck, some.lambda0):
        assert not any(np.any(leaf) for leaf in jax.tree.leaves(part))
    for part in ("theta0", "omega"):
        pairs = zip(*(jax.tree.leaves(getattr(g, part)) for g in (some, everything)), strict=True)
        for ours, theirs in pairs:
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
