from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
import pytest

from roam_jax.training.parallel import choose_devices


@pytest.fixture(scope="module")
def results(start, tmp_path_factory):
    """What `worker.py` found on one and on eight devices."""
    folder = tmp_path_factory.mktemp("worker")
    process = start(Path(__file__).with_name("worker.py"), folder / "out.npz", log=folder / "log")
    assert process.wait(1800) == 0, (folder / "log").read_text()
    with np.load(folder / "out.npz") as arrays:
        return dict(arrays)


@pytest.mark.parametrize("what", ["gradient", "state"])
def test_one_and_eight_devices_agree(results, what):
    """The meta-gradient, and after three steps the parameters and the optimizer's state."""
    names = [name.split("/")[0] for name in results if name.startswith(what) and name.endswith("/8")]
    assert len(names) > 10
    assert any(np.abs(results[f"{name}/8"]).max() > 1e-3 for name in names)
    for name in names:
        np.testing.assert_allclose(results[f"{name}/8"], results[f"{name}/1"], rtol=1e-4, atol=1e-5, err_msg=name)


def test_all_devices_hear_of_a_stop(results):
    assert [bool(results[f"stop{step}/8"]) for step in range(3)] == [False, True, False]
    assert not any(results[f"stop{step}/1"] for step in range(3))


@pytest.mark.parametrize("count", [1, 8])
def test_nothing_is_compiled_after_the_first_step(results, count):
    first, *later = (int(results[f"compilations{step}/{count}"]) for step in range(3))
    assert first > 0
    assert later == [first, first]


def test_a_dry_run_tells_what_is_asked_of_it(results):
    text = str(results["forecast"])
    for part in ("theta0: ", "omega: ", "trunk (frozen): ", "meta-gradient: ", "GFLOP a step", "8 x cpu, 1 calls"):
        assert part in text
    operations = float(text.split("operations")[1].split()[0])
    assert 0 < operations < 100


def test_devices_share_a_batch_evenly():
    assert len(jax.devices()) == 2
    assert len(choose_devices(8)) == 2
    assert len(choose_devices(3)) == 1
    assert len(choose_devices(6, 3)) == 2
    assert len(choose_devices(3, 3)) == 1
    with pytest.raises(ValueError, match="does not divide"):
        choose_devices(4, 3)
