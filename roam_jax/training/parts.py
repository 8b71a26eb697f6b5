"""What meta-training learns, and its parts: each has a rate of its own, and 0 holds it as it is."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax

from roam_jax.config import TrainConfig
from roam_jax.core.update import MetaParams


class Learned(NamedTuple):
    """Everything that the meta-gradient is taken of."""

    meta: MetaParams
    neck: Any


def label_parts(learned: Learned) -> Learned:
    """Name of the part that each subtree belongs to."""
    omega: Any = "omega"
    if isinstance(learned.meta.omega, dict) and "log_rates" in learned.meta.omega:
        omega = {"inner": "omega", "log_rates": "coordinates"}
    others = {"stats": "fixed", "top": "top"}
    return Learned(MetaParams("theta0", "lambda0", omega), {name: others.get(name, "neck") for name in learned.neck})  # type: ignore[arg-type]


def part_rates(config: TrainConfig) -> dict[str, float]:
    """Adam's largest rate of each part that `label_parts` names."""
    return {
        "theta0": config.model_rate,
        "lambda0": config.lambda_rate,
        "omega": config.optimizer_rate,
        "coordinates": config.coordinate_rate,
        "neck": config.neck_rate,
        "top": config.top_rate,
        "fixed": 0.0,
    }


def hold_parts(learned: Learned, config: TrainConfig) -> Learned:
    """The same, with the parts whose rate is 0 as constants: nothing is spent on their gradients."""
    rates = part_rates(config)

    def hold(label: str, part: Any) -> Any:
        return part if rates[label] else jax.lax.stop_gradient(part)

    return jax.tree.map(hold, label_parts(learned), learned)
