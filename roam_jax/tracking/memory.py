"""Updating samples of the online tracker: a ring buffer of fixed shape (Section 4)."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from roam_jax.core.samples import Samples


class Memory(NamedTuple):
    """The last accepted samples; places not yet written have weight 0."""

    samples: Samples
    written: Int[Array, ""]
    """samples written since the start; the next one goes to this number modulo the capacity"""

    @property
    def capacity(self) -> int:
        """Places."""
        return self.samples.weights.shape[0]

    @property
    def used(self) -> Int[Array, ""]:
        """Places in use."""
        return jnp.minimum(self.written, self.capacity)


def empty_memory(capacity: int, like: Samples) -> Memory:
    """No sample yet, room for `capacity` samples of the shapes of `like`'s."""
    samples = jax.tree.map(lambda x: jnp.zeros((capacity, *x.shape[1:]), x.dtype), like)
    return Memory(samples, jnp.zeros((), jnp.int32))


def remember(memory: Memory, sample: Samples, accept: Bool[Array, ""]) -> Memory:
    """The memory with one more sample (n = 1) in the place of the oldest, if it is accepted."""
    place = jnp.mod(memory.written, memory.capacity)

    def write(all_samples, one):
        # Write back what was there when the sample is refused: cheaper than a copy of the whole buffer.
        old = jax.lax.dynamic_slice_in_dim(all_samples, place, 1)
        return jax.lax.dynamic_update_slice_in_dim(all_samples, jnp.where(accept, one, old), place, 0)

    return Memory(jax.tree.map(write, memory.samples, sample), memory.written + accept.astype(jnp.int32))


def recall(memory: Memory, step: Int[Array, ""] | int, count: int) -> Samples:
    """Samples for one of several steps: each takes the next `count`, oldest first, around and around (official)."""
    used = jnp.maximum(memory.used, 1)
    oldest = jnp.where(memory.written > memory.capacity, jnp.mod(memory.written, memory.capacity), 0)
    places = jnp.mod(oldest + jnp.mod(step * count + jnp.arange(count), used), memory.capacity)
    return jax.tree.map(lambda x: x[places], memory.samples)


def join(first: Samples, second: Samples) -> Samples:
    """Samples of both."""
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), first, second)
