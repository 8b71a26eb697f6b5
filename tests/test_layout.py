"""The layers of the package, checked on the syntax tree: imports go only downward, also those inside functions."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "roam_jax"
LAYERS = (
    "typed",
    "config",
    "interrupts",
    "extras",
    "core",
    "backbones",
    "checkpoints",
    "tracking",
    "data",
    "training",
    "video",
    "evaluation",
    "entry",  # `python -m roam_jax.x`, which may import each other, and the public names of the package
)
FILES = sorted(ROOT.rglob("*.py"))
CORE_MAY_IMPORT = {"__future__", "collections", "typing", "functools", "math", "dataclasses"} | {
    "jax",
    "flax",
    "optax",
    "numpy",
    "jaxtyping",
}


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def layer_of(name: str) -> int:
    """Rank of `core.model`, say; modules directly in the package are entry points."""
    first = name.split(".")[0]
    return LAYERS.index(first if first in LAYERS else "entry")


def imports_of(source: str) -> set[str]:
    """Full names of everything that is imported, wherever it stands."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def inside(imported: set[str]) -> set[str]:
    return {name.removeprefix("roam_jax.") for name in imported if name.startswith("roam_jax.")}


def upward(name: str, source: str) -> set[str]:
    return {other for other in inside(imports_of(source)) if layer_of(other) > layer_of(name)}


def importers_of(package: str) -> set[str]:
    return {
        name_of(path)
        for path in FILES
        if any(name.split(".")[0] == package for name in imports_of(path.read_text(encoding="utf-8")))
    }


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_go_only_downward(path):
    assert upward(name_of(path), path.read_text(encoding="utf-8")) == set()


def test_an_upward_import_is_found():
    source = "def f():\n    from roam_jax.tracking.crop import crop_host\n    import roam_jax.track\n"
    assert upward("core.model", source) == {"tracking.crop.crop_host", "track"}
    assert upward("data.clips", source) == {"track"}
    assert upward("track", source) == set()


def test_every_folder_has_its_layer():
    folders = {path.parent.relative_to(ROOT).parts[0] for path in FILES if path.parent != ROOT}
    assert folders == set(LAYERS) - {"typed", "config", "interrupts", "extras", "entry"}


@pytest.mark.parametrize("path", sorted((ROOT / "core").glob("*.py")), ids=name_of)
def test_core_is_mathematics_only(path):
    imported = imports_of(path.read_text(encoding="utf-8"))
    assert {name.split(".")[0] for name in imported} - {"roam_jax"} <= CORE_MAY_IMPORT
    assert {name.split(".")[0] for name in inside(imported)} <= {"config", "core"}


@pytest.mark.parametrize(("package", "owner"), [("orbax", "checkpoints.store"), ("grain", "data.pipeline")])
def test_heavy_libraries_have_one_owner(package, owner):
    assert importers_of(package) == {owner}
