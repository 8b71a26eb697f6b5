"""Trunks by name: those of the package, and those that a program adds."""

from __future__ import annotations

from collections.abc import Callable

from roam_jax.backbones.trunk import Trunk
from roam_jax.config import Config


def _lite(config: Config) -> Trunk:
    from roam_jax.backbones.lite import lite_trunk

    return lite_trunk(config.backbone.tuned_stages)


def _vgg(convolutions: int) -> Callable[[Config], Trunk]:
    def make(config: Config) -> Trunk:
        from roam_jax.backbones.vgg import vgg_trunk

        return vgg_trunk(convolutions, config.model.map_size)

    return make


def _tiny(config: Config) -> Trunk:
    from roam_jax.backbones.tiny import tiny_trunk

    del config
    return tiny_trunk()


TRUNKS: dict[str, Callable[[Config], Trunk]] = {
    "lite": _lite,
    "vgg10": _vgg(10),
    "vgg12": _vgg(12),
    "tiny": _tiny,
}
"""by the name that `backbone.name` gives"""
OWN = frozenset(TRUNKS)
"""names of the package"""
TOO_LARGE = frozenset({"vgg10", "vgg12"})
"""names of those whose weights checkpoints do not hold, only where they come from"""


def register_trunk(name: str, make: Callable[[Config], Trunk]) -> None:
    """Give a trunk of your own a name for `backbone.name`; checkpoints keep the name, and `Tracker` needs it there.

    It is this process that knows it: `evaluate` in several processes takes `--tracker FILE.py:NAME`, where FILE
    registers it too.

    Args:
        name: not yet taken.
        make: gives the trunk for a configuration.

    Raises:
        ValueError: the name is taken.
    """
    if TRUNKS.setdefault(name, make) is not make:
        raise ValueError(f"a trunk is called {name!r} already")
