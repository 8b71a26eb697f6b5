"""Features of random clips, computed once: a frozen trunk need not see the same picture again and again.

A cache is a folder with one file per clip and `manifest.json`, which says what the features depend on. Clip k is the
k-th of `make_pipeline`, so a cache that is interrupted, shared between processes or enlarged later is the same cache.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import shutil
import zipfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Sequence as Indexable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float16, Float32, UInt8

from roam_jax.backbones import Backbone
from roam_jax.config import Config
from roam_jax.data.pipeline import ClipBatch, make_pipeline
from roam_jax.data.sequences import DataError, Sequence
from roam_jax.data.skipped import Skipped

MANIFEST = "manifest.json"
VERSION = 3

Extract = Callable[[UInt8[np.ndarray, "n p p 3"]], Indexable[Any]]
"""RGB patches -> the trunk's levels, each (n, height, width, channels), finest first"""


class FeatureBatch(NamedTuple):
    """Several clips as the trunk sees them."""

    levels: tuple[Float16[np.ndarray, "b n h w c"], ...]
    """finest level first"""
    boxes_cxcywh: Float32[np.ndarray, "b n 4"]
    """relative to the patch centre, patch pixels"""
    visible: Bool[np.ndarray, "b n"]
    """the object can be seen"""


Row = tuple[tuple[np.ndarray, ...], np.ndarray, np.ndarray]
"""levels, boxes and visibility of one clip"""


def make_extract(backbone: Backbone, trunk: Any) -> Extract:
    """The compiled trunk with its parameters, in half precision."""
    levels = jax.jit(lambda trunk, patches: [x.astype(jnp.float16) for x in backbone.trunk({"trunk": trunk}, patches)])
    return partial(levels, jax.device_put(trunk))


def describe_features(config: Config, *, seed: int, data_digest: str, trunk_digest: str) -> dict[str, Any]:
    """Everything that cached features depend on: the manifest.

    Args:
        config: its sections backbone, model and clips, and the length of a clip.
        seed: of the clips.
        data_digest: of the sequences and their weights, as `mix.Mix.digest`.
        trunk_digest: of the trunk's parameters, as `roam_jax.checkpoints.store.digest_tree`.
    """
    sections = ("backbone", "model", "clips")
    values = {
        "version": VERSION,
        **{f"{part}.{name}": x for part in sections for name, x in vars(getattr(config, part)).items()},
        "clip_frames": config.unroll.clip_frames,
        "seed": seed,
        "data": data_digest,
        "trunk": trunk_digest,
    }
    return json.loads(json.dumps(values))


