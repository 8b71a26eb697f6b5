"""Meta-gradients over the devices of one or several processes: the one module that says pmap.

Each device works through its clips of a batch, `micro_batch` at a time, and adds up their gradients; then the devices
add up theirs, and each one takes the same step. A clip's random key follows from the seed, the step and its number in
the whole batch, so the result does not depend on how many devices or processes share the work, but for rounding.

On a CPU one clip per call and one device per core is fastest: a core each keeps its clip's data in its cache.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int

from roam_jax.backbones import Backbone
from roam_jax.config import Config
from roam_jax.core.meta import QUANTILES, Unrolled
from roam_jax.data.features import FeatureBatch
from roam_jax.data.pipeline import ClipBatch
from roam_jax.devices import choose_backend
from roam_jax.method import make_method
from roam_jax.tracking.params import Params
from roam_jax.training.episodes import meta_gradient
from roam_jax.training.state import TrainState, apply_gradient, norms_of

AXIS = "device"

Batch = ClipBatch | FeatureBatch


class StepReport(NamedTuple):
    """What a step tells; the same on every device."""

    losses: Unrolled
    """means over the batch"""
    norms: dict[str, Float[Array, "*d"]]
    """of the meta-gradient, by part"""
    refused: Int[Array, "*d"]
    """refused meta-gradients so far"""
    refused_in_a_row: Int[Array, "*d"]
    stop: Bool[Array, "*d"]
    """some process was asked to stop"""


def start_devices(cpu_devices: int = 0, *, coordinator: str = "", processes: int = 1, process: int = 0) -> None:
    """Start JAX: one device per core where it runs on the CPU, and the connection to the other processes.

    Where something has asked JAX for a device before, those that there are serve. From then on programs are
    compiled, and in float32.

    Args:
        cpu_devices: devices that the CPU counts as; 0: one per core that this process may use.
        coordinator: HOST:PORT of process 0, for several processes.
        processes: how many there are.
        process: the number of this one.

    Raises:
        RuntimeError: JAX has started already, with another number of devices than is asked for, or the other processes
            are not there.
        UsageError: JAX has no device of the kind that it is told to use.
    """
    jax.config.update("jax_enable_x64", False)
    jax.config.update("jax_disable_jit", False)
    try:
        jax.config.update("jax_num_cpu_devices", cpu_devices or count_cores())
    except RuntimeError:
        if cpu_devices:
            raise  # else the devices that there are will do: a notebook has used JAX before
    if processes > 1:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(coordinator, processes, process)
    choose_backend()


def count_cores() -> int:
    """Cores that this process may use, where the system tells; else those of the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def choose_devices(batch: int, micro_batch: int = 1) -> list[Any]:
    """As many devices of each process, the same number of each, as can share a batch evenly.

    Raises:
        ValueError: the batch does not divide into micro-batches for every process.
    """
    share, rest = divmod(batch, jax.process_count() * micro_batch)
    if rest or not share:
        raise ValueError(
            f"meta.batch {batch} does not divide into {jax.process_count()} x meta.micro_batch {micro_batch} clips"
        )
    groups = [[d for d in jax.devices() if d.process_index == i] for i in range(jax.process_count())]
    count = max(n for n in range(1, min(map(len, groups)) + 1) if share % n == 0)
    return [device for group in groups for device in group[:count]]


