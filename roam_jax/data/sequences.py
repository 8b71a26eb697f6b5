"""Frames with one box each, whatever the folder looks like: what the readers of data sets give.

All boxes leave here as `xywh` in continuous 0-based image coordinates, where pixel (row i, column j) covers
[j, j + 1) x [i, i + 1). A row of NaN says that the object is not in the frame. Pictures are read when asked for.
"""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Sequence as Indices
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import overload

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from roam_jax.errors import InputError
from roam_jax.pictures import read_image


class DataError(InputError):
    """Data that are not what their layout promises; the message says what was expected, and where."""


class Frames(ABC):
    """Lazy list of RGB pictures."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def read(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """Frame of an index in 0 .. len - 1."""

    @property
    def files(self) -> tuple[Path, ...]:
        """Files that hold the frames, where there are any."""
        return ()

    def get(self, indices: Indices[int]) -> list[UInt8[np.ndarray, "h w 3"]]:
        """Several frames, in the order asked for; one that is asked for twice is read once."""
        pictures = {index: self.read(index) for index in sorted(set(indices))}
        return [pictures[index] for index in indices]

    def __getitem__(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        return self.read(range(len(self))[index])

    def __iter__(self) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
        return (self.read(index) for index in range(len(self)))


class FolderPaths(Indices[Path]):
    """Files of one folder. Millions of them fit into memory, as only their names are kept."""

    def __init__(self, folder: Path, names: Indices[str] | np.ndarray) -> None:
        """Files of a folder.

        Args:
            folder: where they lie.
            names: relative to it, in their order; as an array: in UTF-8.
        """
        self.folder = folder
        self.names = names if isinstance(names, np.ndarray) else _encode(names)

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> Path: ...

    @overload
    def __getitem__(self, index: slice) -> FolderPaths: ...

    def __getitem__(self, index: int | slice) -> Path | FolderPaths:
        if isinstance(index, slice):
            return FolderPaths(self.folder, self.names[index])
        return self.folder / os.fsdecode(self.names[index])

    @property
    def stems(self) -> list[str]:
        """Names without their suffixes."""
        return [os.fsdecode(name).rpartition(".")[0] for name in self.names.tolist()]

    def select(self, keep: Indices[bool] | np.ndarray) -> FolderPaths:
        """The files for which `keep` is true."""
        return FolderPaths(self.folder, self.names[np.asarray(keep, bool)])


def _encode(names: Indices[str]) -> np.ndarray:
    try:
        return np.array(names, "S")
    except UnicodeEncodeError:  # NumPy speaks ASCII only, but fast
        return np.array([os.fsencode(name) for name in names], "S")


@dataclass(frozen=True)
class ImageFiles(Frames):
    """Frames that are files of their own."""

    paths: Indices[Path]

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def files(self) -> tuple[Path, ...]:
        """The pictures."""
        return tuple(self.paths)

    def read(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """One file, decoded."""
        try:
            return read_image(self.paths[index], whole=False)
        except InputError as error:
            raise DataError(f"{self.paths[index]} should be a picture, but it cannot be read") from error


@dataclass(frozen=True, eq=False)
class Part(Frames):
    """Some frames of others, one after the other."""

    frames: Frames
    start: int
    count: int

    def __len__(self) -> int:
        return max(0, min(self.count, len(self.frames) - self.start))

    @property
    def files(self) -> tuple[Path, ...]:
        """All files of the others."""
        return self.frames.files

    def read(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """That of the others."""
        return self.frames.read(self.start + index)

    def get(self, indices: Indices[int]) -> list[UInt8[np.ndarray, "h w 3"]]:
        """Those of the others."""
        return self.frames.get([self.start + index for index in indices])


@dataclass(frozen=True, eq=False)
class Sequence:
    """One object through the frames of one video, or in one still picture; it has a frame at least.

    Raises:
        DataError: no frame, or not one box or label per frame.
    """

    name: str
    frames: Frames
    """lazy RGB pictures"""
    boxes_xywh: Float32[np.ndarray, "n 4"]
    """image pixels, 0-based; NaN where the object is absent"""
    source: str = ""
    """where it comes from; sources are mixed by weight"""
    still: bool = False
    """a photograph that is repeated into a clip"""
    visible: Bool[np.ndarray, " n"] = field(default=None)  # type: ignore[assignment]
    """the object can be seen; by default wherever the box is finite and not empty"""
    labels: Mapping[str, np.ndarray] = field(default_factory=dict)
    """what else the annotations say of the frames, n rows each: bool for flags such as `occlusion`, integers for
    GOT-10k's `cover` (eighths of the object that can be seen), (n, 8) for VOT's `polygon_xy`"""
    attributes: tuple[str, ...] = ()
    """names of what makes the whole sequence difficult"""
    first_box_only: bool = False
    """only the box of the first frame is known, and the others are NaN: test splits whose annotations are secret"""
    given_xywh: Float32[np.ndarray, " 4"] | None = None
    """box that trackers are started from, where that is not the first true one"""

    def __post_init__(self) -> None:
        boxes = np.asarray(self.boxes_xywh, np.float32).reshape(-1, 4)
        present = np.asarray(np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] > 0).all(axis=1))
        seen = present if self.visible is None else present & np.asarray(self.visible, bool)
        object.__setattr__(self, "boxes_xywh", np.where(present[:, None], boxes, np.float32(np.nan)))
        object.__setattr__(self, "visible", seen)
        if not len(self.frames):
            raise DataError(f"sequence {self.name} should have frames, but there are none")
        if len(self.frames) != len(boxes):
            raise DataError(f"sequence {self.name} should have one box per frame: {len(self.frames)} and {len(boxes)}")
        for key, values in self.labels.items():
            if len(values) != len(boxes):
                raise DataError(f"sequence {self.name} should have one {key} per frame: {len(boxes)} and {len(values)}")

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def first_xywh(self) -> Float32[np.ndarray, " 4"]:
        """Box that trackers are started from; NaN where there is none."""
        return self.boxes_xywh[0] if self.given_xywh is None else self.given_xywh

    def part(self, start: int, count: int) -> Sequence:
        """So many of the sequence's frames, from a later one on, where trackers are started from its true box."""
        stop = start + count
        return replace(
            self,
            frames=Part(self.frames, start, count),
            boxes_xywh=self.boxes_xywh[start:stop],
            visible=self.visible[start:stop],
            labels={name: values[start:stop] for name, values in self.labels.items()},
            given_xywh=None if start else self.given_xywh,
        )

    def head(self, count: int) -> Sequence:
        """The sequence's first frames."""
        return self.part(0, count)


