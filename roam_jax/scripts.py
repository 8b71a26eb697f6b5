"""The console commands: `roam-track` is `python -m roam_jax.track`, and so for the others."""

from __future__ import annotations

import runpy
import sys

from roam_jax.interrupts import leave_at_once


def track() -> None:
    """`roam-track`."""
    _run("track")


def train() -> None:
    """`roam-train`."""
    _run("train")


def evaluate() -> None:
    """`roam-evaluate`."""
    _run("evaluate")


def info() -> None:
    """`roam-info`."""
    _run("info")


def export() -> None:
    """`roam-export`."""
    _run("export")


def app() -> None:
    """`roam-app`."""
    _run("app.__main__")


def _run(name: str) -> None:
    leave_at_once()
    runpy.run_module(f"roam_jax.{name}", run_name="__main__", alter_sys=True)
    sys.exit(0)
