"""Strict surroundings for all tests: shapes and types are checked at run time, and there are two devices."""

from __future__ import annotations

import os
from pathlib import Path

from kept import programs_folder, remove_old

# Before JAX is first imported, and for the processes that tests start.
# Most of the tests' time is compiling, for programs that run once: the compiler tries less hard.
os.environ["XLA_FLAGS"] = " ".join(
    [
        os.environ.get("XLA_FLAGS", ""),
        "--xla_force_host_platform_device_count=2",
        "--xla_backend_optimization_level=0",
        "--xla_llvm_disable_expensive_passes=true",
    ]
)
# What tests compile is kept, but not in the user's cache.
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(programs_folder())
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

import jax
import jaxtyping
import pytest

# Nothing is broadcast or promoted by accident: where it is meant, it is written.
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

# `config` is left out, whose own checks of bad values are tested; `evaluation`, as trackers of its tests offer less
# than the protocol.
CHECKED = (
    "core", "extensions", "backbones", "patches", "checkpoints", "tracking", "data", "training", "video",
)  # fmt: skip
jaxtyping.install_import_hook([f"roam_jax.{part}" for part in CHECKED], "typecheck.checked")


LONG = (
    "test_shipped", "test_parity", "test_train", "test_example_notebooks", "test_example", "test_parallel",
    "test_episodes", "test_registry", "test_exported", "test_programs",
)  # fmt: skip
"""files that take long and so come first: at the end no process works alone"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The order of the files."""
    items.sort(key=lambda item: LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG))


def pytest_configure() -> None:
    """Make room for programs of the present sources."""
    remove_old(programs_folder())


@pytest.fixture(scope="session")
def roam_data() -> Path:
    """The folder with real data that ROAM_DATA names; tests that need it are skipped without."""
    folder = os.environ.get("ROAM_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("ROAM_DATA does not name a folder with real sequences and weights")
    return Path(folder)
