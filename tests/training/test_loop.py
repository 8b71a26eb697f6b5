"""The loop with meta-gradients that a script says; everything else is real."""

from __future__ import annotations

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from roam_jax import presets
from roam_jax.backbones import make_backbone
from roam_jax.checkpoints import load_checkpoint
from roam_jax.core.meta import QUANTILES, Unrolled
from roam_jax.data.pipeline import ClipBatch
from roam_jax.data.sequences import DataError
from roam_jax.interrupts import StopRequest
from roam_jax.training.loop import Diverged, Job, train
from roam_jax.training.parallel import Trainer
from roam_jax.training.runs import Run, create_run
from roam_jax.training.state import make_meta_optimizer, make_state
from roam_jax.training.writer import Writer, read_log

ABOUT = {
    "package": "0", "seed": 0, "start": "", "data": ["synthetic"], "sequences": 1, "held_out": 0, "data_digest": "d",
    "command": "c",
}  # fmt: skip
TRUNK = {"w": np.zeros(2, np.float32)}


class Scripted(Trainer):
    """A trainer whose meta-gradient is the mean of the batch's boxes, in every coordinate."""

    def gradient(self, learned, step, batch):
        del step
        value = float(np.mean(batch.boxes_cxcywh))
        by_update = (self.n_local, self.config.unroll.updates)
        losses = Unrolled(
            total=jnp.full(self.n_local, value),
            update=jnp.full(by_update, value),
            meta=jnp.full(by_update, 2 * value),
            terms={"response": jnp.full(by_update, 3 * value), "giou": jnp.full(by_update, 4 * value)},
            rates=jnp.full(by_update, 5 * value),
            spread=jnp.ones((*by_update, QUANTILES)),
        )
        return jax.tree.map(lambda leaf: jnp.full(leaf.shape, value), learned), losses


def batch_of(value):
    return ClipBatch(np.zeros((2, 1, 4, 4, 3), np.uint8), np.full((2, 1, 4), value, np.float32), np.ones((2, 1), bool))


def make_config(steps=6, **run_changes):
    config = presets.tiny()
    return dataclasses.replace(
        config,
        backbone=dataclasses.replace(config.backbone, neck_channels=4),
        meta=dataclasses.replace(config.meta, steps=steps),
        run=dataclasses.replace(config.run, **run_changes),
    )


@pytest.fixture(scope="module")
def scripted():
    config = make_config()
    transform = make_meta_optimizer(config.meta)
    return Scripted(make_backbone(config), config, transform, TRUNK, seed=0, devices=jax.devices()[:1])


@pytest.fixture
def make_job(tmp_path, make_learned, scripted):
    """A job in a new run folder, and its first state."""

    def make(held_out=(), judge=None, **changes):
        changed = {"max_refused": 3, "save_every": 2, "validate_every": 0, "keep": 9, **changes}
        config = make_config(**changed)
        folder = tmp_path / "run"
        if not folder.exists():
            create_run(folder, config, ABOUT)
        run = Run(folder, keep=config.run.keep)
        job = Job(config, scripted, TRUNK, run, ABOUT, list(held_out), judge)
        return job, jax.device_get(make_state(make_learned(), scripted.transform))

    return make


def go(job, state, values, stop=None):
    with Writer(job.run.folder, resume_step=int(state.step), tensorboard=False) as writer:
        try:
            return train(job, state, map(batch_of, values), writer, stop or StopRequest())
        finally:
            job.run.close()


def steps_of(job):
    return sorted(int(path.name) for path in (job.run.folder / "checkpoints").iterdir())


def assert_same(ours, theirs):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_array_equal(a, b)


def test_all_steps_are_made_logged_and_saved(make_job):
    job, state = make_job()
    state, complete = go(job, state, itertools.repeat(0.5))
    assert complete
    assert int(state.step) == 6
    assert steps_of(job) == [2, 4, 6]
    records = read_log(job.run.folder / "log.jsonl")
    assert [record["step"] for record in records] == list(range(6))
    first = records[0]
    assert first["scalars"]["train/loss"] == 0.5
    assert first["scalars"]["train/refused"] == 0
    assert first["scalars"]["gradient/neck"] > 0
    expected = {"update": 0.5, "meta": 1.0, "response": 1.5, "giou": 2.0, "rate": 2.5}
    assert first["series"] == {f"train/{name}": [value] * 2 for name, value in expected.items()}
    names = {f"{group}/{branch}" for group in ("theta", "initial_rates") for branch in ("cf", "reg")}
    assert set(first["histograms"]) == names | {"rates/0", "rates/1"}
    assert [record["step"] for record in records if "histograms" in record] == [0, 5]
    times = read_log(job.run.folder / "time.jsonl")
    assert set(times[3]["scalars"]) == {"step", "data", "clips_per_second"}


