"""Figures of a training run, from its `log.jsonl` alone: `python -m roam_jax.training.figures RUN_DIR`.

- `meta_loss.png`: the meta loss (Eq. 13) after each update of the unroll, over the steps of training.
- `losses.png`: update loss before, and meta loss after, each update of the unroll, from early to late in training; the
  quantities of Fig. 7.
- `validation.png`: the loss on held-out clips beside that of training, and the success AUC of the tracker, if there is
  one.
- `rates.png`: histograms of lambda0 and of the learning rates that the optimizer emits (Fig. 2 and 8), and the course
  of the latter over training.
- `theta.png`: histograms of the tracking model's parameters.

They are made of the series `meta` and `update` (one number per update), of the scalars `train/loss` and
`validation/...`, and of the histograms whose names begin with
`initial_rates`, `rates` and `theta`; a group before the name, as in `train/meta`, does not matter. `rates/0` is left
out: the first-frame step's rates are lambda0, no emitted ones. Where the log has `response` and `box` but no `meta`,
their sum is taken. A figure for which there is nothing in the log is left out.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import tyro
from jaxtyping import Float, Int

from roam_jax.cli import ExitCode, parse, run_command
from roam_jax.errors import InputError
from roam_jax.extras import require
from roam_jax.training.writer import LOG_FILE, LogError, read_log

NARROW = 0.01
"""a histogram that takes less than this part of the picture's width becomes a line, which would not be seen else"""
SHOWN_STEPS = 6
"""steps of training at most that `losses.png` shows"""
DPI = 120
VALIDATION = "validation"


class Series(NamedTuple):
    """One vector per logged step."""

    steps: Int[np.ndarray, " s"]
    values: Float[np.ndarray, "s t"]
    """NaN where the log has no number"""


class Histogram(NamedTuple):
    """Distribution of one array at one step."""

    step: int
    edges: Float[np.ndarray, " e"]
    counts: Int[np.ndarray, " c"]


@dataclass(frozen=True)
class Arguments:
    """Draw the figures of a training run.

    Exit codes: 0 done, 2 wrong arguments or the extra `plots` is not installed, 3 no log, or nothing in it to draw,
    6 the pictures cannot be written.
    """

    run_dir: Annotated[Path, tyro.conf.Positional]
    """folder of the run, with log.jsonl"""
    out: Path | None = None
    """folder for the pictures; RUN_DIR/figures by default"""
    smooth: int = 50
    """logged steps that a curve over training is averaged over"""


def draw_figures(run_dir: Path | str, out: Path | str | None = None, smooth: int = 50) -> list[Path]:
    """Draw every figure that the log of a run has something for.

    Args:
        run_dir: folder of the run.
        out: folder for the pictures, made if it is not there; `figures` in that of the run by default.
        smooth: logged steps that a curve is averaged over.

    Returns:
        The files written.

    Raises:
        LogError: no log, or nothing in it to draw.
        MissingExtra: matplotlib is not installed.
    """
    records = read_log(Path(run_dir) / LOG_FILE)
    series, histograms, scalars = collect_series(records), collect_histograms(records), collect_scalars(records)
    if "meta" not in series and {"response", "box"} <= series.keys():
        series["meta"] = series["response"]._replace(values=series["response"].values + series["box"].values)
    initial, rates, theta = (_beginning(histograms, prefix) for prefix in ("initial_rates", "rates", "theta"))
    emitted = {name: entries for name, entries in rates.items() if not name.endswith("rates/0")}
    figures = {}
    if "meta" in series:
        figures["meta_loss"] = draw_meta_loss(series["meta"], smooth)
    if "meta" in series and "update" in series:
        figures["losses"] = draw_losses(series["update"], series["meta"], smooth)
    if any(name.startswith(f"{VALIDATION}/") for name in scalars):
        figures["validation"] = draw_validation(scalars, smooth)
    if initial or emitted:
        figures["rates"] = draw_rates(initial, emitted)
    if theta:
        figures["theta"] = draw_last(theta, "parameter of the tracking model")
    if not figures:
        raise LogError(f"{run_dir} should have logged series or histograms to draw, but there are none")
    out = Path(out) if out else Path(run_dir) / "figures"
    out.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        figure.savefig(out / f"{name}.png", dpi=DPI)
    return [out / f"{name}.png" for name in figures]


def collect_series(records: Sequence[dict[str, Any]]) -> dict[str, Series]:
    """Series of a log by their names without a group, as far as they are as long as the last one."""
    rows: dict[str, list[tuple[int, list[float]]]] = defaultdict(list)
    for record in records:
        for name, values in record.get("series", {}).items():
            numbers = [np.nan if value is None else value for value in values]
            rows[name.split("/")[-1]].append((record["step"], numbers))
    collected = {}
    for name, entries in rows.items():
        alike = [entry for entry in entries if len(entry[1]) == len(entries[-1][1])]
        steps, values = zip(*alike, strict=True)
        collected[name] = Series(np.array(steps, int), np.array(values, float))
    return collected


