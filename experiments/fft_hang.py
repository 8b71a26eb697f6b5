"""XLA's FFT on a CPU waits for ever where two of them run at once: `python experiments/fft_hang.py`.

Two transforms that do not depend on each other run at the same time on the pool's threads. From jax 0.11.1 on each of
them splits its work over the same pool (`ducc0::...::execParallel` under `FftThunk`) and waits for it; when every
thread waits, none is left to do the work. Seen with jax 0.11.1 and 0.11.2 on two cores; not with 0.10.2 or 0.11.0, nor
on one core, nor with `XLA_FLAGS=--xla_cpu_multi_thread_eigen=false`. This package therefore has no FFT in its programs
(`roam_jax/core/correlate.py`).

The program below needs nothing but jax. It ends with code 0 if all calls return, and 1 if one does not in time.
"""

from __future__ import annotations

import faulthandler
import os
import platform

import jax
import jax.numpy as jnp
import jaxlib.version

CALLS = 3000
SECONDS = 30


@jax.jit
def transform_several(maps: jax.Array, weights: jax.Array) -> list[jax.Array]:
    """There and back again, for several stacks of maps that do not depend on each other."""
    spectra = [jnp.fft.rfft2(stack @ weights, axes=(1, 2)) for stack in maps]
    return [jnp.fft.irfft2(spectrum * jnp.conj(spectrum), axes=(1, 2)) for spectrum in spectra]


def main() -> None:
    print(f"jax {jax.__version__}, jaxlib {jaxlib.version.__version__}, Python {platform.python_version()}", end=", ")
    print(f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores", flush=True)
    maps, weights = jnp.ones((4, 5, 28, 28, 32)), jnp.ones((32, 32))
    for _ in range(CALLS):
        faulthandler.dump_traceback_later(SECONDS, exit=True)  # ends the process with code 1
        jax.block_until_ready(transform_several(maps, weights))
    faulthandler.cancel_dump_traceback_later()
    print(f"all {CALLS} calls returned")


if __name__ == "__main__":
    main()
