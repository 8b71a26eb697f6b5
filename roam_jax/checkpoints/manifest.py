"""The manifest of a checkpoint: what is in `manifest.json`, and how it is read."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from roam_jax.errors import ModelError
from roam_jax.typed import Range, parse

FORMAT = "roam_jax checkpoint"
VERSION = 3
OLDER = (1, 2)
"""that `roam_jax.checkpoints.convert` reads"""
MANIFEST = "manifest.json"


class CheckpointError(ModelError):
    """A checkpoint that cannot be written, or that cannot be trusted; the message is one sentence."""


@dataclass(frozen=True)
class Leaf:
    """What the manifest says of an array."""

    shape: tuple[Annotated[int, Range(0, 2**40)], ...]
    dtype: str
    sha256: str
    load_as: str
    """dtype to give it when it is read"""


@dataclass(frozen=True)
class Manifest:
    """What `manifest.json` holds besides its own digest."""

    format: str
    version: int
    metadata: dict[str, Any]
    leaves: dict[str, Leaf]
    empty: tuple[str, ...]
    """dictionaries without leaves"""
    files: dict[str, str]
    """SHA-256 by path"""


def read_manifest(directory: Path, versions: Sequence[int] = (VERSION,)) -> Manifest:
    """The manifest of a checkpoint, once it is sure that it is the one that was written.

    Args:
        directory: of the checkpoint.
        versions: of the format that are expected.

    Raises:
        CheckpointError: there is none, it was changed, or it does not hold what it should.
    """
    path = directory / MANIFEST
    if directory.is_file():
        kind = "a pickle, which could run any code when read," if _is_pickle(directory) else "a file"
        raise CheckpointError(f"{directory} is {kind} and no checkpoint: a checkpoint is a directory with {MANIFEST}")
    if not directory.is_dir():
        raise CheckpointError(f"there is no checkpoint {directory}")
    if not path.is_file():
        pickles = sorted(file.name for file in directory.iterdir() if file.is_file() and _is_pickle(file))
        note = f"; {pickles[0]} in it is a pickle, which could run any code when read" if pickles else ""
        raise CheckpointError(f"{directory} is no checkpoint: it has no {MANIFEST}{note}")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        digest = manifest.pop("sha256")
        form = manifest["format"], manifest["version"]
        intact = digest == digest_json(manifest)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError) as error:
        raise CheckpointError(f"{path} is no manifest of a checkpoint: it is damaged or of another kind") from error
    kind, version = form
    if kind == FORMAT and version in OLDER and version not in versions:
        raise CheckpointError(
            f"{directory} is of an older version: python -m roam_jax.checkpoints.convert {directory} NEW_FOLDER"
        )
    if kind != FORMAT or version not in versions:
        listed = " or ".join(map(str, versions))
        raise CheckpointError(f"{path} is of another format or version than the one read here, {FORMAT} {listed}")
    if not intact:
        raise CheckpointError(f"{path} has been changed since it was written: its digest does not agree")
    try:
        return parse(Manifest, manifest)
    except ValueError as error:
        raise CheckpointError(f"{path} is no manifest of a checkpoint: {error}") from error


def digest_json(value: Any) -> str:
    """SHA-256 of anything that JSON can hold."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def is_numeric(name: str) -> bool:
    """Whether it names a dtype of numbers whose values are in the array itself."""
    try:
        dtype = np.dtype(name)
    except (TypeError, ValueError, SyntaxError):
        return False
    return str(dtype) == name and not (dtype.hasobject or dtype.kind in "SUMm" or dtype.names)


def _is_pickle(path: Path) -> bool:
    """A pickle of protocol 2 or later, a zip with one in it as torch writes, or a file that says so by its name."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith(".pkl") for name in archive.namelist())
    with path.open("rb") as file:
        return file.read(1) == b"\x80" or path.suffix in {".pkl", ".pickle"}
