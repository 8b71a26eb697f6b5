"""A training run from its settings to its end: what `python -m roam_jax.train` does, step by step.

`check`, `read_data`, `build`, and then `forecast` of `report.py` or `train`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
from jax.experimental import multihost_utils

from roam_jax.backbones import make_backbone
from roam_jax.backbones.registry import TOO_LARGE
from roam_jax.config import Config
from roam_jax.data.mix import Mix
from roam_jax.data.pipeline import ClipBatch
from roam_jax.data.skipped import Skipped
from roam_jax.errors import UsageError, usage_errors
from roam_jax.interrupts import StopRequest
from roam_jax.method import make_optimizer
from roam_jax.tracking.tracker import enable_compilation_cache
from roam_jax.training import loop, parallel, runs, setup
from roam_jax.training.state import TrainState, make_meta_optimizer, make_state
from roam_jax.training.validate import Judge, read_clips
from roam_jax.training.writer import Writer


@dataclass(frozen=True)
class Machines:
    """Devices and processes that train together; see `parallel.start_devices`."""

    devices: int = 0
    coordinator: str = ""
    processes: int = 1
    process: int = 0


@dataclass(frozen=True)
class Start:
    """What a run is started with."""

    settings: setup.Settings
    config: Config
    folder: Path | None = None
    """of the run, new or to resume; None: nothing is written"""
    about: dict[str, Any] = field(default_factory=dict)
    """`run.json` of the run to resume; empty: it is new"""
    command: str = ""
    """for `run.json`"""


@dataclass(frozen=True)
class Data:
    """What is learned from."""

    mix: Mix
    skipped: Skipped


@dataclass(frozen=True)
class Parts:
    """What the loop is made of."""

    trainer: parallel.Trainer
    trunk: Any
    """parameters of the frozen part of the trunk"""
    state: TrainState
    """before the first step, in the host's memory"""
    batches_from: Callable[[int], Iterator[parallel.Batch]]
    """this process's rows of the batches from a step on"""
    about: dict[str, Any]
    """for `run.json`"""

    @property
    def first(self) -> bool:
        """This process is the one that writes and speaks."""
        return jax.process_index() == 0


def check(start: Start) -> None:
    """Return if the settings make a method, and a new run's folder is free.

    Raises:
        UsageError: a setting has no meaning, or settings do not fit together.
        RunError: the folder holds something else.
    """
    with usage_errors(ValueError):
        make_backbone(start.config)
        make_optimizer(start.config)
    if start.folder is not None and not start.about:
        runs.check_free(start.folder)


def read_data(start: Start) -> Data:
    """The sequences; for a run to resume those it began with, without those it has left out.

    Raises:
        DataError: a source is written wrongly or cannot be read.
        RunError: the run's record of what it has left out is damaged.
        UsageError: the data are not those that the run began with.
    """
    entries = runs.read_skipped(start.folder) if start.folder is not None and start.about else []
    mix = setup.read_data(start.settings.data, start.config, entries, start.settings.cutouts)
    if start.about and mix.digest != start.about["data_digest"]:
        raise UsageError("the data are not those that the run began with: other sequences, boxes, weights or cut-outs")
    return Data(mix, Skipped(mix.listed, limit=start.config.run.max_skipped, entries=entries))


def first_batch(start: Start, data: Data) -> ClipBatch:
    """The first batch of clips.

    Raises:
        DataError: too many sequences cannot be read.
    """
    return next(
        setup.make_pipeline(
            data.mix.train,
            start.config,
            seed=start.settings.seed,
            weights=data.mix.weights,
            skipped=data.skipped,
            cutouts=data.mix.cutouts,
        )
    )


def build(start: Start, data: Data, machines: Machines) -> Parts:
    """Start the devices, and make everything that training needs but the run's folder.

    Raises:
        UsageError: the devices cannot be had, the batch does not divide among them, or the trunk is not the one that
            the run began with.
        CheckpointError, WeightsError: of what the run begins from.
        DataError: too many sequences cannot be read.
    """
    settings, config, about = start.settings, start.config, start.about
    enable_compilation_cache()
    with usage_errors(RuntimeError, ValueError):
        parallel.start_devices(
            machines.devices,
            coordinator=machines.coordinator,
            processes=machines.processes,
            process=machines.process,
        )
    process = (jax.process_index(), jax.process_count())
    learned, pretrained = setup.begin(settings, config)
    trunk = pretrained["trunk"]
    described = setup.describe(settings, data.mix, trunk, package=version("roam-jax"), command=start.command)
    if about and about["trunk_digest"] != described["trunk_digest"]:
        raise UsageError("the trunk's weights are not those that the run began with")
    batches = setup.make_batches(settings, config, data.mix, trunk, data.skipped)
    transform, backbone = make_meta_optimizer(config.meta), make_backbone(config)
    with usage_errors(ValueError):
        trainer = parallel.Trainer(backbone, config, transform, trunk, seed=settings.seed)
    if learned is None:
        learned = setup.draw_parameters(config, backbone, pretrained, batches(0, (0, 1)), seed=settings.seed)
    state = jax.device_get(make_state(learned, transform))
    return Parts(trainer, trunk, state, lambda step: batches(step, process), about or described)


def train(
    start: Start,
    data: Data,
    parts: Parts,
    judge: Judge | None,
    *,
    tensorboard: bool,
    report: Callable[[str], None],
    warn: Callable[[str], None],
) -> tuple[TrainState, bool]:
    """Open the run's folder, go on from its newest checkpoint if there is one, and train.

    Args:
        start: with a folder.
        data: of `read_data`.
        parts: of `build`.
        judge: measures the tracker at validations; None: nothing does.
        tensorboard: write its events too.
        report: called in the first process with what may interest the user.
        warn: called with what is wrong with a checkpoint that is left out.

    Returns:
        The last state, in the host's memory, and whether all steps were done; False: a signal has stopped it.

    Raises:
        Diverged: too many meta-gradients in a row were not finite.
        CheckpointError: there are checkpoints to resume from, and none is whole.
        DataError: too many sequences cannot be read.
        RunError, LogError, OSError: the folder cannot be used or written.
    """
    folder, config = start.folder, start.config
    assert folder is not None
    index, count = jax.process_index(), jax.process_count()
    if parts.first and not start.about:
        runs.create_run(folder, config, parts.about)
    elif parts.first and config != runs.open_run(folder)[0]:  # the run has another length now
        runs.write_json(folder / runs.CONFIG, config.to_dict())
    if count > 1:  # no other file before the first process has made the folder
        multihost_utils.sync_global_devices("the run folder is there")
    data.skipped.keep(lambda values: runs.write_json(folder / runs.SKIPPED.format(index), values))
    current, state = runs.Run(folder, keep=config.run.keep, writes=parts.first), parts.state
    if start.about:
        state = current.load_latest(state, report=warn)
        if parts.first:
            report(f"going on with {folder} from step {int(state.step)}")
    job = loop.Job(
        config,
        parts.trainer,
        parts.trunk,
        current,
        parts.about,
        read_clips(data.mix.held_out, config, process=(index, count), skipped=data.skipped, cutouts=data.mix.cutouts),
        judge if parts.first else None,
        trunk_source=(config.backbone.weights or "pip") if config.backbone.name in TOO_LARGE else "",
    )
    writer = Writer(folder, resume_step=int(state.step), tensorboard=tensorboard) if parts.first else None
    with closing(current), writer or nullcontext(), StopRequest() as stop:
        return loop.train(job, state, parts.batches_from(int(state.step)), writer, stop)
