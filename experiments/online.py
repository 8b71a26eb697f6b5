"""The choices of Section 4, one at a time: `python experiments/online.py ROOT ...`, folders in the layout of OTB.

Every variant changes one setting of the shipped tracker and tracks every sequence from the nine starts of `evaluate
--protocol robust`. Printed is its mean AUC with the interval, the share of starts below 0.3, and the paired difference
from the tracker as it ships. The variants are those of `VARIANTS`, or `--set online.tau=5 ...` of one's own.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from roam_jax.checkpoints import load_checkpoint
from roam_jax.config import Config
from roam_jax.data.layouts import read_layout
from roam_jax.data.sequences import DataError
from roam_jax.evaluation.robust import LOW
from roam_jax.evaluation.runner import count_cores
from roam_jax.research import Evaluation, evaluate
from roam_jax.tracking.tracker import Tracker

VARIANTS = (
    "online.updates=false",
    "online.tau=5",
    "online.tau=20",
    "online.memory=20 online.step_samples=20",
    "online.first_samples=0",
    "online.accept_score=0.3",
    "online.motion_sigma=0.5",
    "online.motion_sigma=1.2",
    "online.penalty=0.1",
    "online.size_rate=0.6",
    "online.vote=0",
    "online.confidence=[] online.lost_score=0.1 online.found_score=0.1",
)
"""what a sample of the memory must be, when and on what updates are made, how far the search looks, how sizes change"""


@dataclass(frozen=True)
class Arguments:
    """Measure choices of online tracking."""

    roots: tyro.conf.Positional[tuple[Path, ...]]
    """folders of sequences in the layout of OTB"""
    checkpoint: str = "lite"
    """name or directory"""
    set: tuple[str, ...] = VARIANTS
    """variants, each one or several SECTION.FIELD=JSON with blanks between"""
    max_frames: int = 150
    """from each start; 0: to the end"""


@dataclass(frozen=True)
class Variant:
    """A tracker with other settings; calling it makes the tracker."""

    checkpoint: str
    settings: str

    def __call__(self) -> Tracker:
        """It."""
        loaded = load_checkpoint(self.checkpoint)
        values: dict[str, Any] = loaded.config.to_dict()
        for setting in self.settings.split():
            name, value = setting.split("=")
            section, field = name.split(".")
            values[section][field] = json.loads(value)
        return Tracker(replace(loaded, config=Config.from_dict(values).check()))


def main() -> None:
    arguments = tyro.cli(Arguments, prog="python experiments/online.py")
    sequences = [sequence for root in arguments.roots for sequence in read_layout("otb", root)]
    print("| settings | AUC | starts below 0.3 | less that of the first | |\n|---|---:|---:|---:|---|")
    first: Evaluation | None = None
    for settings in ("", *arguments.set):
        make_tracker = Variant(arguments.checkpoint, settings)
        done = evaluate(
            sequences, make_tracker, protocol="robust", max_frames=arguments.max_frames, workers=count_cores()
        )
        if done.broken:
            raise DataError("; ".join(f"{name}: {why}" for name, why in done.broken.items()))
        low = np.mean([auc < LOW for starts in done.aucs.values() for auc in starts.values()])
        cells = [settings or "as it ships", str(done.auc), f"{low:.1%}"]
        if first is None:
            first = done
            cells += ["", ""]
        else:
            difference = done.minus(first)
            cells += [str(difference), "more than chance" if difference.certain else ""]
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