def cache_features(
    sequences: Iterable[Sequence],
    config: Config,
    extract: Extract,
    folder: Path | str,
    *,
    clips: int,
    manifest: Mapping[str, Any],
    weights: Mapping[str, float] | None = None,
    process: tuple[int, int] = (0, 1),
    skipped: Skipped | None = None,
    cutouts: Indexable[UInt8[np.ndarray, "h w 4"]] = (),
    n_threads: int = 2,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> None:
    """Compute the trunk's levels of `clips` random clips; those that are in the folder already are kept.

    A file is there only when it is complete, so the work may be interrupted at any time and taken up by another call.

    Args:
        sequences: what to draw clips from.
        config: sizes and augmentation.
        extract: the trunk, see `make_extract`; called by several threads.
        folder: where to; made if it is not there.
        clips: how many the cache shall hold.
        manifest: of `describe_features`; its seed is that of the clips.
        weights: share of each source, as in `make_pipeline`.
        process: (index, count) of the processes that share the work and the folder; this one computes every count-th.
        skipped: as in `make_pipeline`.
        cutouts: as in `make_pipeline`.
        n_threads: clips that are computed at once, and threads that read and crop.
        progress: wraps the numbers of the missing clips, as `tqdm` does.

    Raises:
        DataError: the folder holds features of another configuration, too little space on the disk, features that do
            not fit half precision, or data that cannot be read.
    """
    folder = Path(folder)
    held = _open_cache(folder, manifest)["clip_frames"]
    index, count = process
    missing = [k for k in range(index, clips, count) if not _clip_file(folder, k).exists()]
    if not missing:
        return
    if held != config.unroll.clip_frames:
        raise DataError(
            f"{folder} lacks {len(missing)} of {clips} clips, and as its clips have {held} frames after the first, "
            f"a configuration with {config.unroll.clip_frames} cannot add them"
        )
    # A batch of one clip per process: step s of process i is clip s * count + i.
    config = dataclasses.replace(config, meta=dataclasses.replace(config.meta, batch=count))
    step = missing[0] // count
    batches = make_pipeline(
        sequences, config, seed=manifest["seed"], weights=weights, start_step=step, n_threads=n_threads,
        process=process, skipped=skipped, cutouts=cutouts,
    )  # fmt: skip
    numbers = range(step * count + index, clips, count)
    needed = set(missing)
    new = ((number, batch) for number, batch in zip(numbers, batches, strict=False) if number in needed)

    def compute(number: int, batch: ClipBatch) -> None:
        _write_clip(_clip_file(folder, number), extract(batch.patches[0]), batch.boxes_cxcywh[0], batch.visible[0])

    workers = max(n_threads, 1)
    jobs: deque[Future[None]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for number in progress(missing):
            jobs.extend(pool.submit(compute, *item) for item in itertools.islice(new, 2 * workers - len(jobs)))
            jobs.popleft().result()
            if number == missing[0]:
                _check_space(folder, number, len(missing) - 1)


def cached_batches(
    folder: Path | str,
    config: Config,
    *,
    manifest: Mapping[str, Any],
    seed: int,
    clips: int,
    start_step: int = 0,
    process: tuple[int, int] = (0, 1),
    n_threads: int = 2,
) -> Iterator[FeatureBatch]:
    """Endless batches of cached clips, each a pure function of (seed, step); the cache is shuffled anew every epoch.

    Args:
        folder: of the cache.
        config: its batch is divided among the processes, its `unroll.clip_frames` are taken of every clip. Where the
            cache has more frames these are a random choice of them in their order, another one each time.
        manifest: of `describe_features`; `unroll.clip_frames` may be fewer than the cache's.
        seed: of the order.
        clips: how many of the cache to use; the order depends on it.
        start_step: how many batches came before.
        process: (index, count) of the processes that share a batch; this one gets the rows from
            index * batch / count on.
        n_threads: threads that read ahead; 0: all in the caller's thread.

    Raises:
        DataError: no cache there, of another configuration or with too few clips or frames, or a batch that cannot be
            shared; and from the iterator: a file that cannot be read.
    """
    folder, (index, count), batch = Path(folder), process, config.meta.batch
    if batch % count:
        raise DataError(f"a batch of {batch} clips should divide into the rows of {count} processes, but it does not")
    if not (folder / MANIFEST).is_file():
        raise DataError(f"{folder} should be a cache of features with {MANIFEST}, but there is no such file")
    held = _open_cache(folder, manifest)["clip_frames"]
    present = sum(_clip_file(folder, k).exists() for k in range(clips))
    if clips < 1 or present < clips:
        raise DataError(f"{folder} should hold the features of {max(clips, 1)} clips, but there are {present}")

    first = len(config.model.aspects) ** 2
    rows = batch // count

    def read_row(row: int) -> Row:
        epoch, place = divmod(row, clips)
        rng = np.random.default_rng((seed, 1, row))
        later = np.sort(rng.choice(held, config.unroll.clip_frames, replace=False))
        frames = np.concatenate([np.arange(first), first + later])
        levels, boxes, visible = _read_clip(_clip_file(folder, int(_order(seed, epoch, clips)[place])))
        if len(frames) == len(boxes):
            return levels, boxes, visible
        return tuple(level[frames] for level in levels), boxes[frames], visible[frames]

    mine = (step * batch + index * rows + row for step in itertools.count(start_step) for row in range(rows))
    return _stack_rows(mine, read_row, rows, n_threads)


def _stack_rows(numbers: Iterator[int], read_row: Callable[[int], Any], rows: int, n_threads: int) -> Iterator[Any]:
    """Batches of consecutive rows, two of which are read ahead."""
    if n_threads == 0:
        while True:
            yield _stack([read_row(next(numbers)) for _ in range(rows)])
    with ThreadPoolExecutor(n_threads) as pool:
        ahead: deque[Future] = deque(pool.submit(read_row, next(numbers)) for _ in range(2 * rows))
        try:
            while True:
                batch = [ahead.popleft().result() for _ in range(rows)]
                ahead.extend(pool.submit(read_row, next(numbers)) for _ in range(rows))
                yield _stack(batch)
        finally:
            pool.shutdown(cancel_futures=True)


def _stack(rows: list[Row]) -> FeatureBatch:
    levels, boxes, visible = zip(*rows, strict=True)
    return FeatureBatch(
        tuple(np.stack(level) for level in zip(*levels, strict=True)), np.stack(boxes), np.stack(visible)
    )


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, clips: int) -> np.ndarray:
    return np.random.default_rng((seed, 0, epoch)).permutation(clips)


def _clip_file(folder: Path, number: int) -> Path:
    return folder / f"{number:06d}.npz"


def _write_clip(path: Path, levels: Indexable[Any], boxes_cxcywh: np.ndarray, visible: np.ndarray) -> None:
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is found
        arrays = {f"level{index}": np.asarray(level).astype(np.float16) for index, level in enumerate(levels)}
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise DataError(f"features should be finite in half precision, but those of clip {path.stem} are not")
    partial = path.with_suffix(".partial")
    with partial.open("wb") as stream:
        np.savez(stream, boxes_cxcywh=boxes_cxcywh, visible=visible, **arrays)  # type: ignore[arg-type]
    os.replace(partial, path)


def _read_clip(path: Path) -> Row:
    """One file; the zip format's checksums are verified on the way."""
    try:
        with np.load(path) as arrays:
            levels = tuple(arrays[f"level{index}"] for index in range(len(arrays.files) - 2))
            return levels, arrays["boxes_cxcywh"], arrays["visible"]
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} should be a cached clip, but it cannot be read: remove it and cache again") from error


