"""ROAM, a visual tracker whose model a meta-learned optimizer updates while it tracks (Yang et al., CVPR 2020), in JAX.

The names below are loaded when they are first used: importing the package imports no JAX and starts no device.
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # that of typing, whose import would take longer than all that is done here
if TYPE_CHECKING:
    from typing import Any

    from roam_jax.api import Result, track
    from roam_jax.backbones import Trunk, make_backbone, register_trunk
    from roam_jax.checkpoints import load_checkpoint
    from roam_jax.config import Config
    from roam_jax.method import make_method, register_optimizer
    from roam_jax.research import Evaluation, evaluate, train
    from roam_jax.tracking.online import Online
    from roam_jax.tracking.tracker import Tracker

    __version__: str

__all__ = [
    "Config",
    "Evaluation",
    "Online",
    "Result",
    "Tracker",
    "Trunk",
    "__version__",
    "evaluate",
    "load_checkpoint",
    "make_backbone",
    "make_method",
    "register_optimizer",
    "register_trunk",
    "track",
    "train",
]

_COMMANDS = ("evaluate", "track", "train")
_HOMES = {
    "Config": "roam_jax.config",
    "Evaluation": "roam_jax.research",
    "Online": "roam_jax.tracking.online",
    "Result": "roam_jax.api",
    "Tracker": "roam_jax.tracking.tracker",
    "load_checkpoint": "roam_jax.checkpoints",
    "Trunk": "roam_jax.backbones",
    "make_backbone": "roam_jax.backbones",
    "make_method": "roam_jax.method",
    "register_optimizer": "roam_jax.method",
    "register_trunk": "roam_jax.backbones",
}


def __getattr__(name: str) -> Any:
    """A public name from its module (PEP 562)."""
    if name == "__version__":
        from importlib import metadata  # late for the same reason

        return metadata.version("roam-jax")
    if name in _COMMANDS:
        return import_module(f"roam_jax.{name}")  # which can be called; imported, it hides any function of its name
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
