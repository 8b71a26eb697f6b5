"""Configurations by name. The default of every field is the official code's or the paper's; these say what differs."""

from __future__ import annotations

import dataclasses

from roam_jax.config import (
    BackboneConfig,
    ClipsConfig,
    Config,
    ImplicitConfig,
    LossConfig,
    MetaConfig,
    ModelConfig,
    OnlineConfig,
    OptimizerConfig,
    UnrollConfig,
)


def official() -> Config:
    """The authors' published code: VGG-16 up to conv4_3, 71 x 71 cells."""
    return Config()


def paper() -> Config:
    """The paper's text: 12 convolutions of VGG-16, the losses of Eq. 7, 4 optimizer inputs."""
    return Config(
        backbone=BackboneConfig(name="vgg12"),
        loss=LossConfig(response_form="paper", box_form="paper"),
        optimizer=OptimizerConfig(inputs="paper"),
    )


def lite() -> Config:
    """The CPU default: EfficientNet-Lite0 with a learned upper half and neck, stride 8, implicit steps.

    Its training is that of everything but the optimizer: one update per clip, judged by many frames.
    """
    return Config(
        backbone=BackboneConfig(name="lite", neck_channels=64, neck_blocks=3, tuned_stages=3),
        model=ModelConfig(
            patch_size=224, roi_scale=4.5, stride=8, map_size=28, base_filter=9, max_filter=23, reduced_channels=32,
            init_scale=1e-2,
        ),
        loss=LossConfig(
            response_form="paper", top_anchors=16, box_weight=20.0, peak_weight=1.0, giou_weight=1.0,
        ),
        optimizer=OptimizerConfig(
            inputs="log", coordinate_rates=1e-5, output_bias=0.0, lambda0=2e-6, log_lambda0=True,
        ),
        implicit=ImplicitConfig(iterations=24, boxes=True, updates=True),
        online=OnlineConfig(
            tau=10, steps=1, memory=10, step_samples=10, first_samples=9, penalty=0.3, size_rate=0.37, vote=5.0,
            motion_sigma=0.8, confidence=(1.22, 0.85, -209.84), lost_score=0.2, found_score=0.35,
        ),
        clips=ClipsConfig(
            shift=0.36, scale=0.25, stretch=0.12, max_stride=6, coarse=0.1, lookalikes=0.3,
            occlusion=0.25, absent=0.03, jump=0.03, still_motion=1.0,
        ),
        unroll=UnrollConfig(
            updates=1, look_ahead=10, tests=6, first_samples=5, box_noise=0.06, kappa_cf=0.5, kappa_reg=0.4,
            scale_first=False,
        ),
        meta=MetaConfig(
            batch=8, model_rate=4e-4, lambda_rate=1e-2, optimizer_rate=0.0, neck_rate=1e-3, top_rate=1e-4,
            schedule="cosine", warmup_steps=50, epochs=1, steps_per_epoch=2200,
        ),
    )  # fmt: skip


def lite_optimizer() -> Config:
    """`lite` with the training of its optimizer alone: five updates per clip, everything else held."""
    config = lite()
    return dataclasses.replace(
        config,
        clips=dataclasses.replace(config.clips, max_stride=3),
        unroll=dataclasses.replace(config.unroll, updates=5, look_ahead=10, tests=2, first_samples=0),
        meta=dataclasses.replace(
            config.meta, model_rate=0.0, lambda_rate=0.0, optimizer_rate=2e-3, coordinate_rate=2e-2, neck_rate=0.0,
            top_rate=0.0, steps_per_epoch=300,
        ),
    )  # fmt: skip


def tiny() -> Config:
    """A few thousand parameters on a three-layer random trunk: for tests, not for tracking."""
    return Config(
        backbone=BackboneConfig(name="tiny"),
        model=ModelConfig(
            patch_size=64, roi_scale=4.0, stride=4, map_size=16, base_filter=5, max_filter=11, reduced_channels=4,
            init_scale=1e-1,
        ),
        optimizer=OptimizerConfig(hidden=4, lambda0=1e-3, log_lambda0=True),
        online=OnlineConfig(memory=4, step_samples=2, tau=2),
        unroll=UnrollConfig(updates=2, look_ahead=2),
        meta=MetaConfig(batch=2, steps_per_epoch=4, epochs=2),
    )  # fmt: skip


PRESETS = {"lite": lite, "lite-optimizer": lite_optimizer, "paper": paper, "official": official, "tiny": tiny}


def preset(name: str) -> Config:
    """The preset called `name`.

    Raises:
        ValueError: no preset has that name.
    """
    if name not in PRESETS:
        raise ValueError(f"no preset is called {name!r}; there are {', '.join(sorted(PRESETS))}")
    return PRESETS[name]()
