"""From the settings of a run to what the loop works with: data, parameters, programs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from collections.abc import Sequence as ListOf
from dataclasses import dataclass, fields
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from tqdm.auto import tqdm

from roam_jax.backbones import Backbone, load_trunk, make_backbone
from roam_jax.backbones.neck import measure_stats
from roam_jax.checkpoints import CheckpointError, digest_tree, load_checkpoint
from roam_jax.config import Config
from roam_jax.data.features import FeatureBatch, cache_features, cached_batches, describe_features, make_extract
from roam_jax.data.mix import Mix, load_mix, parse_source, with_cutouts
from roam_jax.data.pipeline import make_pipeline
from roam_jax.data.sequences import Sequence, digest_sequences, without_stills
from roam_jax.data.skipped import Entry, Skipped
from roam_jax.data.synthetic import synthetic_sequence
from roam_jax.tracking.params import Params, init_params, other_meanings, params_from_dict, params_of, params_to_dict
from roam_jax.training.parallel import Batch

SYNTHETIC = "synthetic"
"""instead of a source: videos that are drawn"""
SYNTHETIC_COUNT = 16
STATS_CLIPS = 16
"""clips that the statistics of the trunk's features are measured on"""


@dataclass(frozen=True)
class Settings:
    """What a run is started with besides the configuration; `run.json` keeps it."""

    data: tuple[str, ...]
    """sources, see `roam_jax.data.mix`, or `synthetic` alone"""
    seed: int = 0
    start: str = ""
    """checkpoint to begin from"""
    cache: str = ""
    """folder for cached features"""
    cache_clips: int = 1000
    cutouts: str = ""
    """folder of cut-outs that make clips hard, see `mix.read_cutouts`"""
    track: tuple[str, ...] = ()
    """sources of sequences that the tracker is measured on"""
    track_frames: int = 0
    """frames of each that count; 0: all"""

    def resume(self, about: dict[str, Any]) -> Settings:
        """Those of the run with this `run.json`, but for the folders that these name, which may have moved."""
        kept: dict[str, Any] = {f.name: about.get(f.name, f.default) for f in fields(self)}
        kept |= {name: given for name in ("data", "cache", "cutouts", "track") if (given := getattr(self, name))}
        kept = {name: tuple(value) if isinstance(value, list) else value for name, value in kept.items()}
        return Settings(**kept)


def read_data(texts: ListOf[str], config: Config, skipped: ListOf[Entry] = (), cutouts: str = "") -> Mix:
    """Sequences to learn from and held-out ones; for the mix to be that of a run, those that the run has left out.

    Args:
        texts: sources.
        config: which share is held out.
        skipped: sequences that the run has left out.
        cutouts: folder of cut-outs, if there is one.

    Raises:
        DataError: a source is written wrongly or cannot be read.
    """
    if cutouts:
        return with_cutouts(read_data(texts, config, skipped), cutouts)
    run = config.run
    if tuple(texts) != (SYNTHETIC,):
        return load_mix(
            [parse_source(text) for text in texts], hold_out=run.hold_out, seed=run.split_seed, skipped=skipped
        )
    drawn = [synthetic_sequence(number) for number in range(SYNTHETIC_COUNT)]
    count = round(run.hold_out * len(drawn))
    train, held_out = drawn[count:], drawn[:count]
    return Mix(train, held_out, {SYNTHETIC: 1.0}, digest_sequences(drawn), [drawn])


def read_sequences(texts: ListOf[str]) -> list[Sequence]:
    """Whole sequences of several sources, for the tracker to be measured on; still pictures are left out.

    Raises:
        DataError: a source is written wrongly or cannot be read, or all of it are still pictures.
    """
    if tuple(texts) == (SYNTHETIC,):
        return [synthetic_sequence(SYNTHETIC_COUNT + number) for number in range(2)]
    return without_stills(load_mix([parse_source(text) for text in texts], hold_out=0.0, seed=0).train)


def describe(settings: Settings, mix: Mix, trunk: Any, *, package: str, command: str) -> dict[str, Any]:
    """`run.json`: settings, and what they led to."""
    return {
        "package": package,
        "command": command,
        **{name: list(value) if isinstance(value, tuple) else value for name, value in vars(settings).items()},
        "sequences": len(mix.train),
        "held_out": len(mix.held_out),
        "data_digest": mix.digest,
        "trunk_digest": digest_tree(trunk),
        "jax": jax.__version__,
        "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}, {jax.process_count()} processes",
    }


