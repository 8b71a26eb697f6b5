"""What version 1 wrote is written here as it did: with its tree, its settings and its number."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from roam_jax import presets
from roam_jax.backbones import load_trunk
from roam_jax.checkpoints import CheckpointError, digest_tree, load_checkpoint, load_config, load_tree, save_tree
from roam_jax.checkpoints.convert import convert_config, main
from roam_jax.config import Config, MetaConfig
from roam_jax.tracking.params import Params, init_params, params_from_dict, params_to_dict
from roam_jax.training.runs import Run, RunError, open_run
from roam_jax.training.state import make_meta_optimizer, make_state

LEARNS_ALL = MetaConfig(coordinate_rate=1e-3, neck_rate=1e-3, top_rate=1e-3)


class Meta(NamedTuple):
    theta0: Any
    lambda0: Any
    omega: Any


class Learned(NamedTuple):
    """What version 1 learned, and the form of its optimizer's moments."""

    meta: Meta
    neck: dict[str, Any]


def old_learned(params: Params) -> Learned:
    neck = dict(params.neck) if isinstance(params.neck, dict) else {}  # else a part that has no moments here
    return Learned(
        Meta(params.theta0, params.lambda0, params.omega), {**neck, "stats": params.stats, "top": params.top}
    )


def old_tracker(params: dict[str, Any]) -> dict[str, Any]:
    neck = {**params["neck"], "stats": params["stats"], **({"top": params["top"]} if params["top"] else {})}
    backbone = {"neck": neck, **{name: params[name] for name in ("trunk",) if name in params}}
    return {"meta": {name: params[name] for name in Meta._fields}, "backbone": backbone}


def old_settings(config: Config) -> dict[str, Any]:
    values = config.to_dict()
    train = {name: x for part in ("clips", "unroll", "meta", "run") for name, x in values.pop(part).items()}
    implicit = {f"implicit_{name}": x for name, x in values.pop("implicit").items()}
    del values["online"]["updates"]
    values["online"] |= {"aspects": values["model"].pop("aspects"), "refinements": 0}
    values["optimizer"] |= implicit | {"first_steps": 1}
    return {**values, "train": train}


def replace(config: Config, section: str, **fields: Any) -> Config:
    return dataclasses.replace(config, **{section: dataclasses.replace(getattr(config, section), **fields)})


def assert_same(ours: Any, theirs: Any) -> None:
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert one.dtype == other.dtype
        assert one.shape == other.shape
        assert one.tobytes() == other.tobytes()


def fill(tree: Any) -> Any:
    """Another random number in each place."""
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: np.asarray(rng.normal(size=leaf.shape) * 100).astype(leaf.dtype), tree)


@pytest.fixture(scope="module")
def config() -> Config:
    tiny = replace(presets.tiny(), "backbone", neck_channels=4, neck_blocks=2)
    return replace(tiny, "optimizer", coordinate_rates=1e-2)


@pytest.fixture(scope="module")
def params(config: Config) -> dict[str, Any]:
    return params_to_dict(fill(jax.eval_shape(lambda key: init_params(config, key=key), jax.random.key(0))))


@pytest.fixture
def tracker(tmp_path: Path, write_old: Callable[..., Path], config: Config, params: dict[str, Any]) -> Path:
    metadata = {"config": old_settings(config)}
    return write_old(tmp_path / "old", old_tracker(params), metadata, texts={"MODEL_CARD.md": "# Größe\n"})


def make_run(config: Config, folder: Path) -> Path:
    """A run folder of version 1 without its checkpoints."""
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(old_settings(config)))
    (folder / "run.json").write_text('{"seed": 3}')
    (folder / "log.jsonl").write_text('{"step": 1}\n')
    return folder


def test_settings_are_in_their_new_sections() -> None:
    old = {
        "backbone": {"name": "tiny", "neck_channels": 4},
        "model": {"patch_size": 64},
        "loss": {"alpha": 9.0, "response_form": "official"},
        "optimizer": {"hidden": 3, "first_steps": 1, "implicit_iterations": 2, "implicit_lambda0": 5.0,
                      "implicit_boxes": True, "implicit_box_lambda0": 6.0, "implicit_updates": True},
        "online": {"tau": 7, "refinements": 0, "aspects": [0.9, 1.1]},
        "train": {"shift": 0.3, "coarse": 0.2, "updates": 3, "kappa_cf": 0.5, "batch": 5, "neck_rate": 0.1,
                  "hold_out": 0.25, "half_backbone": True},
    }  # fmt: skip
    expected: dict[str, dict[str, Any]] = {
        "backbone": {"name": "tiny", "neck_channels": 4},
        "model": {"patch_size": 64, "aspects": (0.9, 1.1)},
        "loss": {"alpha": 9.0, "response_form": "paper"},
        "optimizer": {"hidden": 3},
        "implicit": {
            "iterations": 2,
            "lambda0": 5.0,
            "boxes": True,
            "box_lambda0": 6.0,
            "updates": True,
            "largest_rate": 1e30,
        },
        "online": {"tau": 7},
        "clips": {"shift": 0.3, "coarse": 0.2},
        "unroll": {"updates": 3, "kappa_cf": 0.5},
        "meta": {"batch": 5, "neck_rate": 0.1},
        "run": {"hold_out": 0.25, "half_backbone": True},
    }
    assert convert_config(old) == Config.from_dict(expected)
    assert convert_config({}) == Config()
    assert convert_config({"loss": {"response_form": "official"}}).loss.response_form == "official"


