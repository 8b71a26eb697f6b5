"""What a run says about itself: the model card, and the forecast of a dry run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from roam_jax.config import Config
from roam_jax.data.features import FeatureBatch
from roam_jax.tracking.params import Params
from roam_jax.training.parallel import Batch, Trainer
from roam_jax.training.state import TrainState


def write_card(config: Config, about: dict[str, Any], step: int, validation: dict[str, float]) -> str:
    """Model card of a tracker, Markdown.

    Args:
        config: of the run.
        about: what the run was started with, see `setup.describe`.
        step: meta-gradient steps behind the parameters.
        validation: numbers of the last validation, by name.
    """
    t = config.meta
    lines = [
        f"# roam_jax, backbone `{config.backbone.name}`, optimizer `{config.optimizer.kind}`",
        "",
        f"Meta-trained by roam_jax {about['package']} for {step} of {t.total_steps} steps of {t.batch} clips, seed "
        f"{about['seed']}" + (f", from the checkpoint `{about['start']}`." if about["start"] else "."),
        "",
        "Learned from (layout, folder, weight):",
        "",
        *(f"- `{source}`" for source in about["data"]),
        "",
        f"{about['sequences']} sequences, and {about['held_out']} held out; digest `{about['data_digest']}`.",
        "",
        "Validation at these parameters:" if validation else "Not validated.",
        "",
        *(f"- {name.removeprefix('validation/')}: {value:.4f}" for name, value in validation.items()),
        "",
        f"Command: `{about['command']}`",
    ]
    return "\n".join(lines).rstrip() + "\n"


def count_parameters(learned: Params, trunk: Any) -> dict[str, int]:
    """Numbers by part."""
    named = {"trunk (learned)": learned.top, "trunk (frozen)": trunk}
    parts = {name: getattr(learned, name) for name in ("theta0", "lambda0", "omega", "neck")} | named
    return {name: sum(np.size(leaf) for leaf in jax.tree.leaves(part)) for name, part in parts.items()}


def forecast(trainer: Trainer, state: TrainState, trunk: Any, batches: Iterator[Batch]) -> str:
    """Compile and time one step: parameters, memory, operations and time, as text.

    Args:
        trainer: of the run.
        state: in the host's memory.
        trunk: parameters of the trunk.
        batches: two are taken.
    """
    t = trainer.config.meta
    lines = [f"parameters  {name}: {count:,}" for name, count in count_parameters(state.learned, trunk).items()]
    replicated, batch = trainer.replicate(state), next(batches)
    calls = trainer.rows // (trainer.n_local * t.micro_batch)
    flops = 0.0
    for name, program, arguments in _programs(trainer, replicated, batch):
        compiled = program.lower(*arguments).compile()
        cost, memory = compiled.cost_analysis() or {}, compiled.memory_analysis()
        flops += cost.get("flops", 0.0)
        if memory is not None:
            used = memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes
            lines.append(f"memory      {name}: {used / 2**20:,.0f} MiB a device")
    total = flops * calls * len(trainer.devices)
    lines.append(f"operations  {total / 1e9:,.1f} GFLOP a step, as XLA counts them (bodies of loops once)")
    replicated, report = trainer.step(replicated, 0, batch)
    trainer.fetch(report)
    began = time.perf_counter()
    trainer.fetch(trainer.step(replicated, 1, next(batches))[1])
    seconds = time.perf_counter() - began
    lines += [
        f"devices     {len(trainer.devices)} x {trainer.devices[0].device_kind}, {calls} calls a step",
        f"time        {seconds:.2f} s a step, {t.batch / seconds:.2f} clips/s; "
        f"{format_duration(seconds * t.total_steps)} for {t.total_steps} steps, without validation",
    ]
    return "\n".join(lines)


def format_duration(seconds: float) -> str:
    """In the unit in which it is easiest to read."""
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


def _programs(trainer: Trainer, state: TrainState, batch: Batch) -> Iterator[tuple[str, Any, tuple[Any, ...]]]:
    """Name, program and arguments of what is called for each micro-batch."""
    levels, boxes, visible, rows = next(trainer.micro_batches(batch))
    if not isinstance(batch, FeatureBatch):
        shape = boxes.shape[:2]
        patches = batch.patches[: shape[0] * shape[1]].reshape(*shape, *batch.patches.shape[1:])
        yield "trunk", trainer.extract, (trainer.trunk, trainer.place(patches))
    total = trainer.zeros(state.learned)
    yield "meta-gradient", trainer.accumulate, (state.learned, total, levels, boxes, visible, rows, np.int32(0))
