"""Meta-parameters and backbone weights as the nested dicts that checkpoints hold, and back."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax

from roam_jax.backbones import make_backbone
from roam_jax.checkpoints import Checkpoint, CheckpointError
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

    An optimizer without parameters leaves those of `values` unused.

    Raises:
        ValueError: a key is missing or has not the shape or type that the configuration asks for.
    """
    fitted = _fit(values, _expected(config), "params")
    meta, backbone = fitted["meta"], fitted["backbone"]

    def theta(value: dict[str, Any]) -> Theta:
        return Theta(**{name: Branch(**branch) for name, branch in value.items()})

    params = TrackerParams(MetaParams(theta(meta["theta0"]), theta(meta["lambda0"]), meta["omega"]), backbone)
    return jax.device_put(params)  # all at once: array by array takes seconds


def params_of(checkpoint: Checkpoint, config: Config) -> TrackerParams:
    """Parameters of a checkpoint for a tracker with these settings.

    Raises:
        CheckpointError: they do not fit; the settings that they do not fit are named.
    """
    reasons = other_meanings(checkpoint.config, config)
    try:
        if reasons:
            raise ValueError("; ".join(reasons.values()))
        return params_from_dict(checkpoint.params, config)
    except ValueError as error:
        misfits = [*_misfits(checkpoint, config), *reasons]
        raise CheckpointError(f"the checkpoint does not fit {', '.join(misfits) or 'its settings'}: {error}") from error


def other_meanings(made: Config, config: Config) -> dict[str, str]:
    """Settings under which parameters made with the first configuration would mean something else, and why."""
    reasons, weights, logarithm = {}, config.backbone.weights, config.optimizer.log_lambda0
    if weights and weights != made.backbone.weights:
        reasons[f"backbone.weights {weights}"] = "it holds its own trunk"
    if logarithm != made.optimizer.log_lambda0:
        reasons[f"optimizer.log_lambda0 {logarithm}"] = f"its lambda0 is {'not ' * logarithm}a logarithm"
    return reasons


def _misfits(checkpoint: Checkpoint, config: Config) -> list[str]:
    """Settings that the parameters would not even fit if all others were as they were made with, with their values."""
    misfits = []
    for section in ("backbone", "model", "optimizer"):
        made, wanted = getattr(checkpoint.config, section), getattr(config, section)
        for name, value in dataclasses.asdict(wanted).items():
            if value == getattr(made, name):
                continue
            part = dataclasses.replace(made, **{name: value})
            try:
                _fit(checkpoint.params, _expected(dataclasses.replace(checkpoint.config, **{section: part})), "params")
            except ValueError:
                misfits.append(f"{section}.{name} {value}")
    return misfits


def init_params(config: Config, *, key: jax.Array) -> TrackerParams:
    """Random parameters."""
    backbone = make_backbone(config)
    key_meta, key_backbone = jax.random.split(key)
    return TrackerParams(init_meta(config, backbone.channels, key=key_meta), backbone.init(key=key_backbone))


def _expected(config: Config) -> dict[str, Any]:
    return params_to_dict(jax.eval_shape(lambda key: init_params(config, key=key), jax.random.key(0)))


def _fit(found: Any, expected: Any, path: str) -> Any:
    """`found`, if it has the parts that are expected; instead of a part that should be empty, nothing.

    Raises:
        ValueError: it has not.
    """
    if isinstance(expected, dict):
        if not expected:
            return {}
        if not isinstance(found, dict) or set(found) != set(expected):
            has = ", ".join(sorted(found)) if isinstance(found, dict) else type(found).__name__
            raise ValueError(f"{path} should hold {', '.join(sorted(expected))}, but holds {has}")
        return {key: _fit(found[key], expected[key], f"{path}/{key}") for key in expected}
    has = f"shape {tuple(found.shape)} of {found.dtype}" if hasattr(found, "dtype") else "parts"
    if has != (wanted := f"shape {tuple(expected.shape)} of {expected.dtype}"):
        raise ValueError(f"{path} has {has}, but the configuration asks for {wanted}")
    return found
