"""What to learn from: several data sets with their shares, and the part of them that is held out."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Iterable
from collections.abc import Sequence as ListOf
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import UInt8

from roam_jax.data.layouts import read_layout
from roam_jax.data.sequences import DataError, Sequence, digest_sequences, group_by_source, name_sources
from roam_jax.data.skipped import Entry, restore
from roam_jax.errors import UsageError

SYNTAX = "LAYOUT:ROOT[@WEIGHT[,cap=COUNT]][#NAME]"
_NUMBER = r"[0-9]*\.?[0-9]+(?:e[-+]?[0-9]+)?"
_PATTERN = re.compile(
    rf"(?P<layout>[\w-]+):(?P<root>.+?)(?:@(?P<weight>{_NUMBER})(?:,cap=(?P<cap>[0-9]+))?)?(?:#(?P<name>[\w.-]+))?"
)


class SourceError(UsageError, DataError):
    """A source that is written wrongly, whatever its folder holds."""


@dataclass(frozen=True)
class Source:
    """One data set of a mix."""

    layout: str
    """name of its layout, see `roam_jax.data.layouts`"""
    root: Path
    """its folder"""
    name: str = ""
    """what it is called; empty: what its reader says, and for `videos` the part of a file's name before the first _"""
    weight: float = 1.0
    """its share of the clips, relative to the other sources of the mix"""
    cap: int | None = None
    """a part of it (what its reader calls a source) counts as this many sequences at most, so that its large parts do
    not crowd out the small ones; None: all sequences are equally likely"""


class Mix(NamedTuple):
    """Sequences to learn from and to validate on, and how to draw from the former."""

    train: list[Sequence]
    held_out: list[Sequence]
    weights: dict[str, float]
    """share of each `Sequence.source` of `train`, for `pipeline.make_pipeline`; they sum to 1"""
    digest: str
    """SHA-256 of names, boxes, frame counts, sides and weights; the pictures are not looked at"""
    listed: ListOf[ListOf[Sequence]] = ()
    """sequences of each data set, both sides, in their order; see `Skipped`"""
    cutouts: ListOf[UInt8[np.ndarray, "h w 4"]] = ()
    """objects without background, see `with_cutouts`"""


def parse_source(text: str) -> Source:
    r"""Source from LAYOUT:ROOT[@WEIGHT[,cap=COUNT]][#NAME].

    `videos:/data/clips`, `got10k:D:\got10k\train@2`, `coco:stills@0.4#stills`, `videos:clips@0.6,cap=25`. A folder
    whose own name has an @ or a # is written with that part: `videos:clips@home@1`.

    Raises:
        SourceError: the text is nothing like that.
    """
    match = _PATTERN.fullmatch(text.strip())
    if match is None:
        raise SourceError(f"a source should be {SYNTAX}, as in videos:/data/clips@2#uav, but is {text!r}")
    folder = re.split(r"[/\\]", match["root"])[-1]
    for mark, part, meaning in (("#", "name", "a name"), ("@", "weight", "a weight, a number from 0 on")):
        if mark in folder and match[part] is None:
            wrong = folder.rpartition(mark)[2]
            raise SourceError(f"the source {text!r} should have {meaning}, behind {mark}, but has {wrong!r}: {SYNTAX}")
    weight, cap = match["weight"], match["cap"]
    return Source(
        layout=match["layout"],
        root=Path(match["root"]),
        name=match["name"] or "",
        weight=1.0 if weight is None else float(weight),
        cap=None if cap is None else int(cap),
    )


def load_mix(sources: Iterable[Source], *, hold_out: float, seed: int, skipped: ListOf[Entry] = ()) -> Mix:
    """Read data sets and split them into sequences to learn from and held-out ones.

    A sequence's side follows from the seed and from its name without the marks of a part (see `whole_name`) alone: the
    parts of one video and the objects of one photograph are on the same side, and data that are added later do not move
    those that are there. Sequences that never show their object are left out.

    Args:
        sources: data sets; each gets its weight's share of the clips, whatever its size.
        hold_out: the share of the videos and photographs to hold out, at least 0 and below 1.
        seed: of the split.
        skipped: sequences that may be gone; those that are have a stand-in in their place, so that the mix is the same.

    Raises:
        SourceError: a weight or a cap out of range.
        DataError: a data set cannot be read, two are called the same, numbers out of range, or nothing to learn from.
    """
    if not 0 <= hold_out < 1:
        raise DataError(f"the share to hold out should be at least 0 and below 1, but is {hold_out:g}")
    train: list[Sequence] = []
    held_out: list[Sequence] = []
    shares: dict[str, float] = {}
    listed: list[list[Sequence]] = []
    for number, source in enumerate(sources):
        _check(source)
        sequences = [sequence for sequence in _read(source) if sequence.visible.any()]
        sequences = restore(sequences, [entry for entry in skipped if entry.data == number])
        listed.append(sequences)
        names = {sequence.source for sequence in sequences}
        if taken := names & {sequence.source for sequence in train + held_out}:
            raise DataError(f"two sources are called {min(taken)!r}: give one of them another name with #NAME")
        mine = [sequence for sequence in sequences if not is_held_out(sequence, hold_out, seed)]
        shares |= _share(mine, source)
        train += mine
        held_out += [sequence for sequence in sequences if is_held_out(sequence, hold_out, seed)]
    total = sum(shares.values())
    if total <= 0:
        raise DataError("there should be sequences to learn from, of a positive weight, but there are none")
    weights = {name: share / total for name, share in shares.items()}
    parts = (digest_sequences(train), digest_sequences(held_out), sorted(weights.items()))
    return Mix(train, held_out, weights, hashlib.sha256(repr(parts).encode()).hexdigest(), listed)


