"""The one tree of parameters: backbone and meta-parameters, as checkpoints hold them and as the tracker uses them."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from roam_jax.backbones import make_backbone
from roam_jax.checkpoints import Checkpoint, CheckpointError
from roam_jax.config import Config
from roam_jax.core.meta import MetaParams
from roam_jax.core.model import Branch, Theta
from roam_jax.core.optimizer import Omega
from roam_jax.method import init_meta


class Params(NamedTuple):
    """Everything that a tracker is made of."""

    trunk: dict[str, Any]
    """frozen part of the pretrained network; empty in training, which keeps it apart"""
    top: dict[str, Any]
    """its last stages, where they are learned"""
    stats: dict[str, Any]
    """mean and scale of the features' channels: measured once"""
    neck: dict[str, Any]
    theta0: Theta
    """initial tracking model"""
    lambda0: Theta
    """learning rates of the first-frame step; their logarithms with `optimizer.log_lambda0`"""
    omega: Omega
    """recurrent neural optimizer"""

    @property
    def meta(self) -> MetaParams:
        """The method's part."""
        return MetaParams(self.theta0, self.lambda0, self.omega)

    @property
    def backbone(self) -> dict[str, Any]:
        """The backbone's part."""
        return {"trunk": self.trunk, "top": self.top, "stats": self.stats, "neck": self.neck}


def params_to_dict(params: Params) -> dict[str, Any]:
    """Nested dicts with the fields' names as keys."""
    thetas = {
        name: {branch: part._asdict() for branch, part in getattr(params, name)._asdict().items()}
        for name in ("theta0", "lambda0")
    }
    return params._asdict() | thetas


def params_from_dict(values: dict[str, Any], config: Config) -> Params:
    """Inverse of `params_to_dict`, as arrays on the default device.

    An optimizer without parameters leaves those of `values` unused.

    Raises:
        ValueError: a key is missing or has not the shape or type that the configuration asks for.
    """
    return jax.device_put(_to_params(_fit(values, _expected(config), "params")))  # at once: singly it takes seconds


def _to_params(values: dict[str, Any]) -> Params:
    def theta(value: dict[str, Any]) -> Theta:
        return Theta(**{name: Branch(**branch) for name, branch in value.items()})

    return Params(**dict(values, theta0=theta(values["theta0"]), lambda0=theta(values["lambda0"])))


def params_of(
    checkpoint: Checkpoint, config: Config, *, known: Callable[[Params], bool] = lambda params: False
) -> Params:
    """Parameters of a checkpoint for a tracker with these settings.

    Args:
        checkpoint: as it was loaded.
        config: the tracker's settings.
        known: whether parameters of such shapes are known to fit; comparing takes the networks, and so flax.

    Raises:
        CheckpointError: they do not fit; the settings that they do not fit are named.
    """
    reasons = other_meanings(checkpoint.config, config)
    try:
        if reasons:
            raise ValueError("; ".join(reasons.values()))
        with contextlib.suppress(KeyError, TypeError, AttributeError):  # not even the right parts: said below
            if known(params := _to_params(checkpoint.params)):
                return jax.device_put(params)
        return params_from_dict(checkpoint.params, config)
    except ValueError as error:
        misfits = [*_misfits(checkpoint, config), *reasons]
        raise CheckpointError(f"the checkpoint does not fit {', '.join(misfits) or 'its settings'}: {error}") from None


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
        made, asked = getattr(checkpoint.config, section), getattr(config, section)
        for name, value in dataclasses.asdict(asked).items():
            if value == getattr(made, name):
                continue
            part = dataclasses.replace(made, **{name: value})
            try:
                _fit(checkpoint.params, _expected(dataclasses.replace(checkpoint.config, **{section: part})), "params")
            except ValueError:
                misfits.append(f"{section}.{name} {value}")
    return misfits


def init_params(config: Config, *, key: jax.Array) -> Params:
    """Random parameters."""
    backbone = make_backbone(config)
    key_meta, key_backbone = jax.random.split(key)
    return Params(**backbone.init(key=key_backbone), **init_meta(config, backbone.channels, key=key_meta)._asdict())


def _expected(config: Config) -> dict[str, Any]:
    return params_to_dict(jax.eval_shape(lambda key: init_params(config, key=key), jax.random.key(0)))


def _fit(given: Any, expected: Any, path: str) -> Any:
    """`given`, if it has the parts that are expected; instead of a part that should be empty, nothing.

    Raises:
        ValueError: it has not.
    """
    if isinstance(expected, dict):
        if not expected:
            return {}
        if not isinstance(given, dict) or set(given) != set(expected):
            has = ", ".join(sorted(given)) if isinstance(given, dict) else type(given).__name__
            raise ValueError(f"{path} should hold {', '.join(sorted(expected))}, but holds {has}")
        return {key: _fit(given[key], expected[key], f"{path}/{key}") for key in expected}
    has = f"shape {tuple(given.shape)} of {given.dtype}" if hasattr(given, "dtype") else "parts"
    if has != (asked := f"shape {tuple(expected.shape)} of {expected.dtype}"):
        raise ValueError(f"{path} has {has}, but the configuration asks for {asked}")
    return given
