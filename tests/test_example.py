"""The example is as short as it says, runs as a script, and shows what it should."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

SCRIPT = Path(__file__).parents[1] / "examples" / "method_in_150_lines.py"
PICTURES = {"features", "model", "first_step", "log10_of_the_learning_rates", "meta_loss", "learned"}


def test_the_lines_are_counted():
    assert len(SCRIPT.read_text(encoding="utf-8").splitlines()) <= 150


def test_losses_fall_and_pictures_are_written(tmp_path):
    pytest.importorskip("matplotlib")
    quick = {"XLA_FLAGS": "--xla_backend_optimization_level=0"}  # half the time to compile
    environment = {**os.environ, "MPLBACKEND": "agg", "JAX_PLATFORMS": "cpu"} | quick
    command = [sys.executable, str(SCRIPT), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    printed = re.findall(r"(update|averaged meta) loss ([\d.]+) -> ([\d.]+)", done.stdout)
    falls = {name: float(after) / float(before) for name, before, after in printed}
    assert falls["update"] < 1
    assert falls["averaged meta"] < 0.5
    pictures = {path.stem: cv2.imread(str(path)) for path in (tmp_path / "out").glob("*.png")}
    assert pictures.keys() == PICTURES
    assert all(picture.std() > 10 for picture in pictures.values())
