from __future__ import annotations

import sys

import cv2
import numpy as np
import pytest

from roam_jax.extras import MissingExtra
from roam_jax.training import figures
from roam_jax.training.figures import (
    collect_histograms,
    collect_scalars,
    collect_series,
    draw_figures,
    draw_last,
    draw_losses,
    draw_meta_loss,
    draw_rates,
    draw_validation,
    quantiles,
    running_mean,
)
from roam_jax.training.writer import LogError, Writer, read_log

matplotlib = pytest.importorskip("matplotlib")


def write_run(folder, steps=40):
    """A run whose meta loss falls with the steps and with the updates."""
    rng = np.random.default_rng(0)
    with Writer(folder, tensorboard=False) as writer:
        for step in range(steps):
            fall = np.exp(-step / 20) / np.arange(1, 5)
            series = {"train/meta": 0.1 + fall, "train/update": 0.2 + fall}
            rates = np.exp(rng.normal(np.log(1e-4), 1, 500))
            theta = rng.normal(size=500) * (1 + step / 10)
            histograms = {"initial_rates": 10 * rates, "rates": rates, "theta/cf": theta, "theta/reg": theta}
            writer.log(step, {"loss": 1.0}, series, histograms if step % 10 == 0 else {})
    return folder


def lines_of(axes):
    return {line.get_label(): line.get_xydata() for line in axes.get_lines() if not line.get_label().startswith("_")}


def test_pictures(tmp_path):
    files = draw_figures(write_run(tmp_path / "run"), smooth=5)
    assert [path.name for path in files] == ["meta_loss.png", "losses.png", "rates.png", "theta.png"]
    assert {path.parent for path in files} == {tmp_path / "run" / "figures"}
    for path in files:
        picture = cv2.imread(str(path))
        assert picture is not None
        assert picture.std() > 10


def test_only_what_is_in_the_log(tmp_path):
    with Writer(tmp_path, tensorboard=False) as writer:
        writer.log(0, {"loss": 1.0}, {"response": np.array([0.5, 0.25]), "box": np.array([1.0, 2.0])})
    assert [path.name for path in draw_figures(tmp_path, tmp_path / "out")] == ["meta_loss.png"]


def test_meta_loss_over_the_steps(tmp_path):
    records = read_log(write_run(tmp_path) / "log.jsonl")
    (axes,) = draw_meta_loss(collect_series(records)["meta"], smooth=1).axes
    lines = lines_of(axes)
    assert list(lines) == [f"after update {number}" for number in (1, 2, 3, 4)]
    for number, line in enumerate(lines.values(), start=1):
        np.testing.assert_allclose(line, np.stack([np.arange(40), 0.1 + np.exp(-np.arange(40) / 20) / number], axis=1))


def test_losses_over_the_updates(tmp_path):
    series = collect_series(read_log(write_run(tmp_path) / "log.jsonl"))
    before, after = draw_losses(series["update"], series["meta"], smooth=1).axes
    assert list(lines_of(before)) == [f"step {step}" for step in (0, 8, 16, 23, 31, 39)]
    np.testing.assert_allclose(lines_of(after)["step 16"][:, 1], 0.1 + np.exp(-0.8) / np.arange(1, 5))
    np.testing.assert_allclose(lines_of(before)["step 16"][:, 1], 0.2 + np.exp(-0.8) / np.arange(1, 5))


def test_rates(tmp_path):
    histograms = collect_histograms(read_log(write_run(tmp_path) / "log.jsonl"))
    left, right = draw_rates({"initial_rates": histograms["initial_rates"]}, {"rates": histograms["rates"]}).axes
    assert left.get_xscale() == right.get_yscale() == "log"
    bars = {patch.get_label(): patch.get_data() for patch in left.patches}
    assert list(bars) == ["initial: initial_rates", "emitted: rates"]
    for data in bars.values():
        assert (data.values * np.diff(np.log10(data.edges))).sum() == pytest.approx(1.0)
    np.testing.assert_allclose(bars["initial: initial_rates"].edges, 10 * bars["emitted: rates"].edges)
    (course,) = lines_of(right).values()
    assert course[:, 0].tolist() == [0, 10, 20, 30]
    np.testing.assert_allclose(course[:, 1], 1e-4, rtol=0.2)


