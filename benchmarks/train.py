"""Speed of meta-training, part by part: `python benchmarks/train.py --preset lite [--data LAYOUT:ROOT]`.

Three parts are timed apart on the same clips, with the program and the devices that training uses: the data (reading,
cropping, augmenting), the frozen trunk (features of all patches of a clip), and the inner updates (learned stages of
the trunk, neck, unroll and the meta-gradient through them). Beside each time stands its bound: the operations that XLA
counts, over the rate of a large matrix product on the same devices in the same run. Weights are random: they do not
change the speed.
"""

from __future__ import annotations

import dataclasses
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np
import tyro
from machine import name_processor

from roam_jax.backbones import make_backbone
from roam_jax.config import Config
from roam_jax.data.features import FeatureBatch
from roam_jax.data.mix import load_mix, parse_source
from roam_jax.data.pipeline import ClipBatch, make_pipeline
from roam_jax.data.sequences import DataError
from roam_jax.data.synthetic import synthetic_sequence
from roam_jax.extras import MissingExtra
from roam_jax.presets import preset
from roam_jax.tracking.params import Params, init_params
from roam_jax.training.episodes import meta_gradient
from roam_jax.training.parallel import Trainer, count_cores, start_devices
from roam_jax.training.state import make_meta_optimizer

try:
    import resource
except ImportError:  # there is none on Windows
    resource = None

MATRIX_SIDE = {"cpu": 1536, "gpu": 8192}
"""of the product that the devices' rate is measured with"""
AHEAD = 6
"""clips that the pipeline's threads hold at most"""


@dataclass(frozen=True)
class Arguments:
    """Time one meta-gradient, its parts, and what bounds them."""

    preset: str = "lite"
    """configuration: lite, official, paper or tiny; on a CPU the two middle ones take minutes per clip"""
    data: str = ""
    """LAYOUT:ROOT of what to learn from, as in training; synthetic videos without"""
    repeats: int = 5
    """times that each part is timed; the median counts"""
    clips: int = 0
    """clips of one meta-gradient; 0: one micro-batch per device"""
    micro_batch: int = 0
    """clips that a device works on at once; 0: as the preset says"""
    half_backbone: bool = False
    """compute the trunk in bfloat16"""


@dataclass(frozen=True)
class Part:
    """One part of the work on a batch of clips."""

    seconds: float
    """median"""
    flops: float = 0.0
    """floating-point operations; 0: not counted"""
    temporary_bytes: int = 0
    """the compiled program's own memory, on one device"""


def time_median(call: Callable[[], Any], repeats: int) -> float:
    """Median seconds of a call whose first run, which compiles, is not counted."""
    jax.block_until_ready(call())
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(call())
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))


def measure_rate(devices: list[Any]) -> float:
    """Floating-point operations per second of float32 matrix products on all devices at once; the best of several."""
    side = MATRIX_SIDE.get(devices[0].platform, 4096)
    matrix = np.random.default_rng(0).standard_normal((side, side), np.float32)
    operands = [jax.device_put(matrix, device) for device in devices]
    multiply = jax.jit(lambda a: a @ a)
    seconds = min(time_median(lambda: [multiply(operand) for operand in operands], 1) for _ in range(5))
    return len(devices) * 2 * side**3 / seconds


def count_flops(function: Callable[..., Any], *arguments: Any) -> float:
    """Floating-point operations of a call, by XLA's count of the program before it is optimised.

    XLA counts the body of a loop once. With jit disabled JAX writes loops out, so that every turn is counted.
    """
    with jax.disable_jit():
        analysis = jax.jit(function).lower(*arguments).cost_analysis()
    return float((analysis or {}).get("flops", 0.0))


def temporary_bytes(function: Callable[..., Any], *arguments: Any) -> int:
    """Memory that the compiled program needs besides its arguments and results, as the compiler says."""
    analysis = jax.jit(function).lower(*arguments).compile().memory_analysis()
    return int(analysis.temp_size_in_bytes) if analysis else 0


