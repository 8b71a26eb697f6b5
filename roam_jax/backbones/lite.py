"""EfficientNet-Lite0 up to stride 16, the trunk of the CPU default.

Input RGB, (x - 127) / 128; ReLU6; TensorFlow's "SAME" padding (the odd zero goes to the right and bottom). Batch
normalisation is folded into the convolutions when the weights are read. 1x1 convolutions are matrix products and
depthwise convolutions sums of shifted products, because XLA's grouped convolution is some twenty times slower on CPUs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Num

from roam_jax.backbones import weights
from roam_jax.backbones.layers import Pointwise, he_normal, relu6, zeros
from roam_jax.backbones.trunk import Trunk

BATCH_NORM_EPSILON = 1e-3


class Stage(NamedTuple):
    """A run of inverted residual blocks; only the first one strides."""

    kernel: int
    stride: int
    expand: int
    channels: int
    repeats: int


LITE0 = (
    Stage(3, 1, 1, 16, 1),
    Stage(3, 2, 6, 24, 2),
    Stage(5, 2, 6, 40, 2),
    Stage(3, 2, 6, 80, 3),
    Stage(5, 1, 6, 112, 3),
)
LEVELS = (2, 4)
"""stages whose output is returned"""


class Stem(nn.Module):
    """The first convolution, with the input's (x - 127) / 128 folded into it: zeros become 127 before it."""

    features: int

    @nn.compact
    def __call__(self, patches: Num[Array, "b p p 3"]) -> Float[Array, "b h w f"]:
        w = self.param("w", he_normal, (3, 3, 3, self.features))
        b = self.param("b", zeros, (self.features,))
        x = _pad_same(patches.astype(jnp.float32), 3, 2, value=127.0)
        w32, b32 = w.astype(jnp.float32), b.astype(jnp.float32)  # the offset below cancels most of the sum
        y = lax.conv_general_dilated(x, w32 / 128.0, (2, 2), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        y = y + (b32 - jnp.sum(w32, axis=(0, 1, 2)) * (127.0 / 128.0))[None, None, None]
        return relu6(y).astype(w.dtype)


class Depthwise(nn.Module):
    """Each channel convolved, with SAME padding, with its own slice of `w` (kernel, kernel, channels), plus `b`.

    The kernels stay as they are in training: their gradient is zero. It would take longer than everything else.
    """

    kernel: int
    stride: int

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b H W c"]:
        channels = x.shape[-1]
        w = self.param("w", depthwise_normal, (self.kernel, self.kernel, channels))
        y: Any = _depthwise(lax.stop_gradient(w), x, self.stride)
        return y + self.param("b", zeros, (channels,))[None, None, None]


class Block(nn.Module):
    """Inverted residual block: expand, depthwise, project; the input is added where the block keeps its shape."""

    stage: Stage
    first: bool
    """of its stage: it strides and changes the channels"""

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b H W f"]:
        s = self.stage
        y = relu6(Pointwise(x.shape[-1] * s.expand, name="expand")(x)) if s.expand > 1 else x
        y = relu6(Depthwise(s.kernel, s.stride if self.first else 1, name="depthwise")(y))
        y = Pointwise(s.channels, name="project")(y)
        return y if self.first else x + y


class Lite(nn.Module):
    """A run of stages, from patches or from the level of the run before; smaller ones than Lite0's are for tests."""

    stem: int = 32
    """channels of the first convolution"""
    stages: tuple[Stage, ...] = LITE0
    run: tuple[int, int] = (0, len(LITE0))
    """first stage, and the one after the last; before stage 0 comes the stem"""
    levels: tuple[int, ...] = LEVELS
    """stages whose output is returned"""

    @nn.compact
    def __call__(
        self, seen: Num[Array, "b p p 3"] | tuple[Float[Array, "b _ _ _"]]
    ) -> tuple[Float[Array, "b _ _ _"], ...]:
        start, stop = self.run
        x = seen[0] if isinstance(seen, tuple) else Stem(self.stem, name="stem")(seen)
        outputs = {}
        for name, i, j in blocks_of(self.stages):
            if start <= i < stop:
                x = outputs[i] = Block(self.stages[i], j == 0, name=name)(x)
        return tuple(outputs[i] for i in self.levels)


def lite_trunk(
    tuned: int = 0, stem: int = 32, stages: tuple[Stage, ...] = LITE0, levels: tuple[int, ...] = LEVELS
) -> Trunk:
    """EfficientNet-Lite0 whose last `tuned` stages are learned.

    Raises:
        ValueError: a part to learn that would leave no level to it.
    """
    count = len(stages)
    frozen = count - tuned
    if not 0 <= tuned < count or (tuned and min(levels) < frozen):
        raise ValueError(
            f"backbone.tuned_stages must be 0 or {count - min(levels)} to {count - 1}, as all levels must be computed "
            f"in one part of the trunk, but is {tuned}"
        )
    stride = 2 * int(np.prod([stage.stride for stage in stages[: levels[0] + 1]]))
    read = partial(load, stem=stem, stages=stages)
    if not tuned:
        return Trunk(Lite(stem, stages, (0, count), levels), stride, load=read, one_by_one=True)
    bottom = Lite(stem, stages, (0, frozen), (frozen - 1,))
    return Trunk(bottom, stride, top=Lite(stem, stages, (frozen, count), levels), load=read, one_by_one=True)


def load(path: str | Path = "", *, stem: int = 32, stages: tuple[Stage, ...] = LITE0) -> dict[str, Any]:
    """Parameters of all stages from a torch state dict of EfficientNet-Lite0, by default that of the pip package.

    Raises:
        WeightsError: the package or file is missing, damaged, refused, or of another shape.
    """
    source = Path(path) if path else weights.find_package_file(weights.LITE0)
    return convert(weights.read_arrays(source, weights.LITE0), stem=stem, stages=stages)


def convert(state: dict[str, np.ndarray], *, stem: int = 32, stages: tuple[Stage, ...] = LITE0) -> dict[str, Any]:
    """Parameters from a torch state dict (names as in `efficientnet_lite_pytorch`), batch norms folded in.

    Raises:
        WeightsError: a key is missing or has another shape than this trunk.
    """
    tree: dict[str, Any] = {"stem": _fold(state, "_conv_stem.weight", "_bn0", _full)}
    for number, (name, i, _) in enumerate(blocks_of(stages)):
        at = f"_blocks.{number}."
        tree[name] = {
            "depthwise": _fold(state, f"{at}_depthwise_conv.weight", f"{at}_bn1", _per_channel),
            "project": _fold(state, f"{at}_project_conv.weight", f"{at}_bn2", _pointwise_kernel),
        }
        if stages[i].expand > 1:
            tree[name]["expand"] = _fold(state, f"{at}_expand_conv.weight", f"{at}_bn0", _pointwise_kernel)
    whole = Lite(stem, stages, (0, len(stages)), (len(stages) - 1,))
    return weights.fit_shapes(tree, weights.shapes_of(whole))


def depthwise_normal(key: Array, shape: tuple[int, ...]) -> Array:
    """He's start of a kernel whose every output has kernel x kernel inputs."""
    return jax.random.normal(key, shape) * (2.0 / (shape[0] * shape[1])) ** 0.5


def blocks_of(stages: tuple[Stage, ...]) -> Iterator[tuple[str, int, int]]:
    """(name, number of the stage, number in the stage) of every block."""
    for i, stage in enumerate(stages):
        for j in range(stage.repeats):
            yield f"stage{i}_block{j}", i, j


def _full(kernel: np.ndarray) -> np.ndarray:
    """Torch's (out, in, height, width) as (height, width, in, out)."""
    return kernel.transpose(2, 3, 1, 0)


def _per_channel(kernel: np.ndarray) -> np.ndarray:
    """Torch's depthwise (channels, 1, height, width) as (height, width, channels)."""
    return kernel[:, 0].transpose(1, 2, 0)


def _pointwise_kernel(kernel: np.ndarray) -> np.ndarray:
    """Torch's (out, in, 1, 1) as (in, out)."""
    return kernel[:, :, 0, 0].T


def _fold(
    state: dict[str, np.ndarray], conv: str, norm: str, arrange: Callable[[np.ndarray], np.ndarray]
) -> dict[str, np.ndarray]:
    """A convolution without bias and the batch norm after it as one kernel, output channels last, and one bias."""
    kernel = weights.get(state, conv, 4).astype(np.float64)
    gamma, beta, mean, variance = (
        weights.get(state, f"{norm}.{part}", 1).astype(np.float64)
        for part in ("weight", "bias", "running_mean", "running_var")
    )
    if not len(kernel) == len(gamma) == len(beta) == len(mean) == len(variance):
        raise weights.WeightsError(f"{norm} has shape {gamma.shape}, but {conv} before it {kernel.shape}")
    gain = gamma / np.sqrt(variance + BATCH_NORM_EPSILON)
    return {"w": arrange(kernel) * gain, "b": beta - mean * gain}


def _pad_same(x: Array, kernel: int, stride: int, value: float = 0.0) -> Array:
    """TensorFlow's SAME padding as explicit zeros (or `value`)."""
    pads = []
    for side in x.shape[1:3]:
        total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
        pads.append((total // 2, total - total // 2))
    return jnp.pad(x, ((0, 0), *pads, (0, 0)), constant_values=value)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _depthwise(w: Array, x: Array, stride: int) -> Array:
    kernel = w.shape[0]
    # Without the barrier XLA pads anew, with a test per element, in each of the k * k shifted reads.
    padded = lax.optimization_barrier(_pad_same(x, kernel, stride))
    return _add_taps(w, padded, stride, (-(-x.shape[1] // stride), -(-x.shape[2] // stride)))


def _add_taps(w: Array, padded: Array, stride: int, size: tuple[int, int]) -> Array:
    """Sum over the kernel of shifted reads of a padded map, times the weights."""
    rows, columns = size
    y = jnp.zeros((), padded.dtype)
    for i in range(w.shape[0]):
        for j in range(w.shape[1]):
            stops = (padded.shape[0], i + (rows - 1) * stride + 1, j + (columns - 1) * stride + 1, padded.shape[3])
            y = y + lax.slice(padded, (0, i, j, 0), stops, (1, stride, stride, 1)) * w[i, j][None, None, None]
    return y


def _depthwise_forward(w: Array, x: Array, stride: int) -> tuple[Array, tuple[Array, tuple[int, ...]]]:
    return _depthwise(w, x, stride), (w, x.shape)


def _depthwise_backward(stride: int, kept: tuple[Array, tuple[int, ...]], gradient: Array) -> tuple[None, Array]:
    """The same shifted reads of the gradient, spread out by the stride: what JAX derives takes four times as long."""
    w, shape = kept
    kernel = w.shape[0]
    pads = [(0, 0, 0)]
    for side, out in zip(shape[1:3], gradient.shape[1:3], strict=True):
        low = max((out - 1) * stride + kernel - side, 0) // 2
        pads.append((kernel - 1 - low, side + low - ((out - 1) * stride + 1), stride - 1))
    spread = lax.optimization_barrier(lax.pad(gradient, jnp.zeros((), gradient.dtype), (*pads, (0, 0, 0))))
    return None, _add_taps(w[::-1, ::-1], spread, 1, (shape[1], shape[2]))


_depthwise.defvjp(_depthwise_forward, _depthwise_backward)
