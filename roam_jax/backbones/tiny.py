"""Three small random convolutions at stride 4: a trunk for tests, without weights to download."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Num

from roam_jax.backbones import weights


@dataclass(frozen=True)
class Tiny:
    """3x3 convolutions with ReLU; the first two stride by 2."""

    widths: tuple[int, int, int] = (8, 8, 8)
    stride: int = 4

    @property
    def level_channels(self) -> tuple[int, ...]:
        """Channels of the one level."""
        return (self.widths[-1],)

    def shapes(self) -> dict[str, Any]:
        """Tree of the parameters' shapes."""
        ins = (3, *self.widths[:-1])
        return {
            f"conv{n}": {"w": (3, 3, i, o), "b": (o,)} for n, (i, o) in enumerate(zip(ins, self.widths, strict=True))
        }

    def init(self, *, key: Array) -> dict[str, Any]:
        """Random parameters (He)."""
        return weights.init_random(self.shapes(), key=key)

    def apply(self, params: dict[str, Any], patches: Num[Array, "b p p 3"]) -> tuple[Float[Array, "b _ _ _"], ...]:
        """The one level of a batch of RGB patches with values in 0..255."""
        x = (patches.astype(jnp.float32) / 127.5 - 1.0).astype(params["conv0"]["w"].dtype)
        for n, stride in enumerate((2, 2, 1)):
            layer = params[f"conv{n}"]
            y = lax.conv_general_dilated(
                x, layer["w"], (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            x = jax.nn.relu(y + layer["b"])
        return (x,)

    def load(self, path: str | Path = "") -> dict[str, Any]:
        """Parameters from an .npz or .safetensors file of `conv0/w`, `conv0/b`, ...; without a file those of key 0.

        Raises:
            WeightsError: the file is missing, damaged, or of another shape.
        """
        if not path:
            return self.init(key=jax.random.key(0))
        arrays = weights.read_arrays(Path(path))
        tree = {
            layer: {part: weights.get(arrays, f"{layer}/{part}", len(shape)) for part, shape in parts.items()}
            for layer, parts in self.shapes().items()
        }
        return weights.fit_shapes(tree, self.shapes())