@pytest.mark.parametrize("name", presets.PRESETS)
def test_presets_are_what_they_were(name: str) -> None:
    assert convert_config(old_settings(presets.preset(name))) == presets.preset(name)


def test_a_tracker_by_the_command(tracker: Path, tmp_path: Path, config: Config, params: dict[str, Any]) -> None:
    before = {path: path.read_bytes() for path in tracker.rglob("*") if path.is_file()}
    command = [sys.executable, "-W", "error", "-m", "roam_jax.checkpoints.convert", tracker, tmp_path / "new"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"wrote {tmp_path / 'new'}\n", "")
    assert {path: path.read_bytes() for path in tracker.rglob("*") if path.is_file()} == before
    new = load_checkpoint(tmp_path / "new")
    assert new.config == config
    assert new.card == "# Größe\n"
    assert_same(new.params, params)
    assert_same(jax.device_get(params_from_dict(new.params, config)), params_from_dict(params, config))


def test_learned_stages_and_an_optimizer_without_parameters(
    tmp_path: Path, write_old: Callable[..., Path], config: Config, params: dict[str, Any]
) -> None:
    expected = {**params, "top": {"stage4_block0": {"expand": {"w": np.arange(4, dtype=np.float32)}}}, "omega": {}}
    write_old(tmp_path / "old", old_tracker(expected), {"config": old_settings(config)})
    assert main([str(tmp_path / "old"), str(tmp_path / "new")]) == 0
    new = load_checkpoint(tmp_path / "new")
    assert_same(new.params, expected)
    assert new.card == ""


def test_half_precision_stays_as_it_is(
    tmp_path: Path, write_old: Callable[..., Path], config: Config, params: dict[str, Any]
) -> None:
    write_old(tmp_path / "old", old_tracker(params), {"config": old_settings(config)}, half=True)
    assert main([str(tmp_path / "old"), str(tmp_path / "new")]) == 0
    leaves = json.loads((tmp_path / "new" / "manifest.json").read_text())["leaves"]
    assert {leaf["dtype"] for leaf in leaves.values()} == {"float16"}
    halves = jax.tree.map(lambda leaf: leaf.astype(np.float16).astype(np.float32), params)
    assert_same(load_checkpoint(tmp_path / "new").params, halves)


def test_a_trunk_by_reference(
    tmp_path: Path, write_old: Callable[..., Path], config: Config, params: dict[str, Any]
) -> None:
    trunk = jax.tree.map(np.asarray, load_trunk(config)["trunk"])
    without = {name: part for name, part in params.items() if name != "trunk"}
    reference = {"source": "its weights", "sha256": digest_tree(trunk)}
    write_old(tmp_path / "old", old_tracker(without), {"config": old_settings(config), "trunk_reference": reference})
    assert main([str(tmp_path / "old"), str(tmp_path / "new")]) == 0
    assert "trunk" not in load_tree(tmp_path / "new")[0]
    assert_same(load_checkpoint(tmp_path / "new").params, {**params, "trunk": trunk})


def test_a_run_goes_on(tmp_path: Path, write_old: Callable[..., Path], config: Config, params: dict[str, Any]) -> None:
    """With the moments of all its parts, under today's names; what is no whole checkpoint is copied."""
    old, new = make_run(config, tmp_path / "old"), tmp_path / "new"
    learned = params_from_dict(params, config)._replace(trunk={}, top={"stage4": {"w": np.ones(3, np.float32)}})
    like = jax.device_get(make_state(learned, make_meta_optimizer(LEARNS_ALL)))
    states = {step: fill(like)._replace(step=np.array(step, np.int32)) for step in (2, 4)}
    for step, state in states.items():
        tree = jax.tree.map(
            lambda x: old_learned(x) if isinstance(x, Params) else x, state, is_leaf=lambda x: isinstance(x, Params)
        )
        write_old(old / "checkpoints" / f"{step:06d}", tree, {"step": step, "score": None})
    moments = read_keys(old / "checkpoints" / "000004")
    assert any(key.endswith("mu/meta/omega/log_rates") for key in moments)
    assert any(key.endswith("mu/neck/top/stage4/w") for key in moments)
    write_old(old / "tracker", old_tracker(params), {"config": old_settings(config)})
    damaged = old / "checkpoints" / "000003.damaged"
    damaged.mkdir()
    (damaged / "manifest.json").write_text("{}")

    assert main([str(old), str(new)]) == 0
    assert open_run(new) == (config, {"seed": 3})
    for name in ("run.json", "log.jsonl", "checkpoints/000003.damaged/manifest.json"):
        assert (new / name).read_bytes() == (old / name).read_bytes()
    assert sorted(path.name for path in new.iterdir()) == sorted(path.name for path in old.iterdir())
    assert_same(load_tree(new / "checkpoints" / "000002", like=like)[0], states[2])
    run = Run(new, keep=3)
    assert_same(run.load_latest(like, report=pytest.fail), states[4])
    run.close()
    assert_same(load_checkpoint(new / "tracker").params, params)


