"""The learned part between a frozen trunk and the tracking model: levels of several strides in, one normalised map out.

`y = conv1x1(standardised levels)`, then one or more times `y = y + conv3x3(relu(y))`, `map = y / rms(y)`. The
standardisation uses fixed statistics per channel, measured once by `measure_stats`; the convolutions are learned by
meta-training. Without
a neck (`channels == 0`) the levels are only standardised, stacked and divided by their root mean square.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from roam_jax.backbones.weights import init_random

EPSILON = 1e-6
"""added to mean squares and variances before their root, so that an empty map stays finite"""


def init_neck(level_channels: Sequence[int], channels: int, blocks: int = 1, *, key: Array) -> dict[str, Any]:
    """Parameters of a neck whose start is a random linear projection: the 3x3 branches are nearly zero.

    Args:
        level_channels: channels of each level, in the order in which the trunk returns them.
        channels: channels of the map; 0 for no learned part.
        blocks: residual 3x3 convolutions.
        key: random key.
    """
    total = sum(level_channels)
    params: dict[str, Any] = {"stats": {"mean": jnp.zeros(total), "scale": jnp.ones(total)}}
    if channels == 0:
        return params
    shapes = {
        "project": {"w": (total, channels), "b": (channels,)},
        **{name: {"w": (3, 3, channels, channels), "b": (channels,)} for name in block_names(blocks)},
    }
    params |= init_random(shapes, key=key)
    for name in block_names(blocks):
        params[name]["w"] *= 1e-2
    return params


def block_names(blocks: int) -> list[str]:
    """Keys of the residual convolutions: mix, mix2, mix3 ..."""
    return ["mix", *(f"mix{number}" for number in range(2, blocks + 1))]


def apply_neck(params: dict[str, Any], levels: Sequence[Float[Array, "b _ _ _"]]) -> Float[Array, "b H W C"]:
    """One map on the grid of the first (finest) level, with unit mean square per image.

    Args:
        params: as made by `init_neck`; its `stats` are constants for the gradient.
        levels: (batch, height, width, channels) maps, the finest first, all covering the same patch.
    """
    grid = (levels[0].shape[1], levels[0].shape[2])
    stats = lax.stop_gradient(params["stats"])
    if "project" not in params:
        stacked = jnp.concatenate([_resize(level, grid) for level in levels], axis=-1)
        return normalise((stacked - stats["mean"]) / stats["scale"])
    # Standardising, projecting and resizing are linear and resizing keeps constants: projecting first gives the same
    # map and resizes C channels instead of several hundred.
    weights = params["project"]["w"] / stats["scale"][:, None]
    y = params["project"]["b"] - stats["mean"] @ weights
    start = 0
    for level in levels:
        stop = start + level.shape[-1]
        y = y + _resize(level @ weights[start:stop], grid)
        start = stop
    for name in block_names(sum(name.startswith("mix") for name in params)):
        mixed = lax.conv_general_dilated(
            jax.nn.relu(y), params[name]["w"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        y = y + mixed + params[name]["b"]
    return normalise(y)


def normalise(x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """The map of each image divided by its root mean square over height, width and channels."""
    return x * lax.rsqrt(jnp.mean(jnp.square(x), axis=(1, 2, 3), keepdims=True) + EPSILON)


def measure_stats(levels_iterable: Iterable[Sequence[Float[Array, "_ _ _ _"]]]) -> dict[str, Array]:
    """Mean and standard deviation of every channel over many patches: the `stats` of a neck.

    Args:
        levels_iterable: what the trunk returned for each of several batches.

    Returns:
        `mean` and `scale`, each (sum of the levels' channels,), in the order of the levels.

    Raises:
        ValueError: there was no batch.
    """
    total, squares, count = 0.0, 0.0, 0.0
    for levels in levels_iterable:
        flat = [np.asarray(level, np.float64).reshape(-1, level.shape[-1]) for level in levels]
        total = total + np.concatenate([x.sum(0) for x in flat])
        squares = squares + np.concatenate([np.square(x).sum(0) for x in flat])
        count = count + np.concatenate([np.full(x.shape[1], len(x)) for x in flat])
    if np.all(count == 0):
        raise ValueError("no patches were given to measure the statistics of the features on")
    mean = total / count
    scale = np.sqrt(np.maximum(squares / count - mean**2, 0.0) + EPSILON)
    return {"mean": jnp.asarray(mean, jnp.float32), "scale": jnp.asarray(scale, jnp.float32)}


def _resize(x: Float[Array, "b h w c"], grid: tuple[int, int]) -> Float[Array, "b H W c"]:
    """Bilinear, half-pixel centres."""
    if x.shape[1:3] == grid:
        return x
    return jax.image.resize(x, (x.shape[0], *grid, x.shape[3]), "bilinear")
