"""From response and boxes to one box: penalties, motion map, drift handling, smoothing (Section 4)."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from roam_jax.config import OnlineConfig
from roam_jax.core.boxes import cell_centers

LOOSE_FACTOR = 2.0
"""how much wider the motion map is while the object is not surely found (official)"""
RECOVER_SCORE = 0.6
"""the motion map stays wide until the score is above this fraction of the first frame's (official)"""


class Choice(NamedTuple):
    """The anchor that was chosen among k candidates."""

    best: Int[Array, ""]
    """index of it"""
    score: Float[Array, ""]
    """response times penalty times motion map"""
    scores: Float[Array, "k"]
    """the same of all candidates"""
    size_weight: Float[Array, ""]
    """how much of the new size enters the smoothed one"""
    loose: Bool[Array, ""]
    """whether the wide motion map stays in use"""


def change_penalty(
    boxes_wh: Float[Array, "*k 2"], previous_wh: Float[Array, "2"], strength: float
) -> Float[Array, "*k"]:
    """exp(-strength (scale change times ratio change - 1)), both changes at least 1 (Section 4, as in SiamRPN)."""
    scale = jnp.sqrt(jnp.prod(boxes_wh, axis=-1) / jnp.prod(previous_wh))
    ratio = boxes_wh[..., 0] / boxes_wh[..., 1] * (previous_wh[1] / previous_wh[0])
    scale_change, ratio_change = (jnp.maximum(x, 1 / jnp.maximum(x, 1e-6)) for x in (scale, ratio))
    return jnp.exp(-strength * (scale_change * ratio_change - 1))


def motion_map(size_wh_patch: Float[Array, "2"], map_size: int, stride: int, sigma: float) -> Float[Array, "m m"]:
    """Gaussian-like weight of each cell by its distance from the patch centre (Section 4).

    Args:
        size_wh_patch: the object's size at the start, patch pixels; `sigma` counts in it, rounded up to cells.
        map_size: cells per side.
        stride: patch pixels per cell.
        sigma: width in target sizes.
    """
    at = cell_centers(map_size, 1.0)
    cells = jnp.ceil(size_wh_patch / stride) * sigma
    parts = jnp.exp(-0.2 * (at[None] / cells[:, None]) ** 2)
    return parts[1][:, None] * parts[0][None, :]


def choose(
    response: Float[Array, "*k"],
    boxes_wh: Float[Array, "*k 2"],
    previous_wh: Float[Array, "2"],
    tight_map: Float[Array, "*k"],
    loose_map: Float[Array, "*k"],
    reference: Float[Array, ""],
    loose: Bool[Array, ""],
    config: OnlineConfig,
) -> Choice:
    """Best candidate; the wide motion map serves while the object is not surely found (official).

    Args:
        response: scores of all cells (of all scales).
        boxes_wh: sizes predicted there, patch pixels.
        previous_wh: size before, patch pixels.
        tight_map: usual motion map.
        loose_map: wide motion map.
        reference: score of the first frame.
        loose: whether the wide map was in use.
        config: thresholds and strengths.
    """
    penalty = change_penalty(boxes_wh, previous_wh, config.penalty)
    penalised = response * penalty
    tight = penalised * tight_map
    use_loose = loose | (jnp.max(tight) < config.accept_score * reference)
    scored = jnp.where(use_loose, penalised * loose_map, tight).ravel()
    index = jnp.argmax(scored)
    score = scored[index]
    stay_loose = use_loose & (score <= RECOVER_SCORE * reference)
    weight = jnp.clip(penalised.ravel()[index] * config.size_rate, 0.0, 1.0)
    return Choice(index, score, scored, weight, stay_loose)


def keep_inside(box_cxcywh: Float[Array, "4"], image_wh: Float[Array, "2"], least_px: float = 4.0) -> Float[Array, "4"]:
    """The box with its centre inside the image and its size between `least_px` and the image's."""
    size = jnp.clip(box_cxcywh[2:], least_px, jnp.maximum(image_wh, least_px))
    return jnp.concatenate([jnp.clip(box_cxcywh[:2], 0.0, image_wh), size])
