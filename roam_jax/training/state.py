"""State of meta-training, and its optimizer with a rate, a clip and a schedule for each part (Section 5)."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from roam_jax.config import MetaConfig
from roam_jax.tracking.params import Params
from roam_jax.training.parts import label_parts, part_rates
from roam_jax.trees import is_finite

MODEL_CLIP, OPTIMIZER_CLIP = 10.0, 1.0
"""element-wise clips of the meta-gradient of theta0 and lambda0, and of omega (official)"""
NECK_CLIP = 1.0
"""largest norm of the meta-gradient of the neck, and of the trunk's learned stages (ours)"""
HALVE_EVERY = 5
"""epochs after which the rates are halved (paper, Section 5)"""
FINAL_RATE = 0.02
"""rates at the end of the cosine, over the largest (ours)"""
WARMUP_START = 0.05
"""rate of the first step of a warm-up, over the largest"""


class TrainState(NamedTuple):
    """Everything that a training run goes on from; the data position is `step`."""

    step: Int[Array, "*d"]
    """meta-gradients so far, those that were refused included"""
    learned: Params
    """without the trunk"""
    opt_state: Any
    refused: Int[Array, "*d"]
    """meta-gradients that were not finite"""
    refused_in_a_row: Int[Array, "*d"]


def make_state(learned: Params, transform: optax.GradientTransformation) -> TrainState:
    """The state before the first step."""
    zero = jnp.zeros((), jnp.int32)
    return TrainState(zero, learned, transform.init(learned), zero, zero)


def make_meta_optimizer(config: MetaConfig) -> optax.GradientTransformation:
    """Adam with a rate and a clip of their own for theta0, lambda0, omega, the neck and the trunk's learned stages.

    (Section 5) Clips are element-wise, by norm for neck and trunk. The neck's statistics are measured, and stay as they
    are. A part whose rate is 0 stays as it is, too.
    """

    def adam(rate: float, clip: optax.GradientTransformation) -> optax.GradientTransformation:
        return optax.chain(clip, optax.adam(make_schedule(rate, config)))

    by_norm, rates = optax.clip_by_global_norm(NECK_CLIP), part_rates(config)
    clips = {
        "theta0": optax.clip(MODEL_CLIP),
        "lambda0": optax.clip(MODEL_CLIP),
        "omega": optax.clip(OPTIMIZER_CLIP),
        "coordinates": optax.clip(OPTIMIZER_CLIP),
        "neck": by_norm,
        "top": by_norm,
    }
    transforms: dict[Hashable, optax.GradientTransformation] = {
        part: adam(rates[part], clip) if rates[part] else optax.set_to_zero() for part, clip in clips.items()
    }
    transforms["fixed"] = optax.set_to_zero()
    return optax.partition(transforms, label_parts)


def make_schedule(rate: float, config: MetaConfig) -> optax.Schedule:
    """Rate by step: halved every few epochs (Section 5), or a cosine; in both after a linear warm-up."""
    warmup, total = config.warmup_steps, config.total_steps
    if config.schedule == "cosine":
        warmup = min(warmup, total // 4)
        return optax.warmup_cosine_decay_schedule(
            rate * WARMUP_START, rate, warmup, max(total, warmup + 1), rate * FINAL_RATE
        )
    halved = optax.exponential_decay(rate, HALVE_EVERY * config.steps_per_epoch, 0.5, staircase=True)
    if not warmup:
        return halved
    return lambda count: halved(count) * jnp.minimum(1.0, WARMUP_START + (1 - WARMUP_START) * count / warmup)


def apply_gradient(state: TrainState, gradient: Params, transform: optax.GradientTransformation) -> TrainState:
    """The state after a step; a gradient that is not finite changes nothing but the counts."""
    fine = is_finite(gradient)
    with jax.numpy_dtype_promotion("standard"):  # Adam and the schedules multiply floats with their counts of steps
        updates, opt_state = transform.update(gradient, state.opt_state, state.learned)
    new = (optax.apply_updates(state.learned, updates), opt_state)
    learned, opt_state = jax.tree.map(lambda n, o: jnp.where(fine, n, o), new, (state.learned, state.opt_state))
    refused = 1 - fine.astype(jnp.int32)
    return TrainState(
        state.step + 1, learned, opt_state, state.refused + refused, (state.refused_in_a_row + refused) * refused
    )


def norms_of(gradient: Params) -> dict[str, Float[Array, ""]]:
    """Norm of the meta-gradient by part."""
    parts = ("theta0", "lambda0", "omega", "neck", "top")
    return {name: jnp.asarray(optax.tree.norm(getattr(gradient, name)), jnp.float32) for name in parts}
