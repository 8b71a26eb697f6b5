from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from roam_jax.patches.geometry import roi_of_box
from roam_jax.tracking.online import Online, first_rois, search_roi, search_rois


def same(ours, theirs, atol=0.0):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=atol, atol=atol)


def changed(ours, theirs):
    return any(np.any(a != b) for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True))


@pytest.fixture(scope="module")
def traced():
    return []


@pytest.fixture(scope="module")
def programs(online, traced):
    """Jitted start and step; `traced` counts how often step was compiled."""

    def step(params, state, image):
        traced.append(None)
        return online.step(params, state, image)

    return jax.jit(online.start), jax.jit(step)


@pytest.fixture(scope="module")
def first(programs, params, video, box_xywh):
    return programs[0](params, video[0], jnp.asarray(box_xywh))


@pytest.fixture(scope="module")
def run(programs, params, video, first):
    """States and predictions of all later frames, one call per frame."""

    def track():
        state, states, predictions = first, [], []
        for image in video[1:]:
            state, prediction = programs[1](params, state, image)
            states.append(state)
            predictions.append(prediction)
        return states, jax.tree.map(lambda *x: jnp.stack(x), *predictions)

    return track


@pytest.fixture(scope="module")
def tracked(run):
    return run()


def test_first_samples_are_stretched_around_the_object(config):
    box = jnp.array([50.0, 40.0, 16.0, 9.0])
    rois = first_rois(box, config)
    side = float(roi_of_box(box, config.model.roi_scale).size_wh[0])
    assert rois.size_wh.shape == (9, 2)
    assert len({tuple(size) for size in np.round(np.asarray(rois.size_wh), 3).tolist()}) == 9
    np.testing.assert_array_equal(rois.center_xy, np.broadcast_to([50, 40], (9, 2)))
    actual = {tuple(size) for size in np.round(np.asarray(rois.size_wh), 2).tolist()}
    expected = {(round(side / (s * r), 2), round(side / (s / r), 2)) for s in (0.8, 1.0, 1.2) for r in (0.8, 1.0, 1.2)}
    np.testing.assert_allclose(sorted(actual), sorted(expected), atol=0.02)


def test_start_takes_one_step_and_remembers_nothing_yet(config, params, first):
    assert changed(first.model.theta, params.theta0)
    assert int(first.memory.used) == 0
    assert int(first.frame) == 0
    assert first.memory.samples.features.shape[0] == config.online.memory
    np.testing.assert_allclose(first.box_cxcywh, [52, 39, 24, 18])
    np.testing.assert_array_equal(first.image_wh, [120, 96])
    side = config.model.target_side_patch
    assert float(np.prod(first.start_wh_patch)) == pytest.approx(side**2, rel=1e-4)


def test_it_runs_and_updates_every_tau_frames(config, first, tracked):
    states, predictions = tracked
    assert np.isfinite(predictions.box_cxcywh).all()
    assert [int(state.frame) for state in states] == list(range(1, 7))
    assert int(states[0].memory.written) > 0
    before = first
    for state in states:
        updated = int(state.frame) % config.online.tau == 0
        assert changed(state.model, before.model) == updated
        before = state


def test_the_same_video_twice(run, tracked):
    same(run(), tracked)


def test_one_compilation_whatever_the_box_does(config, programs, traced, params, video, first):
    step = programs[1]
    sizes = []
    for factor in (0.3, 0.5, 1.0, 2.0, 3.0):
        for stretch in (0.3, 1.0, 3.0):
            box = first.box_cxcywh * jnp.array([1.0, 1.0, factor * stretch, factor / stretch])
            roi = search_roi(box, config)
            state = first._replace(box_cxcywh=box, roi=roi, frame=jnp.int32(config.online.tau - 1))
            state, prediction = step(params, state, video[1])
            assert np.isfinite(prediction.box_cxcywh).all()
            sizes.append(tuple(np.asarray(state.phi).tolist()))
    assert len(set(sizes)) > 2  # the filters did change their size
    assert len(traced) == 1
    assert step._cache_size() == 1


def test_scan_is_repeated_step(online, params, video, first, tracked):
    state, predictions = jax.jit(online.scan)(params, first, video[1:])
    same(predictions, tracked[1], atol=2e-3)
    same(state.box_cxcywh, tracked[0][-1].box_cxcywh, atol=2e-3)
    assert int(state.frame) == len(video) - 1


def test_many_targets_are_a_vmap(programs, online, params, video, first):
    boxes = jnp.array([[40.0, 30.0, 24.0, 18.0], [10.0, 50.0, 16.0, 30.0]])
    other = programs[0](params, video[0], boxes[1])
    both = jax.tree.map(lambda *x: jnp.stack(x), first, other)
    both, predictions = jax.jit(jax.vmap(online.step, in_axes=(None, 0, None)))(params, both, video[1])
    for index, state in enumerate((first, other)):
        _, alone = programs[1](params, state, video[1])
        same(jax.tree.map(lambda x: x[index], predictions), alone, atol=2e-3)  # noqa: B023
    assert np.abs(predictions.box_cxcywh[0] - predictions.box_cxcywh[1]).max() > 5


