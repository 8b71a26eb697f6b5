"""Scores of result files by this package beside those of the got10k toolkit: `python experiments/got10k_agreement.py`.

python experiments/got10k_agreement.py ROOT FOLDER ...

ROOT holds sequences of OTB; each FOLDER holds result files of one tracker, as `python -m roam_jax.evaluate` writes
them. The toolkit (`pip install got10k==0.1.3 six`) reads the same files with its own code. Exit code 0 if all
differences are below 1e-6, 1 if not.
"""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from roam_jax.data.layouts import read_layout
from roam_jax.evaluation.compare import Results, compare
from roam_jax.evaluation.metrics import Scores, mean_scores
from roam_jax.evaluation.protocols import protocol_of

LIMIT = 1e-6


def score_with_toolkit(root: Path, folder: Path) -> dict[str, Any]:
    """`performance.json` of the toolkit for one folder of result files."""
    import matplotlib as mpl

    mpl.use("Agg")
    from got10k.datasets.otb import OTB
    from got10k.experiments import ExperimentOTB

    with (
        tempfile.TemporaryDirectory() as temporary,
        # it downloads sequences that are missing, and says so of each
        mock.patch.object(OTB, "_download"),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        experiment = ExperimentOTB(str(root), version=2015, report_dir=temporary)
        experiment.result_dir = str(folder.resolve().parent)
        return experiment.report([folder.resolve().name])[folder.resolve().name]


def compare_scores(ours: Scores, overall: dict[str, Any]) -> dict[str, float]:
    """Largest absolute difference of each score and curve."""
    return {
        "AUC": abs(ours.auc - overall["success_score"]),
        "P@20": abs(ours.precision20 - overall["precision_score"]),
        "success curve": float(np.abs(ours.success - overall["success_curve"]).max()),
        "precision curve": float(np.abs(ours.precision - overall["precision_curve"]).max()),
    }


def main(root: Path, folders: list[Path]) -> int:
    """Print the differences; the exit code."""
    sequences, protocol = read_layout("otb", root), protocol_of("otb")
    worst = 0.0
    for folder in folders:
        theirs = score_with_toolkit(root, folder)
        rows, left_out = compare(sequences, [Results(folder)], protocol)
        scored = {row.name: row.scores for row in next(iter(rows.values())) if row.scores}
        if left_out or {name.replace(".", "-") for name in theirs["seq_wise"]} != set(scored):
            print(f"{folder}: the sequences are not the same", file=sys.stderr)
            return 1
        mean = mean_scores(scored.values())
        print(f"{folder.name}: {len(scored)} sequences")
        print(f"  ours    AUC {mean.auc:.9f}  P@20 {mean.precision20:.9f}")
        overall = theirs["overall"]
        print(f"  got10k  AUC {overall['success_score']:.9f}  P@20 {overall['precision_score']:.9f}")
        differences = compare_scores(mean, overall)
        for name, values in theirs["seq_wise"].items():
            for key, value in compare_scores(scored[name.replace(".", "-")], values).items():
                differences[key] = max(differences[key], value)
        print("  largest difference, all sequences: " + ", ".join(f"{k} {v:.1e}" for k, v in differences.items()))
        worst = max(worst, *differences.values())
    print(f"largest of all: {worst:.1e}, limit {LIMIT:.0e}")
    return int(worst > LIMIT)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    sys.exit(main(Path(sys.argv[1]), [Path(argument) for argument in sys.argv[2:]]))
