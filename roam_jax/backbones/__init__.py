"""Feature extractors: a frozen pretrained trunk, a small learned neck, one registry line each.

A trunk is a small frozen dataclass (`Trunk`) in a file of its own; a line of `TRUNKS` gives it a name. `Backbone` joins
it to the neck; it is hashable and compares by value, so it can be a static argument of `jax.jit`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import jax
from jaxtyping import Array, Float, Num

from roam_jax.backbones.lite import Lite
from roam_jax.backbones.neck import apply_neck, init_neck, measure_stats
from roam_jax.backbones.tiny import Tiny
from roam_jax.backbones.vgg import Vgg
from roam_jax.backbones.weights import WeightsError
from roam_jax.config import Config

__all__ = ["TRUNKS", "Backbone", "Trunk", "WeightsError", "load_trunk", "make_backbone", "measure_stats"]


@runtime_checkable
class Trunk(Protocol):
    """What a file of this folder provides; parameters are nested dicts of float32 arrays."""

    @property
    def stride(self) -> int:
        """Patch pixels per cell of the first level."""
        ...

    @property
    def level_channels(self) -> tuple[int, ...]:
        """Channels of each level, finest first."""
        ...

    def init(self, *, key: Array) -> dict[str, Any]:
        """Random parameters."""
        ...

    def apply(self, params: dict[str, Any], patches: Num[Array, "b p p 3"], /) -> tuple[Float[Array, "b _ _ _"], ...]:
        """Levels of RGB patches with values in 0..255, computed in the type of the weights."""
        ...

    def load(self, path: str | Path = "", /) -> dict[str, Any]:
        """Pretrained parameters from a file, or from the usual place; raises WeightsError."""
        ...


@runtime_checkable
class TunableTrunk(Trunk, Protocol):
    """A trunk whose last part can be learned; `apply` then ends before that part."""

    @property
    def tuned(self) -> int:
        """How many stages are learned; 0: none."""
        ...

    def split(self, params: dict[str, Any], /) -> tuple[dict[str, Any], dict[str, Any]]:
        """Parameters of the whole trunk as those of the frozen part and those of the learned one."""
        ...

    def finish(self, top: dict[str, Any], levels: Sequence[Array], /) -> tuple[Float[Array, "b _ _ _"], ...]:
        """Levels by the learned part, from what `apply` returned."""
        ...


TRUNKS: dict[str, Callable[[Config], Trunk]] = {
    "lite": lambda config: Lite(tuned=config.backbone.tuned_stages),
    "vgg10": lambda config: Vgg(convolutions=10, map_size=config.model.map_size),
    "vgg12": lambda config: Vgg(convolutions=12, map_size=config.model.map_size),
    "tiny": lambda config: Tiny(),
}


@dataclass(frozen=True)
class Backbone:
    """Patches in, one normalised feature map out. Parameters are `{"trunk": ..., "neck": ...}`.

    The learned stages of the trunk are in `neck["top"]`, where there are any.
    """

    name: str
    extractor: Trunk
    neck_channels: int = 0
    """0: no learned neck, the levels are only standardised, stacked and normalised"""
    neck_blocks: int = 1
    """residual 3x3 convolutions of the neck"""

    @property
    def stride(self) -> int:
        """Patch pixels per cell of the map."""
        return self.extractor.stride

    @property
    def channels(self) -> int:
        """Channels of the map."""
        return self.neck_channels or sum(self.extractor.level_channels)

    @partial(jax.jit, static_argnums=0)
    def init(self, *, key: Array) -> dict[str, Any]:
        """Random parameters of trunk and neck."""
        key_trunk, key_neck = jax.random.split(key)
        neck = init_neck(self.extractor.level_channels, self.neck_channels, self.neck_blocks, key=key_neck)
        return self.join(self.extractor.init(key=key_trunk), neck)

    def join(self, trunk: dict[str, Any], neck: dict[str, Any]) -> dict[str, Any]:
        """Parameters from those of the whole trunk and of a neck; the latter's `top`, if it has one, is replaced."""
        if not self.tunable:
            return {"trunk": trunk, "neck": neck}
        frozen, top = self.tunable.split(trunk)
        return {"trunk": frozen, "neck": {**neck, "top": top}}

    def whole_trunk(self, params: dict[str, Any]) -> dict[str, Any]:
        """Parameters of the whole trunk: those that are frozen, and those that were learned."""
        return {**params["trunk"], **params["neck"].get("top", {})}

    @property
    def tunable(self) -> TunableTrunk | None:
        """The trunk, if a part of it is learned."""
        return self.extractor if isinstance(self.extractor, TunableTrunk) and self.extractor.tuned else None

    def trunk(self, params: dict[str, Any], patches: Num[Array, "b p p 3"]) -> tuple[Float[Array, "b _ _ _"], ...]:
        """Levels of RGB patches, uint8 or float in 0..255, by the frozen part: constants for the gradient."""
        return self.extractor.apply(jax.lax.stop_gradient(params["trunk"]), patches)

    def neck(self, params: dict[str, Any], levels: Sequence[Float[Array, "b _ _ _"]]) -> Float[Array, "b H W C"]:
        """(batch, P / stride, P / stride, channels) map with unit mean square per image, by the learned part."""
        return apply_neck(params["neck"], self.levels(params, levels))

    def levels(self, params: dict[str, Any], seen: Sequence[Float[Array, "b _ _ _"]]) -> Sequence[Array]:
        """The neck's levels from what `trunk` returned, by the learned stages of the trunk, if there are any."""
        return self.tunable.finish(params["neck"]["top"], seen) if self.tunable else seen

    def features(self, params: dict[str, Any], patches: Num[Array, "b p p 3"]) -> Float[Array, "b H W C"]:
        """`neck` of `trunk`."""
        return self.neck(params, self.trunk(params, patches))


def make_backbone(config: Config) -> Backbone:
    """The backbone that `config.backbone` names, fitted to the map of `config.model`.

    Raises:
        ValueError: the name is not in the registry, its stride is not the model's, or it cannot learn so many stages.
    """
    name = config.backbone.name
    if name not in TRUNKS:
        raise ValueError(f"no backbone is called {name!r}; there are {', '.join(sorted(TRUNKS))}")
    backbone = Backbone(name, TRUNKS[name](config), config.backbone.neck_channels, config.backbone.neck_blocks)
    if backbone.stride != config.model.stride:
        raise ValueError(f"model.stride is {config.model.stride}, but backbone {name!r} has stride {backbone.stride}")
    if config.backbone.tuned_stages and not backbone.tunable:
        raise ValueError(f"backbone {name!r} has no stages to learn, but backbone.tuned_stages is not 0")
    return backbone


def load_trunk(config: Config) -> dict[str, Any]:
    """Pretrained parameters of the whole trunk, from the file `config.backbone.weights` or the backbone's pip package.

    Raises:
        WeightsError: no such file or package, or it is damaged, refused, or does not fit.
    """
    return make_backbone(config).extractor.load(config.backbone.weights)
