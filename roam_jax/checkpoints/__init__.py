"""Checkpoints: trees of arrays on disk with digests of their own, and the ones that ship with the package."""

from __future__ import annotations

from roam_jax.checkpoints.manifest import CheckpointError
from roam_jax.checkpoints.store import digest_tree, load_tree, save_tree
from roam_jax.checkpoints.tracker import Checkpoint, load_checkpoint, load_config, save_checkpoint, shipped_names

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "digest_tree",
    "load_checkpoint",
    "load_config",
    "load_tree",
    "save_checkpoint",
    "save_tree",
    "shipped_names",
]
