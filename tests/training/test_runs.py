from __future__ import annotations

import dataclasses
import json

import jax
import numpy as np
import pytest

from roam_jax import presets
from roam_jax.checkpoints import Checkpoint, CheckpointError, load_checkpoint
from roam_jax.data.features import FeatureBatch
from roam_jax.training import runs
from roam_jax.training.runs import Run, RunError, create_run, open_run, save_batch
from roam_jax.training.state import TrainState, make_meta_optimizer, make_state


@pytest.fixture(scope="module")
def state(make_learned) -> TrainState:
    """Of the optimizer without parameters: the tree has an empty part."""
    learned = make_learned("sgd")
    return jax.device_get(make_state(learned, make_meta_optimizer(presets.tiny().meta)))


def at(state: TrainState, step: int) -> TrainState:
    filled = jax.tree.map(lambda leaf: leaf + leaf.dtype.type(step), state)
    return filled._replace(step=np.asarray(step, np.int32))


def tracker(step: int) -> Checkpoint:
    return Checkpoint(presets.tiny(), {"number": np.array([step])}, f"step {step}")


@pytest.fixture
def folder(tmp_path):
    create_run(tmp_path / "run", presets.tiny(), {"seed": 3})
    return tmp_path / "run"


def save(run: Run, state: TrainState, step: int, score: float | None = None) -> None:
    run.save(at(state, step), tracker(step), metadata={"step": step}, score=score)


def steps_of(folder) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def tracker_step(folder) -> int:
    return int(load_checkpoint(folder / "tracker").params["number"][0])


def test_what_a_run_was_started_with_is_read_back(folder):
    assert open_run(folder) == (presets.tiny(), {"seed": 3})


def test_the_newest_and_the_best_are_kept(folder, state):
    run = Run(folder, keep=2)
    for step, score in ((1, 0.1), (2, 0.5), (3, 0.4), (4, None), (5, float("0.5"))):
        save(run, state, step, score)
    run.close()
    assert steps_of(folder) == ["000002", "000004", "000005"]
    assert tracker_step(folder) == 2
    assert json.loads((folder / "best.json").read_text()) == {"step": 2, "score": 0.5}
    assert load_checkpoint(folder / "tracker").card == "step 2"

    again = Run(folder, keep=2)
    save(again, state, 6, 0.45)  # the best of before is known
    again.close()
    assert steps_of(folder) == ["000002", "000005", "000006"]
    assert tracker_step(folder) == 2


def test_without_validation_the_newest_tracker_is_there(folder, state):
    run = Run(folder, keep=1)
    save(run, state, 1)
    save(run, state, 2)
    run.close()
    assert steps_of(folder) == ["000002"]
    assert tracker_step(folder) == 2


def test_the_newest_checkpoint_is_loaded_bit_by_bit(folder, state):
    run = Run(folder, keep=2)
    save(run, state, 1)
    save(run, state, 2)
    run.wait()
    loaded = run.load_latest(state, report=pytest.fail)
    for ours, theirs in zip(jax.tree.leaves(loaded), jax.tree.leaves(at(state, 2)), strict=True):
        np.testing.assert_array_equal(ours, theirs)
        assert ours.dtype == theirs.dtype
    assert jax.tree.structure(loaded) == jax.tree.structure(state)


def damage(path) -> None:
    files = [p for p in path.rglob("*") if p.is_file() and p.name != "manifest.json"]
    largest = max(files, key=lambda p: p.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 1
    largest.write_bytes(data)


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(folder, state):
    run = Run(folder, keep=3)
    for step in (1, 2, 3):
        save(run, state, step)
    run.wait()
    damage(folder / "checkpoints" / "000003")
    (folder / "checkpoints" / "000002" / "manifest.json").unlink()
    told: list[str] = []
    assert int(run.load_latest(state, report=told.append).step) == 1
    assert len(told) == 2
    assert "step 3 is left out" in told[0]
    assert "damaged" in told[0]
    assert "step 2" in told[1]
    save(run, state, 3)  # the damaged ones are out of the way
    run.close()
    assert steps_of(folder) == ["000001", "000002.damaged", "000003", "000003.damaged"]
    for step in (1, 3):
        damage(folder / "checkpoints" / f"{step:06d}")
    with pytest.raises(CheckpointError, match="no checkpoint that is whole"):
        Run(folder, keep=1).load_latest(state, report=told.append)


def test_a_run_that_ended_before_its_first_checkpoint_begins_anew(folder, state):
    assert Run(folder, keep=1).load_latest(state, report=pytest.fail) is state


def test_what_a_killed_process_left_is_tidied_up(folder, state):
    run = Run(folder, keep=2)
    save(run, state, 1)
    save(run, state, 2)
    run.close()
    (folder / "tracker").rename(folder / ".tracker.0a1b2c3d.old")
    (folder / "checkpoints" / ".000003.0a1b2c3d.new" / "arrays").mkdir(parents=True)
    (folder / "checkpoints" / ".000002.0a1b2c3d.old").mkdir()
    Run(folder, keep=2)
    assert steps_of(folder) == ["000001", "000002"]
    assert tracker_step(folder) == 2


def test_an_error_of_the_background_comes_out_with_the_next_call(folder, state, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError("the disk is full")

    run = Run(folder, keep=1)
    monkeypatch.setattr(runs, "save_tree", fail)
    save(run, state, 1)
    with pytest.raises(OSError, match="disk is full"):
        save(run, state, 2)
    run.close()


def test_other_processes_write_nothing(folder, state):
    run = Run(folder, keep=1, writes=False)
    save(run, state, 1)
    run.close()
    assert not (folder / "checkpoints").exists()


def test_folders_that_cannot_be_used_are_named(folder, tmp_path):
    with pytest.raises(RunError, match=r"holds a run already.*--resume"):
        create_run(folder, presets.tiny(), {})
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("precious")
    with pytest.raises(RunError, match="not empty"):
        create_run(tmp_path / "other", presets.tiny(), {})
    with pytest.raises(RunError, match=r"no run to resume: it has no run\.json"):
        open_run(tmp_path / "other")
    (folder / "config.json").write_text("{")
    with pytest.raises(RunError, match="damaged"):
        open_run(folder)


def test_a_configuration_of_another_version_is_named(folder):
    values = presets.tiny().to_dict()
    values["run"]["colour_of_the_moon"] = 1
    (folder / "config.json").write_text(json.dumps(values))
    with pytest.raises(RunError, match="colour_of_the_moon"):
        open_run(folder)
    (folder / "config.json").write_text(json.dumps({"train": {}}))
    with pytest.raises(RunError, match=rf"older version: python -m roam_jax\.checkpoints\.convert {folder} "):
        open_run(folder)


def test_batches_on_disk(tmp_path):
    levels = (np.ones((1, 2, 3, 3, 4), np.float16), np.zeros((1, 2, 1, 1, 4), np.float16))
    batch = FeatureBatch(levels, np.ones((1, 2, 4), np.float32), np.ones((1, 2), bool))
    save_batch(tmp_path / "batch.npz", batch)
    with np.load(tmp_path / "batch.npz") as arrays:
        assert sorted(arrays.files) == ["boxes_cxcywh", "level0", "level1", "visible"]
        np.testing.assert_array_equal(arrays["level1"], batch.levels[1])


def test_the_configuration_survives(tmp_path):
    config = dataclasses.replace(presets.lite(), meta=dataclasses.replace(presets.lite().meta, steps=7))
    create_run(tmp_path / "new", config, {})
    assert open_run(tmp_path / "new")[0] == config
