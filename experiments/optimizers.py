"""The learned optimizer against SGD in the online tracker (Section 6.2): `python experiments/optimizers.py ROOT`.

ROOT holds sequences in the layout of OTB. All variants share the checkpoint, its first-frame step included; only the
later updates differ: the trained optimizer, or one fixed rate, with one or several steps per update. The rate of SGD is
searched on the same sequences, so its best one is an upper bound of what it can do.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import numpy as np
import tyro

from roam_jax.checkpoints import Checkpoint, load_checkpoint
from roam_jax.config import Config
from roam_jax.core.update import init_meta
from roam_jax.data.layouts import read_layout
from roam_jax.data.sequences import DataError, Sequence
from roam_jax.evaluation.metrics import success_auc
from roam_jax.evaluation.runner import count_cores, track_in_processes
from roam_jax.tracking.tracker import Tracker


@dataclass(frozen=True)
class Variant:
    """One way to update; calling it makes the tracker."""

    checkpoint: str
    rate: float
    """of SGD; 0: the trained optimizer"""
    steps: int
    """per update; 0: no updates at all"""

    @property
    def name(self) -> str:
        """For the table."""
        if not self.steps:
            return "no updates"
        return f"{f'SGD {self.rate:.0e}' if self.rate else 'trained'}, {self.steps} step{'s'[: self.steps > 1]}"

    def __call__(self) -> Tracker:
        """The checkpoint's tracker with these updates."""
        loaded = load_checkpoint(self.checkpoint)
        c = loaded.config
        online = replace(c.online, steps=self.steps) if self.steps else replace(c.online, tau=10**9)
        config = replace(c, online=online)
        if not self.rate:
            return Tracker(loaded, config)
        config = replace(config, optimizer=replace(c.optimizer, kind="sgd", sgd_rate=self.rate, coordinate_rates=0.0))
        return Tracker(replace(loaded, params=without_omega(loaded, config)), config)


def without_omega(checkpoint: Checkpoint, config: Config) -> dict:
    """The checkpoint's parameters with an optimizer that has none."""
    meta = checkpoint.params["meta"]
    channels = meta["theta0"]["cf"]["reduce_w"].shape[0]
    omega = jax.eval_shape(lambda key: init_meta(config, channels, key=key).omega, jax.random.key(0))
    if jax.tree.leaves(omega):
        raise ValueError(f"optimizer {config.optimizer.kind} has parameters, which would have to be trained")
    return {**checkpoint.params, "meta": {**meta, "omega": omega}}


@dataclass(frozen=True)
class Arguments:
    """Compare the trained optimizer with SGD at several rates."""

    root: tyro.conf.Positional[Path]
    """folder of sequences in the layout of OTB"""
    checkpoint: str = "lite"
    """name or directory"""
    rates: tuple[float, ...] = (1e-6, 3e-6, 1e-5, 3e-5, 1e-4)
    """rates of SGD"""
    steps: tuple[int, ...] = (1, 2)
    """steps per update of the trained optimizer"""
    sgd_steps: tuple[int, ...] = (1, 5)
    """steps per update of SGD"""
    frames: int = 0
    """of each sequence; 0: all"""
    output: Path | None = None
    """file for one JSON line per variant"""


def judge(variant: Variant, sequences: list[Sequence]) -> dict[str, float]:
    """Success AUC by sequence.

    Raises:
        DataError: a sequence cannot be tracked.
    """
    aucs = {}
    true = {sequence.name: sequence.boxes_xywh for sequence in sequences}
    for name, outcome in track_in_processes(sequences, variant, count_cores()):
        if isinstance(outcome, str):
            raise DataError(f"{name}: {outcome}")
        aucs[name] = success_auc(outcome.boxes_xywh, true[name])
    return dict(sorted(aucs.items()))


def main() -> None:
    arguments = tyro.cli(Arguments, prog="python experiments/optimizers.py")
    sequences = read_layout("otb", arguments.root)
    if arguments.frames:
        sequences = [sequence.head(arguments.frames) for sequence in sequences]
    variants = [Variant(arguments.checkpoint, 0.0, steps) for steps in (0, *arguments.steps)]
    variants += [Variant(arguments.checkpoint, rate, n) for n in arguments.sgd_steps for rate in arguments.rates]
    print(f"| updates | mean AUC | {' | '.join(s.name for s in sequences)} |")
    print("|---|---|" + "---|" * len(sequences))
    for variant in variants:
        aucs = judge(variant, sequences)
        mean = float(np.mean(list(aucs.values())))
        print(f"| {variant.name} | {mean:.3f} | {' | '.join(f'{aucs[s.name]:.3f}' for s in sequences)} |", flush=True)
        if arguments.output:
            with arguments.output.open("a") as file:
                file.write(json.dumps({"variant": variant.name, "auc": mean, "sequences": aucs}) + "\n")


if __name__ == "__main__":
    main()