def read_keys(folder: Path) -> list[str]:
    return list(json.loads((folder / "manifest.json").read_text())["leaves"])


def test_what_is_old_says_how_to_convert_it(tracker: Path, tmp_path: Path, config: Config) -> None:
    command = r"is of an older version: python -m roam_jax\.checkpoints\.convert .*old NEW_FOLDER$"
    for read in (load_checkpoint, load_config, load_tree):
        with pytest.raises(CheckpointError, match=command) as caught:
            read(tracker)
        assert "\n" not in str(caught.value)
    with pytest.raises(RunError, match=command):
        open_run(make_run(config, tmp_path / "run of old"))


def test_what_became_a_constant_is_left_out(
    tmp_path: Path,
    write_old: Callable[..., Path],
    config: Config,
    params: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    values = config.to_dict()
    values["online"] |= {"loose_factor": 2.0, "scales": [0.96, 1.0, 1.04]}
    values["meta"] |= {"final_rate": 0.02}
    write_old(tmp_path / "old", params, {"config": values}, version=2)
    with pytest.raises(CheckpointError, match="is of an older version: python -m"):
        load_config(tmp_path / "old")
    assert main([str(tmp_path / "old"), str(tmp_path / "new")]) == 0
    new = load_checkpoint(tmp_path / "new")
    assert new.config == config
    assert_same(new.params, params)
    values["online"]["loose_factor"] = 3.0
    write_old(tmp_path / "other", params, {"config": values}, version=2)
    assert main([str(tmp_path / "other"), str(tmp_path / "no")]) == 5
    assert "other cannot be converted: online.loose_factor 3.0 is no more" in capsys.readouterr().err


def test_wrong_arguments(tracker: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for argv in ([], [str(tracker)], [str(tracker), ""], [str(tracker), "a", "b"]):
        assert main(argv) == 2
        assert "python -m roam_jax.checkpoints.convert --help" in (said := capsys.readouterr().err) or "empty" in said
    assert main(["--help"]) == 0
    assert "python -m roam_jax.checkpoints.convert [-h] OLD NEW" in capsys.readouterr().out
    assert main([str(tracker), str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path} is there already: name a folder that is not\n"


def test_what_cannot_be_converted(
    tmp_path: Path, write_old: Callable[..., Path], config: Config, params: dict[str, Any], tracker: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    tree, settings = old_tracker(params), old_settings(config)
    refined = {**settings, "online": {**settings["online"], "refinements": 1}}
    repeated = {**settings, "optimizer": {**settings["optimizer"], "first_steps": 2}}
    foreign = {**settings, "train": {"wheels": 4}}
    write_old(tmp_path / "refined", tree, {"config": refined})
    write_old(tmp_path / "repeated", tree, {"config": repeated})
    write_old(tmp_path / "foreign", tree, {"config": foreign})
    write_old(tmp_path / "text", tree, {"config": "tiny"})
    save_tree(tmp_path / "new already", params, metadata={"config": config.to_dict()})
    (make_run(config, tmp_path / "no settings") / "config.json").write_text("[1]")
    (make_run(config, tmp_path / "no json") / "config.json").write_text("{")
    broken = make_run(config, tmp_path / "broken")
    write_old(broken / "checkpoints" / "000001", tree, {})
    manifest = broken / "checkpoints" / "000001" / "manifest.json"
    manifest.write_text(manifest.read_text().replace("theta0", "theta1", 1))
    said = {
        "absent": "there is no checkpoint",
        "refined": "refined cannot be converted: online.refinements 1 is no more",
        "repeated": "repeated cannot be converted: optimizer.first_steps 2 is no more",
        "foreign": "foreign cannot be converted: unknown fields in the configuration: 'train'",
        "text": "text cannot be converted: there are no settings by section",
        "new already": "is of another format or version than the one read here, roam_jax checkpoint 1 or 2",
        "no settings": "config.json cannot be converted: there are no settings by section",
        "no json": "config.json cannot be converted: Expecting property name",
        "broken": "has been changed since it was written",
    }
    for name, words in said.items():
        assert main([str(tmp_path / name), str(tmp_path / "new")]) == 5, name
        message = capsys.readouterr().err
        assert words in message
        assert message.startswith("error: ")
        assert message.count("\n") == 1
        assert not (tmp_path / "new").exists()
    assert main([str(tracker), str(manifest / "new")]) == 6
    assert f"error: {manifest / 'new'} cannot be written: " in capsys.readouterr().err
