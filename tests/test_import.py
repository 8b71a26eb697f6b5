from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import roam_jax

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"


def run_python(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_import_leaves_jax_alone() -> None:
    heavy = "{'jax', 'jaxlib', 'flax', 'cv2', 'numpy'}"
    assert run_python(f"import sys, roam_jax; print(sorted({heavy} & set(sys.modules)))") == "[]"


def test_config_and_version_need_no_jax() -> None:
    used = "roam_jax.Config, roam_jax.__version__, presets.lite().check()"
    code = f"import sys, roam_jax; from roam_jax import presets; {used}; print('jax' in sys.modules)"
    assert run_python(code) == "False"


def test_import_of_everything_starts_no_device() -> None:
    # Any use of a device would fail: there is no platform of that name.
    assert run_python("from roam_jax import *; print(Tracker.name)", JAX_PLATFORMS="nowhere") == "ROAM-JAX"


@pytest.mark.parametrize(
    "name", [name for name in roam_jax.__all__ if name not in ("__version__", "evaluate", "track", "train")]
)
def test_names_are_those_of_their_modules(name: str) -> None:
    value = getattr(roam_jax, name)
    assert value.__name__ == name
    assert value.__module__.startswith("roam_jax.")
    assert name in dir(roam_jax)


def test_version_is_the_projects() -> None:
    assert roam_jax.__version__ == tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]["version"]


def test_unknown_name() -> None:
    with pytest.raises(AttributeError, match="module 'roam_jax' has no attribute 'tracker'"):
        _ = roam_jax.tracker
