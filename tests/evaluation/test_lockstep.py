from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from roam_jax import presets
from roam_jax.checkpoints import Checkpoint
from roam_jax.data.sequences import DataError, Frames, Sequence
from roam_jax.evaluation.formats import Run
from roam_jax.evaluation.lockstep import lane_programs, track_in_lockstep
from roam_jax.evaluation.runner import track_here
from roam_jax.tracking.host import HostCrop
from roam_jax.tracking.online import Online, Prediction, TrackerState
from roam_jax.tracking.params import init_params, params_to_dict
from roam_jax.tracking.tracker import Tracker


@dataclass(frozen=True)
class ArrayFrames(Frames):
    pictures: list[np.ndarray]

    def __len__(self) -> int:
        return len(self.pictures)

    def read(self, index: int) -> np.ndarray:
        if self.pictures[index].size == 0:
            raise DataError("a picture is missing")
        return self.pictures[index]


def draw_sequence(name: str, length: int, size_wh: tuple[int, int], step: tuple[int, int]) -> Sequence:
    """A bright rectangle with a dark edge that moves over a smooth background."""
    width, height = size_wh
    y, x = np.mgrid[:height, :width]
    pictures, boxes = [], []
    for index in range(length):
        picture = np.stack([x, y, x + y], axis=-1).astype(np.uint8)  # without noise, which would magnify rounding
        left, top = 40 + step[0] * index, 30 + step[1] * index
        picture[top : top + 18, left : left + 24] = (40, 20, 60)
        picture[top + 3 : top + 15, left + 3 : left + 21] = (250, 220, 40)
        pictures.append(picture)
        boxes.append([left, top, 24, 18])
    return Sequence(name, ArrayFrames(pictures), np.array(boxes, np.float32))


@pytest.fixture(scope="module")
def tracker() -> Tracker:
    """Random parameters, with a first step and updates that are large enough to change the model."""
    config = presets.tiny()
    params = jax.jit(lambda key: init_params(config, key=key))(jax.random.key(0))
    head = {**params.omega["head"], "b": jnp.full(1, -5.0)}
    params = params._replace(omega={**params.omega, "head": head})
    return Tracker(Checkpoint(config, jax.tree.map(np.asarray, params_to_dict(params)), ""), crop="host")


@pytest.fixture(scope="module")
def sequences() -> list[Sequence]:
    """More than there are places, of other sizes and lengths; one without a second frame."""
    return [
        draw_sequence("a", 9, (120, 96), (2, 1)),
        draw_sequence("bb", 6, (160, 100), (3, 1)),
        draw_sequence("ccc", 4, (140, 120), (1, 3)),
        draw_sequence("dddd", 1, (120, 96), (0, 0)),
        draw_sequence("eeeee", 8, (128, 128), (2, 2)),
    ]


def test_lockstep_is_one_by_one(tracker: Tracker, sequences: list[Sequence]) -> None:
    alone = dict(track_here(sequences, lambda: tracker))
    together = dict(track_in_lockstep(sequences, lambda: tracker, 2))
    assert set(alone) == set(together) == {sequence.name for sequence in sequences}
    for sequence in sequences:
        one, other = alone[sequence.name], together[sequence.name]
        assert isinstance(one, Run)
        assert isinstance(other, Run)
        assert one.boxes_xywh.shape == other.boxes_xywh.shape == (len(sequence), 4)
        np.testing.assert_allclose(other.boxes_xywh, one.boxes_xywh, atol=0.02)
        assert other.seconds.shape == (len(sequence),)
        assert (other.seconds > 0).all()
    moved = [alone[name].boxes_xywh for name in ("a", "bb", "eeeee")]
    assert all(np.abs(boxes - boxes[0]).max() > 1 for boxes in moved)


def test_the_program_without_the_update_is_the_tracker_without_updates(
    tracker: Tracker, sequences: list[Sequence]
) -> None:
    """Also where an update is due: which frames that are, only the other program knows."""
    config, programs, crop = tracker.config, lane_programs(tracker.online), HostCrop(tracker.config)
    still = Online(replace(config, online=replace(config.online, updates=False)))
    first, second = sequences[0].frames[0], sequences[0].frames[1]
    start = programs.start(tracker.params, *crop.first(first, sequences[0].boxes_xywh[0]))
    start = start._replace(frame=jnp.int32(config.online.tau - 1))
    patches = crop.search(second, start.roi)
    expected, prediction = jax.jit(still.step_patches)(tracker.params, start, patches)

    def run(program: Callable) -> tuple[TrackerState, Prediction]:
        both = jax.tree.map(lambda x: jnp.stack([x, x]), start)
        actual = program(tracker.params, both, np.stack([patches, patches]))
        return jax.tree.map(lambda x: x[1], actual)

    followed, actual = run(programs.follow)
    for ours, theirs in zip(jax.tree.leaves((followed, actual)), jax.tree.leaves((expected, prediction)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3)
    assert int(followed.memory.written) == 1
    updated, actual = run(programs.update)
    np.testing.assert_allclose(actual.box_cxcywh, prediction.box_cxcywh, atol=0.02)
    parts = zip(*map(jax.tree.leaves, (start.model, followed.model, updated.model)), strict=True)
    for before, kept, changed in parts:
        np.testing.assert_array_equal(kept, before)
        assert np.any(changed != before)


def test_broken_sequences_do_not_stop_the_others(tracker: Tracker, sequences: list[Sequence]) -> None:
    good, hidden, other_size, missing = sequences[0], sequences[1], sequences[2], sequences[4]
    hidden = Sequence(hidden.name, hidden.frames, np.full((6, 4), np.nan, np.float32))
    pictures = list(other_size.frames)
    pictures[2] = pictures[2][:-4]
    other_size = replace(other_size, frames=ArrayFrames(pictures))
    pictures = list(missing.frames)
    pictures[3] = pictures[3][:0]
    missing = replace(missing, frames=ArrayFrames(pictures))
    outcomes = dict(track_in_lockstep([hidden, other_size, missing, good], lambda: tracker, 2))
    alone = dict(track_here([good], lambda: tracker))["a"]
    np.testing.assert_allclose(outcomes.pop("a").boxes_xywh, alone.boxes_xywh, atol=0.02)
    assert outcomes == {
        "bb": "sequence bb should have a box in its first frame to start the tracker from",
        "ccc": "sequence ccc should have images of one size, but they change",
        "eeeee": "a picture is missing",
    }


def test_wrong_arguments(tracker: Tracker, sequences: list[Sequence]) -> None:
    assert list(track_in_lockstep([], lambda: tracker, 2)) == []
    with pytest.raises(ValueError, match="at least 1, but is 0"):
        list(track_in_lockstep(sequences, lambda: tracker, 0))
