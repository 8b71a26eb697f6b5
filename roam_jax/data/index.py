"""What a reader found, kept in the user's cache: a large data set is listed once, and again when it has changed.

An index stays true while no folder that the reader listed and no annotation file that it read has another time or size.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs

from roam_jax.data.readers.tree import Stamp, Tree, stamp_of
from roam_jax.data.sequences import FolderPaths, ImageFiles, Sequence

VERSION = 2
"""to be raised when a reader gives something else for the same files"""
MIN_SIZE = 1000
"""folders and files, or sequences, below which a data set is read as fast as its index"""
NOTHING = (-1, -1)
"""stands for a file or folder that is not there"""

log = logging.getLogger(__name__)


def default_folder() -> Path:
    """Where indices are kept."""
    return Path(platformdirs.user_cache_dir("roam_jax")) / "indices"


def read_with_index(
    layout: str,
    root: Path,
    read: Callable[[Tree], list[Sequence]],
    *,
    folder: Path | None = None,
    min_size: int = MIN_SIZE,
) -> list[Sequence]:
    """Sequences of a data set, from its index if that is true; if not, it is written anew.

    Args:
        layout: name of the layout.
        root: the data set.
        read: its reader.
        folder: where indices are kept; by default in the user's cache.
        min_size: folders and files that the reader must have looked at, or sequences that it must have found, for an
            index to be worth while.

    Raises:
        DataError: what the reader says.
    """
    path = index_path(layout, root, folder or default_folder())
    sequences = load_index(path)
    if sequences is None:
        tree = Tree(root)
        sequences = read(tree)
        if max(len(tree.stamps), len(sequences)) >= min_size and all(_can_be_kept(sequence) for sequence in sequences):
            try:
                save_index(path, sequences, tree.stamps)
            except OSError as error:
                log.warning("the index %s cannot be written: %s", path, error)
    return sequences


def index_path(layout: str, root: Path, folder: Path) -> Path:
    """File of the index of a data set."""
    key = hashlib.sha256(f"{VERSION}\n{layout}\n{os.path.abspath(root)}".encode(errors="surrogateescape")).hexdigest()
    return folder / f"{layout}-{key[:24]}.npz"


def save_index(path: Path, sequences: list[Sequence], stamps: dict[str, Stamp]) -> None:
    """Write an index, all at once.

    Raises:
        OSError: it cannot be written.
    """
    columns = _columns_of(sequences) | {
        "stamp_paths": _pack(list(stamps)),
        "stamps": np.array([stamp or NOTHING for stamp in stamps.values()], np.int64).reshape(-1, 2),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as file:
        try:
            np.savez(file, **columns)
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise


def load_index(path: Path) -> list[Sequence] | None:
    """Sequences of an index; None if there is none, it is damaged, or its data set has changed."""
    try:
        with path.open("rb") as stream, np.load(stream) as file:
            stamps = map(tuple, file["stamps"].tolist())
            paths = _unpack(file["stamp_paths"])
            if any((stamp_of(name) or NOTHING) != stamp for name, stamp in zip(paths, stamps, strict=True)):
                return None
            return _sequences_of(dict(file))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, IndexError, EOFError, zipfile.BadZipFile) as error:
        log.warning("the index %s is damaged and will be made anew: %s", path, error)
        return None


def _can_be_kept(sequence: Sequence) -> bool:
    return isinstance(sequence.frames, ImageFiles) and isinstance(sequence.frames.paths, FolderPaths)


def _columns_of(sequences: list[Sequence]) -> dict[str, Any]:
    """Arrays that together say what the sequences are; sequences share folders, sources and attributes."""
    paths: list[FolderPaths] = [sequence.frames.paths for sequence in sequences]  # type: ignore[attr-defined]
    folders, folder_of = _number([str(path.folder) for path in paths])
    sources, source_of = _number([sequence.source for sequence in sequences])
    attributes, attributes_of = _number([json.dumps(sequence.attributes) for sequence in sequences])
    keys = sorted({key for sequence in sequences for key in sequence.labels})
    columns = {
        "names": _pack([sequence.name for sequence in sequences]),
        "folders": _pack(folders),
        "folder_of": folder_of,
        "sources": _pack(sources),
        "source_of": source_of,
        "attributes": _pack(attributes),
        "attributes_of": attributes_of,
        "counts": np.array([len(sequence) for sequence in sequences], np.int64),
        "stills": np.array([sequence.still for sequence in sequences], bool),
        "first_box_only": np.array([sequence.first_box_only for sequence in sequences], bool),
        "boxes_xywh": np.concatenate([sequence.boxes_xywh for sequence in sequences] or [np.zeros((0, 4))]),
        "visible": np.concatenate([sequence.visible for sequence in sequences] or [np.zeros(0)]),
        "file_widths": np.array([path.names.dtype.itemsize for path in paths], np.int64),
        "files": np.frombuffer(b"".join(path.names.tobytes() for path in paths), np.uint8),
        "label_keys": _pack(keys),
    }
    for number, key in enumerate(keys):
        present = [key in sequence.labels for sequence in sequences]
        columns[f"has_label_{number}"] = np.array(present)
        columns[f"label_{number}"] = np.concatenate([s.labels[key] for s in sequences if key in s.labels])
    return columns


def _sequences_of(columns: dict[str, np.ndarray]) -> list[Sequence]:
    counts, widths = columns["counts"], columns["file_widths"]
    ends, file_ends = np.cumsum(counts).tolist(), np.cumsum(counts * widths).tolist()
    folders = [Path(folder) for folder in _unpack(columns["folders"])]
    sources = _unpack(columns["sources"])
    attributes = [tuple(json.loads(text)) for text in _unpack(columns["attributes"])]
    labels: list[dict[str, np.ndarray]] = [{} for _ in counts]
    for number, key in enumerate(_unpack(columns["label_keys"])):
        values, start = columns[f"label_{number}"], 0
        for index in np.flatnonzero(columns[f"has_label_{number}"]).tolist():
            labels[index][key] = values[start : start + counts[index]]
            start += counts[index]
    boxes, visible, files = columns["boxes_xywh"], columns["visible"], columns["files"]
    rows = zip(
        _unpack(columns["names"]),
        columns["folder_of"].tolist(),
        columns["source_of"].tolist(),
        columns["attributes_of"].tolist(),
        columns["stills"].tolist(),
        columns["first_box_only"].tolist(),
        counts.tolist(),
        widths.tolist(),
        ends,
        file_ends,
        labels,
        strict=True,
    )
    return [
        Sequence(
            name,
            ImageFiles(FolderPaths(folders[folder], files[file_end - count * width : file_end].view(f"S{width}"))),
            boxes[end - count : end],
            sources[source],
            still,
            visible[end - count : end],
            notes,
            attributes[attribute],
            secret,
        )
        for name, folder, source, attribute, still, secret, count, width, end, file_end, notes in rows
    ]


def _number(values: list[str]) -> tuple[list[str], np.ndarray]:
    """Different values, and the number of each one among them."""
    numbers = {value: number for number, value in enumerate(dict.fromkeys(values))}
    return list(numbers), np.array([numbers[value] for value in values], np.int64)


def _pack(texts: list[str]) -> np.ndarray:
    """Texts without the character NUL as bytes."""
    return np.frombuffer("".join(f"{text}\0" for text in texts).encode(errors="surrogateescape"), np.uint8)


def _unpack(data: np.ndarray) -> list[str]:
    return data.tobytes().decode(errors="surrogateescape").split("\0")[:-1]
