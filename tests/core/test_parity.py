from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]


def load_script():
    spec = importlib.util.spec_from_file_location("official_parity", ROOT / "experiments" / "official_parity.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_numbers_of_the_official_code():
    script = load_script()
    with np.load(ROOT / "tests" / "golden" / "official_parity.npz", allow_pickle=False) as golden:
        errors = script.compare(golden)
    groups = {"filter_size", "label", "anchors", "bbox", "gradprep", "conv", "loss", "lstm", "unroll losses"}
    assert groups <= set(errors)
    assert sum(group.startswith("grad ") for group in errors) >= 20
    assert {group: error for group, error in errors.items() if not error <= 1e-4} == {}
