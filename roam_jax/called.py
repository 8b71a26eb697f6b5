"""Modules that can be called: `roam_jax.track` is the command's module and, when it is called, the function."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any


def call_as(module: str, home: str) -> None:
    """Let a module be called as the function of its name in another one, which is imported then.

    Args:
        module: full name of the module, which is being imported.
        home: module that has the function.
    """
    short = module.rpartition(".")[2]

    class Callable(ModuleType):
        """That module."""

        def __call__(self, *args: Any, **keywords: Any) -> Any:
            return getattr(import_module(home), short)(*args, **keywords)

    sys.modules[module].__class__ = Callable
