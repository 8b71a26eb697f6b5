"""The layers of the package, checked on the syntax tree: imports go only downward, also those inside functions."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "roam_jax"
LAYERS = (
    "errors",
    "typed",
    "config",
    "presets",
    "interrupts",
    "extras",
    "cli",
    "trees",
    "pictures",
    "devices",
    "core",
    "extensions",
    "method",
    "backbones",
    "patches",
    "checkpoints",
    "tracking",
    "data",
    "evaluation",
    "training",
    "video",
    "app",
    "entry",  # `python -m roam_jax.x`, which may import each other, and the public names of the package
)
FILES = sorted(ROOT.rglob("*.py"))
METHOD = sorted(path for package in ("core", "extensions") for path in (ROOT / package).glob("*.py"))
METHOD_MAY_IMPORT = {"__future__", "collections", "typing", "functools", "math"} | {"jax", "flax", "numpy", "jaxtyping"}
NETWORKS = {"core.networks", *(f"backbones.{name}" for name in ("layers", "lite", "neck", "tiny", "vgg"))}


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def layer_of(name: str) -> int:
    """Rank of `core.model`, say; modules directly in the package are entry points."""
    first = name.split(".")[0]
    return LAYERS.index(first if first in LAYERS else "entry")


def imports_of(source: str, *, only_run: bool = False) -> set[str]:
    """Full names of everything that is imported, wherever it stands; or of what is not for types alone."""
    tree, imported, for_types = ast.parse(source), set(), set()
    if only_run:
        checks = (n for n in ast.walk(tree) if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING")
        for_types = {inner for check in checks for statement in check.body for inner in ast.walk(statement)}
    for node in set(ast.walk(tree)) - for_types:
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            imported |= {f"{node.module}.{alias.name}" for alias in node.names}
    return imported


def inside(imported: set[str]) -> set[str]:
    return {name.removeprefix("roam_jax.") for name in imported if name.startswith("roam_jax.")}


def upward(name: str, source: str) -> set[str]:
    return {other for other in inside(imports_of(source)) if layer_of(other) > layer_of(name)}


def importers_of(package: str) -> set[str]:
    read = {name_of(path): imports_of(path.read_text(encoding="utf-8"), only_run=True) for path in FILES}
    return {name for name, imported in read.items() if package in {other.split(".")[0] for other in imported}}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_go_only_downward(path):
    assert upward(name_of(path), path.read_text(encoding="utf-8")) == set()


def test_an_upward_import_is_found():
    source = "def f():\n    from roam_jax.patches.crop import crop_host\n    import roam_jax.track\n"
    assert upward("core.model", source) == {"patches.crop.crop_host", "track"}
    assert upward("data.clips", source) == {"track"}
    assert upward("track", source) == set()


def test_every_folder_has_its_layer():
    folders = {path.parent.relative_to(ROOT).parts[0] for path in FILES if path.parent != ROOT}
    assert folders == {layer for layer in LAYERS if not (ROOT / f"{layer}.py").exists()} - {"entry"}


@pytest.mark.parametrize("path", METHOD, ids=name_of)
def test_the_method_is_mathematics_only(path):
    """`core` knows neither the configuration nor what is ours, and what is ours `core` and pytrees alone."""
    package, imported = path.parent.name, imports_of(path.read_text(encoding="utf-8"))
    assert {name.split(".")[0] for name in imported} - {"roam_jax"} <= METHOD_MAY_IMPORT
    assert {name.split(".")[0] for name in inside(imported)} <= {"core", "trees", package}


@pytest.mark.parametrize(
    ("package", "owners"), [("orbax", {"checkpoints.store"}), ("grain", {"data.pipeline"}), ("flax", NETWORKS)]
)
def test_heavy_libraries_have_their_places(package, owners):
    assert importers_of(package) == owners


def test_an_import_for_types_alone_is_told_apart():
    source = "if TYPE_CHECKING:\n    import flax\nelse:\n    import jax\nif flax:\n    import numpy\n"
    assert imports_of(source) == {"flax", "jax", "numpy"}
    assert imports_of(source, only_run=True) == {"jax", "numpy"}
