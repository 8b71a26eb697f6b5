"""Many sequences at once on one device: the tracker's step mapped over sequences, one frame of each at a time.

Patches are cut on the host, so that the sequences may have images of any size. A sequence that ends leaves its place to
the next one at a frame where the model would be updated: all frame counters agree modulo tau, and the frames
between pay nothing for the update (under `vmap` its `cond` computes both branches).
"""

from __future__ import annotations

import functools
import time
from collections import deque
from collections.abc import Callable, Iterator
from collections.abc import Sequence as ListOf
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from roam_jax.data.sequences import DataError, Sequence
from roam_jax.evaluation.formats import Run
from roam_jax.evaluation.runner import Outcomes, check_start, explain
from roam_jax.patches.geometry import Roi
from roam_jax.tracking.host import HostCrop, check_box
from roam_jax.tracking.online import Online, Prediction, TrackerState
from roam_jax.tracking.params import Params
from roam_jax.tracking.tracker import Tracker

Image = UInt8[np.ndarray, "h w 3"]


def track_in_lockstep(
    sequences: ListOf[Sequence], make_tracker: Callable[[], Tracker], batch: int, threads: int = 8
) -> Outcomes[Run]:
    """Track the sequences, the longest first, `batch` at a time.

    Times are those of cutting and stepping all of them, divided by their number: what a frame costs in this company.

    Args:
        sequences: what to track.
        make_tracker: gives the tracker whose functions and parameters are used.
        batch: sequences in one program.
        threads: that read and cut pictures.

    Raises:
        ValueError: the batch is less than one.
    """
    if batch < 1:
        raise ValueError(f"the number of sequences in lockstep should be at least 1, but is {batch}")
    if not sequences:
        return
    waiting = deque(sorted(sequences, key=len, reverse=True))
    tracker = make_tracker()
    lanes = Lanes(tracker.online, tracker.params, min(batch, len(waiting)))
    with ThreadPoolExecutor(threads) as pool:
        while waiting or lanes.busy:
            yield from lanes.fill(waiting, pool)
            yield from lanes.advance(pool)


@dataclass(eq=False)
class Lane:
    """One sequence on its way."""

    sequence: Sequence
    frames: Iterator[Image]
    shape: tuple[int, ...]
    roi: Roi
    """where its next frame is searched"""
    boxes_xywh: list[np.ndarray]
    seconds: list[float]
    upcoming: Future[Image] = field(init=False)
    """the next frame, read ahead"""

    @property
    def done(self) -> bool:
        """All frames have their box."""
        return len(self.boxes_xywh) == len(self.sequence)


class LanePrograms(NamedTuple):
    """Functions of one tracker configuration, compiled when they are first called."""

    start: Callable[..., TrackerState]
    update: Callable[..., tuple[TrackerState, Prediction]]
    """one frame of all sequences, with the update of the model"""
    follow: Callable[..., tuple[TrackerState, Prediction]]
    """the same without"""
    put: Callable[..., TrackerState]
    """all states with one of them replaced"""


@functools.lru_cache(maxsize=4)
def lane_programs(online: Online) -> LanePrograms:
    """The same for every run, so that they compile once for each number of sequences."""
    config = online.config
    frozen = Online(replace(config, online=replace(config.online, updates=False)))
    return LanePrograms(
        jax.jit(online.start_patches),
        jax.jit(jax.vmap(online.step_patches, (None, 0, 0)), donate_argnums=1),
        jax.jit(jax.vmap(frozen.step_patches, (None, 0, 0)), donate_argnums=1),
        jax.jit(lambda states, index, state: jax.tree.map(lambda a, b: a.at[index].set(b), states, state)),
    )


