"""Batches of clips, each a pure function of (seed, step): the one module that imports grain.

A checkpoint of the data position is the step alone. The order does not depend on the number of threads, and the rows of
several processes together are the batch of one.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Sequence as ListOf
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from roam_jax.config import Config
from roam_jax.data.clips import Clip, sample_clip
from roam_jax.data.distract import Material
from roam_jax.data.sequences import DataError, Sequence, group_by_source
from roam_jax.data.skipped import Skipped
from roam_jax.extras import require

ATTEMPTS = 100
"""sequences that are tried in the place of one that cannot be read"""
STEP = 1_099_511_627_791
"""from the number of a clip to that of the one that takes its place, if it cannot be read: far beyond any run, and
prime, so that no regularity of the mixing keeps to one source"""


class ClipBatch(NamedTuple):
    """Several clips."""

    patches: UInt8[np.ndarray, "b n p p 3"]
    """RGB"""
    boxes_cxcywh: Float32[np.ndarray, "b n 4"]
    """relative to the patch centre, patch pixels"""
    visible: Bool[np.ndarray, "b n"]
    """the object can be seen"""


class Draw(NamedTuple):
    """A clip, if it could be read."""

    sequence: Sequence
    clip: Clip | None
    reason: str
    """why there is none"""


def make_pipeline(
    sequences: Iterable[Sequence],
    config: Config,
    *,
    seed: int,
    weights: Mapping[str, float] | None = None,
    start_step: int = 0,
    n_threads: int = 2,
    process: tuple[int, int] = (0, 1),
    skipped: Skipped | None = None,
    cutouts: ListOf[UInt8[np.ndarray, "h w 4"]] = (),
) -> Iterator[ClipBatch]:
    """Endless batches of `config.meta.batch` clips, from step `start_step` on.

    Each source is gone through in a random order, again and again, and the sources are mixed by weight. The order of
    `sequences` matters only inside a source. In the place of a clip that cannot be read comes another one, drawn in the
    same way, and its sequence is left out from there on.

    Args:
        sequences: what to learn from; those that never show their object are left out.
        config: sizes, augmentation and the batch.
        seed: of every random choice.
        weights: share of each source, by its name; without, sources count by their number of sequences.
        start_step: how many batches came before.
        n_threads: threads that read and crop; 0: all in the caller's thread.
        process: (index, count) of the processes that share a batch; this one gets the rows from
            index * batch / count on.
        skipped: sequences that are left out, which grows; by default none may be.
        cutouts: objects without background, RGB and opacity, for what makes clips hard.

    Raises:
        DataError: no usable sequence, weights that name other sources than there are, or a batch that cannot be shared;
            and from the iterator: more sequences that cannot be read than `skipped` takes.
        MissingExtra: grain is not installed.
    """
    require("grain")
    import grain

    index, count = process
    batch = config.meta.batch
    if batch % count:
        raise DataError(f"a batch of {batch} clips should divide into the rows of {count} processes, but it does not")
    groups = group_by_source(sequence for sequence in sequences if sequence.visible.any())
    shares = {name: float(len(group)) for name, group in groups.items()} if weights is None else dict(weights)
    check_weights(shares, groups)
    names = sorted(name for name in groups if shares[name] > 0)
    material = Material([sequence for name in names for sequence in groups[name]], cutouts)
    seeds = np.random.SeedSequence(seed).generate_state(len(names) + 1)

    sources = [
        grain.MapDataset.source(groups[name]).shuffle(seed=int(s)).repeat()
        for name, s in zip(names, seeds[1:], strict=True)
    ]
    total = sum(shares[name] for name in names)
    mixed = grain.MapDataset.mix(sources, [shares[name] / total for name in names])
    draws: Any = mixed.random_map(lambda sequence, rng: _draw(sequence, config, material, rng), seed=int(seeds[0]))
    left_out = Skipped() if skipped is None else skipped
    rows = batch // count

    def number(k: int) -> int:
        return k // rows * batch + index * rows + k % rows

    def first_readable(k: int) -> list[Draw]:
        """Draws for a place up to one that can be read; made ahead, by several threads."""
        drawn = [draws[number(k)]]
        while drawn[-1].clip is None and len(drawn) < ATTEMPTS:
            drawn.append(draws[number(k) + len(drawn) * STEP])
        return drawn

    def choose(clip: int, drawn: list[Draw]) -> Clip:
        """The first of the draws that may be used; in the order of the clips, so that nothing depends on threads."""
        later = (draws[clip + attempt * STEP] for attempt in range(len(drawn), ATTEMPTS))
        for draw in itertools.chain(drawn, later):
            if left_out.leaves_out(draw.sequence, clip):
                continue
            if draw.clip is not None:
                return draw.clip
            left_out.add(draw.sequence, clip, draw.reason)
        raise DataError(f"none of {ATTEMPTS} clips in a row can be read; the first: {drawn[0].reason}")

    def batches() -> Iterator[ClipBatch]:
        mine = grain.MapDataset.range(start_step * rows, sys.maxsize // batch).map(first_readable)
        options = grain.ReadOptions(num_threads=n_threads, prefetch_buffer_size=2 * n_threads)
        ahead = zip(itertools.count(start_step * rows), mine.to_iter_dataset(options), strict=False)
        while clips := [choose(number(k), drawn) for k, drawn in itertools.islice(ahead, rows)]:
            yield ClipBatch(*map(np.stack, zip(*clips, strict=True)))

    return batches()


def check_weights(shares: Mapping[str, float], groups: Mapping[str, list[Sequence]]) -> None:
    """Raise a `DataError` unless there is a weight for each source, none is negative, and one at least is positive."""
    if not groups:
        raise DataError("there should be sequences to learn from, but none shows its object")
    if set(shares) != set(groups):
        raise DataError(f"weights should name the sources {sorted(groups)}, but they name {sorted(shares)}")
    if min(shares.values()) < 0 or max(shares.values()) <= 0:
        raise DataError(f"weights should be positive, or 0 for a source to leave out, but they are {dict(shares)}")


def _draw(sequence: Sequence, config: Config, material: Material, rng: np.random.Generator) -> Draw:
    try:
        return Draw(sequence, sample_clip(sequence, config, material, rng=rng), "")
    except DataError as error:
        return Draw(sequence, None, str(error))
