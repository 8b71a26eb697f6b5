"""Sequences that a training run does without, because a clip of theirs could not be read.

A sequence is left out from the first clip on that cannot be read, by the clip's number in the run. So the clips of a
run are a function of its seed, its data and these numbers, and a run that is resumed with the numbers goes on as it
would have, whether the file is still broken, has been repaired, or is gone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from collections.abc import Sequence as ListOf
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt8

from roam_jax.data.sequences import DataError, Frames, Sequence

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Gone(Frames):
    """Frames that are there no more."""

    count: int
    reason: str

    def __len__(self) -> int:
        return self.count

    def read(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """None of them.

        Raises:
            DataError: always.
        """
        raise DataError(self.reason)


@dataclass(frozen=True)
class Entry:
    """A sequence that is left out; `vars` of it can be written as JSON."""

    name: str
    source: str
    reason: str
    clip: int
    """number of the first clip that does without it"""
    data: int
    """number of the data set in the mix"""
    place: int
    """among the sequences of the data set"""
    still: bool
    boxes_xywh: list[list[float]]
    """zeros where the object is absent, as JSON has no NaN"""
    visible: list[bool]

    @property
    def key(self) -> tuple[str, str]:
        """What tells it apart."""
        return self.source, self.name

    def stand_in(self) -> Sequence:
        """The sequence without its frames, for the place that it had."""
        boxes, visible = np.array(self.boxes_xywh, np.float32), np.array(self.visible, bool)
        return Sequence(self.name, Gone(len(boxes), self.reason), boxes, self.source, self.still, visible)


class Skipped:
    """The sequences that are left out so far."""

    def __init__(
        self, listed: ListOf[ListOf[Sequence]] = (), *, limit: int = 0, entries: Iterable[Entry] = ()
    ) -> None:  # fmt: skip
        """Begin with those of an earlier part of the run.

        Args:
            listed: all sequences of each data set of the mix.
            limit: how many may be left out; with 0, the first clip that cannot be read is an error.
            entries: of the earlier part; where several processes have left out the same, the first clip counts.
        """
        self.listed, self.limit = listed, limit
        self._entries: dict[tuple[str, str], Entry] = {}
        self._write: Callable[[list[dict[str, Any]]], None] | None = None
        for entry in sorted(entries, key=lambda entry: -entry.clip):
            self._entries[entry.key] = entry

    @property
    def entries(self) -> list[Entry]:
        """All of them, in the order of their clips."""
        return sorted(self._entries.values(), key=lambda entry: entry.clip)

    def keep(self, write: Callable[[list[dict[str, Any]]], None]) -> None:
        """Have the entries written, now if there are any and whenever there is another one."""
        self._write = write
        if self._entries:
            write([vars(entry) for entry in self.entries])

    def leaves_out(self, sequence: Sequence, clip: int) -> bool:
        """Whether a clip of this number does without the sequence."""
        entry = self._entries.get((sequence.source, sequence.name))
        return entry is not None and entry.clip <= clip

    def add(self, sequence: Sequence, clip: int, reason: str) -> None:
        """Leave a sequence out from a clip on.

        Raises:
            DataError: there are too many.
        """
        key = (sequence.source, sequence.name)
        if key not in self._entries and len(self._entries) >= self.limit:
            many = f"more than {self.limit} sequences cannot be read, and this is the last: " if self.limit else ""
            raise DataError(many + reason)
        data, place = self._locate(sequence)
        boxes, visible = np.nan_to_num(sequence.boxes_xywh).tolist(), sequence.visible.tolist()
        self._entries[key] = Entry(
            sequence.name, sequence.source, reason, clip, data, place, sequence.still, boxes, visible
        )
        log.warning("the sequence %s is left out from here on: %s", sequence.name, reason)
        if self._write:
            self._write([vars(entry) for entry in self.entries])

    def _locate(self, sequence: Sequence) -> tuple[int, int]:
        for data, members in enumerate(self.listed):
            for place, member in enumerate(members):
                if member is sequence:
                    return data, place
        raise ValueError(f"{sequence.name} is no sequence of the mix")


def restore(sequences: list[Sequence], entries: Iterable[Entry]) -> list[Sequence]:
    """Sequences of a data set with stand-ins for those of the entries that are gone, where they were."""
    sequences = list(sequences)
    for entry in sorted(entries, key=lambda entry: entry.place):
        there = sequences[entry.place : entry.place + 1]
        if [(one.source, one.name) for one in there] != [entry.key]:
            sequences.insert(entry.place, entry.stand_in())
    return sequences
