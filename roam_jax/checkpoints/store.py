"""Trees of arrays on disk: orbax stores the bytes, a manifest with digests says whether they are still the same.

A directory holds

- `arrays/`: the leaves by orbax, as a flat dictionary whose keys are paths in the tree joined by `/`;
- `manifest.json`: metadata; shape, dtype and SHA-256 of every leaf; SHA-256 of every file, and of the manifest itself;
- whatever texts were given.

Orbax alone is not enough: it loads data with flipped bits as if nothing had happened, prints pages about files that it
cannot parse, and hides wrong keys and shapes behind general errors. Loading starts JAX's default device, because orbax
asks JAX for the index of the process; the arrays themselves are numpy's and are never copied to a device.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from roam_jax.checkpoints.manifest import (
    FORMAT,
    MANIFEST,
    VERSION,
    CheckpointError,
    Leaf,
    Manifest,
    digest_json,
    is_numeric,
    read_manifest,
)

ARRAYS = "arrays"
SUCCESS = "commit_success.txt"
"""by which orbax knows that it was not interrupted"""
HALF_ERROR = 1e-3
"""largest error of a leaf in half precision, over its root mean square; leaves that would lose more stay whole"""

Tree = Any
"""nested dictionaries of arrays, or any other pytree of them"""


def save_tree(
    directory: str | Path,
    tree: Tree,
    *,
    metadata: dict[str, Any],
    half: bool = False,
    texts: Mapping[str, str] | None = None,
) -> None:
    """Write a pytree of arrays; afterwards the directory is complete, or is what it was before.

    All files are written into a sibling of the directory, which is renamed only when it is complete.

    Args:
        directory: where to; a checkpoint that is already there is replaced, anything else is left alone.
        tree: arrays of numpy or JAX, or Python numbers. Its dictionaries' keys must not contain `/`.
        metadata: anything that JSON can hold.
        half: store float32 leaves as float16 (`load_tree` widens them), where that loses no more than `HALF_ERROR`.
        texts: more files, by name.

    Raises:
        CheckpointError: a leaf or the metadata cannot be stored, or the directory holds something else.
    """
    directory = Path(directory)
    if directory.exists() and not _is_replaceable(directory):
        raise CheckpointError(f"{directory} holds something that is not a checkpoint, and is left as it is")
    leaves = {key: _as_array(key, leaf) for key, leaf in _flatten(tree, "the tree").items()}
    stored = {key: _to_half(leaf) if half else leaf for key, leaf in leaves.items()}
    # orbax refuses arrays without elements; the manifest is enough to make them again
    filled = {key: leaf for key, leaf in stored.items() if leaf.size}
    if not filled:
        raise CheckpointError(f"the tree for {directory} has no array with elements: there is nothing to store")
    body = {
        "format": FORMAT,
        "version": VERSION,
        "metadata": metadata,
        "leaves": {key: {**_describe(leaf), "load_as": str(leaves[key].dtype)} for key, leaf in stored.items()},
        "empty": _empty_dicts(tree),
    }
    try:
        json.dumps(metadata)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"the metadata for {directory} cannot be written as JSON: {error}") from error

    directory.parent.mkdir(parents=True, exist_ok=True)
    mark = uuid.uuid4().hex[:8]
    new, old = (directory.with_name(f".{directory.name}.{mark}.{end}") for end in ("new", "old"))
    try:
        new.mkdir()
        ocp.save(str(new.resolve() / ARRAYS), filled)
        # Orbax notes the folder of this machine; a checkpoint that is given away should not tell it.
        (new / ARRAYS / SUCCESS).write_text("written\n", encoding="utf-8")
        body["files"] = {path.relative_to(new).as_posix(): _digest_file(path) for path in sorted(_files(new))}
        manifest = json.dumps({**body, "sha256": digest_json(body)}, indent=1, sort_keys=True)
        for name, text in {**(texts or {}), MANIFEST: manifest + "\n"}.items():
            (new / name).write_text(text, encoding="utf-8", newline="\n")
        if directory.exists():
            os.replace(directory, old)
        os.replace(new, directory)
    finally:
        if old.exists() and not directory.exists():
            os.replace(old, directory)
        for leftover in (new, old):
            shutil.rmtree(leftover, ignore_errors=True)


def load_tree(directory: str | Path, *, like: Tree = None) -> tuple[Tree, dict[str, Any]]:
    """Read what `save_tree` wrote, and check every digest.

    Args:
        directory: of the checkpoint; it may be read-only.
        like: a pytree of arrays or `jax.ShapeDtypeStruct`s that the checkpoint must agree with, key for key; its
            structure is the result's.

    Returns:
        The tree, with numpy arrays as leaves (nested dictionaries, whatever the containers were, unless `like` says
        otherwise), and the metadata.

    Raises:
        CheckpointError: no checkpoint there, a changed or missing part, or a key, shape or dtype other than in `like`.
    """
    directory = Path(directory)
    manifest, leaves = read_leaves(directory)
    if like is None:
        return nest(directory, leaves, manifest.empty), manifest.metadata
    expected = _flatten(like, directory)
    _compare(directory, leaves, expected)
    return jax.tree.unflatten(jax.tree.structure(like), [leaves[key] for key in expected]), manifest.metadata


def read_leaves(directory: Path, versions: Sequence[int] = (VERSION,)) -> tuple[Manifest, dict[str, np.ndarray]]:
    """Manifest and arrays by key, as they were written; checkpoints of an older version on request.

    Raises:
        CheckpointError: as `load_tree`.
    """
    manifest = read_manifest(directory, versions)
    _check_files(directory, manifest.files)
    return manifest, _read_leaves(directory, manifest.leaves)


def digest_tree(tree: Tree) -> str:
    """SHA-256 over the keys, shapes, dtypes and bytes of all leaves, in the order of the keys."""
    leaves = {key: _as_array(key, leaf) for key, leaf in _flatten(tree, "the tree").items()}
    return digest_json({key: _describe(leaves[key]) for key in leaves})


def _is_replaceable(directory: Path) -> bool:
    return directory.is_dir() and ((directory / MANIFEST).is_file() or not any(directory.iterdir()))


def _check_files(directory: Path, digests: dict[str, str]) -> None:
    """Orbax would read damaged files too, or complain at length."""
    for name, digest in digests.items():
        try:
            actual = _digest_file(directory / name) if (directory / name).is_file() else None
        except OSError as error:
            raise CheckpointError(f"{directory} is damaged: the file {name!r} cannot be read: {error}") from error
        if actual is None:
            raise CheckpointError(f"{directory} is incomplete: the file {name!r} is missing")
        if actual != digest:
            raise CheckpointError(f"{directory} is damaged: the file {name!r} has changed since it was written")


def _read_leaves(directory: Path, records: dict[str, Leaf]) -> dict[str, np.ndarray]:
    """All leaves by key, each one equal to what was written."""
    try:
        loaded = ocp.load(str(directory.resolve() / ARRAYS))
    except Exception as error:  # orbax raises many kinds, and hides the reason in the cause
        raise CheckpointError(f"the arrays in {directory} are damaged or incomplete: {_reason(error)}") from error
    for key, record in records.items():
        for name in (record.dtype, record.load_as):
            if not is_numeric(name):
                raise CheckpointError(f"{key!r} in {directory} is damaged: {name!r} is no type of numbers")
    try:
        empty = {key: np.zeros(r.shape, r.dtype) for key, r in records.items() if 0 in r.shape}
    except ValueError as error:
        raise CheckpointError(f"the arrays in {directory} are damaged: {error}") from error
    leaves = {**loaded, **empty} if isinstance(loaded, dict) else empty
    if different := sorted(leaves.keys() ^ records.keys()):
        raise CheckpointError(f"the arrays in {directory} are not those of its {MANIFEST}: {different[0]!r} is in one")
    for key, record in records.items():
        leaf = leaves[key]
        actual = _spell(leaf) if isinstance(leaf, np.ndarray) else type(leaf).__name__
        if actual != (expected := _spell_as(record.shape, record.dtype)):
            raise CheckpointError(f"{key!r} in {directory} is damaged: it is {actual}, and was {expected}")
        if _digest_array(leaf) != record.sha256:
            raise CheckpointError(f"{key!r} ({actual}) in {directory} is damaged: its digest does not agree")
    return {key: leaves[key].astype(record.load_as, copy=False) for key, record in records.items()}


def _compare(directory: Path, leaves: dict[str, np.ndarray], expected: dict[str, Any]) -> None:
    for key, leaf in expected.items():
        spelled = _spell(leaf if hasattr(leaf, "dtype") else np.asarray(leaf))
        if key not in leaves:
            raise CheckpointError(f"{directory} has no {key!r}, expected as {spelled}")
        if _spell(leaves[key]) != spelled:
            raise CheckpointError(f"{key!r} in {directory} is {_spell(leaves[key])}, expected is {spelled}")
    if extra := sorted(leaves.keys() - expected.keys()):
        raise CheckpointError(f"{directory} has {extra[0]!r} ({_spell(leaves[extra[0]])}), which is not expected")


def _flatten(tree: Tree, where: object) -> dict[str, Any]:
    """Leaves by path; a path is made of the keys, joined by `/`."""
    flat: dict[str, Any] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        parts = [jax.tree_util.keystr((part,), simple=True) for part in path]
        key = "/".join(parts)
        if any("/" in part or not part for part in parts) or key in flat or not parts:
            raise CheckpointError(f"the key {key!r} of {where} is empty, contains a slash or is there twice")
        flat[key] = leaf
    return flat


def _empty_dicts(tree: Tree) -> list[str]:
    """Paths of the dictionaries without leaves, which pytrees forget."""
    if not isinstance(tree, Mapping):
        return []
    paths = [[f"{key}/{path}" for path in _empty_dicts(value)] for key, value in tree.items()]
    return sorted(
        [path for group in paths for path in group]
        + [str(key) for key, value in tree.items() if isinstance(value, Mapping) and not value]
    )


def nest(directory: Path, leaves: Mapping[str, np.ndarray], empty: Iterable[str]) -> dict[str, Any]:
    """Nested dictionaries of leaves by path, and of the paths of empty ones.

    Raises:
        CheckpointError: a path is that of a leaf and of a dictionary.
    """
    tree: dict[str, Any] = {}
    for key, value in [*leaves.items(), *((path, {}) for path in empty)]:
        *parents, name = key.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {}) if isinstance(node, dict) else node
        if not isinstance(node, dict) or name in node:
            raise CheckpointError(f"the {MANIFEST} of {directory} has {key!r} beside another part of that name")
        node[name] = value
    return tree


def _as_array(key: str, leaf: Any) -> np.ndarray:
    try:
        array = np.asarray(leaf, order="C")
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{key!r} cannot be stored: it is no array of numbers ({type(leaf).__name__})") from error
    if array.dtype.hasobject or array.dtype.kind in "SUMm" or array.dtype.names:
        raise CheckpointError(f"{key!r} cannot be stored: it is no array of numbers ({type(leaf).__name__})")
    return array.astype(array.dtype.newbyteorder("<"), copy=False)


def _to_half(array: np.ndarray) -> np.ndarray:
    """The array in float16, if that keeps it; small or very different magnitudes would not survive."""
    if array.dtype != np.float32 or not array.size:
        return array
    with np.errstate(over="ignore", invalid="ignore"):
        small = array.astype(np.float16)
        error = np.sqrt(np.mean(np.square(array - small.astype(np.float32), dtype=np.float64)))
        size = np.sqrt(np.mean(np.square(array, dtype=np.float64)))
    return small if np.isfinite(error) and error <= HALF_ERROR * size else array


def _describe(array: np.ndarray) -> dict[str, Any]:
    return {"shape": list(array.shape), "dtype": str(array.dtype), "sha256": _digest_array(array)}


def _digest_array(array: np.ndarray) -> str:
    return hashlib.sha256(array.tobytes()).hexdigest()


def _digest_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _files(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


def _spell(array: Any) -> str:
    return _spell_as(array.shape, array.dtype)


def _spell_as(shape: Any, dtype: Any) -> str:
    return f"{dtype} of shape {tuple(shape)}"


def _reason(error: BaseException) -> str:
    """First line of the innermost cause."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
