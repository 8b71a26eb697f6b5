"""`roam_jax.evaluate` and `roam_jax.train`: the commands in Python."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

import roam_jax
from roam_jax import presets
from roam_jax.data.sequences import Sequence
from roam_jax.data.synthetic import synthetic_sequence
from roam_jax.errors import UsageError
from roam_jax.training.runs import open_run


class Still:
    """It stays where it is started; in its second sequence it breaks."""

    score, lost = math.nan, False

    def __init__(self, breaks: bool = False) -> None:
        self.breaks, self.box, self.started = breaks, None, 0

    def init(self, image, box):
        self.box, self.started = np.asarray(box), self.started + 1

    def update(self, image):
        if self.breaks and self.started == 2:
            raise ValueError("it broke")
        return self.box


@pytest.fixture(scope="module")
def sequences() -> list[Sequence]:
    return [synthetic_sequence(number) for number in range(2)]


def test_the_first_boxes(sequences):
    seen = []
    done = roam_jax.evaluate(sequences, Still, report=seen.append)
    assert [row.name for row in done.rows] == [each.name for each in sequences]
    assert seen == list(done.rows)
    for row, sequence in zip(done.rows, sequences, strict=True):
        boxes = np.repeat(sequence.boxes_xywh[:1], len(sequence), axis=0)
        expected = roam_jax.evaluation.metrics.success_auc(boxes, sequence.boxes_xywh)
        assert row.scores.auc == pytest.approx(expected)
    assert done.auc.mean == pytest.approx(np.mean([row.scores.auc for row in done.rows]))
    assert sequences[1].name in str(done)
    table = done.to_pandas()
    assert list(table.sequence) == [each.name for each in sequences]
    np.testing.assert_allclose(table.auc, [row.scores.auc for row in done.rows])


def test_several_starts_and_what_breaks(sequences):
    done = roam_jax.evaluate(sequences[:1], Still, protocol="robust", max_frames=5)
    assert len(done.rows) == 9
    assert set(done.to_pandas().sequence) == {sequences[0].name}
    other = roam_jax.evaluate(sequences[:1], lambda: Still(breaks=True), protocol="robust", max_frames=5)
    assert list(other.broken.values()) == ["ValueError: it broke"]
    assert len(other.rows) == 8
    assert done.minus(other).mean == 0
    assert "below 0.3" in str(done)
    with pytest.raises(ValueError, match="at least one"):
        roam_jax.evaluate([], Still)


def test_training_and_going_on(tmp_path):
    config = presets.tiny()
    config = dataclasses.replace(config, meta=dataclasses.replace(config.meta, steps=1))
    folder = roam_jax.train(config, "synthetic", tmp_path / "run", seed=3)
    assert roam_jax.Tracker(folder).config.meta.steps == 1
    longer = dataclasses.replace(config, meta=dataclasses.replace(config.meta, steps=2))
    again = roam_jax.train(longer, "synthetic", tmp_path / "run", resume=True)
    assert again == folder
    assert len((tmp_path / "run" / "log.jsonl").read_text().splitlines()) >= 2
    assert open_run(tmp_path / "run")[0] == longer
    with pytest.raises(UsageError, match="name what to learn from"):
        roam_jax.train(config, (), tmp_path / "other")
