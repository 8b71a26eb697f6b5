from __future__ import annotations

import dataclasses
import json

import pytest

from roam_jax.config import BackboneConfig, Config, ModelConfig, OnlineConfig

PRESETS = ("lite", "lite-optimizer", "paper", "official", "tiny")


@pytest.mark.parametrize("name", PRESETS)
def test_presets_fit_together_and_survive_json(name):
    config = Config.preset(name)
    assert config.check() is config
    restored = Config.from_dict(json.loads(json.dumps(config.to_dict())))
    assert restored == config
    assert hash(restored) == hash(config)  # a static argument of jax.jit


def test_presets_differ():
    assert len({Config.preset(name) for name in PRESETS}) == len(PRESETS)


def test_constants_of_the_paper():
    c = Config.paper()
    assert (c.model.patch_size, c.model.roi_scale, c.model.stride, c.model.filter_scale) == (281, 5.0, 4, 1.5)
    assert (c.model.base_filter, c.model.reduced_channels, c.optimizer.hidden) == (21, 64, 20)
    assert (c.loss.alpha, c.train.kappa_cf, c.train.kappa_reg, c.train.batch) == (20.0, 1.6, 1.3, 16)
    assert (c.online.steps, c.online.aspects) == (2, (0.8, 1.0, 1.2))
    assert (c.train.optimizer_rate, c.train.model_rate, c.train.lambda_rate) == (1e-3, 1e-6, 1e-6)
    assert c.online.memory == 2 * c.online.tau
    assert (c.loss.response_form, c.loss.box_form, c.optimizer.inputs) == ("paper", "paper", "paper")


def test_derived_lengths():
    assert Config.tiny().model.target_side_patch == 16.0
    assert Config.official().train.clip_frames == 30


def test_absent_fields_take_their_defaults():
    assert Config.from_dict({}) == Config()
    assert Config.from_dict({"model": {"stride": 8}}).model == dataclasses.replace(ModelConfig(), stride=8)


def test_it_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().model.stride = 3


def test_unknown_names():
    with pytest.raises(ValueError, match="no preset is called 'huge'; there are lite, lite-optimizer, official, paper"):
        Config.preset("huge")
    with pytest.raises(ValueError, match="unknown section 'modell'"):
        Config.from_dict({"modell": {}})
    with pytest.raises(ValueError, match="unknown fields in 'model': sride, strde"):
        Config.from_dict({"model": {"strde": 4, "sride": 4, "stride": 4}})


@pytest.mark.parametrize(
    ("section", "changes", "message"),
    [
        ("model", {"base_filter": 4}, "must be odd"),
        ("model", {"max_filter": 12}, "must be odd"),
        ("model", {"max_filter": 5}, "max_filter 5 is below 6"),
        ("online", {"tau": 0}, "must be at least 1"),
        ("online", {"memory": 0}, "must be at least 1"),
        ("online", {"steps": 0}, "must be at least 1"),
        ("online", {"step_samples": -1}, "must be at least 1"),
        ("optimizer", {"implicit_updates": True}, "needs optimizer.implicit_iterations"),
    ],
)
def test_check(section, changes, message):
    tiny = Config.tiny()
    broken = dataclasses.replace(tiny, **{section: dataclasses.replace(getattr(tiny, section), **changes)})
    with pytest.raises(ValueError, match=message) as caught:
        broken.check()
    assert "\n" not in str(caught.value)


def test_every_field_is_hashable_even_from_lists():
    config = Config.from_dict({"online": {"scales": [0.9, 1.0], "aspects": [1.0]}})
    assert config.online == OnlineConfig(scales=(0.9, 1.0), aspects=(1.0,))
    assert isinstance(hash(config), int)
    assert config.backbone == BackboneConfig()
