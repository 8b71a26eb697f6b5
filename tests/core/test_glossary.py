"""A stranger finds every equation in one look: one function says that it is it, and the glossary names it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import roam_jax.core

CORE = Path(roam_jax.core.__file__).parent
NAMES = [f"Eq. {number}" for number in range(1, 16)] + ["Algorithm 1"]


def functions_by_equation() -> dict[str, list[str]]:
    """module.function of every function whose docstring begins with equations."""
    functions: dict[str, list[str]] = {name: [] for name in NAMES}
    for file in sorted(CORE.glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.FunctionDef):
                continue
            if match := re.match(r"\((Eq\.|Algorithm) ([\d, ]+)\)", ast.get_docstring(node) or ""):
                for number in match[2].split(","):
                    functions[f"{match[1]} {number.strip()}"].append(f"{file.stem}.{node.name}")
    return functions


def test_every_equation_is_exactly_one_function():
    assert {name: homes for name, homes in functions_by_equation().items() if len(homes) != 1} == {}


def test_the_glossary_names_these_functions():
    rows = re.findall(r"^\| (Eq\. \d+|Algorithm 1) *\|.*\| (\S+) *\|$", roam_jax.core.__doc__, re.MULTILINE)
    assert dict(rows) == {name: homes[0] for name, homes in functions_by_equation().items()}
    assert [name for name, _ in rows] == NAMES