def test_an_update_that_is_not_finite_is_refused(config, programs, params, video, first):
    broken = params._replace(omega=jax.tree.map(lambda x: x * jnp.nan, params.omega))
    due = first._replace(frame=jnp.int32(config.online.tau - 1))
    after, prediction = programs[1](broken, due, video[1])
    assert int(after.memory.written) == 1  # so the update was due
    same(after.model, first.model)
    assert np.isfinite(prediction.box_cxcywh).all()
    sound, _ = programs[1](params, due, video[1])
    assert changed(sound.model, first.model)


def test_nothing_accepted_nothing_learned(config, programs, params, video, first):
    doubtful = first._replace(reference=jnp.float32(1e6), frame=jnp.int32(config.online.tau - 1))
    after, prediction = programs[1](params, doubtful, video[1])
    assert int(after.memory.written) == 0
    same((after.model, after.phi), (first.model, first.phi))
    assert bool(prediction.lost)
    assert bool(after.loose)


@pytest.fixture(scope="module")
def doubting(with_online):
    """Step of a tracker that is sure of frames that respond at least as usual, e.g. with probability 0.5 as usual."""
    online = with_online(confidence=(0.0, 1.0, 0.0), lost_score=0.3, found_score=0.6)
    return jax.jit(online.step)


def test_lost_from_a_low_score_until_a_high_one(doubting, params, video, first):
    """The score is here the response over the usual one, as a / (1 + a)."""

    def step(state, usual_response):
        usual = state.usual._replace(log_response=jnp.log(jnp.float32(usual_response)))
        return doubting(params, state._replace(usual=usual), video[1])

    _, like_usual = step(first, 1.0)
    response = float(like_usual.score / (1 - like_usual.score))
    for was_lost, ratio, lost in [
        (False, 0.2, True), (False, 0.8, False), (True, 0.8, True), (True, 2.0, False), (False, 2.0, False)
    ]:  # fmt: skip
        state, prediction = step(first._replace(lost=jnp.asarray(was_lost)), response / ratio)
        assert float(prediction.score) == pytest.approx(ratio / (1 + ratio), rel=1e-3)
        assert (bool(prediction.lost), bool(state.lost)) == (lost, lost)


def test_nothing_is_learned_from_a_frame_in_which_the_object_is_lost(doubting, params, video, first):
    usual = first.usual._replace(log_response=jnp.float32(20.0))
    lost, prediction = doubting(params, first._replace(usual=usual), video[1])
    actual, _ = doubting(params, first, video[1])
    assert bool(prediction.lost)
    assert (int(lost.memory.written), int(actual.memory.written)) == (0, 1)
    np.testing.assert_allclose(lost.box_cxcywh[2:], first.box_cxcywh[2:], rtol=1e-5)
    assert np.abs(actual.box_cxcywh[2:] - first.box_cxcywh[2:]).max() > 0.1
    np.testing.assert_allclose(lost.box_cxcywh[:2], actual.box_cxcywh[:2], rtol=1e-5)


def test_boxes_that_differ_by_rounding_are_searched_in_the_same_window(config, first):
    box = np.asarray(first.box_cxcywh) + np.float32(0.2)  # not half-way between two pixels
    for shift in ([1e-5, 0, 0, 0], [0, -1e-5, 1e-5, 0]):
        same(search_roi(box + np.float32(shift), config), search_roi(box, config))
    roi = search_roi(box + np.float32([0.3, 0.4, 1.7, 0]), config)
    np.testing.assert_array_equal((roi.center_xy - roi.size_wh / 2) % 1, 0)
    np.testing.assert_array_equal(roi.size_wh % 1, 0)


def test_without_updates_the_model_stays(with_online, config, params, video, first, tracked):
    state, predictions = jax.jit(with_online(updates=False).scan)(params, first, video[1:])
    same((state.model, state.phi), (first.model, first.phi))
    assert int(state.memory.written) > 0
    boxes, others = predictions.box_cxcywh, tracked[1].box_cxcywh
    tau = config.online.tau
    np.testing.assert_allclose(boxes[:tau], others[:tau], atol=2e-3)  # an update is seen from the next frame on
    assert np.abs(boxes[tau:] - others[tau:]).max() > 0.1


def test_first_frame_samples_can_stay(with_online, params, video, box_xywh):
    online = with_online(first_samples=2)
    state = jax.jit(online.start)(params, video[0], jnp.asarray(box_xywh))
    assert state.first.weights.shape == (2,)
    # The first one is the object as it is.
    np.testing.assert_allclose(state.first.boxes_cxcywh[0, 2:], state.start_wh_patch, rtol=1e-5)


def test_multi_scale_search(with_online, params, video, first, box_xywh):
    online: Online = with_online(regression=False)
    rois = search_rois(first.roi, online.config)
    np.testing.assert_allclose(rois.size_wh[:, 0] / rois.size_wh[1, 0], [0.96, 1.0, 1.04], rtol=1e-5)
    state, predictions = jax.jit(online.scan)(params, first, video[1:])
    boxes = np.asarray(predictions.box_cxcywh)
    assert np.isfinite(boxes).all()
    assert int(state.frame) == len(video) - 1
    ratio = boxes[:, 2] / boxes[:, 3]
    np.testing.assert_allclose(ratio, box_xywh[2] / box_xywh[3], rtol=1e-4)  # it follows scale only
