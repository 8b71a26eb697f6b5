from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import math
import re

import pytest
import tyro

from roam_jax import presets
from roam_jax.cli import show_ranges
from roam_jax.config import BackboneConfig, Config, ModelConfig
from roam_jax.typed import ranges


@pytest.mark.parametrize("name", presets.PRESETS)
def test_presets_fit_together_and_survive_json(name):
    config = presets.preset(name)
    assert config.check() is config
    restored = Config.from_dict(json.loads(json.dumps(config.to_dict())))
    assert restored == config
    assert hash(restored) == hash(config)  # a static argument of jax.jit


def test_presets_differ():
    assert len({presets.preset(name) for name in presets.PRESETS}) == len(presets.PRESETS)


def test_constants_of_the_paper():
    c = presets.paper()
    assert (c.model.patch_size, c.model.roi_scale, c.model.stride, c.model.filter_scale) == (281, 5.0, 4, 1.5)
    assert (c.model.base_filter, c.model.reduced_channels, c.optimizer.hidden) == (21, 64, 20)
    assert (c.loss.alpha, c.unroll.kappa_cf, c.unroll.kappa_reg, c.meta.batch) == (20.0, 1.6, 1.3, 16)
    assert (c.online.steps, c.model.aspects) == (2, (0.8, 1.0, 1.2))
    assert (c.meta.optimizer_rate, c.meta.model_rate, c.meta.lambda_rate) == (1e-3, 1e-6, 1e-6)
    assert c.online.memory == 2 * c.online.tau
    assert (c.loss.response_form, c.loss.box_form, c.optimizer.inputs) == ("paper", "paper", "paper")


def test_derived_lengths():
    assert presets.tiny().model.target_side_patch == 16.0
    assert presets.official().unroll.clip_frames == 30


def test_absent_fields_take_their_defaults():
    assert Config.from_dict({}) == Config()
    assert Config.from_dict({"model": {"stride": 8}}).model == dataclasses.replace(ModelConfig(), stride=8)


def test_it_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().model.stride = 3


def test_unknown_names():
    names = "lite, lite-optimizer, official, paper, tiny"
    with pytest.raises(ValueError, match=f"no preset is called 'huge'; there are {names}$"):
        presets.preset("huge")
    with pytest.raises(ValueError, match="unknown fields in the configuration: 'modell'"):
        Config.from_dict({"modell": {}})
    with pytest.raises(ValueError, match="unknown fields in model: 'sride', 'strde'"):
        Config.from_dict({"model": {"strde": 4, "sride": 4, "stride": 4}})


@pytest.mark.parametrize(
    ("section", "changes", "message"),
    [
        ("model", {"base_filter": 4}, "model.base_filter must be 1 to 255, odd, but is 4"),
        ("model", {"max_filter": 12}, "model.max_filter must be 1 to 1023, odd"),
        ("model", {"max_filter": 5}, "max_filter 5 is below 6"),
        ("model", {"map_size": 17}, "model.map_size must be 16, the cells of model.patch_size 64 at model.stride 4"),
        ("model", {"patch_size": 60}, "model.map_size must be 15"),
        ("model", {"roi_scale": 0.0}, "model.roi_scale must be 1 to 100, but is 0"),
        ("online", {"tau": 0}, "online.tau must be 1 to"),
        ("online", {"tau": 2.5}, "online.tau must be a whole number, but is 2.5"),
        ("online", {"memory": 1_000_000}, "online.memory must be 1 to 1000, but is 1000000"),
        ("online", {"motion_sigma": 0.0}, "online.motion_sigma must be 0.05 to 1000, but is 0"),
        ("online", {"accept_score": math.nan}, "online.accept_score must be a finite number, but is nan"),
        ("model", {"aspects": ()}, "model.aspects must be 1 to 32 numbers"),
        ("model", {"aspects": (1.0, math.inf)}, r"model.aspects\[1\] must be a finite number, but is inf"),
        ("optimizer", {"hidden": 0}, "optimizer.hidden must be 1 to 1024"),
        ("optimizer", {"inputs": "raw"}, "optimizer.inputs must be one of paper, official, log, but is 'raw'"),
        ("implicit", {"updates": True}, "implicit.updates needs implicit.iterations"),
        ("implicit", {"iterations": 2}, "implicit.iterations needs loss.response_form 'paper'"),
        ("online", {"confidence": (1.0, 2.0)}, "online.confidence must be empty or 3 numbers, but is 2"),
        ("online", {"lost_score": 0.5}, "online.found_score must be at least online.lost_score, which is 0.5"),
        ("meta", {"micro_batch": 3}, "meta.batch 2 does not divide into meta.micro_batch 3"),
        ("meta", {"epochs": 10**6, "steps_per_epoch": 10**6}, "meta.epochs times meta.steps_per_epoch must be"),
        ("unroll", {"first_samples": 10}, "unroll.first_samples must be 0 to 9"),
        ("unroll", {"tests": 3}, "unroll.tests must be 1 to unroll.look_ahead, which is 2, but is 3"),
    ],
)
def test_check(section, changes, message):
    tiny = presets.tiny()
    broken = dataclasses.replace(tiny, **{section: dataclasses.replace(getattr(tiny, section), **changes)})
    with pytest.raises(ValueError, match=message) as caught:
        broken.check()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf, None, "1", True, -1e40, 1e40])
