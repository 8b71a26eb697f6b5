"""Success and precision plots, as PNG and PDF; they need the extra `plots`."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Mapping
from pathlib import Path

from roam_jax.evaluation.formats import write_whole
from roam_jax.evaluation.metrics import Scores
from roam_jax.evaluation.report import CURVES, score_values

FORMATS = ("png", "pdf")
STYLES = ("-", "--", "-.", ":")


def can_plot() -> bool:
    """Whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def draw_curves(folder: Path, trackers: Mapping[str, Scores], title: str) -> list[Path]:
    """One plot per kind of curve; the legend has the trackers by the score of that curve, the best first.

    Args:
        folder: gets `success.png`, `success.pdf`, and so on.
        trackers: their scores on the whole data set.
        title: of all plots.

    Returns:
        The PNG files.

    Raises:
        OSError: a file cannot be written.
    """
    # the figure without pyplot: no window system is looked for, and nothing global changes
    from matplotlib.figure import Figure

    for curve, (x_label, y_label, thresholds, column) in CURVES.items():
        figure = Figure(figsize=(6.4, 4.8), layout="constrained")
        axes = figure.add_subplot()
        best_first = sorted(trackers, key=lambda name, column=column: -score_values(trackers[name])[column])
        for index, name in enumerate(best_first):
            label = f"{name} [{score_values(trackers[name])[column]:.3f}]"
            style = STYLES[index // 10 % len(STYLES)]  # ten colours, then the next style
            axes.plot(thresholds, getattr(trackers[name], curve), style, label=label, linewidth=2)
        axes.set(
            xlabel=x_label,
            ylabel=y_label,
            title=f"{title}: {curve.replace('_', ' ')}",
            xlim=(thresholds[0], thresholds[-1]),
            ylim=(0, 1),
        )
        axes.grid(alpha=0.4)
        axes.legend(title=column, loc="lower left" if curve == "success" else "lower right", fontsize="small")
        for kind in FORMATS:
            buffer = io.BytesIO()
            figure.savefig(buffer, format=kind, dpi=200)
            write_whole(folder / f"{curve}.{kind}", buffer.getvalue())
    return [folder / f"{curve}.png" for curve in CURVES]
