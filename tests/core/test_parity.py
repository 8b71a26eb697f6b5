from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]


def replay(path):
    """The script as a user calls it."""
    command = [sys.executable, str(ROOT / "experiments" / "official_parity.py"), str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_numbers_of_the_official_code():
    result = replay(ROOT / "tests" / "golden" / "official_parity.npz")
    table = [line.rsplit(maxsplit=2) for line in result.stdout.splitlines() if line.endswith(("ok", "DIFFERS"))]
    errors = {group: float(error) for group, error, _ in table}
    groups = {"filter_size", "label", "anchors", "bbox", "gradprep", "conv", "loss", "lstm", "unroll losses"}
    assert groups <= set(errors), result.stderr
    assert sum(group.startswith("grad ") for group in errors) >= 20
    assert {group: error for group, error in errors.items() if not error <= 1e-4} == {}
    assert result.returncode == 0


def test_a_file_without_the_keys(tmp_path):
    np.savez(tmp_path / "other.npz", unrelated=np.zeros(3))
    result = replay(tmp_path / "other.npz")
    assert result.returncode == 2
    assert "lacks a key" in result.stderr
    assert "Traceback" not in result.stderr