def test_rates_of_the_first_frame_step_are_not_emitted(tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(figures, "draw_rates", lambda *groups: given.extend(map(list, groups)) or draw_rates(*groups))
    rates = {f"rates/{update}": np.array([1e-4, 1e-3]) for update in range(3)}
    with Writer(tmp_path, tensorboard=False) as writer:
        writer.log(0, {}, {}, {"initial_rates/cf": np.array([1e-3, 1e-2])} | rates)
    draw_figures(tmp_path)
    assert given == [["initial_rates/cf"], ["rates/1", "rates/2"]]


def test_constant_rates(tmp_path):
    """lambda0 before training: one bin of no width."""
    with Writer(tmp_path, tensorboard=False) as writer:
        writer.log(0, {}, {}, {"initial_rates": np.full(5, 3e-5), "rates": np.array([np.nan])})
    assert [path.name for path in draw_figures(tmp_path)] == ["rates.png"]


def test_almost_constant_rates_are_seen(tmp_path):
    """As after a few steps: each distribution far narrower than the distance between them."""
    rng = np.random.default_rng(0)
    spread = 1 + 1e-4 * rng.uniform(size=300)
    values = {"initial_rates/cf": 1e-3 * spread, "initial_rates/reg": 1e-3 * spread, "rates/1": 5e-5 * spread}
    with Writer(tmp_path, tensorboard=False) as writer:
        writer.log(0, {}, {}, values)
    histograms = collect_histograms(read_log(tmp_path / "log.jsonl"))
    emitted = {"rates/1": histograms.pop("rates/1")}
    left, right = draw_rates(histograms, emitted).axes
    lines = lines_of(left)
    assert list(lines) == [
        "initial: initial_rates/cf (0.001)", "initial: initial_rates/reg (0.001)", "emitted: rates/1 (5e-05)",
    ]  # fmt: skip
    low, high = left.get_xlim()
    assert all(low < line[0, 0] < high for line in lines.values())
    assert len({str(line._dash_pattern) for line in left.get_lines()}) == 3  # not one behind the other
    for axis in (left.get_xlim(), right.get_ylim()):
        assert axis[1] / axis[0] >= 9.99
    assert left.get_title() == "Learning rates at step 0"


def test_validation(tmp_path):
    with Writer(tmp_path, tensorboard=False) as writer:
        for step in range(6):
            writer.log(step, {"train/loss": 1.0 - step / 10}, {"train/meta": np.ones(2)})
            if step % 2:
                aucs = {"validation/auc": 0.5 + step / 100, "validation/auc/Deer": 0.4}
                writer.log(step, {"validation/loss": 2.0 - step / 10} | aucs)
    assert "validation.png" in [path.name for path in draw_figures(tmp_path)]
    scalars = collect_scalars(read_log(tmp_path / "log.jsonl"))
    loss, auc = draw_validation(scalars, smooth=1).axes
    np.testing.assert_allclose(lines_of(loss)["held-out clips"], [[1, 1.9], [3, 1.7], [5, 1.5]])
    np.testing.assert_allclose(lines_of(loss)["training, mean of 1 logged steps"][:, 1], 1 - np.arange(6) / 10)
    np.testing.assert_allclose(lines_of(auc)["mean"], [[1, 0.51], [3, 0.53], [5, 0.55]])
    np.testing.assert_allclose(lines_of(auc)["Deer"][:, 1], 0.4)
    (only,) = draw_validation({"validation/auc": scalars["validation/auc"]}, smooth=1).axes
    assert list(lines_of(only)) == ["mean"]


def test_a_distribution_that_was_logged_once_is_drawn_once(tmp_path):
    write_run(tmp_path, steps=1)
    histograms = collect_histograms(read_log(tmp_path / "log.jsonl"))
    (axes,) = draw_last({"theta/cf": histograms["theta/cf"]}, "parameter").axes
    assert [patch.get_label() for patch in axes.patches] == ["step 0"]
    assert np.ptp(axes.get_xlim()) > np.ptp(histograms["theta/cf"][0].edges)


def test_series_with_gaps_and_of_changed_length():
    records = [
        {"step": 0, "series": {"meta": [1.0]}},
        {"step": 1, "series": {"a/meta": [1.0, None]}},
        {"step": 2},
        {"step": 3, "series": {"a/meta": [3.0, 4.0]}},
    ]
    steps, values = collect_series(records)["meta"]
    assert steps.tolist() == [1, 3]
    np.testing.assert_array_equal(values, [[1.0, np.nan], [3.0, 4.0]])
    np.testing.assert_array_equal(running_mean(values, 2), [[1.0, np.nan], [2.0, 4.0]])


def test_running_mean_is_over_the_last_rows():
    np.testing.assert_allclose(running_mean(np.arange(5.0)[:, None], 3)[:, 0], [0.0, 0.5, 1.0, 2.0, 3.0])


def test_quantiles():
    histogram = figures.Histogram(0, np.array([0.0, 1.0, 3.0]), np.array([1, 3]))
    np.testing.assert_allclose(quantiles(histogram, (0.0, 0.25, 0.625, 1.0)), [0.0, 1.0, 2.0, 3.0])


def test_nothing_to_draw(tmp_path):
    with pytest.raises(LogError, match="no such file"):
        draw_figures(tmp_path)
    Writer(tmp_path, tensorboard=False).close()
    with pytest.raises(LogError, match="there are none"):
        draw_figures(tmp_path)


def test_without_matplotlib(tmp_path, monkeypatch):
    write_run(tmp_path, steps=1)
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtra, match="pip install 'roam-jax"):
        draw_figures(tmp_path)


def test_command_line(tmp_path, capsys):
    assert figures.main([str(write_run(tmp_path, steps=3)), "--out", str(tmp_path / "out")]) == 0
    names = [f"{name}.png" for name in ("meta_loss", "losses", "rates", "theta")]
    assert capsys.readouterr().out.split() == [str(tmp_path / "out" / name) for name in names]
    assert figures.main([str(tmp_path / "none")]) == 3
    assert "log.jsonl should be the log of a training run" in capsys.readouterr().err