def time_data(batches: Iterator[ClipBatch], clips: int, repeats: int) -> float:
    """Seconds per batch of reading, cropping and augmenting, with as many threads as training uses.

    The threads work ahead: what they hold is taken first, and then enough clips to tell how fast they make new ones.
    """
    for _ in range(-(-AHEAD // clips)):
        next(batches)
    count = max(repeats, -(-2 * AHEAD // clips))
    start = time.perf_counter()
    for _ in range(count):
        next(batches)
    return (time.perf_counter() - start) / count


def time_trunk(trainer: Trainer, batch: ClipBatch, trunk: Any, repeats: int) -> tuple[Part, FeatureBatch]:
    """The features of a batch; also the features."""

    def extract() -> list[tuple[Any, ...]]:
        return [levels for levels, *_ in trainer.micro_batches(batch)]

    seconds = time_median(extract, repeats)
    parts = zip(*extract(), strict=True)
    levels = [np.concatenate([np.asarray(x).reshape(-1, *x.shape[2:]) for x in part]) for part in parts]

    def one(trunk: Any, patches: Any) -> Any:
        return trainer.backbone.trunk({"trunk": trunk}, patches)

    micro = np.concatenate(batch.patches[: trainer.config.meta.micro_batch])
    flops = batch.patches.shape[0] * batch.patches.shape[1] * count_flops(one, trunk, batch.patches[0, :1])
    return Part(seconds, flops, temporary_bytes(one, trunk, micro)), FeatureBatch(
        tuple(levels), batch.boxes_cxcywh, batch.visible
    )


def time_updates(trainer: Trainer, batch: FeatureBatch, learned: Params, repeats: int) -> Part:
    """Neck, unroll and meta-gradient of a batch of features."""
    replicated, config = trainer.replicate(learned), trainer.config
    seconds = time_median(lambda: trainer.gradient(replicated, 0, batch), repeats)

    def gradient(learned: Params, levels: Any, boxes: jax.Array, visible: jax.Array, keys: jax.Array) -> Any:
        return meta_gradient(learned, levels, boxes, visible, trainer.backbone, config, keys=keys)

    def arguments(clips: int) -> tuple[Any, ...]:
        levels, boxes, visible = jax.tree.map(lambda x: np.asarray(x[:clips], np.float32), tuple(batch))
        return learned, levels, boxes, visible, jax.random.split(jax.random.key(0), clips)

    flops = len(batch.boxes_cxcywh) * count_flops(gradient, *arguments(1))
    return Part(seconds, flops, temporary_bytes(gradient, *arguments(config.meta.micro_batch)))


def peak_memory() -> str:
    """What this process has taken at most, and what its devices have."""
    text = []
    if resource is not None:
        unit = 1 if sys.platform == "darwin" else 1024
        text.append(f"process {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20:.0f} MiB")
    for device in jax.local_devices():
        if peak := (device.memory_stats() or {}).get("peak_bytes_in_use"):
            text.append(f"{device} {peak / 2**20:.0f} MiB")
    return ", ".join(text) or "not known on this system"


def describe_machine() -> str:
    """Name, processor, devices and versions."""
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    device = jax.devices()[0]
    return (
        f"{platform.node()}: {count_cores()} cores, {name_processor()}, "
        f"{platform.system()}{load}\n{len(jax.devices())} x {device.device_kind} ({device.platform}), "
        f"Python {platform.python_version()}, jax {jax.__version__}"
    )


def choose_config(arguments: Arguments) -> Config:
    """The preset with the batch that is timed."""
    config = preset(arguments.preset)
    micro = arguments.micro_batch or config.meta.micro_batch
    batch = arguments.clips or micro * len(jax.local_devices())
    meta = dataclasses.replace(config.meta, batch=batch, micro_batch=micro)
    run = dataclasses.replace(config.run, half_backbone=arguments.half_backbone or config.run.half_backbone)
    return dataclasses.replace(config, meta=meta, run=run).check()


def run(arguments: Arguments) -> None:
    config = choose_config(arguments)
    clips, frames = config.meta.batch, len(config.model.aspects) ** 2 + config.unroll.clip_frames
    print(describe_machine())
    print(
        f"{arguments.preset}: {clips} clips of {frames} patches a meta-gradient, data {arguments.data or 'synthetic'}"
    )

    if arguments.data:
        mix = load_mix([parse_source(arguments.data)], hold_out=0.0, seed=0)
        batches = make_pipeline(mix.train, config, seed=0, weights=mix.weights)
    else:
        videos = [synthetic_sequence(seed, length=frames + 10, height=360, width=480) for seed in range(8)]
        batches = make_pipeline(videos, config, seed=0)
    batch = next(batches)
    data = Part(time_data(batches, clips, arguments.repeats))
    del batches  # its threads would go on

    params = jax.jit(partial(init_params, config))(key=jax.random.key(0))
    backbone, trunk, learned = make_backbone(config), params.trunk, params._replace(trunk={})
    trainer = Trainer(backbone, config, make_meta_optimizer(config.meta), trunk, seed=0)
    rate = measure_rate(trainer.devices)
    trunk_part, features = time_trunk(trainer, batch, trunk, arguments.repeats)
    updates = time_updates(trainer, features, learned, arguments.repeats)
    print(f"float32 matrix product: {rate / 1e9:.0f} GFLOP/s on {len(trainer.devices)} device(s)\n")

    print("| part          | s / clip | share | GFLOP / clip | bound s / clip | bound / time | program's memory, MiB |")
    print("|---------------|---------:|------:|-------------:|---------------:|-------------:|----------------------:|")
    parts = {"data": data, "trunk": trunk_part, "inner updates": updates}
    total = sum(part.seconds for part in parts.values())
    for name, part in parts.items():
        start = f"| {name:13} | {part.seconds / clips:8.4f} | {part.seconds / total:5.0%} | "
        if not part.flops:
            print(f"{start}{'-':>12} | {'-':>14} | {'-':>12} | {'-':>21} |")
            continue
        bound, memory = part.flops / rate, part.temporary_bytes / 2**20
        numbers = f"{part.flops / clips / 1e9:12.2f} | {bound / clips:14.4f} | {bound / part.seconds:12.0%}"
        print(f"{start}{numbers} | {memory:21.0f} |")
    print(f"\nclips per second of the meta-gradient: {clips / (trunk_part.seconds + updates.seconds):.3f}")
    print(
        f"... with the data read in between: {clips / total:.3f}; from cached features: {clips / updates.seconds:.3f}"
    )
    print(f"peak memory: {peak_memory()}")


def main() -> None:
    arguments = tyro.cli(Arguments, prog="python benchmarks/train.py", description=__doc__)
    start_devices()
    try:
        run(arguments)
    except (DataError, MissingExtra, ValueError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
