"""Meta-parameters and backbone weights as the nested dicts that checkpoints hold, and back."""

from __future__ import annotations

from typing import Any

import jax

from roam_jax.backbones import make_backbone
from roam_jax.config import Config
from roam_jax.core.model import Branch, Theta
from roam_jax.core.update import MetaParams, init_meta
from roam_jax.tracking.online import TrackerParams


def params_to_dict(params: TrackerParams) -> dict[str, Any]:
    """Nested dicts with the fields' names as keys."""

    def theta(value: Theta) -> dict[str, Any]:
        return {name: branch._asdict() for name, branch in value._asdict().items()}

    meta = params.meta
    return {
        "meta": {"theta0": theta(meta.theta0), "lambda0": theta(meta.lambda0), "omega": meta.omega},
        "backbone": params.backbone,
    }


def params_from_dict(values: dict[str, Any], config: Config) -> TrackerParams:
    """Inverse of `params_to_dict`, as arrays on the default device.

    Raises:
        ValueError: a key is missing or has not the shape that the configuration asks for.
    """

    def theta(value: dict[str, Any]) -> Theta:
        return Theta(**{name: Branch(**branch) for name, branch in value.items()})

    try:
        meta = values["meta"]
        params = TrackerParams(
            MetaParams(theta(meta["theta0"]), theta(meta["lambda0"]), meta["omega"]), values["backbone"]
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"these are no parameters of a tracker: {error}") from error
    expected = jax.eval_shape(lambda key: init_params(config, key=key), jax.random.key(0))
    _compare(params_to_dict(params), params_to_dict(expected), "params")
    return jax.device_put(params)  # all at once: array by array takes seconds


def init_params(config: Config, *, key: jax.Array) -> TrackerParams:
    """Random parameters."""
    backbone = make_backbone(config)
    key_meta, key_backbone = jax.random.split(key)
    return TrackerParams(init_meta(config, backbone.channels, key=key_meta), backbone.init(key=key_backbone))


def _compare(found: Any, expected: Any, path: str) -> None:
    if isinstance(expected, dict):
        if not isinstance(found, dict) or set(found) != set(expected):
            has = ", ".join(sorted(found)) if isinstance(found, dict) else type(found).__name__
            raise ValueError(f"{path} should hold {', '.join(sorted(expected))}, but holds {has}")
        for key in expected:
            _compare(found[key], expected[key], f"{path}/{key}")
    elif isinstance(expected, list | tuple):
        if len(found) != len(expected):
            raise ValueError(f"{path} should hold {len(expected)} parts, but holds {len(found)}")
        for index, part in enumerate(expected):
            _compare(found[index], part, f"{path}/{index}")
    elif tuple(found.shape) != tuple(expected.shape):
        raise ValueError(
            f"{path} has shape {tuple(found.shape)}, but the configuration asks for {tuple(expected.shape)}"
        )