def test_every_number_has_a_range(wrong):
    """Those that are added later too."""
    for section in dataclasses.fields(Config):
        part = getattr(presets.tiny(), section.name)
        for name, value in dataclasses.asdict(part).items():
            if isinstance(value, bool | str):
                continue
            changed = dataclasses.replace(part, **{name: (wrong,) if isinstance(value, tuple) else wrong})
            with pytest.raises(ValueError, match=rf"^{section.name}\.{name}\b.* must be "):
                dataclasses.replace(presets.tiny(), **{section.name: changed}).check()


def ends_of(section: str) -> list[tuple[str, list[float], list[float]]]:
    """Each number of a section, with the ends of its range, and what lies just outside of them."""
    part = getattr(Config(), section)
    found = []
    for name, marker in ranges(type(part)).items():
        step = 2 if marker.odd else 1
        low, high = marker.low, marker.high
        if isinstance(getattr(part, name), int):
            outside = [low - step, high + step, *([low + 1] if marker.odd else [])]
        else:
            outside = [math.nextafter(low, -math.inf), math.nextafter(high, math.inf)]
        found.append((name, [low, high], outside))
    return found


@pytest.mark.parametrize("section", [section.name for section in dataclasses.fields(Config)])
def test_a_range_ends_where_it_says(section):
    """Each field alone: that the fields fit together is another matter."""
    plain = Config().to_dict()

    def config_with(name, value):
        value = [value] if isinstance(plain[section][name], tuple) else value
        return Config.from_dict({section: {**plain[section], name: value}})

    assert ends_of(section)
    for name, ends, outside in ends_of(section):
        for value in ends:
            kept = getattr(getattr(config_with(name, value), section), name)
            assert kept in (value, (value,)), name
        for value in outside:
            with pytest.raises(ValueError, match=rf"^{section}\.{name} must be .*, but is "):
                config_with(name, value)


def test_the_defaults_are_a_configuration():
    assert Config().check() == presets.official()


def test_ranges_are_shown_with_the_options():
    with contextlib.redirect_stdout(io.StringIO()) as shown, pytest.raises(SystemExit):
        tyro.cli(Config, args=["--help"], registry=show_ranges())
    text = shown.getvalue()
    assert "--online.memory INT (1 to 1000)" in text
    assert "--model.base-filter INT (1 to 255, odd)" in text
    assert "--model.aspects FLOAT ... (0.1 to 10)" in text
    assert re.search(r"frames kept as updating samples .*\s.*\(default: 10\)", text)
    numbers = [f"{part}.{name}" for part, values in Config().to_dict().items() for name, value in values.items()
               if not isinstance(value, bool | str)]  # fmt: skip
    assert len(numbers) > 80
    for name in numbers:
        assert re.search(rf"--{name.replace('_', '-')} (INT|FLOAT|FLOAT \.\.\.) \(\S+ to \S+", text), name


def test_options_with_ranges_are_read_as_before():
    argv = ["--model.aspects", "0.9", "1.1", "--online.memory", "7"]
    config = tyro.cli(Config, args=argv, registry=show_ranges())
    assert (config.model.aspects, config.online.memory) == ((0.9, 1.1), 7)


def test_every_field_is_hashable_even_from_lists():
    config = Config.from_dict({"model": {"aspects": [0.9, 1.0]}, "online": {"confidence": [1.0]}})
    assert (config.model.aspects, config.online.confidence) == ((0.9, 1.0), (1.0,))
    assert isinstance(hash(config), int)
    assert config.backbone == BackboneConfig()
