"""What meta-training learns, and its parts: each has a rate of its own, and 0 holds it as it is."""

from __future__ import annotations

from typing import Any

import jax

from roam_jax.config import MetaConfig
from roam_jax.extensions.coordinate_rates import RATES, has_coordinate_rates
from roam_jax.tracking.params import Params


def label_parts(learned: Params) -> Params:
    """Name of the part that each subtree belongs to."""
    omega: Any = "omega"
    if has_coordinate_rates(learned.omega):
        omega = {"inner": "omega", RATES: "coordinates"}
    return Params("fixed", "top", "fixed", "neck", "theta0", "lambda0", omega)  # type: ignore[arg-type]


def part_rates(config: MetaConfig) -> dict[str, float]:
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


def hold_parts(learned: Params, config: MetaConfig) -> Params:
    """The same, with the parts whose rate is 0 as constants: nothing is spent on their gradients."""
    rates = part_rates(config)

    def hold(label: str, part: Any) -> Any:
        return part if rates[label] else jax.lax.stop_gradient(part)

    return jax.tree.map(hold, label_parts(learned), learned)
