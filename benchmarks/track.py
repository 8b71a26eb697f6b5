"""Speed of the tracker on one real sequence, beside OpenCV's trackers: `python benchmarks/track.py FOLDER`.

All trackers take turns on blocks of the same frames, so that whatever else the machine does hits them alike.
Compilation and the first calls are timed apart. The start is measured from outside, from the birth of a new process to
its first box, with a compilation cache that is empty (cold) or filled by the run before (warm).
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import cv2
import jax
import numpy as np
import tyro
from machine import name_processor

from roam_jax.backbones import make_backbone
from roam_jax.backbones.weights import WeightsError
from roam_jax.checkpoints import Checkpoint, CheckpointError, load_checkpoint
from roam_jax.data.demo_clip import write_demo
from roam_jax.data.readers.otb import read_otb_folder
from roam_jax.data.sequences import DataError, Frames
from roam_jax.evaluation.metrics import success_auc
from roam_jax.evaluation.trackers import TrackerLike, make_tracker

COLUMNS = (
    "median ms",
    "mean ms",
    "95% ms",
    "    fps",
    "decoded ms",
    "decoded fps",
    "init ms",
    "1st update ms",
    "  AUC",
)
PEERS = ("cv2:nano", "cv2:mil", "cv2:kcf", "cv2:csrt")
STAGES = ("imported", "loaded", "started", "first box")
START = """
import sys, time
from roam_jax.data.readers.otb import read_otb_folder
from roam_jax.tracking.tracker import Tracker
print(time.time())
tracker = Tracker(checkpoint=sys.argv[1])
print(time.time())
sequence = read_otb_folder(sys.argv[2])[0]
tracker.init(sequence.frames[0], sequence.boxes_xywh[0])
print(time.time())
tracker.update(sequence.frames[1])
print(time.time())
"""


@dataclass(frozen=True)
class Arguments:
    """Time the tracker, its parts and its start, and OpenCV's trackers in the same run."""

    sequence: Annotated[Path | None, tyro.conf.Positional] = None
    """sequence folder in the layout of OTB; without it, the package's demo clip"""
    checkpoint: str = "lite"
    """name or directory"""
    nano_dir: Path | None = None
    """folder with NanoTrack's networks nanotrack_v2_backbone.onnx and nanotrack_v2_head.onnx"""
    frames: int = 300
    """frames of the sequence to use at most"""
    block: int = 20
    """frames after which the next tracker takes its turn"""
    passes: int = 2
    """times that every tracker goes over the frames"""
    starts: int = 3
    """processes started to measure the warm start; 0: neither cold nor warm"""


@dataclass(frozen=True)
class Timing:
    """One tracker over the frames: milliseconds per frame after the first, without and with decoding, and the boxes."""

    alone_ms: np.ndarray
    decoded_ms: np.ndarray
    boxes_xywh: np.ndarray


def time_first_calls(tracker: TrackerLike, frames: Frames, box_xywh: np.ndarray, updates: int = 12) -> list[float]:
    """Milliseconds of `init` and of the first updates, in some of which compiled trackers compile."""
    calls = [lambda: tracker.init(frames[0], box_xywh)]
    calls += [lambda index=index: tracker.update(frames[index]) for index in range(1, min(updates + 1, len(frames)))]
    return [time_call(call)[0] for call in calls]


def time_trackers(
    trackers: dict[str, TrackerLike], frames: Frames, box_xywh: np.ndarray, count: int, block: int
) -> dict[str, Timing]:
    """Every tracker over the first `count` frames, taking turns after each block."""
    rows: dict[str, list[tuple[float, float, np.ndarray]]] = {name: [] for name in trackers}
    for tracker in trackers.values():
        tracker.init(frames[0], box_xywh)
    for start in range(1, count, block):
        for name, tracker in trackers.items():
            for index in range(start, min(start + block, count)):
                decode_ms, image = time_call(lambda index=index: frames[index])
                ms, box = time_call(lambda tracker=tracker, image=image: tracker.update(image))
                rows[name].append((ms, ms + decode_ms, np.asarray(box, float)))
    return {name: Timing(*map(np.array, zip(*row, strict=True))) for name, row in rows.items()}


def time_call(call: Callable[[], Any]) -> tuple[float, Any]:
    """Milliseconds, and the result."""
    start = time.perf_counter()
    result = call()
    return 1e3 * (time.perf_counter() - start), result


def time_trunk(checkpoint: Checkpoint, repeats: int = 30) -> float:
    """Median milliseconds of the backbone's frozen part on one patch, compiled on its own."""
    side = checkpoint.config.model.patch_size
    patch = np.random.default_rng(0).integers(0, 256, (1, side, side, 3), np.uint8)
    params = jax.device_put({"trunk": checkpoint.params["trunk"]})
    trunk = jax.jit(make_backbone(checkpoint.config).trunk)
    jax.block_until_ready(trunk(params, patch))
    times = [time_call(lambda: jax.block_until_ready(trunk(params, patch)))[0] for _ in range(repeats)]
    return float(np.median(times))


