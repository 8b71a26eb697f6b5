"""What an evaluation or a comparison leaves in its folder: report.json, report.md and plots."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as ListOf
from pathlib import Path
from typing import Any

from roam_jax.evaluation.formats import write_whole
from roam_jax.evaluation.plots import can_plot, draw_curves
from roam_jax.evaluation.protocols import Protocol
from roam_jax.evaluation.report import describe_rows, format_ranking, format_report, mean_of_rows, write_json
from roam_jax.evaluation.robust import describe_spread, format_differences, format_spread
from roam_jax.evaluation.runner import Row


def write_report(
    folder: Path,
    title: str,
    description: Mapping[str, Any],
    rows: ListOf[Row],
    broken: Mapping[str, str],
    protocol: Protocol,
    *,
    several_starts: bool = False,
) -> None:
    """Write what came out of one tracker.

    Args:
        folder: of its results.
        title: of report and plots.
        description: of the tracker and the data, for `report.json`.
        rows: of the sequences.
        broken: what went wrong with the others, by name.
        protocol: rules of the benchmark.
        several_starts: the rows are starts of sequences (`starts.starts_of`).

    Raises:
        OSError: a file cannot be written.
    """
    mean = mean_of_rows(rows, protocol)
    plots = draw_curves(folder, {str(description["tracker"]): mean}, title) if mean and can_plot() else []
    content = {**description, **describe_rows(rows, broken, protocol), "paper": protocol.paper}
    report = format_report(title, rows, broken, protocol, plots)
    if several_starts:
        content["starts"] = describe_spread(rows)
        report += f"\nThe starts of each sequence:\n\n{format_spread(rows)}\n"
    write_json(folder / "report.json", content)
    write_whole(folder / "report.md", report)


def write_comparison(
    folder: Path,
    title: str,
    trackers: Mapping[str, ListOf[Row]],
    left_out: Mapping[str, str],
    protocol: Protocol,
    *,
    several_starts: bool = False,
) -> None:
    """Write what came out of several trackers.

    Args:
        folder: where to.
        title: of report and plots.
        trackers: rows of each, by name, the best first.
        left_out: sequences that do not count, with the reason.
        protocol: rules of the benchmark.
        several_starts: the rows are starts of sequences (`starts.starts_of`).

    Raises:
        OSError: a file cannot be written.
    """
    means = {name: mean for name, rows in trackers.items() if (mean := mean_of_rows(rows, protocol))}
    plots = draw_curves(folder, means, title) if can_plot() else []
    links = "".join(f"\n![{plot.stem}]({plot.name})\n" for plot in plots)
    differences = f"\n{format_differences(trackers)}\n" if several_starts else ""
    write_whole(folder / "report.md", f"# {title}\n\n{format_ranking(trackers, protocol)}\n{differences}{links}")
    described = {name: describe_rows(rows, {}, protocol) for name, rows in trackers.items()}
    write_json(folder / "report.json", {"trackers": described, "left_out": left_out, "paper": protocol.paper})
