"""EfficientNet-Lite0 up to stride 16, the trunk of the CPU default.

Input RGB, (x - 127) / 128; ReLU6; TensorFlow's "SAME" padding (the odd zero goes to the right and bottom). Batch
normalisation is folded into the convolutions when the weights are read. 1x1 convolutions are matrix products and
depthwise convolutions sums of shifted products, because XLA's grouped convolution is some twenty times slower on CPUs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Num

from roam_jax.backbones import weights

BATCH_NORM_EPSILON = 1e-3


class Stage(NamedTuple):
    """A run of inverted residual blocks; only the first one strides."""

    kernel: int
    stride: int
    expand: int
    channels: int
    repeats: int


@dataclass(frozen=True)
class Lite:
    """The trunk; the fields' defaults are Lite0's, smaller ones are for tests."""

    stem: int = 32
    stages: tuple[Stage, ...] = (
        Stage(3, 1, 1, 16, 1),
        Stage(3, 2, 6, 24, 2),
        Stage(5, 2, 6, 40, 2),
        Stage(3, 2, 6, 80, 3),
        Stage(5, 1, 6, 112, 3),
    )
    levels: tuple[int, ...] = (2, 4)
    """stages whose output is returned"""
    tuned: int = 0
    """last stages that are learned: `apply` ends before them, `finish` computes them"""

    def __post_init__(self) -> None:
        """Refuse a part to learn that would leave no level to it."""
        if not 0 <= self.tuned < len(self.stages) or (self.tuned and min(self.levels) < self.frozen):
            least = len(self.stages) - min(self.levels)
            raise ValueError(
                f"backbone.tuned_stages must be 0 or {least} to {len(self.stages) - 1}, as all levels must be computed "
                f"in one part of the trunk, but is {self.tuned}"
            )

    @property
    def frozen(self) -> int:
        """First stages, which are not learned."""
        return len(self.stages) - self.tuned

    @property
    def stride(self) -> int:
        """Patch pixels per cell of the finest level."""
        return 2 * int(np.prod([stage.stride for stage in self.stages[: self.levels[0] + 1]]))

    @property
    def level_channels(self) -> tuple[int, ...]:
        """Channels of each returned level."""
        return tuple(self.stages[i].channels for i in self.levels)

    def shapes(self) -> dict[str, Any]:
        """Tree of the parameters' shapes: kernels are (height, width, in, out), (in, out) for 1x1 ones."""
        tree: dict[str, Any] = {"stem": _layer(3, 3, 3, self.stem)}
        before = self.stem
        for name, i, _ in _blocks(self.stages):
            stage = self.stages[i]
            wide = before * stage.expand
            block = {"depthwise": _layer(stage.kernel, stage.kernel, wide), "project": _layer(wide, stage.channels)}
            if stage.expand > 1:
                block["expand"] = _layer(before, wide)
            tree[name] = block
            before = stage.channels
        return tree

    def init(self, *, key: Array) -> dict[str, Any]:
        """Random parameters (He)."""
        return weights.init_random(self.shapes(), key=key)

    def apply(self, params: dict[str, Any], patches: Num[Array, "b p p 3"]) -> tuple[Float[Array, "b _ _ _"], ...]:
        """Levels of a batch of RGB patches with values in 0..255, finest first; with learned stages, their input.

        A CPU computes the patches of a batch one after the other: their intermediate maps then stay in its cache, which
        makes a batch 1.5 to 2 times as fast.
        """

        def one(patch: Array) -> tuple[Array, ...]:
            return tuple(level[0] for level in self._apply(params, patch[None]))

        return _one_by_one(one, partial(self._apply, params), patches)

    def finish(
        self, top: dict[str, Any], levels: Sequence[Float[Array, "b _ _ _"]]
    ) -> tuple[Float[Array, "b _ _ _"], ...]:
        """Levels from what `apply` returned, by the learned stages, of which there must be some.

        A CPU keeps nothing of a patch for the backward pass and computes it again there: two thirds of the time.
        """
        together = partial(self._run, top, stages=range(self.frozen, len(self.stages)), levels=self.levels)

        @jax.checkpoint
        def one(level: Array) -> tuple[Array, ...]:
            return tuple(out[0] for out in together(level[None]))

        return _one_by_one(one, together, levels[0])

    def split(self, params: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Parameters of the whole trunk as those of `apply` and those of `finish`."""
        top = {name for name, i, _ in _blocks(self.stages) if i >= self.frozen}
        return (
            {name: layers for name, layers in params.items() if name not in top},
            {name: layers for name, layers in params.items() if name in top},
        )

    def _apply(self, params: dict[str, Any], patches: Array) -> tuple[Array, ...]:
        x = _relu6(_stem(params["stem"], patches)).astype(params["stem"]["w"].dtype)
        return self._run(params, x, range(self.frozen), (self.frozen - 1,) if self.tuned else self.levels)

    def _run(self, params: dict[str, Any], x: Array, stages: range, levels: tuple[int, ...]) -> tuple[Array, ...]:
        """Outputs of `levels` after going through some stages."""
        outputs = {}
        for name, i, j in _blocks(self.stages):
            if i not in stages:
                continue
            stage, layers = self.stages[i], params[name]
            y = _relu6(_pointwise(layers["expand"], x)) if stage.expand > 1 else x
            y = _relu6(depthwise(layers["depthwise"], y, stage.stride if j == 0 else 1))
            y = _pointwise(layers["project"], y)
            x = y if j == 0 else x + y
            outputs[i] = x
        return tuple(outputs[i] for i in levels)

    def load(self, path: str | Path = "") -> dict[str, Any]:
        """Parameters from a torch state dict of EfficientNet-Lite0, by default that of the pip package.

        Raises:
            WeightsError: the package or file is missing, damaged, refused, or of another shape.
        """
        source = Path(path) if path else weights.find_package_file(weights.LITE0)
        return self.convert(weights.read_arrays(source, weights.LITE0))

    def convert(self, state: dict[str, np.ndarray]) -> dict[str, Any]:
        """Parameters from a torch state dict (names as in `efficientnet_lite_pytorch`), batch norms folded in.

        Raises:
            WeightsError: a key is missing or has another shape than this trunk.
        """
        tree: dict[str, Any] = {"stem": _fold(state, "_conv_stem.weight", "_bn0", _full)}
        for number, (name, i, _) in enumerate(_blocks(self.stages)):
            at = f"_blocks.{number}."
            tree[name] = {
                "depthwise": _fold(state, f"{at}_depthwise_conv.weight", f"{at}_bn1", _per_channel),
                "project": _fold(state, f"{at}_project_conv.weight", f"{at}_bn2", _pointwise_kernel),
            }
            if self.stages[i].expand > 1:
                tree[name]["expand"] = _fold(state, f"{at}_expand_conv.weight", f"{at}_bn0", _pointwise_kernel)
        return weights.fit_shapes(tree, self.shapes())


def _layer(*shape: int) -> dict[str, tuple[int, ...]]:
    return {"w": shape, "b": shape[-1:]}


def _blocks(stages: tuple[Stage, ...]) -> Iterator[tuple[str, int, int]]:
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


def _one_by_one(one: Callable, together: Callable, batch: Array) -> tuple[Array, ...]:
    """`together(batch)`; on a CPU, where the batch is larger than 1, `one` of each of its elements."""
    if len(batch) == 1:
        return together(batch)
    return lax.platform_dependent(batch, cpu=partial(lax.map, one), default=together)


def _relu6(x: Array) -> Array:
    return jnp.clip(x, 0.0, 6.0)


def _pad_same(x: Array, kernel: int, stride: int, value: float = 0.0) -> Array:
    """TensorFlow's SAME padding as explicit zeros (or `value`)."""
    pads = []
    for side in x.shape[1:3]:
        total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
        pads.append((total // 2, total - total // 2))
    return jnp.pad(x, ((0, 0), *pads, (0, 0)), constant_values=value)


def _stem(layer: dict[str, Array], patches: Array) -> Array:
    """The first convolution, with the input's (x - 127) / 128 folded into it: zeros become 127 before it."""
    x = _pad_same(patches.astype(jnp.float32), 3, 2, value=127.0)
    layer = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), layer)  # the offset below cancels most of the sum
    y = lax.conv_general_dilated(x, layer["w"] / 128.0, (2, 2), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return y + (layer["b"] - jnp.sum(layer["w"], axis=(0, 1, 2)) * (127.0 / 128.0))


def _pointwise(layer: dict[str, Array], x: Array) -> Array:
    y = x.reshape(-1, x.shape[-1]) @ layer["w"] + layer["b"]
    return y.reshape(*x.shape[:-1], y.shape[-1])


def depthwise(layer: dict[str, Array], x: Array, stride: int) -> Array:
    """Each channel convolved, with SAME padding, with its own slice of `w` (kernel, kernel, channels), plus `b`.

    The kernels stay as they are in training: their gradient is zero. It would take longer than everything else.
    """
    y: Any = _depthwise(lax.stop_gradient(layer["w"]), x, stride)
    return y + layer["b"]


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
            y = y + lax.slice(padded, (0, i, j, 0), stops, (1, stride, stride, 1)) * w[i, j]
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
