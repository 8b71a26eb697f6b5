"""The shipped checkpoint computes what it did when it was made, from features to the meta-gradient."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from golden.make_shipped import compute

TOLERANCE = 1e-5
"""over the largest magnitude of a group"""
TOLERANCES = {"meta-gradient omega": 5e-5, "meta-gradient lambda0": 1e-4}
"""of groups in which rounding shows more, as conjugate gradients amplify it: between 5e-6 and 2.2e-5 by how hard the
compiler tries; the leaf `cf.reduce_w` of lambda0 is 4.8e-5 off on another kind of processor than that of the file"""


def test_the_numbers_of_the_shipped_checkpoint() -> None:
    with np.load(Path(__file__).parent / "golden" / "shipped.npz") as golden:
        expected = dict(golden)
    actual = compute()
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        assert actual[name].shape == value.shape, name
        error = np.abs(actual[name] - value).max() / np.abs(value).max()
        assert error <= TOLERANCES.get(name, TOLERANCE), f"{name}: {error:.1e}"
