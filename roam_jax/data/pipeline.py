"""Batches of clips, each a pure function of (seed, step): the one module that imports grain.

A checkpoint of the data position is the step alone. The order does not depend on the number of threads, and the rows of
several processes together are the batch of one.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Sequence as Indexable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, UInt8

from roam_jax.config import Config
from roam_jax.data.clips import Clip, sample_clip
from roam_jax.data.sequences import DataError, Sequence, group_by_source
from roam_jax.extras import require


class ClipBatch(NamedTuple):
    """Several clips."""

    patches: UInt8[np.ndarray, "b n p p 3"]
    """RGB"""
    boxes_cxcywh: Float32[np.ndarray, "b n 4"]
    """relative to the patch centre, patch pixels"""


def make_pipeline(
    sequences: Iterable[Sequence],
    config: Config,
    *,
    seed: int,
    weights: Mapping[str, float] | None = None,
    start_step: int = 0,
    n_threads: int = 2,
    process: tuple[int, int] = (0, 1),
) -> Iterator[ClipBatch]:
    """Endless batches of `config.train.batch` clips, from step `start_step` on.

    Each source is gone through in a random order, again and again, and the sources are mixed by weight. The order of
    `sequences` matters only inside a source.

    Args:
        sequences: what to learn from; those that never show their object are left out.
        config: sizes, augmentation and the batch.
        seed: of every random choice.
        weights: share of each source, by its name; without, sources count by their number of sequences.
        start_step: how many batches came before.
        n_threads: threads that read and crop; 0: all in the caller's thread.
        process: (index, count) of the processes that share a batch; this one gets the rows from
            index * batch / count on.

    Raises:
        DataError: no usable sequence, weights that name other sources than there are, or a batch that cannot be shared;
            and from the iterator: a frame that cannot be read.
        MissingExtra: grain is not installed.
    """
    require("grain")
    import grain

    index, count = process
    batch = config.train.batch
    if batch % count:
        raise DataError(f"a batch of {batch} clips should divide into the rows of {count} processes, but it does not")
    groups = group_by_source(sequence for sequence in sequences if sequence.visible.any())
    shares = {name: float(len(group)) for name, group in groups.items()} if weights is None else dict(weights)
    check_weights(shares, groups)
    names = sorted(name for name in groups if shares[name] > 0)
    seeds = np.random.SeedSequence(seed).generate_state(len(names) + 1)

    sources = [
        grain.MapDataset.source(groups[name]).shuffle(seed=int(s)).repeat()
        for name, s in zip(names, seeds[1:], strict=True)
    ]
    total = sum(shares[name] for name in names)
    mixed = grain.MapDataset.mix(sources, [shares[name] / total for name in names])
    clips = mixed.random_map(lambda sequence, rng: sample_clip(sequence, config, rng=rng), seed=int(seeds[0]))

    rows = batch // count
    mine = grain.MapDataset.range(start_step * rows, sys.maxsize // batch).map(
        lambda k: clips[k // rows * batch + index * rows + k % rows]
    )
    ahead = grain.ReadOptions(num_threads=n_threads, prefetch_buffer_size=2 * n_threads)
    return iter(mine.to_iter_dataset(ahead).batch(rows, batch_fn=_stack))


def check_weights(shares: Mapping[str, float], groups: Mapping[str, list[Sequence]]) -> None:
    """Raise a `DataError` unless there is a weight for each source, none is negative, and one at least is positive."""
    if not groups:
        raise DataError("there should be sequences to learn from, but none shows its object")
    if set(shares) != set(groups):
        raise DataError(f"weights should name the sources {sorted(groups)}, but they name {sorted(shares)}")
    if min(shares.values()) < 0 or max(shares.values()) <= 0:
        raise DataError(f"weights should be positive, or 0 for a source to leave out, but they are {dict(shares)}")


def _stack(clips: Indexable[Clip | None]) -> ClipBatch:
    present = [clip for clip in clips if clip is not None]
    return ClipBatch(np.stack([clip.patches for clip in present]), np.stack([clip.boxes_cxcywh for clip in present]))