def split_updates(alone_ms: np.ndarray, tau: int) -> tuple[float, float]:
    """Median milliseconds of the frames that update the model, every tau-th, and of the others."""
    phases = [alone_ms[phase::tau] for phase in range(tau)]
    slow = int(np.argmax([np.median(phase) for phase in phases]))
    others = [phase for index, phase in enumerate(phases) if index != slow] or phases
    return float(np.median(phases[slow])), float(np.median(np.concatenate(others)))


def time_start(folder: Path, checkpoint: str, cache: Path) -> np.ndarray:
    """Seconds from the birth of a process to each of `STAGES`."""
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(cache), "XDG_CACHE_HOME": str(cache)}
    command = [sys.executable, "-c", START, checkpoint, str(folder)]
    born = time.time()
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    return np.array(done.stdout.split(), float) - born


def describe_machine() -> str:
    """Cores, processor and versions, in one line each."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("jax", "jaxlib", "numpy")]
    return (
        f"{cores} cores, {name_processor()}, {platform.system()}{load}\n"
        f"Python {platform.python_version()}, {', '.join(versions)}, OpenCV {cv2.__version__}"
    )


def format_speed(name: str, timings: list[Timing], first_ms: list[float], true_xywh: np.ndarray) -> str:
    """Row of the table; several passes are put together."""
    alone, decoded = (np.concatenate([getattr(t, key) for t in timings]) for key in ("alone_ms", "decoded_ms"))
    boxes = np.concatenate([true_xywh[:1], timings[-1].boxes_xywh])
    numbers = [np.median(alone), np.mean(alone), np.percentile(alone, 95), 1e3 / np.mean(alone)]
    numbers += [np.median(decoded), 1e3 / np.mean(decoded), first_ms[0], first_ms[1]]
    cells = [*(f"{x:.1f}" for x in numbers), f"{success_auc(boxes, true_xywh):.3f}"]
    return f"| {name:8} | " + " | ".join(map(str.rjust, cells, map(len, COLUMNS))) + " |"


def main() -> None:
    arguments = tyro.cli(Arguments, prog="python benchmarks/track.py")
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.sequence or Path(temporary) / "demo"
        if not arguments.sequence:
            write_demo(folder)
        try:
            run(arguments, folder, Path(temporary))
        except (CheckpointError, DataError, ValueError, WeightsError) as error:
            sys.exit(str(error))


def run(arguments: Arguments, folder: Path, temporary: Path) -> None:
    sequence, checkpoint = read_otb_folder(folder)[0], load_checkpoint(arguments.checkpoint)
    count = min(arguments.frames, len(sequence))
    frames, boxes = sequence.frames, sequence.boxes_xywh[:count]
    height, width = frames[0].shape[:2]
    print(describe_machine())
    print(f"{sequence.name}: {count} frames of {width} x {height}, {arguments.passes} passes")

    if arguments.starts:
        # before anything else runs here: two busy processes would slow each other down
        print("\nseconds from the start of a process to:   " + "   ".join(f"{stage:>9}" for stage in STAGES))
        runs = range(1 + arguments.starts)
        seconds = [time_start(folder, arguments.checkpoint, temporary / "cache") for _ in runs]
        for label, row in (("cold", seconds[0]), ("warm (median)", np.median(seconds[1:], axis=0))):
            print(f"{label:41} " + "   ".join(f"{x:9.2f}" for x in row))

    trackers = make_trackers(arguments)
    first = {name: time_first_calls(tracker, frames, boxes[0]) for name, tracker in trackers.items()}
    passes = [time_trackers(trackers, frames, boxes[0], count, arguments.block) for _ in range(arguments.passes)]
    print(f"\n| {'tracker':8} | " + " | ".join(COLUMNS) + " |")
    print("|----------|" + "|".join("-" * (len(column) + 1) + ":" for column in COLUMNS) + "|")
    for name in trackers:
        print(format_speed(name, [timings[name] for timings in passes], first[name], boxes))

    trunk_ms, tau = time_trunk(checkpoint), checkpoint.config.online.tau
    alone = [timings["roam"].alone_ms for timings in passes]
    slow, usual = (float(np.mean(part)) for part in zip(*(split_updates(ms, tau) for ms in alone), strict=True))
    mean = float(np.mean(np.concatenate(alone)))
    share = (slow - usual) / tau / mean
    print(f"\nroam: {usual:.1f} ms without an update of the model, {slow:.1f} ms with one, which is every {tau} frames")
    print(f"share of the mean frame: updates {share:.0%}; trunk {trunk_ms / mean:.0%}, {trunk_ms:.1f} ms on its own")


def make_trackers(arguments: Arguments) -> dict[str, TrackerLike]:
    """The tracker, and those of OpenCV that are there; the others are named."""
    trackers = {"roam": make_tracker("roam", checkpoint=arguments.checkpoint)}
    for name in PEERS:
        try:
            trackers[name] = make_tracker(name, nano_dir=arguments.nano_dir)
        except ValueError as error:
            print(f"left out: {error}")
    return trackers


if __name__ == "__main__":
    main()