def without_stills(sequences: Iterable[Sequence]) -> list[Sequence]:
    """The sequences that a tracker can be measured on: still pictures are only there to learn from.

    Raises:
        DataError: there are sequences, but none has a second frame.
    """
    sequences = list(sequences)
    if sequences and all(len(sequence) == 1 for sequence in sequences):
        raise DataError(
            f"there is nothing to track in still pictures, and the data hold nothing else: {len(sequences)} of them, "
            f"such as {sequences[0].name}"
        )
    return [sequence for sequence in sequences if not sequence.still]


def outside_image(
    boxes_xywh: Float32[np.ndarray, "n 4"], sizes_wh: Float32[np.ndarray, "#n 2"]
) -> Bool[np.ndarray, " n"]:
    """Whether boxes have no part inside of images of those sizes; False for a box that is NaN."""
    low, high = boxes_xywh[:, :2], boxes_xywh[:, :2] + boxes_xywh[:, 2:]
    return np.asarray(((high <= 0) | (low >= sizes_wh)).any(axis=1))


def group_by_source(sequences: Iterable[Sequence]) -> dict[str, list[Sequence]]:
    """Sequences of each source, in their order."""
    groups: dict[str, list[Sequence]] = defaultdict(list)
    for sequence in sequences:
        groups[sequence.source].append(sequence)
    return dict(groups)


def name_sources(sequences: Iterable[Sequence]) -> list[Sequence]:
    """The same sequences, with the part of their name before the first underscore as their source."""
    return [replace(sequence, source=sequence.name.split("_")[0]) for sequence in sequences]


def digest_sequences(sequences: Iterable[Sequence]) -> str:
    """SHA-256 of names, sources and annotations, in hexadecimal; the pictures are not looked at."""
    state = hashlib.sha256()
    for sequence in sequences:
        state.update(repr((sequence.name, sequence.source, sequence.still, len(sequence))).encode())
        state.update(np.nan_to_num(sequence.boxes_xywh, nan=-1.0).tobytes())
        state.update(sequence.visible.tobytes())
    return state.hexdigest()