def collect_histograms(records: Sequence[dict[str, Any]]) -> dict[str, list[Histogram]]:
    """Histograms of a log by name, in the order of the steps; empty ones are left out."""
    collected: dict[str, list[Histogram]] = defaultdict(list)
    for record in records:
        for name, entry in record.get("histograms", {}).items():
            if entry["counts"]:
                collected[name].append(Histogram(record["step"], np.array(entry["edges"]), np.array(entry["counts"])))
    return dict(collected)


def collect_scalars(records: Sequence[dict[str, Any]]) -> dict[str, Series]:
    """Scalars of a log by name, as series of one number."""
    rows: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for record in records:
        for name, value in record.get("scalars", {}).items():
            rows[name].append((record["step"], np.nan if value is None else value))
    columns = {name: np.array(entries, float) for name, entries in rows.items()}
    return {name: Series(entries[:, 0].astype(int), entries[:, 1:]) for name, entries in columns.items()}


def quantiles(histogram: Histogram, at: Sequence[float]) -> Float[np.ndarray, " q"]:
    """Quantiles of a histogram, as if its values were evenly spread over each bin."""
    below = np.concatenate([[0], np.cumsum(histogram.counts)]) / histogram.counts.sum()
    return np.interp(at, below, histogram.edges)


def running_mean(values: Float[np.ndarray, "s t"], width: int) -> Float[np.ndarray, "s t"]:
    """Mean over each row and the `width` - 1 rows before it, of what is not NaN."""
    finite = np.isfinite(values)
    sums = np.cumsum(np.where(finite, values, 0.0), axis=0)
    counts = np.cumsum(finite, axis=0, dtype=float)
    sums[width:], counts[width:] = sums[width:] - sums[:-width], counts[width:] - counts[:-width]
    return np.divide(sums, counts, out=np.full(values.shape, np.nan), where=counts > 0)


def draw_meta_loss(meta: Series, smooth: int) -> Any:
    """Meta loss after each update of the unroll over the steps of training."""
    figure, (axes,) = _new_figure(1)
    means = running_mean(meta.values, smooth)
    for index, colour in enumerate(_colours(meta.values.shape[1])):
        axes.plot(meta.steps, meta.values[:, index], color=colour, alpha=0.2, linewidth=0.6)
        axes.plot(meta.steps, means[:, index], color=colour, label=f"after update {index + 1}")
    axes.set(ylabel="meta loss", title=f"Meta loss (mean of {smooth} logged steps)")
    _count_steps(axes)
    axes.legend()
    return figure


def draw_validation(scalars: dict[str, Series], smooth: int) -> Any:
    """Loss on held-out clips and in training, and success AUC of the tracker in each sequence and on average."""
    loss, train = scalars.get(f"{VALIDATION}/loss"), scalars.get("train/loss")
    aucs = {name: series for name, series in scalars.items() if name.startswith(f"{VALIDATION}/auc")}
    figure, panels = _new_figure((loss is not None) + bool(aucs))
    if loss is not None:
        if train is not None:
            mean = running_mean(train.values, smooth)
            panels[0].plot(train.steps, mean, color="0.6", label=f"training, mean of {smooth} logged steps")
        panels[0].plot(loss.steps, loss.values, "o-", color="C0", label="held-out clips")
        panels[0].set(ylabel="meta loss, mean of the updates", title="Validation: loss")
    for name, series in aucs.items():
        single = name.removeprefix(f"{VALIDATION}/auc").strip("/")
        width = 1 if single else 3
        panels[-1].plot(series.steps, series.values, "o-", linewidth=width, label=single or "mean")
        panels[-1].set(ylabel="success AUC", title="Validation: tracker")
    for axes in panels:
        _count_steps(axes)
        axes.legend()
    return figure


def draw_losses(update: Series, meta: Series, smooth: int) -> Any:
    """Update loss before, and meta loss after, each update of the unroll, at steps spread over training."""
    figure, both = _new_figure(2)
    for axes, series, title in zip(both, (update, meta), ("Update loss before", "Meta loss after"), strict=True):
        means = running_mean(series.values, smooth)
        rows = np.unique(np.linspace(0, len(means) - 1, SHOWN_STEPS).round().astype(int))
        numbers = 1 + np.arange(means.shape[1])
        for row, colour in zip(rows, _colours(len(rows)), strict=True):
            axes.plot(numbers, means[row], "o-", color=colour, label=f"step {series.steps[row]}")
        axes.set(xlabel="update", ylabel="loss", title=f"{title} each update", xticks=numbers)
        axes.legend()
    return figure


