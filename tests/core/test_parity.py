from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from roam_jax.presets import tiny

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / "official_parity.npz"


@pytest.fixture(scope="module", autouse=True)
def _scripts():
    """The modules of the script can be imported, so that its programs compile once.

    Shapes are not checked, and ranks may be promoted: the losses are of pooled clips, whose arrays have an axis more.
    """
    with (
        pytest.MonkeyPatch.context() as patch,
        jax.numpy_rank_promotion("allow"),
        jax.numpy_dtype_promotion("standard"),
    ):
        patch.syspath_prepend(str(ROOT / "experiments"))
        jaxtyping.config.update("jaxtyping_disable", True)
        yield
        jaxtyping.config.update("jaxtyping_disable", False)


def replay(path, capsys):
    """Exit code, the errors of the groups, all that was printed."""
    from official_parity import main

    code = main(str(path))
    printed = capsys.readouterr().out
    table = [line.rsplit(maxsplit=2) for line in printed.splitlines() if line.endswith(("ok", "DIFFERS"))]
    return code, {group.strip(): float(error) for group, error, _ in table}, printed


def test_numbers_of_the_official_code(capsys):
    code, errors, _ = replay(GOLDEN, capsys)
    groups = {"filter_size", "label", "anchors", "bbox", "gradprep", "conv", "loss", "lstm", "unroll losses"}
    assert groups <= set(errors)
    assert sum(group.startswith("grad ") for group in errors) >= 20
    assert {group: error for group, error in errors.items() if not error <= 1e-4} == {}
    assert code == 0


@pytest.fixture(scope="module")
def at_the_limit():
    """A file in which a cell of an update and one of a test lie at the limit, and were taken against their error."""
    from official_ties import Bit, take_first
    from official_unroll import NAMES, NETS, load_unroll, make_programs

    golden = dict(np.load(GOLDEN))
    labels = golden["unroll/labels"] = golden["unroll/labels"].copy()
    config, given, choices = load_unroll(golden)
    run, find_errors = make_programs(config)
    taken, bits = take_first(choices), []
    for loss, frame in ((0, 0), (7, 18)):
        error = np.asarray(find_errors(given, taken)[loss])[0, 0]
        place = int(np.argmin(np.abs(error - 0.15)))
        cell = np.unravel_index(place, error.shape)
        label, away = labels[(0, frame, 0, *cell)], error[cell] - np.float32(0.1)
        for moved in (label + away, label - away):
            labels[(0, frame, 0, *cell)] = moved
            given = load_unroll(golden)[1]
            actual = np.asarray(find_errors(given, taken)[loss])[(0, 0, *cell)]
            if abs(actual - 0.1) < 1e-6:
                break
        else:
            raise AssertionError("the cell could not be moved to the limit")
        bits.append(Bit("cells", loss, place))
        taken = taken.put(bits[-1:], np.array([not actual >= 0.1]))

    result, gradient = run(given, taken)
    golden["unroll/meta_loss"] = np.float64(result.total)
    golden["unroll/map_loss"] = np.float64(np.mean(np.asarray(result.terms["response"])))
    golden["unroll/bbox_loss"] = np.float64(np.mean(np.asarray(result.terms["box"])))
    for field, kind in (("theta0", "param"), ("lambda0", "lr")):
        for net, branch in zip(NETS, getattr(gradient, field), strict=True):
            w, b, filters, bias = map(np.asarray, branch)
            for name, value in zip(NAMES, (w.T[..., None, None], b, filters.transpose(3, 2, 0, 1), bias), strict=True):
                golden[f"unroll/grads/meta_init.meta_{net}_{kind}.{name}"] = value
    prefix = "unroll/grads/meta_opti."
    for k in (0, 1):
        layer = gradient.omega[f"layer{k}"]
        golden[f"{prefix}cw_lstm.weight_ih_l{k}"] = np.asarray(layer["x"]["w"].T)
        golden[f"{prefix}cw_lstm.weight_hh_l{k}"] = np.asarray(layer["h"].T)
        for bias in ("ih", "hh"):
            golden[f"{prefix}cw_lstm.bias_{bias}_l{k}"] = np.asarray(layer["x"]["b"])
    golden[prefix + "linear.weight"] = np.asarray(gradient.omega["head"]["w"].T)
    golden[prefix + "linear.bias"] = np.asarray(gradient.omega["head"]["b"])
    return golden, [(bit.loss, bit.place, bool(taken.at(bit))) for bit in bits]


def test_cells_at_the_limit_are_found(at_the_limit, tmp_path, capsys):
    golden, cells = at_the_limit
    np.savez(tmp_path / "near.npz", **golden)
    code, errors, printed = replay(tmp_path / "near.npz", capsys)
    assert code == 0, errors
    assert max(error for group, error in errors.items() if group == "unroll losses" or group.startswith("grad")) < 1e-5
    for loss, place, counted in cells:
        row, column = divmod(place, 31)
        where = f"{ {0: 'update 1', 7: 'test 4'}[loss] }: cell ({row}, {column}) of sample 0 of clip 0"
        lines = [line for line in printed.splitlines() if where in line]
        assert [not line.endswith("not counted") for line in lines] == [counted], printed


def test_wrong_numbers_are_refused(at_the_limit, tmp_path, capsys):
    golden, _ = at_the_limit
    wrong = {
        key: golden[key] * (1 + error) for key, error in (("unroll/map_loss", -3e-4), ("loss/response_loss", 3e-4))
    }
    np.savez(tmp_path / "wrong.npz", **golden | wrong)
    code, errors, _ = replay(tmp_path / "wrong.npz", capsys)
    assert code == 1
    assert min(errors["unroll losses"], errors["loss"]) > 1e-4
    assert max(error for group, error in errors.items() if group.startswith("grad")) < 1e-4


def test_a_choice_explains_what_it_can_and_no_more():
    from official_ties import explain

    rng = np.random.default_rng(0)
    groups = np.array([0] * 6 + [3] * 4 + [-1] * 2)
    now = np.array([0, 0, 0, 1, 1, 1, 0, 0, 0, 1, 1, 0.0])
    true = np.array([1, 0, 1, 0, 0, 1, 0, 1, 0, 0, 0, 1.0])
    effects = rng.normal(size=(40, 12))
    error = effects @ (now - true) + 1e-3 * rng.normal(size=40)
    steps = effects * np.where(groups < 0, 1 - 2 * now, 1)
    np.testing.assert_array_equal(explain(error, steps, now, groups), true)
    np.testing.assert_array_equal(explain(0 * error, steps, now, groups), now)


def test_anchors_within_rounding_are_open():
    from official_ties import NEAR_IOU, official_choice

    phi = jnp.array([[9.0, 9.0]])
    exact, moved, far = (
        official_choice(jnp.array([[[x, 0.0, 24.0, 24.0]]]), phi, tiny()) for x in (0.0, 2e-6, 2e-3)
    )  # fmt: skip
    assert NEAR_IOU < 3e-7
    assert len(exact.tied) > 1
    assert (exact.close, far.close) == (0, 0)
    assert moved.close > 0
    np.testing.assert_array_equal(np.sort(exact.tied), np.sort(moved.tied))
    assert len(far.tied) < len(exact.tied)
    assert moved.first().sum() == exact.first().sum() == far.first().sum()


def test_a_file_without_the_keys(tmp_path):
    np.savez(tmp_path / "other.npz", unrelated=np.zeros(3))
    command = [sys.executable, str(ROOT / "experiments" / "official_parity.py"), str(tmp_path / "other.npz")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "lacks a key" in result.stderr
    assert "Traceback" not in result.stderr
