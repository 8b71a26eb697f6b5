from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from roam_jax.core.samples import Samples
from roam_jax.tracking.memory import empty_memory, join, recall, remember


def sample(value, count=1):
    value = float(value)
    return Samples(
        jnp.full((count, 2, 2, 3), value),
        jnp.full((count, 2, 2), value),
        jnp.full((count, 4), value),
        jnp.ones(count),
        jnp.ones(count),
    )


def fill(memory, values, accept=True):
    for value in values:
        memory = remember(memory, sample(value), jnp.asarray(accept))
    return memory


def values_of(samples):
    for leaf in samples[:3]:  # all parts of a sample travel together
        np.testing.assert_array_equal(leaf.reshape(leaf.shape[0], -1)[:, 0], samples.boxes_cxcywh[:, 0])
    return samples.boxes_cxcywh[:, 0].tolist()


def test_empty():
    memory = empty_memory(4, sample(1, count=9))
    assert memory.capacity == 4
    assert int(memory.used) == 0
    seen = recall(memory, 0, 3)
    np.testing.assert_array_equal(seen.weights, 0)
    assert seen.features.shape == (3, 2, 2, 3)


def test_in_the_order_of_their_arrival():
    memory = fill(empty_memory(4, sample(0)), [1, 2, 3])
    assert int(memory.used) == 3
    assert values_of(recall(memory, 0, 3)) == [1, 2, 3]
    np.testing.assert_array_equal(recall(memory, 0, 3).weights, 1)


def test_steps_take_turns_around_and_around():
    memory = fill(empty_memory(4, sample(0)), [1, 2, 3])
    assert [values_of(recall(memory, step, 2)) for step in range(3)] == [[1, 2], [3, 1], [2, 3]]
    assert values_of(recall(memory, 0, 5)) == [1, 2, 3, 1, 2]


def test_a_full_memory_forgets_the_oldest():
    memory = empty_memory(3, sample(0))
    for written in range(3, 9):
        full = fill(memory, range(1, written + 1))
        assert int(full.used) == 3
        assert values_of(recall(full, 0, 3)) == [written - 2, written - 1, written]


def test_a_refused_sample_leaves_no_trace():
    memory = fill(empty_memory(3, sample(0)), [1, 2, 3, 4])
    after = fill(memory, [99], accept=False)
    for ours, theirs in zip(jax.tree.leaves(after), jax.tree.leaves(memory), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert values_of(recall(fill(after, [5]), 0, 3)) == [3, 4, 5]


def test_join():
    both = join(sample(1, 2), sample(2))
    assert values_of(both) == [1, 1, 2]
    assert both.weights.shape == (3,)