class Trainer:
    """The compiled programs of meta-training on some devices.

    Arrays inside have a leading axis over this process's devices; `replicate` puts it on, `fetch` takes it off.
    """

    def __init__(
        self,
        backbone: Backbone,
        config: Config,
        transform: optax.GradientTransformation,
        trunk: Any,
        *,
        seed: int,
        devices: list[Any] | None = None,
    ) -> None:
        """Put the trunk on the devices; nothing is compiled yet.

        Args:
            backbone: its trunk is only used for batches of patches.
            config: losses, optimizer, batch and precision.
            transform: the meta optimizer.
            trunk: parameters of the trunk.
            seed: of the random filter scaling and of the frames that judge each update.
            devices: the same number of each process; `choose_devices` by default.
        """
        self.config, self.backbone, self.transform, self.seed = config, backbone, transform, seed
        self.devices = devices or choose_devices(config.meta.batch, config.meta.micro_batch)
        self.n_local = sum(device.process_index == jax.process_index() for device in self.devices)
        pmap = partial(jax.pmap, axis_name=AXIS, devices=self.devices)
        self._share = pmap(_from_first)
        self.zeros = pmap(self._zeros)
        self.extract = pmap(self._extract)
        self.accumulate = pmap(self._accumulate, in_axes=(0, 0, 0, 0, 0, 0, None), donate_argnums=1)
        self.average = pmap(self._average)
        self.apply = pmap(self._apply, donate_argnums=0)
        if config.run.half_backbone:
            trunk = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), trunk)
        self.trunk = self.replicate(trunk)
        self._sharding = jax.tree.leaves(self.trunk)[0].sharding

    @property
    def rows(self) -> int:
        """Clips of a batch that this process works on."""
        return self.config.meta.batch // jax.process_count()

    def replicate(self, tree: Any) -> Any:
        """The tree on every device, as the first device of the first process has it."""
        return self._share(jax.tree.map(lambda x: np.broadcast_to(np.asarray(x), (self.n_local, *np.shape(x))), tree))

    def fetch(self, tree: Any) -> Any:
        """Copy of a replicated tree in the host's memory."""
        return jax.tree.map(lambda x: np.array(np.asarray(x.addressable_data(0))[0]), tree)

    def gradient(self, learned: Params, step: int, batch: Batch) -> tuple[Params, Unrolled]:
        """(Eq. 14) Mean meta-gradient and mean losses over the batch; on every device.

        Args:
            learned: replicated.
            step: for the random keys.
            batch: this process's rows of it.
        """
        total = self.zeros(learned)
        for levels, boxes, visible, rows in self.micro_batches(batch):
            total = self.accumulate(learned, total, levels, boxes, visible, rows, np.int32(step))
        return self.average(total)

    def step(self, state: TrainState, step: int, batch: Batch, stop: bool = False) -> tuple[TrainState, StepReport]:
        """One step of Algorithm 1 on a replicated state, whose memory is used again; `stop` asks all processes to."""
        mean = self.gradient(state.learned, step, batch)
        return self.apply(state, mean, self.place(np.full(self.n_local, stop)))

    def micro_batches(self, batch: Batch) -> Iterator[tuple[tuple[Any, ...], Array, Array, Array]]:
        """Of the clips that the devices work on at once: levels, boxes, visibility, numbers in the whole batch."""
        numbers = jax.process_index() * self.rows + np.arange(self.rows, dtype=np.int32)

        def together(x: np.ndarray) -> np.ndarray:
            return x.reshape(-1, self.n_local, self.config.meta.micro_batch, *x.shape[1:])

        for part, rows in zip(zip(*map(together, jax.tree.leaves(batch)), strict=True), together(numbers), strict=True):
            *seen, boxes, visible = map(self.place, part)
            levels = tuple(seen) if isinstance(batch, FeatureBatch) else self.extract(self.trunk, seen[0])
            yield levels, boxes, visible, self.place(rows)

    def place(self, array: Any) -> Array:
        """An array with a leading axis over this process's devices, on these; programs compile once for it."""
        return jax.make_array_from_process_local_data(self._sharding, np.asarray(array))

    def _zeros(self, learned: Params) -> tuple[Params, Unrolled]:
        """Sums before the first clip."""
        t = self.config.unroll.updates
        zeros = jnp.zeros(t)
        terms = dict.fromkeys(make_method(self.config).meta.terms, zeros)
        losses = Unrolled(jnp.zeros(()), zeros, zeros, terms, zeros, jnp.zeros((t, QUANTILES)))
        return jax.tree.map(jnp.zeros_like, learned), losses

    def _extract(self, trunk: Any, patches: Array) -> tuple[Array, ...]:
        """Levels of (clips, frames, side, side, 3) patches."""
        clips, frames = patches.shape[:2]
        levels = self.backbone.trunk({"trunk": trunk}, patches.reshape(-1, *patches.shape[2:]))
        return tuple(level.reshape(clips, frames, *level.shape[1:]).astype(jnp.float32) for level in levels)

    def _accumulate(
        self,
        learned: Params,
        total: Any,
        levels: tuple[Array, ...],
        boxes: Array,
        visible: Array,
        rows: Array,
        step: Array,
    ) -> Any:
        key = jax.random.fold_in(jax.random.key(self.seed), step)
        keys = jax.vmap(lambda row: jax.random.fold_in(key, row))(rows)
        levels = tuple(level.astype(jnp.float32) for level in levels)
        mean = meta_gradient(learned, levels, boxes, visible, self.backbone, self.config, keys=keys)
        return jax.tree.map(lambda t, x: t + x * rows.shape[0], total, mean)

    def _average(self, total: Any) -> Any:
        return jax.tree.map(lambda x: jax.lax.psum(x, AXIS) / self.config.meta.batch, total)

    def _apply(
        self, state: TrainState, mean: tuple[Params, Unrolled], stop: Bool[Array, ""]
    ) -> tuple[TrainState, StepReport]:
        gradient, losses = mean
        state = apply_gradient(state, gradient, self.transform)
        anyone = jax.lax.psum(stop.astype(jnp.int32), AXIS) > 0
        return state, StepReport(losses, norms_of(gradient), state.refused, state.refused_in_a_row, anyone)


def _from_first(tree: Any) -> Any:
    """What the first device has, so that several hosts begin with the same numbers."""

    def share(x: Array) -> Array:
        mine = jnp.where(jax.lax.axis_index(AXIS) == 0, x, jnp.zeros_like(x))
        return jax.lax.psum(mine, AXIS)

    return jax.tree.map(share, tree)