def test_the_tracker_is_that_of_the_last_step(make_job):
    job, state = make_job(validate_every=0)
    state, _ = go(job, state, itertools.repeat(0.5))
    written = load_checkpoint(job.run.folder / "tracker")
    assert written.config == job.config
    assert "6 of 6 steps" in written.card
    assert "Learned from (layout, folder, weight):\n\n- `synthetic`\n" in written.card
    np.testing.assert_array_equal(written.params["theta0"]["cf"]["bias"], state.learned.theta0.cf.bias)
    np.testing.assert_array_equal(written.params["trunk"]["w"], np.zeros(2))


def test_gradients_that_are_not_finite_are_counted_and_end_the_run(make_job):
    job, state = make_job(steps=20)
    values = [0.5, np.nan, 0.5, np.nan, np.nan, np.inf, 0.5]
    with pytest.raises(Diverged, match="3 times in a row up to step 5"):
        go(job, state, values)
    records = read_log(job.run.folder / "log.jsonl")
    assert [record["scalars"]["train/refused"] for record in records] == [0, 1, 1, 2, 3, 4]
    with np.load(job.run.folder / "refused_000005_0.npz") as arrays:
        assert np.isinf(arrays["boxes_cxcywh"]).all()
        assert arrays["patches"].shape == (2, 1, 4, 4, 3)
    assert steps_of(job) == [2, 4]
    assert int(job.run.load_latest(state, report=pytest.fail).refused) == 2


def test_a_stop_saves_and_leaves(make_job):
    job, state = make_job(save_every=100)
    stop = StopRequest()

    def values():
        for step in itertools.count():
            stop.requested = step == 3
            yield 0.5

    state, complete = go(job, state, values(), stop)
    assert not complete
    assert int(state.step) == 4
    assert steps_of(job) == [4]
    assert_same(job.run.load_latest(state, report=pytest.fail), state)


def test_a_batch_that_cannot_be_read_loses_no_step(make_job):
    job, state = make_job(save_every=100)

    def values():
        yield from [0.5, 0.25, 0.125]
        raise DataError("frame 7 is gone")

    with pytest.raises(DataError, match="frame 7"):
        go(job, state, values())
    assert steps_of(job) == [3]


def test_going_on_gives_the_same_state_and_the_same_log(make_job):
    values = [0.5, -0.25, np.nan, 0.75, 0.5, -1.0]
    job, start = make_job()
    whole, _ = go(job, start, values)
    log = (job.run.folder / "log.jsonl").read_bytes()

    again = job.run.folder / "checkpoints"
    for late in (4, 6):  # as if killed after step 4, before it was saved
        (again / f"{late:06d}" / "manifest.json").unlink()
    job, start = make_job()
    told: list[str] = []
    state = job.run.load_latest(start, report=told.append)
    assert int(state.step) == 2
    state, _ = go(job, state, values[2:])
    assert_same(state, whole)
    assert (job.run.folder / "log.jsonl").read_bytes() == log


def test_the_best_by_validation_is_kept(make_job, capsys):
    aucs = iter([0.3, 0.6, 0.4])
    seen = []

    def judge(checkpoint):
        seen.append(checkpoint)
        return {"Deer": next(aucs), "Bolt": 0.2}

    held_out = [batch_of(0.25), batch_of(0.75)]
    job, state = make_job(held_out=held_out, judge=judge, validate_every=2, save_every=100, keep=1)
    go(job, state, itertools.repeat(0.5))
    assert steps_of(job) == [4, 6]
    printed = [line.strip() for line in capsys.readouterr().out.splitlines() if "step" in line]
    assert printed == [
        f"step {step}: loss on held-out clips 0.5000, success AUC {auc}"
        for step, auc in ((2, "0.250"), (4, "0.400"), (6, "0.300"))
    ]
    tracker = load_checkpoint(job.run.folder / "tracker")
    assert "4 of 6 steps" in tracker.card
    assert "- auc: 0.4000" in tracker.card
    assert "- auc/Deer: 0.6000" in tracker.card
    records = [r for r in read_log(job.run.folder / "log.jsonl") if "validation/auc" in r.get("scalars", {})]
    assert [record["step"] for record in records] == [1, 3, 5]
    assert [record["scalars"]["validation/auc"] for record in records] == pytest.approx([0.25, 0.4, 0.3])
    assert records[0]["scalars"]["validation/loss"] == pytest.approx(0.5)
    np.testing.assert_array_equal(tracker.params["theta0"]["cf"]["bias"], seen[1].params["theta0"]["cf"]["bias"])


def test_without_sequences_the_best_is_by_the_loss(make_job):
    held_out = [batch_of(0.25)]
    job, state = make_job(held_out=held_out, validate_every=2)
    go(job, state, itertools.repeat(0.5))
    assert job.run.best_score == pytest.approx(-0.25)
