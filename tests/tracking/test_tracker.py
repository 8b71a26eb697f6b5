from __future__ import annotations

import dataclasses
import pickle

import jax
import jax.flatten_util
import numpy as np
import pytest

from roam_jax import presets
from roam_jax.checkpoints import CheckpointError, save_checkpoint
from roam_jax.config import Config
from roam_jax.extensions.confidence import SIGNS
from roam_jax.tracking.params import params_from_dict, params_to_dict
from roam_jax.tracking.tracker import Tracker

BOX = (40, 30, 24, 18)


@pytest.fixture(scope="module")
def host(checkpoint):
    return Tracker(checkpoint, crop="host")


@pytest.fixture(scope="module")
def device(checkpoint):
    return Tracker(checkpoint, crop="device")


def track(tracker, video):
    tracker.init(video[0], BOX)
    return np.stack([tracker.update(image) for image in video[1:]])


def test_init_and_update(host, video):
    host.init(video[0], BOX)
    np.testing.assert_array_equal(host.box, BOX)
    assert (host.score, host.lost) == (1.0, False)
    box = host.update(video[1])
    assert box.shape == (4,)
    assert box.dtype == np.float32
    np.testing.assert_array_equal(host.box, box)
    assert isinstance(host.score, float)
    assert isinstance(host.lost, bool)
    assert np.all(box[2:] > 0)


def test_what_it_knows(checkpoint, host, video):
    with pytest.raises(RuntimeError, match=r"Tracker.state needs Tracker.init\(image, box\) first"):
        _ = Tracker(checkpoint).state
    host.init(video[0], BOX)
    host.update(video[1])
    assert int(host.state.frame) == 1
    assert host.signs.shape == (len(SIGNS),)
    assert np.isfinite(host.signs).all()


def test_host_and_device_crops_agree(host, device, video):
    # Two frames, with an update: later, a model of random numbers finds several places equally good.
    np.testing.assert_allclose(track(host, video[:3]), track(device, video[:3]), atol=0.2)


def test_init_starts_anew(host, video):
    first = track(host, video)
    np.testing.assert_array_equal(track(host, video), first)


def test_a_pil_image(host, video):
    pillow = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    expected = track(host, video[:2])
    np.testing.assert_array_equal(track(host, [pillow.fromarray(image) for image in video[:2]]), expected)


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ((1, 2, 3), "four finite numbers"),
        ((1, 2, float("nan"), 4), "four finite numbers"),
        ((10, 10, 0, 5), "positive width and height"),
        ((10, 10, 5, -1), "positive width and height"),
        ((500, 10, 5, 5), "outside the image of 120 x 96"),
        ((-50, 10, 5, 5), "outside the image of 120 x 96"),
    ],
)
def test_bad_boxes(host, video, box, message):
    with pytest.raises(ValueError, match=message) as caught:
        host.init(video[0], box)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "image",
    [np.zeros((8, 9), np.uint8), np.zeros((8, 9, 4), np.uint8), np.zeros((8, 9, 3)), np.zeros((0, 9, 3), np.uint8)],
    ids=["grey", "with alpha", "float", "empty"],
)
def test_bad_images(host, video, image):
    with pytest.raises(ValueError, match="an image must be RGB, uint8") as caught:
        host.init(image, BOX)
    assert "\n" not in str(caught.value)
    host.init(video[0], BOX)
    with pytest.raises(ValueError, match="an image must be RGB, uint8"):
        host.update(image)
    assert host.update(video[1]).shape == (4,)  # nothing is lost


@pytest.mark.parametrize("crop", ["host", "device"])
def test_a_pickled_tracker_goes_on_alike(crop, host, device, video):
    tracker = {"host": host, "device": device}[crop]
    tracker.init(video[0], BOX)
    tracker.update(video[1])
    again = pickle.loads(pickle.dumps(tracker))
    np.testing.assert_array_equal(again.box, tracker.box)
    for image in video[2:5]:
        np.testing.assert_array_equal(again.update(image), tracker.update(image))
        assert (again.score, again.lost) == (tracker.score, tracker.lost)


