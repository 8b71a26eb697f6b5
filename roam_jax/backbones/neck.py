"""The learned part between a frozen trunk and the tracking model: levels of several strides in, one normalised map out.

`y = conv1x1(standardised levels)`, then one or more times `y = y + conv3x3(relu(y))`, `map = y / rms(y)`. The
standardisation uses fixed statistics per channel, measured once by `measure_stats`; the convolutions are learned by
meta-training. Without channels of its own the levels are only standardised, stacked and divided by their root mean
square.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from roam_jax.backbones.layers import Conv, he_normal, zeros

EPSILON = 1e-6
"""added to mean squares and variances before their root, so that an empty map stays finite"""


class Neck(nn.Module):
    """The learned part; at its start a random linear projection, as the 3x3 branches are nearly zero."""

    channels: int
    """of the map; 0: nothing is learned"""
    blocks: int = 1
    """residual 3x3 convolutions"""

    @nn.compact
    def __call__(
        self, levels: Sequence[Float[Array, "b _ _ _"]], stats: dict[str, Float[Array, "c"]]
    ) -> Float[Array, "b H W C"]:
        """One map on the grid of the first (finest) level, with unit mean square per image.

        Args:
            levels: (batch, height, width, channels) maps, the finest first, all covering the same patch.
            stats: mean and scale of all levels' channels, of `measure_stats`; constants for the gradient.
        """
        grid = (levels[0].shape[1], levels[0].shape[2])
        stats = lax.stop_gradient(stats)
        if not self.channels:
            stacked = jnp.concatenate([_resize(level, grid) for level in levels], axis=-1)
            return normalise((stacked - stats["mean"][None, None, None]) / stats["scale"][None, None, None])
        y = Projection(self.channels, name="project")(levels, stats)
        for number in range(1, self.blocks + 1):
            name = f"mix{number}" if number > 1 else "mix"
            y = y + Conv(self.channels, scale=1e-2, name=name)(jax.nn.relu(y))
        return normalise(y)


class Projection(nn.Module):
    """1x1 convolution of the standardised, resized and stacked levels.

    Standardising, projecting and resizing are linear and resizing keeps constants: projecting first gives the same map
    and resizes C channels instead of several hundred.
    """

    channels: int

    @nn.compact
    def __call__(
        self, levels: Sequence[Float[Array, "b _ _ _"]], stats: dict[str, Float[Array, "c"]]
    ) -> Float[Array, "b H W C"]:
        ends = np.cumsum([level.shape[-1] for level in levels])
        w = self.param("w", he_normal, (int(ends[-1]), self.channels)) / stats["scale"][:, None]
        b = self.param("b", zeros, (self.channels,)) - stats["mean"] @ w
        y = b[None, None, None]
        for level, stop in zip(levels, ends, strict=True):
            y = y + _resize(level @ w[stop - level.shape[-1] : stop], (levels[0].shape[1], levels[0].shape[2]))
        return y


def unit_stats(channels: int) -> dict[str, Array]:
    """Statistics that change nothing, until they are measured."""
    return {"mean": jnp.zeros(channels), "scale": jnp.ones(channels)}


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