def draw_rates(initial: dict[str, list[Histogram]], emitted: dict[str, list[Histogram]]) -> Any:
    """Last histograms of lambda0 and of the emitted rates, and quantiles of the latter over training."""
    figure, (left, right) = _new_figure(2)
    groups = {"initial": initial, "emitted": emitted}
    last = [(f"{label}: {name}", entries[-1]) for label, group in groups.items() for name, entries in group.items()]
    logarithmic = all(histogram.edges[0] > 0 for _, histogram in last)
    _draw_bars(left, last, logarithmic)
    left.set(xlabel="learning rate", ylabel="density", title=f"Learning rates at step {last[-1][1].step}")
    ends = []
    for (name, entries), colour in zip(emitted.items(), _colours(len(emitted)), strict=True):
        low, middle, high = np.array([quantiles(entry, (0.05, 0.5, 0.95)) for entry in entries]).T
        steps = [entry.step for entry in entries]
        right.fill_between(steps, low, high, color=colour, alpha=0.3)
        right.plot(steps, middle, ".-", color=colour, label=name)
        ends += [low.min(), high.max()]
    right.set(ylabel="learning rate", title="Emitted rates: median, 5% and 95%")
    _count_steps(right)
    if emitted:
        right.legend()
        logarithmic = bool(min(ends) > 0)
        right.set_yscale("log" if logarithmic else "linear")
        right.set_ylim(_limits(np.array(ends), logarithmic))
    return figure


def draw_last(histograms: dict[str, list[Histogram]], label: str) -> Any:
    """Histograms at the first and at the last step at which they were logged."""
    figure, panels = _new_figure(len(histograms))
    for axes, (name, entries) in zip(panels, histograms.items(), strict=True):
        _draw_bars(axes, [(f"step {entry.step}", entry) for entry in entries[:1] + entries[1:][-1:]])
        axes.set(xlabel=label, ylabel="density", title=name)
        axes.set_yscale("log")
    return figure


def _draw_bars(axes: Any, histograms: Sequence[tuple[str, Histogram]], logarithmic: bool = False) -> None:
    """Densities of histograms by label, per decade where the axis is logarithmic.

    One that is narrow in the picture becomes a line; lines at the same place are told apart by their dashes.
    """
    low, high = _limits(np.concatenate([histogram.edges for _, histogram in histograms]), logarithmic)
    scale = np.log10 if logarithmic else np.asarray
    for number, ((label, histogram), colour) in enumerate(zip(histograms, _colours(len(histograms)), strict=True)):
        _, edges, counts = histogram
        if np.ptp(scale(edges[[0, -1]])) <= NARROW * np.ptp(scale(np.array([low, high]))):
            middle = float(quantiles(histogram, (0.5,))[0])
            dashes = (4 * number, (4, 4 * len(histograms) - 4))
            axes.axvline(middle, color=colour, linewidth=2, linestyle=dashes, label=f"{label} ({middle:.3g})")
        else:
            densities = counts / counts.sum() / np.diff(scale(edges))
            axes.stairs(densities, edges, color=colour, fill=True, alpha=0.5, label=label)
    axes.set_xscale("log" if logarithmic else "linear")
    axes.set_xlim(low, high)
    axes.legend()


def _limits(values: Float[np.ndarray, " n"], logarithmic: bool) -> tuple[float, float]:
    """Of an axis that shows values, with a margin: a decade at least if it is logarithmic, so that it has ticks."""
    low, high = float(np.min(values)), float(np.max(values))
    if not logarithmic:
        margin = 0.05 * (high - low) or abs(high) or 1.0
        return low - margin, high + margin
    decades = np.log10(high / low)
    margin = 10 ** max(0.05 * decades, (1 - decades) / 2)
    return low / margin, high * margin


def _count_steps(axes: Any) -> None:
    """Steps of training along an axis, whole numbers only."""
    low, high = axes.get_xlim()
    if high - low < 1:  # a single step
        axes.set_xlim(low - 1, high + 1)
    axes.set_xlabel("training step")
    axes.xaxis.get_major_locator().set_params(integer=True)


def _beginning(histograms: dict[str, list[Histogram]], prefix: str) -> dict[str, list[Histogram]]:
    """Those of which a part of the name between slashes begins so."""
    return {
        name: entries
        for name, entries in histograms.items()
        if any(part == prefix or part.startswith((f"{prefix}.", f"{prefix}_")) for part in name.split("/"))
    }


def _new_figure(count: int) -> tuple[Any, Sequence[Any]]:
    """Figure with panels side by side; no display is needed."""
    require("matplotlib")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4 * count, 4.4), layout="constrained")
    return figure, list(figure.subplots(1, count, squeeze=False)[0])


def _colours(count: int) -> Any:
    """From early (dark) to late (bright)."""
    from matplotlib import colormaps

    return colormaps["viridis"](np.linspace(0.0, 0.85, count))


def main(args: list[str] | None = None) -> int:
    """The command line; returns its exit code."""
    return run_command(lambda: run(parse(Arguments, "python -m roam_jax.training.figures", args, first="RUN_DIR")))


def run(arguments: Arguments) -> ExitCode:
    """Draw the figures, and print their names.

    Raises:
        InputError: no log, or nothing in it to draw.
        MissingExtra: matplotlib is not installed.
        OSError: the pictures cannot be written.
    """
    try:
        paths = draw_figures(arguments.run_dir, arguments.out, arguments.smooth)
    except LogError as error:  # which is of another kind where a log is written
        raise InputError(str(error)) from error
    print("\n".join(map(str, paths)))
    return ExitCode.SUCCESS


if __name__ == "__main__":
    sys.exit(main())
