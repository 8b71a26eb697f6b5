"""Checkpoints of the tracker, and those that ship with the package.

A tree of the tracker's parameters, with its configuration as metadata and a model card, `MODEL_CARD.md`, which says in
words what was trained on what.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from roam_jax.checkpoints.manifest import MANIFEST, CheckpointError, read_manifest
from roam_jax.checkpoints.store import Tree, digest_tree, load_tree, save_tree
from roam_jax.config import Config
from roam_jax.typed import parse

CARD = "MODEL_CARD.md"


@dataclass(frozen=True)
class TrunkReference:
    """Stands for a trunk that a checkpoint does not hold."""

    source: str
    """where it comes from, in words"""
    sha256: str


@dataclass(frozen=True)
class TrackerMetadata:
    """Metadata of a checkpoint of the tracker."""

    config: Config
    trunk_reference: TrunkReference | None = None


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Everything a tracker starts from."""

    config: Config
    params: dict[str, Any]
    """nested dicts of numpy arrays: `trunk`, `top`, `stats`, `neck`, `theta0`, `lambda0`, `omega`"""
    card: str
    """the model card, Markdown"""


def save_checkpoint(
    directory: str | Path, checkpoint: Checkpoint, *, half: bool = False, trunk_source: str = ""
) -> None:
    """Write a checkpoint of the tracker.

    Args:
        directory: where to; a checkpoint that is already there is replaced.
        checkpoint: what to write.
        half: store in half precision, for a smaller file; see `save_tree`.
        trunk_source: where the trunk's weights come from, in words. If given, they are not stored: only this sentence
            and their digest are, and `load_checkpoint` gets them from `roam_jax.backbones.load_trunk`.

    Raises:
        CheckpointError: as `save_tree`.
    """
    params, metadata = checkpoint.params, {"config": checkpoint.config.to_dict()}
    if trunk_source:
        metadata["trunk_reference"] = {"source": trunk_source, "sha256": digest_tree(params["trunk"])}
        params = {name: part for name, part in params.items() if name != "trunk"}
    save_tree(directory, params, metadata=metadata, half=half, texts={CARD: checkpoint.card})


def load_checkpoint(name_or_directory: str | Path, *, weights: str = "") -> Checkpoint:
    """Read a checkpoint of the tracker.

    Args:
        name_or_directory: a directory, or the name of a checkpoint that ships with the package (`shipped_names`).
            A directory of that name in the current one is `./name`.
        weights: file with the trunk's weights, where the trunk is stored as a reference; empty: what its configuration
            names.

    Raises:
        CheckpointError: no such checkpoint, or one that is damaged, of another kind, or for another trunk.
        WeightsError: the trunk is stored as a reference, and its weights are not found.
    """
    directory = _resolve(name_or_directory)
    params, metadata = load_tree(directory)
    about = _parse_metadata(directory, metadata)
    config = about.config
    if about.trunk_reference is not None:
        if weights:
            config = dataclasses.replace(config, backbone=dataclasses.replace(config.backbone, weights=weights))
        params["trunk"] = _load_referenced_trunk(directory, config, about.trunk_reference)
    card = directory / CARD
    return Checkpoint(config, params, card.read_text("utf-8", errors="replace") if card.is_file() else "")


def load_config(name_or_directory: str | Path) -> Config:
    """The configuration of a checkpoint of the tracker, whose arrays are left alone.

    Raises:
        CheckpointError: no such checkpoint, or one that is damaged or of another kind.
    """
    directory = _resolve(name_or_directory)
    return _parse_metadata(directory, read_manifest(directory).metadata).config


def shipped_names() -> tuple[str, ...]:
    """Names of the checkpoints that ship with the package."""
    return tuple(sorted(path.parent.name for path in Path(__file__).parent.glob(f"*/{MANIFEST}")))


def _parse_metadata(directory: Path, metadata: dict[str, Any]) -> TrackerMetadata:
    if "config" not in metadata:
        raise CheckpointError(f"{directory} is no checkpoint of the tracker: it has no configuration")
    try:
        about = parse(TrackerMetadata, metadata)
        about.config.check()
    except ValueError as error:
        raise CheckpointError(f"{directory} is damaged, or of another version of the tracker: {error}") from error
    return about


def _resolve(name_or_directory: str | Path) -> Path:
    names, text = shipped_names(), str(name_or_directory)
    if isinstance(name_or_directory, str) and text in names:
        return Path(__file__).parent / text
    if Path(name_or_directory).exists():
        return Path(name_or_directory)
    listed = ", ".join(names) if names else "none"
    raise CheckpointError(f"there is no checkpoint {text!r}: neither a directory, nor one that ships here ({listed})")


def _load_referenced_trunk(directory: Path, config: Config, reference: TrunkReference) -> Tree:
    from roam_jax.backbones import load_trunk  # only this kind of checkpoint needs it

    trunk = load_trunk(config)["trunk"]
    if digest_tree(trunk) != reference.sha256:
        raise CheckpointError(f"the trunk found is not the one that {directory} was made for: {reference.source}")
    return jax.tree.map(np.asarray, trunk)
