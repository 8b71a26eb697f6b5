"""Three small random convolutions at stride 4: a trunk for tests, without weights to download."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from roam_jax.backbones import weights
from roam_jax.backbones.layers import Conv
from roam_jax.backbones.trunk import Trunk


class Tiny(nn.Module):
    """3x3 convolutions with ReLU; the first two stride by 2."""

    widths: tuple[int, int, int] = (8, 8, 8)

    @nn.compact
    def __call__(self, patches: Num[Array, "b p p 3"]) -> tuple[Float[Array, "b _ _ _"]]:
        x = patches.astype(jnp.float32) / 127.5 - 1.0
        for n, (width, stride) in enumerate(zip(self.widths, (2, 2, 1), strict=True)):
            x = jax.nn.relu(Conv(width, stride=stride, name=f"conv{n}")(x))
        return (x,)


def tiny_trunk(widths: tuple[int, int, int] = (8, 8, 8)) -> Trunk:
    """The trunk."""
    module = Tiny(widths)
    return Trunk(module, stride=4, load=partial(load, module))


def load(module: Tiny, path: str | Path = "") -> dict[str, Any]:
    """Parameters from an .npz or .safetensors file of `conv0/w`, `conv0/b`, ...; without a file those of key 0.

    Raises:
        WeightsError: the file is missing, damaged, or of another shape.
    """
    if not path:
        return jax.jit(module.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))["params"]
    arrays, shapes = weights.read_arrays(Path(path)), weights.shapes_of(module)
    tree = {
        layer: {part: weights.get(arrays, f"{layer}/{part}", len(leaf.shape)) for part, leaf in parts.items()}
        for layer, parts in shapes.items()
    }
    return weights.fit_shapes(tree, shapes)
