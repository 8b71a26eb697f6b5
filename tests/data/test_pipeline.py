from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from roam_jax import presets
from roam_jax.data.pipeline import make_pipeline
from roam_jax.data.sequences import DataError
from roam_jax.data.synthetic import synthetic_sequence


def sources(**counts):
    """Synthetic sequences of several sources."""
    return [
        dataclasses.replace(synthetic_sequence(10 * k + i, length=6, height=80, width=80), source=name)
        for k, (name, count) in enumerate(counts.items())
        for i in range(count)
    ]


def take(count, sequences, config=None, **options):
    return list(itertools.islice(make_pipeline(sequences, config or presets.tiny(), **{"seed": 3, **options}), count))


def assert_same(first, second):
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.patches, b.patches)
        np.testing.assert_array_equal(a.boxes_cxcywh, b.boxes_cxcywh)


def test_batch():
    (batch,) = take(1, sources(a=3))
    assert batch.patches.shape == (2, 13, 64, 64, 3)
    assert batch.patches.dtype == np.uint8
    assert batch.boxes_cxcywh.shape == (2, 13, 4)
    assert not np.array_equal(batch.patches[0], batch.patches[1])


@pytest.mark.parametrize("n_threads", [0, 1, 5])
def test_batch_is_a_function_of_seed_and_step(n_threads):
    data, weights = sources(a=3, b=2), {"a": 1.0, "b": 2.0}
    straight = take(7, data, weights=weights, n_threads=2)
    assert_same(straight, take(7, data, weights=weights, n_threads=n_threads))
    assert_same(straight[4:], take(3, data, weights=weights, n_threads=n_threads, start_step=4))
    other = take(1, data, weights=weights, n_threads=n_threads, seed=4)
    assert not np.array_equal(straight[0].boxes_cxcywh, other[0].boxes_cxcywh)


def test_steps_and_epochs_differ():
    batches = take(8, sources(a=2), n_threads=0)
    boxes = [batch.boxes_cxcywh.tobytes() for batch in batches]
    assert len(set(boxes)) == 8


def test_processes_share_the_rows_of_a_batch():
    config = presets.tiny()
    config = dataclasses.replace(config, meta=dataclasses.replace(config.meta, batch=6))
    data = sources(a=3, b=2)
    whole = take(5, data, config)
    parts = [take(3, data, config, process=(index, 3), start_step=2) for index in range(3)]
    for batch, *rows in zip(whole[2:], *parts, strict=True):
        np.testing.assert_array_equal(batch.patches, np.concatenate([r.patches for r in rows]))
        np.testing.assert_array_equal(batch.boxes_cxcywh, np.concatenate([r.boxes_cxcywh for r in rows]))
    with pytest.raises(DataError, match="rows of 4 processes"):
        make_pipeline(data, config, seed=0, process=(0, 4))


def test_mixture(rectangles):
    """Sources are told apart by the colour of their ground."""
    grounds = {"a": (10, 10, 10), "b": (90, 90, 90), "c": (170, 170, 170)}
    data = [rectangles(6, source=name, ground=ground) for name, ground in grounds.items()]
    data.append(dataclasses.replace(data[0], name="second of a"))
    config = presets.tiny()
    clips = dataclasses.replace(config.clips, colour=0.0, grey=0.0, blur=0.0, shift=0.0)
    config = dataclasses.replace(config, clips=clips)

    def shares(**options):
        batches = take(12, data, config, n_threads=0, **options)
        levels = np.concatenate([batch.patches[:, 4, 20, 32, 0] for batch in batches])
        return {name: int((levels == ground[0]).sum()) for name, ground in grounds.items()}

    assert shares() == {"a": 12, "b": 6, "c": 6}
    assert shares(weights={"a": 1.0, "b": 3.0, "c": 0.0}) == {"a": 6, "b": 18, "c": 0}


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"a": 1.0}, "should name the sources"),
        ({"a": 1.0, "b": 1.0, "c": 1.0}, "should name the sources"),
        ({"a": -1.0, "b": 1.0}, "should be positive"),
        ({"a": 0.0, "b": 0.0}, "should be positive"),
    ],
)
def test_wrong_weights(weights, message):
    with pytest.raises(DataError, match=message):
        make_pipeline(sources(a=1, b=1), presets.tiny(), seed=0, weights=weights)


def test_sequences_without_object(rectangles):
    empty = dataclasses.replace(rectangles(4), visible=np.zeros(4, bool))
    with pytest.raises(DataError, match="none shows its object"):
        make_pipeline([empty], presets.tiny(), seed=0)
    assert len(take(2, [empty, rectangles(4)])) == 2


@pytest.mark.parametrize("n_threads", [0, 2])
def test_errors_of_reading_reach_the_caller(rectangles, n_threads):
    class Broken(type(rectangles(1).frames)):
        def read(self, index):
            raise DataError(f"frame {index} cannot be read")

    sequence = rectangles(6)
    sequence = dataclasses.replace(sequence, frames=Broken(sequence.frames.pictures))
    with pytest.raises(DataError, match="cannot be read"):
        take(1, [sequence], n_threads=n_threads)
