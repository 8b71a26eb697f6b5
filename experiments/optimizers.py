"""The learned optimizer against SGD in the online tracker (Section 6.2): `python experiments/optimizers.py ROOT`.

ROOT holds sequences in the layout of OTB. All variants share the checkpoint, its first-frame step included; only the
later updates differ, each with one or several steps:

- trained: the learned optimizer;
- fixed: the learned rate of each coordinate, without the network that changes them (as ROAM-ConstLR);
- begun: the rates that these began with, one for each group of coordinates;
- SGD: one rate for all coordinates, explicit steps, searched on the same sequences: its best rate is an upper bound of
  what it can do;
- implicit SGD: the same rate with implicit steps where the tracker has them.

Of a checkpoint without learned rates, or without implicit updates, there are no such variants.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import jax
import numpy as np
import tyro

from roam_jax.checkpoints import load_checkpoint
from roam_jax.data.layouts import read_layout
from roam_jax.data.sequences import DataError, Sequence
from roam_jax.evaluation.metrics import success_auc
from roam_jax.evaluation.runner import count_cores, track_in_processes
from roam_jax.extensions.coordinate_rates import RATES
from roam_jax.method import init_meta
from roam_jax.tracking.tracker import Tracker

Kind = Literal["trained", "fixed", "begun", "SGD", "implicit SGD"]
FIXED: tuple[Kind, ...] = ("fixed", "begun")
"""rates of single coordinates without the network"""


@dataclass(frozen=True)
class Variant:
    """One way to update; calling it makes the tracker."""

    checkpoint: str
    kind: Kind
    steps: int
    """per update; 0: no updates at all"""
    rate: float = 0.0
    """of SGD"""

    @property
    def name(self) -> str:
        """For the table."""
        if not self.steps:
            return "no updates"
        return f"{self.kind}{f' {self.rate:.0e}' if self.rate else ''}, {self.steps} step{'s'[: self.steps > 1]}"

    def __call__(self) -> Tracker:
        """The checkpoint's tracker with these updates."""
        loaded = load_checkpoint(self.checkpoint)
        c = loaded.config
        online = replace(c.online, steps=self.steps) if self.steps else replace(c.online, updates=False)
        optimizer = c.optimizer
        if self.kind in ("fixed", "begun"):  # the network's factor of the learned rates is then 2 x 0.5
            optimizer = replace(optimizer, kind="sgd", sgd_rate=0.5)
        elif self.kind in ("SGD", "implicit SGD"):
            implicit = self.kind == "implicit SGD"
            optimizer = replace(optimizer, kind="sgd", sgd_rate=self.rate, coordinate_rates=0.0)
            c = replace(c, implicit=replace(c.implicit, updates=implicit))
        config = replace(c, online=online, optimizer=optimizer)
        if self.kind == "trained":
            return Tracker(loaded, config)
        channels = loaded.params["theta0"]["cf"]["reduce_w"].shape[0]
        omega = init_meta(config, channels, key=jax.random.key(0)).omega
        if self.kind == "fixed":
            omega = {**omega, RATES: loaded.params["omega"][RATES]}
        return Tracker(replace(loaded, params={**loaded.params, "omega": omega}), config)


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
    """steps per update of the trained optimizer, and of its rates without the network"""
    implicit_rates: tuple[float, ...] = (1e-5, 1e-4)
    """rates of implicit SGD"""
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
    make = functools.partial(Variant, arguments.checkpoint)
    variants = [make("trained", steps) for steps in (0, *arguments.steps)]
    has = load_checkpoint(arguments.checkpoint).config
    if has.optimizer.coordinate_rates:
        variants += [make(kind, steps) for kind in FIXED for steps in arguments.steps]
    searched: dict[Kind, tuple[float, ...]] = {"SGD": arguments.rates}
    if has.implicit.updates:
        searched["implicit SGD"] = arguments.implicit_rates
    variants += [make(kind, n, r) for kind, rates in searched.items() for n in arguments.sgd_steps for r in rates]
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
