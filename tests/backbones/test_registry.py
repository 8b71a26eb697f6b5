"""A trunk that is not in the package, by `register_trunk`: all that its author writes is here."""

from __future__ import annotations

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from roam_jax import Trunk, presets, register_trunk, train
from roam_jax.backbones import make_backbone
from roam_jax.backbones.neck import normalise
from roam_jax.backbones.registry import TRUNKS
from roam_jax.checkpoints import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from roam_jax.config import Config
from roam_jax.tracking.params import Params, init_params, params_to_dict
from roam_jax.tracking.tracker import Tracker
from roam_jax.training.episodes import meta_gradient
from roam_jax.training.state import apply_gradient, make_meta_optimizer, make_state


class Bottom(nn.Module):
    @nn.compact
    def __call__(self, patches):
        x = patches.astype(jnp.float32) / 127.5 - 1
        return (nn.relu(nn.Conv(6, (4, 4), strides=4)(x)),)


class Top(nn.Module):
    @nn.compact
    def __call__(self, levels):
        return (*levels, nn.Dense(3, name="last")(levels[0]))


def make_mine(config: Config) -> Trunk:
    return Trunk(Bottom(), stride=4, top=Top() if config.backbone.tuned_stages else None)


@pytest.fixture
def registered():
    register_trunk("mine", make_mine)
    yield
    TRUNKS.pop("mine", None)


def configure(tuned: int) -> Config:
    return dataclasses.replace(
        presets.tiny(), backbone=dataclasses.replace(presets.tiny().backbone, name="mine", tuned_stages=tuned)
    )


@pytest.mark.parametrize(("tuned", "channels"), [(0, 6), (1, 9)])
def test_its_features(registered, tuned, channels):
    backbone = make_backbone(configure(tuned))
    params = backbone.init(key=jax.random.key(0))
    assert set(params["trunk"]) == {"Conv_0"}
    assert set(params["top"]) == ({"last"} if tuned else set())
    patches = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    features = jax.jit(backbone.features)(params, patches)
    assert features.shape == (2, 16, 16, channels)
    assert backbone.channels == channels
    levels = Bottom().apply({"params": params["trunk"]}, patches)
    levels = Top().apply({"params": params["top"]}, levels) if tuned else levels
    np.testing.assert_allclose(features, normalise(jnp.concatenate(levels, axis=-1)), atol=1e-5)


def take_step(config: Config, params: Params) -> Params:
    """The parameters after a step of meta-training on a random clip."""
    backbone, transform = make_backbone(config), make_meta_optimizer(config.meta)
    rng, frames = np.random.default_rng(0), 9 + config.unroll.clip_frames
    levels = backbone.trunk(params.backbone, jnp.asarray(rng.integers(0, 256, (frames, 64, 64, 3), np.uint8)))
    boxes = jnp.asarray(rng.uniform([[-5, -5, 12, 12]], [[5, 5, 20, 20]], (frames, 4)), jnp.float32)

    @jax.jit
    def step(learned, levels):
        keys = jax.random.split(jax.random.key(0), 1)
        gradient, _ = meta_gradient(
            learned, levels, boxes[None], jnp.ones((1, frames), bool), backbone, config, keys=keys
        )
        return apply_gradient(make_state(learned, transform), gradient, transform).learned

    learned = step(params._replace(trunk={}), tuple(level[None] for level in levels))
    return learned._replace(trunk=params.trunk)


class Normalised(nn.Module):
    """With statistics besides parameters."""

    @nn.compact
    def __call__(self, x):
        return (nn.BatchNorm(use_running_average=True)(nn.Conv(4, (3, 3), strides=4)(x)),)


class Listed(nn.Module):
    sizes: list

    @nn.compact
    def __call__(self, x):
        return (nn.Conv(self.sizes[0], (3, 3), strides=4)(x),)


class Coarser(nn.Module):
    @nn.compact
    def __call__(self, x):
        return (nn.Conv(4, (3, 3), strides=8)(x),)


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (Normalised(), "should have parameters alone, but have batch_stats too"),
        (Listed([4]), "must be hashable, with tuples for lists"),
        (Coarser(), "of stride 4 should give"),
    ],
)
def test_a_trunk_that_cannot_be_one_is_one_sentence(module, reason, monkeypatch):
    monkeypatch.setitem(TRUNKS, "mine", lambda config: Trunk(module, stride=4))
    with pytest.raises(ValueError, match=reason):
        make_backbone(configure(0)).init(key=jax.random.key(0))


def test_a_step_of_training_a_checkpoint_and_a_tracker(registered, tmp_path, capsys):
    """Without the name registered, all say what to do."""
    config = configure(tuned=1)
    config = dataclasses.replace(
        config,
        unroll=dataclasses.replace(config.unroll, updates=1),
        meta=dataclasses.replace(config.meta, top_rate=1e-2),
    )
    params = init_params(config, key=jax.random.key(0))
    learned = take_step(config, params)
    assert np.all(learned.top["last"]["kernel"] != params.top["last"]["kernel"])
    values = jax.tree.map(np.asarray, params_to_dict(learned))
    save_checkpoint(tmp_path / "mine", Checkpoint(config, values, "my card"))
    assert load_checkpoint(tmp_path / "mine").config == config
    tracker = Tracker(tmp_path / "mine")
    images = np.random.default_rng(0).integers(0, 256, (2, 96, 120, 3), np.uint8)
    tracker.init(images[0], (40, 30, 24, 18))
    assert np.isfinite(tracker.update(images[1])).all()

    del TRUNKS["mine"]
    sentence = (
        "no trunk is called 'mine'; there are lite, tiny, vgg10, vgg12, and those that a program gives to "
        "roam_jax.register_trunk before"
    )
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        make_backbone(config)
    with pytest.raises(CheckpointError, match=f"{sentence}$") as caught:
        Tracker(tmp_path / "mine")
    assert "\n" not in str(caught.value)
    argv = ["--preset", "tiny", "--data", "synthetic", "--dry-run", "--config.backbone.name", "mine"]
    assert train.main(argv) == 2
    assert capsys.readouterr().err == f"error: {sentence}\n"


def test_names_are_given_once(registered):
    register_trunk("mine", make_mine)  # the same again, as where a module is run twice
    for name in ("mine", "lite"):
        with pytest.raises(ValueError, match=f"a trunk is called '{name}' already"):
            register_trunk(name, lambda config: make_mine(config))
    assert TRUNKS["mine"] is make_mine
