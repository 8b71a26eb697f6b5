"""Patches in, one normalised feature map out: trunk, learned stages and neck."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Num

from roam_jax.backbones.registry import TRUNKS
from roam_jax.backbones.trunk import Trunk
from roam_jax.config import Config

Params = dict[str, Any]
"""parameters by part: `trunk`, `top`, `stats`, `neck`"""


@dataclass(frozen=True)
class Backbone:
    """The pure functions of a backbone; compares by value, so it can be a static argument of `jax.jit`."""

    spec: Trunk
    patch_size: int
    neck_channels: int = 0
    """0: no learned neck, the levels are only standardised, stacked and normalised"""
    neck_blocks: int = 1
    """residual 3x3 convolutions of the neck"""

    @cached_property
    def head(self) -> Any:
        """The neck as a linen module."""
        from roam_jax.backbones.neck import Neck

        return Neck(self.neck_channels, self.neck_blocks)

    @cached_property
    def shapes(self) -> Params:
        """Shapes and types of all parameters."""
        return jax.eval_shape(lambda key: self.init(key=key), jax.random.key(0))

    @cached_property
    def seen(self) -> tuple[jax.ShapeDtypeStruct, ...]:
        """Shapes of the levels of one patch, by trunk and learned stages."""
        params = {part: self.shapes[part] for part in ("trunk", "top")}
        patches = jax.ShapeDtypeStruct((1, self.patch_size, self.patch_size, 3), jnp.uint8)
        return jax.eval_shape(lambda p, x: self.levels(p, self.trunk(p, x)), params, patches)

    @property
    def channels(self) -> int:
        """Channels of the map."""
        return self.neck_channels or sum(level.shape[-1] for level in self.seen)

    @partial(jax.jit, static_argnums=0)
    def init(self, *, key: Array) -> Params:
        """Random parameters.

        Raises:
            ValueError: the trunk has variables besides parameters, or its levels have not the stride that it says.
        """
        from roam_jax.backbones.neck import unit_stats

        keys = jax.random.split(key, 3)
        patches = jnp.zeros((1, self.patch_size, self.patch_size, 3))
        seen, variables = self.spec.module.init_with_output(keys[0], patches)
        params: Params = {"trunk": _only_params(variables), "top": {}}
        if self.spec.top is not None:
            seen, variables = self.spec.top.init_with_output(keys[1], seen)
            params["top"] = _only_params(variables)
        self._check_levels(seen)
        stats = unit_stats(sum(level.shape[-1] for level in seen))
        return {**params, "stats": stats, "neck": self.head.init(keys[2], seen, stats).get("params", {})}

    def _check_levels(self, levels: Sequence[Float[Array, "b _ _ _"]]) -> None:
        cells, (_, rows, columns, _) = -(-self.patch_size // self.spec.stride), levels[0].shape
        if (rows, columns) != (cells, cells):
            raise ValueError(
                f"a trunk of stride {self.spec.stride} should give {cells} x {cells} cells for a patch of "
                f"{self.patch_size} pixels, but gives {rows} x {columns}"
            )

    def split(self, trunk: dict[str, Any]) -> Params:
        """Parameters of the whole trunk as those of the frozen part and those of the learned stages."""
        return {part: {name: trunk[name] for name in self.shapes[part]} for part in ("trunk", "top")}

    def trunk(self, params: Params, patches: Num[Array, "b p p 3"]) -> tuple[Float[Array, "b _ _ _"], ...]:
        """What the frozen part makes of RGB patches, uint8 or float in 0..255: constants for the gradient."""
        return self._apply(self.spec.module, jax.lax.stop_gradient(params["trunk"]), patches)

    def levels(self, params: Params, seen: Sequence[Float[Array, "b _ _ _"]]) -> tuple[Float[Array, "b _ _ _"], ...]:
        """The neck's levels from what `trunk` returned, by the learned stages, if there are any.

        A CPU keeps nothing of a patch for the backward pass and computes it again there: two thirds of the time.
        """
        seen = tuple(seen)
        return seen if self.spec.top is None else self._apply(self.spec.top, params["top"], seen, again=True)

    def neck(self, params: Params, seen: Sequence[Float[Array, "b _ _ _"]]) -> Float[Array, "b H W C"]:
        """(batch, P / stride, P / stride, channels) map with unit mean square per image, by the learned parts."""
        return self.head.apply({"params": params["neck"]}, self.levels(params, seen), params["stats"])

    def features(self, params: Params, patches: Num[Array, "b p p 3"]) -> Float[Array, "b H W C"]:
        """`neck` of `trunk`."""
        return self.neck(params, self.trunk(params, patches))

    def _apply(self, module: Any, params: dict[str, Any], seen: Any, again: bool = False) -> tuple[Array, ...]:
        """A module on a batch; on a CPU, if the trunk asks for it, on one element after the other."""
        together = partial(module.apply, {"params": params})
        if not self.spec.one_by_one or len(jax.tree.leaves(seen)[0]) == 1:
            return together(seen)

        def one(element: Any) -> tuple[Array, ...]:
            return jax.tree.map(lambda x: x[0], together(jax.tree.map(lambda x: x[None], element)))

        each: Callable = jax.checkpoint(one) if again else one
        return lax.platform_dependent(seen, cpu=partial(lax.map, each), default=together)


def _only_params(variables: Any) -> Any:
    if others := sorted(set(variables) - {"params"}):
        raise ValueError(
            f"a trunk's modules should have parameters alone, but have {', '.join(others)} too: batch normalisation, "
            "for example, must be folded into the layers before it"
        )
    return variables["params"]


def make_backbone(config: Config) -> Backbone:
    """The backbone that `config.backbone` names, fitted to the map of `config.model`.

    Raises:
        ValueError: no trunk has that name, its stride is not the model's, its modules are not hashable, or it cannot
            learn so many stages.
    """
    b, m = config.backbone, config.model
    if b.name not in TRUNKS:
        raise ValueError(
            f"no trunk is called {b.name!r}; there are {', '.join(sorted(TRUNKS))}, and those that a program gives to "
            "roam_jax.register_trunk before"
        )
    backbone = Backbone(TRUNKS[b.name](config), m.patch_size, b.neck_channels, b.neck_blocks)
    try:
        hash(backbone)
    except TypeError as error:
        raise ValueError(f"the modules of trunk {b.name!r} must be hashable, with tuples for lists: {error}") from error
    if backbone.spec.stride != m.stride:
        raise ValueError(f"model.stride is {m.stride}, but backbone {b.name!r} has stride {backbone.spec.stride}")
    if b.tuned_stages and backbone.spec.top is None:
        raise ValueError(f"backbone {b.name!r} has no stages to learn, but backbone.tuned_stages is not 0")
    return backbone


def load_trunk(config: Config) -> Params:
    """Pretrained parameters of the trunk, `trunk` and `top`, from `config.backbone.weights` or its pip package.

    Raises:
        WeightsError: no such file or package, or it is damaged, refused, or does not fit.
    """
    backbone = make_backbone(config)
    if backbone.spec.load is None:
        return {part: backbone.init(key=jax.random.key(0))[part] for part in ("trunk", "top")}
    return backbone.split(backbone.spec.load(config.backbone.weights))