class Lanes:
    """Sequences whose states lie side by side in one tree, in places that they take and leave."""

    def __init__(self, online: Online, params: Params, count: int) -> None:
        self._config, self._params, self._programs = online.config, params, lane_programs(online)
        self._crop = HostCrop(online.config)
        self._states: Any = None
        self._lanes: list[Lane | None] = [None] * count
        self._frame = 0
        """frames since the last time that lanes could begin"""

    @property
    def busy(self) -> bool:
        """Whether a sequence is on its way."""
        return any(self._lanes)

    def fill(self, waiting: deque[Sequence], pool: ThreadPoolExecutor) -> Outcomes[Run]:
        """Start waiting sequences in free places, if this is the time for it."""
        if not self.busy:
            self._frame = 0
        for index, lane in enumerate(self._lanes):
            while self._frame == 0 and lane is None and waiting:
                sequence = waiting.popleft()
                try:
                    lane = self._begin(sequence, index)
                except Exception as error:  # whatever is wrong with it, the other sequences go on
                    yield sequence.name, explain(error)
                    continue
                if lane.done:
                    yield sequence.name, Run(np.stack(lane.boxes_xywh), np.array(lane.seconds))
                    lane = None
                    continue
                lane.upcoming = pool.submit(next, lane.frames)
                self._lanes[index] = lane

    def advance(self, pool: ThreadPoolExecutor) -> Outcomes[Run]:
        """One frame of every sequence."""
        images = {}
        for index, lane in self._active():
            try:
                images[index] = self._next_image(lane, pool)
            except Exception as error:
                self._lanes[index] = None
                yield lane.sequence.name, explain(error)
        if not self.busy:
            return
        start = time.perf_counter()
        boxes, rois = self._step(images, pool)
        seconds = (time.perf_counter() - start) / len(images)
        for index, lane in self._active():
            box, lane.roi = boxes[index], Roi(*(x[index] for x in rois))
            lane.boxes_xywh.append(np.concatenate([box[:2] - box[2:] / 2, box[2:]]))
            lane.seconds.append(seconds)
            if lane.done:
                self._lanes[index] = None
                yield lane.sequence.name, Run(np.stack(lane.boxes_xywh).astype(float), np.array(lane.seconds))
        self._frame = (self._frame + 1) % self._config.online.tau

    def _active(self) -> list[tuple[int, Lane]]:
        return [(index, lane) for index, lane in enumerate(self._lanes) if lane]

    def _begin(self, sequence: Sequence, index: int) -> Lane:
        """Start a sequence in a place: its state there, and what the host knows of it."""
        check_start(sequence)
        frames = iter(sequence.frames)
        image = next(frames)
        start = time.perf_counter()
        box_xywh = check_box(sequence.first_xywh, image)
        first = self._crop.first(image, box_xywh)
        state = self._programs.start(self._params, *first)
        if self._states is None:
            self._states = jax.tree.map(lambda x: jnp.repeat(x[None], len(self._lanes), axis=0), state)
        self._states = jax.block_until_ready(self._programs.put(self._states, index, state))
        seconds = time.perf_counter() - start
        return Lane(
            sequence, frames, image.shape, Roi(*map(np.asarray, state.roi)), [box_xywh.astype(float)], [seconds]
        )

    def _next_image(self, lane: Lane, pool: ThreadPoolExecutor) -> Image:
        image = lane.upcoming.result()
        if image.shape != lane.shape:
            raise DataError(f"sequence {lane.sequence.name} should have images of one size, but they change")
        if len(lane.boxes_xywh) + 1 < len(lane.sequence):
            lane.upcoming = pool.submit(next, lane.frames)
        return image

    def _step(self, images: dict[int, Image], pool: ThreadPoolExecutor) -> tuple[Float[np.ndarray, "b 4"], Roi]:
        """Boxes (centre and size) of all places, and where to search next; those of empty places mean nothing."""

        def cut(item: tuple[int, Lane]) -> tuple[int, np.ndarray]:
            index, lane = item
            return index, self._crop.search(images[index], lane.roi)

        cuts = dict(pool.map(cut, self._active()))
        empty = np.zeros_like(next(iter(cuts.values())))
        patches = np.stack([cuts.get(index, empty) for index in range(len(self._lanes))])
        due = (self._frame + 1) % self._config.online.tau == 0
        program = self._programs.update if due else self._programs.follow
        self._states, prediction = program(self._params, self._states, patches)
        return jax.device_get((prediction.box_cxcywh, self._states.roi))
