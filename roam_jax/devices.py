"""What this package asks of JAX, whatever the process around it has asked."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator

import jax

from roam_jax.errors import UsageError


@contextlib.contextmanager
def in_float32() -> Iterator[None]:
    """Context or decorator in which programs are compiled, and in float32, as checkpoints are.

    So a tracker gives the same boxes where `jax_enable_x64` or `jax_disable_jit` is set for something else.
    """
    with jax.enable_x64(False), jax.disable_jit(False):
        yield


def refuse_fork() -> None:
    """Return unless JAX was started before this process was forked: its threads are not here, and calls never return.

    Raises:
        RuntimeError: it was.
    """
    if _process_of_jax() != os.getpid():
        raise RuntimeError(
            "a tracker cannot run in a forked process: start processes with "
            "multiprocessing.get_context('spawn'), or make trackers only after the fork"
        )


@functools.cache
def _process_of_jax() -> int:
    """The process that asked first; a fork inherits the answer."""
    return os.getpid()


def choose_backend() -> str:
    """Platform of the devices that JAX takes: `cpu`, `gpu`, ...

    Raises:
        UsageError: JAX has no device of the kind that it is told to use.
        RuntimeError: as `refuse_fork`.
    """
    refuse_fork()
    try:
        return jax.default_backend()
    except (RuntimeError, AssertionError) as error:  # the second where the platform's plugin is not installed
        asked = os.environ.get("JAX_PLATFORMS", "")
        raise UsageError(f"JAX finds no device of the platform that JAX_PLATFORMS={asked} asks for") from error