def begin(settings: Settings, config: Config) -> tuple[Params | None, dict[str, Any]]:
    """Parameters of the checkpoint to begin from, if there is one, without the trunk; and `trunk` and `top`.

    Where the configuration has more blocks in the neck than the checkpoint these are new, nearly zero. An optimizer of
    another kind, or with arrays of other shapes, is new, and so is one whose rates are for implicit steps where the
    checkpoint's are not.

    Raises:
        CheckpointError: the checkpoint is missing or damaged, or does not fit the configuration.
        WeightsError: the trunk's weights are not found, or damaged.
    """
    if not settings.start:
        return None, jax.tree.map(np.asarray, load_trunk(config))
    checkpoint = load_checkpoint(settings.start, weights=config.backbone.weights)
    if checkpoint.config.backbone.name != config.backbone.name:
        raise CheckpointError(
            f"the checkpoint {settings.start} has the backbone {checkpoint.config.backbone.name!r}, and the "
            f"configuration {config.backbone.name!r}"
        )
    params_of(checkpoint, checkpoint.config)  # a damaged one is named as such
    if reasons := other_meanings(checkpoint.config, config):
        raise CheckpointError(
            f"the checkpoint {settings.start} does not fit {', '.join(reasons)}: {'; '.join(reasons.values())}"
        )
    before = checkpoint.params
    new = draw_learned(config, jax.random.key(settings.seed))
    same_steps = checkpoint.config.implicit.updates == config.implicit.updates
    same_kind = checkpoint.config.optimizer.kind == config.optimizer.kind
    same_form = same_kind and tree_shapes(before["omega"]) == tree_shapes(new["omega"])
    started = {
        **before,
        **make_backbone(config).split({**before["trunk"], **before["top"]}),
        "neck": {**new["neck"], **before["neck"]},
        "omega": before["omega"] if same_steps and same_form else new["omega"],
    }
    try:
        params = params_from_dict(started, config)
    except ValueError as error:
        raise CheckpointError(f"the checkpoint {settings.start} does not fit the configuration: {error}") from error
    pretrained = {"trunk": params.trunk, "top": params.top}
    return params._replace(trunk={}), jax.tree.map(np.asarray, pretrained)


@partial(jax.jit, static_argnums=0)
def draw_learned(config: Config, key: jax.Array) -> dict[str, Any]:
    """Random parameters, as nested dicts, without those of the trunk."""
    params = params_to_dict(init_params(config, key=key))
    return {name: part for name, part in params.items() if name not in ("trunk", "top")}


def tree_shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    """Shape of every array of a tree by its path."""
    return {jax.tree_util.keystr(path): leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def draw_parameters(
    config: Config, backbone: Backbone, pretrained: dict[str, Any], batches: Iterator[Batch], *, seed: int
) -> Params:  # fmt: skip
    """Random parameters around the pretrained trunk, with the statistics of its features on the first clips.

    Args:
        config: sizes and the scale of the start.
        backbone: of the configuration.
        pretrained: `trunk` and `top`, of `begin`.
        batches: whole batches, from the first step on.
        seed: of the parameters.
    """
    extract = make_extract(backbone, pretrained["trunk"])
    finish = jax.jit(lambda seen: backbone.levels(pretrained, [level.astype(jnp.float32) for level in seen]))

    def levels_of(batch: Batch) -> Iterator[ListOf[jax.Array]]:
        seen = zip(*batch.levels, strict=True) if isinstance(batch, FeatureBatch) else map(extract, batch.patches)
        return map(finish, seen)

    clips = (levels for batch in batches for levels in levels_of(batch))
    drawn = draw_learned(config, jax.random.key(seed))
    stats = measure_stats(islice(clips, STATS_CLIPS))
    params = params_from_dict({**drawn, **pretrained, "stats": stats}, config)
    return params._replace(trunk={})


def make_batches(
    settings: Settings, config: Config, mix: Mix, trunk: Any, skipped: Skipped
) -> Callable[[int, tuple[int, int]], Iterator[Batch]]:
    """Function of (first step, process) that gives batches from there on; with a cache its features are computed first.

    Raises:
        DataError: too many sequences cannot be read, or the cache is of another configuration.
    """
    seed = settings.seed
    if not settings.cache:
        return lambda step, process: make_pipeline(
            mix.train, config, seed=seed, weights=mix.weights, start_step=step, process=process,
            skipped=skipped, cutouts=mix.cutouts,
        )  # fmt: skip
    folder, clips = Path(settings.cache), settings.cache_clips
    manifest = describe_features(config, seed=seed, data_digest=mix.digest, trunk_digest=digest_tree(trunk))
    process = (jax.process_index(), jax.process_count())
    cache_features(
        mix.train,
        config,
        make_extract(make_backbone(config), trunk),
        folder,
        clips=clips,
        manifest=manifest,
        weights=mix.weights,
        process=process,
        skipped=skipped,
        cutouts=mix.cutouts,
        progress=lambda numbers: tqdm(numbers, unit="clip", desc="caching features", disable=process[0] > 0),
    )
    if process[1] > 1:  # each has made its share of the files
        multihost_utils.sync_global_devices("features are cached")
    return lambda step, process: cached_batches(
        folder, config, manifest=manifest, seed=seed, clips=clips, start_step=step, process=process
    )
