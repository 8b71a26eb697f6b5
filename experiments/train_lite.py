"""Meta-train the CPU default in one process: theta0, lambda0, omega and the backbone's neck, on cached trunk features.

python experiments/train_lite.py --videos DIR --images DIR --annotations FILE.json --cache DIR --output DIR

`--videos` holds NAME.mp4 with NAME.txt (x,y,w,h per frame, 0-based); `--images` and `--annotations` are still images in
COCO layout. The trunk is frozen, so the features of random clips are computed once and kept in `--cache`; what is there
already is used again. `--output` becomes a checkpoint that the tracker loads; it is written every 100 steps.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from tqdm import tqdm

from roam_jax.backbones import Backbone, load_trunk, make_backbone, measure_stats
from roam_jax.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from roam_jax.config import Config
from roam_jax.core.update import init_meta, is_finite
from roam_jax.data.clips import sample_clip
from roam_jax.data.readers.coco import read_coco
from roam_jax.data.readers.own import read_videos
from roam_jax.data.sequences import Sequence, group_by_source, name_sources
from roam_jax.tracking.online import TrackerParams
from roam_jax.tracking.params import params_from_dict, params_to_dict
from roam_jax.training.episodes import Learned, mean_of, meta_gradient

CLIPS_PER_FILE = 50
STATS_CLIPS = 25


@dataclass(frozen=True)
class Args:
    """What to train on, and for how long."""

    videos: Path
    """folder of NAME.mp4 and NAME.txt"""
    images: Path
    """folder of still images"""
    annotations: Path
    """COCO instances of the still images"""
    cache: Path
    """folder for the features of random clips"""
    output: Path
    """checkpoint to write"""
    start: str = ""
    """checkpoint to go on from: a shipped name or a directory"""
    clips: int = 900
    """random clips to cache"""
    stills: float = 0.4
    """share of the clips that repeat a still image"""
    steps: int = 1000
    seed: int = 0
    card: Path | None = None
    """model card to put into the checkpoint"""
    config: Config = field(default_factory=Config.lite)


def main(args: Args) -> None:
    """Cache, train, save."""
    config = args.config.check()
    backbone = make_backbone(config)
    trunk = load_trunk(config)
    cache_clips(args, backbone, trunk)
    clips = load_clips(args.cache)
    key = jax.random.key(args.seed)
    learned = start_from(args, config) if args.start else fresh(clips, backbone, config, key=key)
    transform = meta_optimizer(learned, config, args.steps)
    opt_state = transform.init(learned)
    gradient = jax.jit(
        lambda learned, levels, boxes, key: meta_gradient(learned, levels, boxes, backbone, config, key=key)
    )

    @jax.jit
    def apply(learned, opt_state, gradient):
        updates, new_state = transform.update(gradient, opt_state, learned)
        fine = is_finite(gradient)
        keep = lambda new, old: jax.tree.map(lambda n, o: jnp.where(fine, n, o), new, old)  # noqa: E731
        return keep(optax.apply_updates(learned, updates), learned), keep(new_state, opt_state), fine

    rng = np.random.default_rng(args.seed)
    refused = 0
    args.output.parent.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(2) as pool, open(f"{args.output}.jsonl", "a") as log:
        for step in (bar := tqdm(range(args.steps), unit="step")):
            picks = rng.integers(len(clips), size=config.train.batch)
            keys = jax.random.split(jax.random.fold_in(key, step), len(picks))
            jobs = [(learned, *as_batch(clips[pick]), k) for pick, k in zip(picks, keys, strict=True)]
            results = list(pool.map(lambda job: jax.block_until_ready(gradient(*job)), jobs))
            losses = mean_of([loss for _, loss in results])
            learned, opt_state, fine = apply(learned, opt_state, mean_of([g for g, _ in results]))
            refused += not fine
            bar.set_postfix(loss=f"{losses.total:.4f}", refused=refused)
            record = {name: np.asarray(value).tolist() for name, value in losses._asdict().items()}
            log.write(json.dumps({"step": step, "refused": refused, **record}) + "\n")
            if step % 100 == 99 or step == args.steps - 1:
                save(args, config, learned, trunk)


def load_sequences(args: Args) -> dict[str, list[Sequence]]:
    """Training sequences by source; all stills are one source."""
    videos = group_by_source(name_sources(read_videos(args.videos)))
    return {**videos, "stills": read_coco(args.images, args.annotations)}


def cache_clips(args: Args, backbone: Backbone, trunk: dict[str, Any]) -> None:
    """Write the trunk's levels of random clips, in files of `CLIPS_PER_FILE`; files that are there are kept."""
    args.cache.mkdir(parents=True, exist_ok=True)
    missing = [i for i in range(-(-args.clips // CLIPS_PER_FILE)) if not (args.cache / f"{i:05d}.npz").exists()]
    if not missing:
        return
    groups = load_sequences(args)
    names = [name for name in groups if name != "stills"]
    share = np.array([min(len(groups[name]), 25) for name in names], float)  # large sources do not crowd out small ones
    extract = jax.jit(lambda x: [level[0].astype(jnp.float16) for level in backbone.trunk({"trunk": trunk}, x[None])])
    with ThreadPoolExecutor(2) as pool:
        for number in tqdm(missing, unit="file", desc="caching features"):
            rng = np.random.default_rng((args.seed, number))
            levels, boxes = [], []
            for _ in range(CLIPS_PER_FILE):
                source = "stills" if rng.random() < args.stills else str(rng.choice(names, p=share / share.sum()))
                sequence = groups[source][rng.integers(len(groups[source]))]
                clip = sample_clip(sequence, args.config, rng=rng)
                frames = list(pool.map(lambda patch: [np.asarray(x) for x in extract(patch)], clip.patches))
                levels.append([np.stack(parts) for parts in zip(*frames, strict=True)])
                boxes.append(clip.boxes_cxcywh)
            arrays = {f"level{k}": np.stack(parts) for k, parts in enumerate(zip(*levels, strict=True))}
            partial = args.cache / f"{number:05d}.partial.npz"
            np.savez(partial, boxes=np.stack(boxes), **arrays)
            partial.rename(args.cache / f"{number:05d}.npz")


def load_clips(cache: Path) -> list[tuple[tuple[np.ndarray, ...], np.ndarray]]:
    """(levels, boxes) of every cached clip."""
    clips = []
    for file in sorted(cache.glob("[0-9]*[0-9].npz")):
        with np.load(file) as arrays:
            boxes = arrays["boxes"]
            levels = [arrays[name] for name in sorted(arrays.files) if name != "boxes"]
        clips += [(tuple(level[i] for level in levels), boxes[i]) for i in range(len(boxes))]
    return clips


def as_batch(clip: tuple[tuple[np.ndarray, ...], np.ndarray]) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """A batch of one clip, in float32."""
    levels, boxes = clip
    return tuple(level[None].astype(np.float32) for level in levels), boxes[None]


def fresh(clips: list, backbone: Backbone, config: Config, *, key: jax.Array) -> Learned:
    """Random parameters, with the trunk's statistics measured on a few clips."""
    key_meta, key_neck = jax.random.split(key)
    neck = backbone.init(key=key_neck)["neck"]
    stats = measure_stats([tuple(jnp.asarray(x, jnp.float32) for x in levels) for levels, _ in clips[:STATS_CLIPS]])
    return Learned(init_meta(config, backbone.channels, key=key_meta), {**neck, "stats": stats})


def start_from(args: Args, config: Config) -> Learned:
    """Parameters of a checkpoint."""
    params = params_from_dict(load_checkpoint(args.start).params, config)
    return Learned(params.meta, params.backbone["neck"])


def meta_optimizer(learned: Learned, config: Config, steps: int) -> optax.GradientTransformation:
    """Adam with a rate of its own for theta0, lambda0, omega and the neck; warm-up, then a cosine to almost nothing."""
    t = config.train

    def adam(rate: float, clip: optax.GradientTransformation) -> optax.GradientTransformation:
        schedule = optax.warmup_cosine_decay_schedule(rate * 0.05, rate, min(50, steps // 4), steps, rate * 0.02)
        return optax.chain(clip, optax.adam(schedule))

    transforms = {
        "theta0": adam(t.model_rate, optax.clip(t.model_clip)),
        "lambda0": adam(t.lambda_rate, optax.clip(t.model_clip)),
        "omega": adam(t.optimizer_rate, optax.clip(t.optimizer_clip)),
        "neck": adam(t.neck_rate, optax.clip_by_global_norm(1.0)),
        "fixed": optax.set_to_zero(),
    }
    labels = Learned(
        learned.meta._replace(theta0="theta0", lambda0="lambda0", omega="omega"),
        {name: "fixed" if name == "stats" else "neck" for name in learned.neck},
    )
    return optax.multi_transform(transforms, labels)


def save(args: Args, config: Config, learned: Learned, trunk: dict[str, Any]) -> None:
    """Write the checkpoint, in half precision."""
    params = params_to_dict(TrackerParams(learned.meta, {"trunk": trunk, "neck": learned.neck}))
    card = args.card.read_text() if args.card else f"Trained by experiments/train_lite.py for {args.steps} steps."
    save_checkpoint(args.output, Checkpoint(config, jax.tree.map(np.asarray, params), card), half=True)


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