def with_cutouts(mix: Mix, folder: Path | str) -> Mix:
    """The mix with the cut-outs of a folder, on which its digest depends then.

    Raises:
        DataError: as from `read_cutouts`.
    """
    cutouts, digest = read_cutouts(folder)
    return mix._replace(cutouts=cutouts, digest=hashlib.sha256(repr((mix.digest, digest)).encode()).hexdigest())


def read_cutouts(folder: Path | str) -> tuple[list[UInt8[np.ndarray, "h w 4"]], str]:
    """Objects without their background, from all .png and .webp files of a folder; and the SHA-256 of the files.

    Raises:
        DataError: no such files, or one that cannot be read or has no opacity.
    """
    state, cutouts = hashlib.sha256(), []
    for path in sorted(path for path in Path(folder).glob("*") if path.suffix.lower() in (".png", ".webp")):
        data = path.read_bytes()
        state.update(data)
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
        if image is None or image.ndim != 3 or image.shape[2] != 4 or image.dtype != np.uint8:
            raise DataError(f"{path} should be a picture with RGB and opacity of 8 bits, but is not")
        cutouts.append(cv2.cvtColor(image, cv2.COLOR_BGRA2RGBA))
    if not cutouts:
        raise DataError(f"{folder} should hold cut-outs as .png or .webp files, but there are none")
    return cutouts, state.hexdigest()


def whole_name(sequence: Sequence) -> str:
    """Name of the video or photograph that a sequence is a part of.

    Of a video, the marks `-1` to `-9` (halves of a sequence, or objects of one video) and a small letter after a digit
    (parts of one span) are taken off the end: `wakeboard3-1a` and `wakeboard3-2` are both of `wakeboard3`. Of a still,
    the number after the last `_` is, which tells the objects of a photograph apart.
    """
    if sequence.still:
        return re.sub(r"_[0-9]+$", "", sequence.name)
    return re.sub(r"(?<=.)-[1-9]$", "", re.sub(r"(?<=[0-9])[a-z]$", "", sequence.name))


def is_held_out(sequence: Sequence, hold_out: float, seed: int) -> bool:
    """Whether a sequence is on the side of the held-out ones."""
    digest = hashlib.sha256(f"{seed}/{whole_name(sequence)}".encode()).digest()
    return int.from_bytes(digest[:8]) < hold_out * 2**64


def _check(source: Source) -> None:
    if not 0 <= source.weight < float("inf"):
        raise SourceError(f"the weight of {source.root} should be a number from 0 on, but is {source.weight:g}")
    if source.cap is not None and source.cap < 1:
        raise SourceError(f"the cap of {source.root} should be 1 at least, but is {source.cap}")


def _read(source: Source) -> list[Sequence]:
    """Its sequences, with the source that they are mixed by: one, or with a cap one for each part."""
    sequences = read_layout(source.layout, source.root)
    if source.layout == "videos":
        sequences = name_sources(sequences)
    if not source.name:
        return sequences
    prefix, parts = source.name, source.cap is not None
    return [dataclasses.replace(each, source=f"{prefix}/{each.source}" if parts else prefix) for each in sequences]


def _share(sequences: list[Sequence], source: Source) -> dict[str, float]:
    """A data set's weight, divided among its parts by their numbers of sequences, up to the cap."""
    counts = {name: float(len(group)) for name, group in group_by_source(sequences).items()}
    counts = {name: min(count, source.cap or count) for name, count in counts.items()}
    total = sum(counts.values())
    return {name: source.weight * count / total for name, count in counts.items()}