def test_a_correction_moves_the_search_and_teaches(host, device, video):
    there = (60, 50, 20, 14)
    for tracker in (host, device):
        tracker.init(video[0], BOX)
        tracker.update(video[1])
        before = tracker.state
        tracker.correct(video[2], there)
        np.testing.assert_array_equal(tracker.box, there)
        assert (tracker.score, tracker.lost) == (1, False)
        assert tracker.state.memory.written == before.memory.written + 1
        assert tracker.state.frame == before.frame + 1
        old, new = (jax.flatten_util.ravel_pytree(state.model.theta)[0] for state in (before, tracker.state))
        assert np.abs(old - new).max() > 0
        center = tracker.update(video[3])[:2] + tracker.box[2:] / 2
        assert np.abs(center - (70, 57)).max() < 40, "it searches where it was told"
        with pytest.raises(ValueError, match="outside the image"):
            tracker.correct(video[4], (1000, 1000, 5, 5))
        with pytest.raises(ValueError, match="first one's size"):
            tracker.correct(video[4][:50], there)


@pytest.mark.parametrize("crop", ["host", "device"])
def test_a_restored_tracker_goes_on_alike(crop, host, device, video, tmp_path):
    tracker = {"host": host, "device": device}[crop]
    tracker.init(video[0], BOX)
    for image in video[1:4]:  # with an update
        tracker.update(image)
        tracker.save(tmp_path / "saved")
    again = Tracker.restore(tmp_path / "saved")
    np.testing.assert_array_equal(again.box, tracker.box)
    assert (again.score, again.lost, again.config) == (tracker.score, tracker.lost, tracker.config)
    for image in video[4:]:
        np.testing.assert_array_equal(again.update(image), tracker.update(image))
        assert (again.score, again.lost) == (tracker.score, tracker.lost)
    with pytest.raises(ValueError, match="first one's size"):
        again.update(video[0][:50])


def test_only_saved_trackers_are_restored(checkpoint, tmp_path):
    with pytest.raises(RuntimeError, match=r"needs Tracker\.init"):
        Tracker(checkpoint).save(tmp_path / "a")
    with pytest.raises(RuntimeError, match=r"needs Tracker\.init"):
        Tracker(checkpoint).correct(np.zeros((9, 9, 3), np.uint8), BOX)
    save_checkpoint(tmp_path / "b", checkpoint)
    with pytest.raises(CheckpointError, match=r"holds no tracker that `Tracker\.save` wrote"):
        Tracker.restore(tmp_path / "b")
    with pytest.raises(CheckpointError):
        Tracker.restore(tmp_path / "nowhere")


def test_a_tracker_that_has_not_started_pickles_too(checkpoint, host, video):
    again = pickle.loads(pickle.dumps(Tracker(checkpoint, crop="host")))
    again.init(video[0], BOX)
    host.init(video[0], BOX)
    np.testing.assert_array_equal(again.update(video[1]), host.update(video[1]))


def test_the_callers_box_is_its_own(host, video):
    box = np.array(BOX, np.float32)
    host.init(video[0], box)
    box += 5
    np.testing.assert_array_equal(host.box, BOX)


def test_update_before_init(checkpoint, video):
    with pytest.raises(RuntimeError, match=r"needs Tracker\.init"):
        Tracker(checkpoint).update(video[0])


def test_a_partly_visible_box_is_fine(host, video):
    host.init(video[0], (-10, -5, 24, 18))
    assert np.isfinite(host.update(video[1])).all()


@pytest.mark.parametrize("crop", ["host", "device"])
def test_another_image_size_between_videos(crop, host, device, video):
    tracker = host if crop == "host" else device
    track(tracker, video[:2])
    smaller = np.ascontiguousarray(video[:2, 10:80, 10:100])
    tracker.init(smaller[0], (30, 20, 24, 18))
    assert np.isfinite(tracker.update(smaller[1])).all()


def test_another_image_size_within_a_video_is_an_error(device, host, video):
    for tracker in (device, host):
        tracker.init(video[0], BOX)
        with pytest.raises(ValueError, match="size"):
            tracker.update(np.ascontiguousarray(video[1][:80]))
        assert np.isfinite(tracker.update(video[1])).all()


def with_optimizer(**changes):
    tiny = presets.tiny()
    return dataclasses.replace(tiny, optimizer=dataclasses.replace(tiny.optimizer, **changes))


