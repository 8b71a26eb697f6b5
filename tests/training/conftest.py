from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from roam_jax import presets
from roam_jax.tracking.params import init_params


@pytest.fixture(scope="session")
def environment(tmp_path_factory) -> dict[str, str]:
    """Of processes that start JAX themselves: half the time to compile, and what one has compiled the next one has."""
    kept = dict(os.environ)
    cache = {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("programs")),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    return kept | cache | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_backend_optimization_level=0"}


@pytest.fixture(scope="session")
def start(environment):
    """Starts a Python program with its output in a file, which `finish` shows where the exit code is another one."""

    def start(*argv: object, log: Path) -> subprocess.Popen:
        with log.open("wb") as output:
            command = [sys.executable, *map(str, argv)]
            return subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)

    return start


@pytest.fixture(scope="session")
def make_learned():
    """Makes parameters that are all zero, of a kind of optimizer."""

    def make(kind="lstm"):
        config = presets.tiny()
        config = dataclasses.replace(
            config,
            backbone=dataclasses.replace(config.backbone, neck_channels=4),
            optimizer=dataclasses.replace(config.optimizer, kind=kind),
        )
        params = jax.eval_shape(lambda key: init_params(config, key=key), jax.random.key(0))
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), params)
        return zeros._replace(trunk={})

    return make