def _check_space(folder: Path, written: int, missing: int) -> None:
    needed, free = missing * _clip_file(folder, written).stat().st_size, shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(
            f"{missing} more clips should fit into {folder} with {needed:.2g} bytes, but {free:.2g} are free"
        )


def _open_cache(folder: Path, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest of a cache, which is written if there is none; longer clips than `manifest` says are no difference.

    Raises:
        DataError: the folder holds something else, or features of another configuration.
    """
    path = folder / MANIFEST
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.glob("*.npz")):
            raise DataError(
                f"{folder} should be empty or a cache of features, but it holds .npz files and no {MANIFEST}"
            )
        partial = path.with_suffix(f".{os.getpid()}.partial")  # each process that shares the work writes the same
        partial.write_text(json.dumps(dict(manifest), indent=1))
        os.replace(partial, path)
    try:
        held = json.loads(path.read_text())
        frames = int(held["clip_frames"])
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"{path} should be the manifest of a cache of features, but it cannot be read") from error
    expected = {**manifest, "clip_frames": max(frames, manifest["clip_frames"])}
    if differences := [
        f"{name} is {str(held.get(name))[:12]} there, not {str(expected.get(name))[:12]}"
        for name in sorted(held.keys() | expected.keys())
        if held.get(name) != expected.get(name)
    ]:
        raise DataError(f"{folder} holds features of another configuration: {'; '.join(differences)}")
    return held
