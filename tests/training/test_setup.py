"""Beginning from a checkpoint that has less than the configuration asks for; what a tracker is measured on."""

from __future__ import annotations

import dataclasses
import json

import jax
import numpy as np
import pytest

from roam_jax import presets
from roam_jax.checkpoints import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from roam_jax.data.sequences import DataError
from roam_jax.tracking.params import init_params, params_to_dict
from roam_jax.training.report import format_duration
from roam_jax.training.setup import Settings, begin, read_sequences

replace = dataclasses.replace


def equal(a, b):
    return jax.tree.all(jax.tree.map(np.array_equal, a, b))


@pytest.fixture(scope="module")
def config():
    tiny = presets.tiny()
    return replace(tiny, backbone=replace(tiny.backbone, neck_channels=4))


@pytest.fixture(scope="module")
def saved(config, tmp_path_factory):
    """A checkpoint of that configuration: its folder and its parameters."""
    folder = tmp_path_factory.mktemp("start") / "checkpoint"
    params = jax.jit(lambda key: params_to_dict(init_params(config, key=key)))(jax.random.key(7))
    save_checkpoint(folder, Checkpoint(config, jax.tree.map(np.asarray, params), "of a test"))
    return str(folder), params


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0.4 s"), (80, "80.0 s"), (600, "10.0 min"), (9000, "2.5 h"), (432000, "5.0 days")]
)
def test_a_duration_is_readable(seconds, text):
    assert format_duration(seconds) == text


def begin_from(folder, config):
    return begin(Settings(data=(), start=folder), config)


def test_the_same_configuration_takes_everything(config, saved):
    folder, params = saved
    learned, pretrained = begin_from(folder, config)
    assert learned.trunk == {}
    assert equal(params_to_dict(learned._replace(**pretrained)), params)


def test_new_blocks_are_nearly_zero_and_another_optimizer_is_new(config, saved):
    folder, params = saved
    wider = replace(
        config,
        backbone=replace(config.backbone, neck_blocks=2),
        optimizer=replace(config.optimizer, inputs="log", coordinate_rates=1e-4),
    )
    learned, _ = begin_from(folder, wider)
    assert equal(learned.stats, params["stats"])
    for name in ("project", "mix"):
        assert equal(learned.neck[name], params["neck"][name])
    mix, new = params["neck"]["mix"]["w"], learned.neck["mix2"]["w"]
    assert new.shape == mix.shape
    assert 0 < np.abs(new).max() < 0.05
    assert equal(learned.theta0.cf._asdict(), params["theta0"]["cf"])
    np.testing.assert_allclose(np.exp(learned.omega["log_rates"]), 1e-4, rtol=1e-5)


def test_an_optimizer_of_explicit_steps_is_not_taken_for_implicit_ones(tmp_path, config):
    explicit = replace(
        config,
        loss=replace(config.loss, response_form="paper"),
        optimizer=replace(config.optimizer, coordinate_rates=1e-4),
        implicit=replace(config.implicit, iterations=2, lambda0=3.0),
    )
    params = jax.jit(lambda key: params_to_dict(init_params(explicit, key=key)))(jax.random.key(7))
    save_checkpoint(tmp_path / "explicit", Checkpoint(explicit, jax.tree.map(np.asarray, params), "of a test"))
    kept, _ = begin_from(str(tmp_path / "explicit"), explicit)
    assert equal(kept.omega, params["omega"])
    implicit = replace(explicit, implicit=replace(explicit.implicit, updates=True))
    learned, _ = begin_from(str(tmp_path / "explicit"), implicit)
    rates = np.exp(learned.omega["log_rates"])
    count = sum(x.size for x in (learned.theta0.cf.filters, learned.theta0.cf.bias))
    assert np.sum(np.isclose(rates, 3.0)) == count
    assert np.sum(np.isclose(rates, 1e-4)) == rates.size - count


def test_stages_that_were_frozen_begin_as_they_were():
    shipped = load_checkpoint("lite")
    backbone = replace(shipped.config.backbone, tuned_stages=shipped.config.backbone.tuned_stages + 1)
    learned, pretrained = begin_from("lite", replace(shipped.config, backbone=backbone))
    assert set(learned.top) > set(shipped.params["top"])
    assert equal(learned.top, pretrained["top"])
    whole = {**shipped.params["trunk"], **shipped.params["top"]}
    assert equal({**pretrained["trunk"], **learned.top}, whole)


def test_what_does_not_fit_is_named(config, saved):
    folder, _ = saved
    with pytest.raises(CheckpointError, match="has the backbone 'tiny'"):
        begin_from(folder, presets.lite())
    larger = replace(config, model=replace(config.model, reduced_channels=8))
    with pytest.raises(CheckpointError, match="theta0/cf/reduce_w has shape"):
        begin_from(folder, larger)
    with pytest.raises(CheckpointError, match=r"does not fit optimizer\.log_lambda0 False: its lambda0 is a log"):
        begin_from(folder, replace(config, optimizer=replace(config.optimizer, log_lambda0=False)))
    with pytest.raises(CheckpointError, match=r"does not fit backbone\.weights other\.npz: it holds its own trunk"):
        begin_from(folder, replace(config, backbone=replace(config.backbone, weights="other.npz")))


def test_the_tracker_is_not_measured_on_stills(tmp_path):
    (tmp_path / "images").mkdir()
    image = {"id": 1, "file_name": "a.jpg", "width": 120, "height": 90}
    note = {"id": 7, "image_id": 1, "bbox": [11, 13, 20, 16]}
    (tmp_path / "instances.json").write_text(json.dumps({"images": [image], "annotations": [note]}))
    with pytest.raises(DataError, match="nothing to track in still pictures"):
        read_sequences([f"coco:{tmp_path}"])