def test_parameters_of_another_configuration(checkpoint, config):
    with pytest.raises(CheckpointError, match=r"does not fit optimizer.hidden 5: params/.* has shape .* asks for"):
        Tracker(checkpoint, config=with_optimizer(hidden=5))
    with pytest.raises(CheckpointError, match=r"does not fit optimizer.kind gru: params/omega"):
        Tracker(checkpoint, config=with_optimizer(kind="gru"))
    with pytest.raises(CheckpointError, match=r"does not fit optimizer.coordinate_rates 0.1: params/omega"):
        Tracker(checkpoint, config=with_optimizer(kind="sgd", coordinate_rates=0.1))
    with pytest.raises(CheckpointError, match=r"does not fit optimizer.log_lambda0 False: its lambda0 is a logarithm"):
        Tracker(checkpoint, config=with_optimizer(log_lambda0=False))
    with pytest.raises(ValueError, match=r"online.tau must be"):
        Tracker(checkpoint, config=dataclasses.replace(config, online=dataclasses.replace(config.online, tau=0)))


def test_the_defaults_do_not_fit_and_say_why(checkpoint):
    with pytest.raises(CheckpointError) as caught:
        Tracker(checkpoint, config=Config())
    assert caught.value.__suppress_context__, "one traceback, not two"
    said = str(caught.value)
    named = said.removeprefix("the checkpoint does not fit ").split(": ")[0].split(", ")
    assert set(named) == {
        "backbone.name vgg10", "model.base_filter 21", "model.reduced_channels 64", "optimizer.hidden 20",
        "optimizer.log_lambda0 False",
    }  # fmt: skip
    assert "\n" not in said


def test_weights_for_a_checkpoint_with_a_trunk(checkpoint, config):
    other = dataclasses.replace(config, backbone=dataclasses.replace(config.backbone, weights="other.npz"))
    with pytest.raises(CheckpointError, match=r"does not fit backbone.weights other.npz: it holds its own trunk"):
        Tracker(checkpoint, config=other)
    own = dataclasses.replace(checkpoint, config=other)  # what its trunk came from
    Tracker(own)
    Tracker(own, config=config)


def test_sgd_needs_no_parameters_of_its_own(checkpoint, video):
    tracker = Tracker(checkpoint, config=with_optimizer(kind="sgd", sgd_rate=1e-3))
    assert tracker.params.omega == {}
    tracker.init(video[0], BOX)
    before = tracker._state.model.theta
    for image in video[1:3]:
        assert np.isfinite(tracker.update(image)).all()
    assert not np.array_equal(before.cf.filters, tracker._state.model.theta.cf.filters)
    assert all(np.allclose(rates, 1e-3) for rates in jax.tree.leaves(tracker._state.model.rates))


def test_parameters_there_and_back(config, params):
    restored = params_from_dict(params_to_dict(params), config)
    assert jax.tree.structure(restored) == jax.tree.structure(params)
    for ours, theirs in zip(jax.tree.leaves(restored), jax.tree.leaves(params), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_incomplete_parameters(config, params):
    values = params_to_dict(params)
    parts = "lambda0, neck, omega, stats, theta0, top, trunk"
    with pytest.raises(ValueError, match=f"params should hold {parts}, but holds trunk$"):
        params_from_dict({"trunk": values["trunk"]}, config)
    with pytest.raises(ValueError, match="params/theta0 should hold cf, reg, but holds ndarray"):
        params_from_dict({**values, "theta0": np.zeros(3)}, config)
    lists = jax.tree.map(lambda leaf: {"x": leaf}, values["stats"])
    with pytest.raises(ValueError, match="params/stats/mean has parts, but the configuration asks for"):
        params_from_dict({**values, "stats": lists}, config)
    whole = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.int32), values["stats"])
    with pytest.raises(ValueError, match=r"params/stats/mean has shape \(\d+,\) of int32, .* of float32"):
        params_from_dict({**values, "stats": whole}, config)
    omega = {key: value for key, value in values["omega"].items() if key != "head"}
    with pytest.raises(ValueError, match="params/omega should hold head, layer0, layer1"):
        params_from_dict({**values, "omega": omega}, config)
