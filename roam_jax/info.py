"""`python -m roam_jax.info`: versions, devices, folders and extras, which is what a report of a fault needs."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path

import cv2

import roam_jax
from roam_jax.cli import ExitCode, Flag, parse, run_command
from roam_jax.errors import UsageError
from roam_jax.extras import EXTRAS

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "opencv-python", "av", "tyro")


@dataclass(frozen=True)
class InfoArgs:
    """Versions, devices, folders and extras, which is what a report of a fault needs.

    Exit codes: 0 done, 2 wrong arguments.
    """

    json: Flag = False
    """as one JSON object"""


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns its exit code."""
    return run_command(lambda: run(parse(InfoArgs, "python -m roam_jax.info", argv)))


def run(args: InfoArgs) -> ExitCode:
    """Print them."""
    found = collect()
    if args.json:
        print(json.dumps(found, indent=1))
        return ExitCode.SUCCESS
    for title, values in found.items():
        print(title)
        for name, value in values.items():
            print(f"  {name:18s} {value}")
    return ExitCode.SUCCESS


def collect() -> dict[str, dict[str, str]]:
    """Names and values by title."""
    import jax

    from roam_jax.checkpoints import shipped_names
    from roam_jax.devices import choose_backend
    from roam_jax.tracking.programs import enable_compilation_cache

    enable_compilation_cache()
    try:
        devices = {str(device): device.device_kind for device in jax.devices(choose_backend())}
    except UsageError as error:
        devices = {"none": str(error)}
    extras: dict[str, list[str]] = {}
    for package, extra in EXTRAS.items():
        if util.find_spec(package) is None:
            extras.setdefault(extra, []).append(package)
    variables = {
        name: value for name, value in sorted(os.environ.items()) if name.startswith(("JAX_", "XLA_", "CUDA_"))
    }
    system = {"system": platform.platform(), "python": platform.python_version(), "cores": str(os.cpu_count())}
    return {
        "versions": {"roam_jax": roam_jax.__version__, **{name: _version(name) for name in PACKAGES}},
        "machine": system,
        "devices": devices,
        "environment": variables,
        "folders": {
            "package": str(Path(roam_jax.__file__).parent),
            "compiled programs": str(jax.config.values["jax_compilation_cache_dir"]),
        },
        "checkpoints": {name: str(Path(roam_jax.__file__).parent / "checkpoints" / name) for name in shipped_names()},
        "extras": {
            extra: f"not installed ({', '.join(extras[extra])} is missing)" if extra in extras else "installed"
            for extra in dict.fromkeys(EXTRAS.values())
        },
        "windows": {"OpenCV": _gui()},
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _gui() -> str:
    """What OpenCV draws windows with."""
    lines = (line.split(":", 1) for line in cv2.getBuildInformation().splitlines() if line.strip().startswith("GUI:"))
    return next((value.strip() for _, value in lines), "unknown")


if __name__ == "__main__":
    raise SystemExit(main())
