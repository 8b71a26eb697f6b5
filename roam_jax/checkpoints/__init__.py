"""Checkpoints: trees of arrays on disk with digests of their own, and the ones that ship with the package."""

from __future__ import annotations

from roam_jax.checkpoints.store import (
    Checkpoint,
    CheckpointError,
    digest_tree,
    load_checkpoint,
    load_config,
    load_tree,
    save_checkpoint,
    save_tree,
    shipped_names,
)

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
