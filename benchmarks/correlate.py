"""Time of the feature-filter correlation by spectra and by direct convolution: `python benchmarks/correlate.py`.

For each method the compiled forward pass, and the gradient of a squared loss with respect to features and filters,
which is what an update of the tracking model needs. The methods' largest relative difference is printed too.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from machine import name_processor

from roam_jax.core.correlate import correlate

METHODS = ("spectral", "direct")


class Size(NamedTuple):
    """Shapes of one correlation."""

    name: str
    maps: int
    side: int
    channels: int
    canvas: int
    base: int
    outputs: int


SIZES = (
    Size("lite, response", 5, 28, 32, 23, 9, 1),
    Size("lite, boxes", 5, 28, 32, 23, 9, 4),
    Size("paper, response", 1, 71, 64, 43, 21, 1),
    Size("paper, boxes", 1, 71, 64, 43, 21, 4),
)


@dataclass(frozen=True)
class Arguments:
    """Time both methods on the sizes of the two presets."""

    repeats: int = 15
    """calls that each median is taken of"""
    limit: float = 10.0
    """seconds: what takes longer at its first run is timed once"""


def make_inputs(size: Size) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Random features and filters, and a filter size that is neither square nor the whole canvas."""
    rng = np.random.default_rng(0)
    features = rng.standard_normal((size.maps, size.side, size.side, size.channels), np.float32)
    filters = rng.standard_normal((size.base, size.base, size.channels, size.outputs), np.float32)
    phi = [size.base // 2 * 2 + 3, size.canvas // 4 * 2 + 1]
    return jnp.asarray(features), jnp.asarray(filters), jnp.asarray(phi, jnp.float32)


def make_forward(size: Size, method: Any) -> Callable[..., jax.Array]:
    """The compiled correlation."""
    return jax.jit(lambda features, filters, phi: correlate(features, filters, phi, size.canvas, method))


def make_gradient(size: Size, method: Any) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """The compiled gradient of half the squared map with respect to features and filters."""

    def loss(features: jax.Array, filters: jax.Array, phi: jax.Array) -> jax.Array:
        return 0.5 * jnp.mean(correlate(features, filters, phi, size.canvas, method) ** 2)

    return jax.jit(jax.grad(loss, argnums=(0, 1)))


def time_median(call: Callable[..., Any], inputs: tuple[Any, ...], repeats: int, limit: float) -> tuple[float, Any]:
    """Median milliseconds of calls after the one that compiles, and what they return."""
    compiled = call.lower(*inputs).compile()  # type: ignore[attr-defined]
    result = None
    seconds: list[float] = []
    while len(seconds) < repeats + 1 and not (seconds and seconds[0] > limit):
        start = time.perf_counter()
        result = jax.block_until_ready(compiled(*inputs))
        seconds.append(time.perf_counter() - start)
    return 1e3 * float(np.median(seconds[1:] or seconds)), result  # the first call also warms the caches


def describe_machine() -> str:
    """Device, processor, cores and versions."""
    device = jax.devices()[0]
    return (
        f"{device.platform}: {device.device_kind}, {jax.device_count()} device(s)\n"
        f"{os.cpu_count()} cores, {name_processor()}, {platform.system()}\n"
        f"Python {platform.python_version()}, jax {jax.__version__}"
    )


def run(arguments: Arguments) -> None:
    print(describe_machine())
    print("\n| size | maps | method | forward ms | gradient ms | difference |")
    print("|---|---|---|---:|---:|---:|")
    for size in SIZES:
        inputs = make_inputs(size)
        reference = None
        for method in METHODS:
            forward, result = time_median(make_forward(size, method), inputs, arguments.repeats, arguments.limit)
            gradient, _ = time_median(make_gradient(size, method), inputs, arguments.repeats, arguments.limit)
            reference = result if reference is None else reference
            difference = float(jnp.max(jnp.abs(result - reference)) / jnp.max(jnp.abs(reference)))
            maps = f"{size.maps} x {size.side} x {size.side} x {size.channels}, canvas {size.canvas}, to {size.outputs}"
            print(
                f"| {size.name} | {maps} | {method} | {forward:.2f} | {gradient:.2f} | {difference:.0e} |", flush=True
            )


if __name__ == "__main__":
    run(tyro.cli(Arguments, prog="python benchmarks/correlate.py"))
