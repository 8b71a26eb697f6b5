"""What a backbone is built on: a pretrained network as linen modules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import flax.linen as nn


@dataclass(frozen=True)
class Trunk:
    """A network that maps RGB patches (b, p, p, 3), values in 0..255, to a tuple of levels (b, h, w, c), finest first.

    Its parameters are nested dicts of float32 arrays, the linen collection `params` of the modules.
    """

    module: nn.Module
    """the frozen part; the whole network if there is no `top`"""
    stride: int
    """patch pixels per cell of the first level"""
    top: nn.Module | None = None
    """last stages, which meta-training may learn: maps what `module` returns to the levels"""
    load: Callable[[str | Path], dict[str, Any]] | None = field(default=None, compare=False)
    """pretrained parameters of both parts in one dict, from a file or (an empty path) the usual place; raises
    WeightsError; None: there are none, and the trunk begins with random ones"""
    one_by_one: bool = False
    """on a CPU the patches of a batch are computed one after the other: what lies between then stays in its cache"""
