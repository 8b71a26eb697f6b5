"""Correlation of a feature map with a warped filter: one contract, two ways to compute it.

`direct` convolves with the padded canvas; `spectral` multiplies spectra. Both have zero padding and output maps of the
input's size, and agree to float32 rounding. On a CPU `spectral` is faster, its gradient by more than ten times
(`benchmarks/correlate.py`).

The spectra are taken by matrix products, not by `jnp.fft`: maps and filters are so small that this is as fast, the
warping costs nothing more as its matrices are multiplied into those of the filter's transform, and XLA's FFT on a CPU
waits for ever where two of them run at once (jax 0.11.1 and 0.11.2, `experiments/fft_hang.py`).
"""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from roam_jax.core.warp import interpolation_matrix, warp

Way = Literal["auto", "direct", "spectral"]
EXACT = jax.lax.Precision.HIGHEST
"""float32 throughout: an accelerator would take products of spectra, which cancel, with ten bits"""


def correlate(
    features: Float[Array, "n h w c"],
    filters: Float[Array, "k k c o"],
    phi: Float[Array, "2"],
    canvas: int,
    method: Way = "auto",
) -> Float[Array, "n h w o"]:
    """Correlation of `features` with W(`filters`, `phi`) (Eq. 2, 3), zero-padded, same size.

    Args:
        features: n maps.
        filters: base filters, k odd.
        phi: traced filter size (rows, columns), odd, at most `canvas`.
        canvas: odd size that bounds phi.
        method: `auto` takes `spectral`, except for canvases so small that nothing is gained.
    """
    if method == "direct" or (method == "auto" and canvas <= 3):
        return _direct(features, warp(filters, phi, canvas))
    return _spectral(features, filters, phi, canvas)


def _direct(features: Array, kernel: Array) -> Array:
    return jax.lax.conv_general_dilated(
        features, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )  # fmt: skip


def _spectral(features: Array, filters: Array, phi: Array, canvas: int) -> Array:
    n, height, width, channels = features.shape
    base, outputs = filters.shape[0], filters.shape[-1]
    # The filter reaches canvas // 2 cells beyond the map: with such periods nothing wraps around into it.
    periods = (height + canvas // 2, width + canvas // 2)
    rows, columns = (waves(period, np.arange(side)) for period, side in zip(periods, (height, width), strict=True))
    reach = np.arange(canvas) - canvas // 2
    warped_rows, warped_columns = (
        jnp.dot(waves(period, reach), interpolation_matrix(size, base, canvas), precision=EXACT)
        for period, size in zip(periods, phi, strict=True)
    )
    seen = jnp.moveaxis(features, 0, 2).reshape(height, width, n * channels)  # few large products, not many small ones
    seen = _transform(seen, rows, columns).reshape(len(rows), len(columns), n, channels)
    filtered = _transform(filters.reshape(base, base, -1), warped_rows, warped_columns)
    filtered = filtered.reshape(len(rows), len(columns), channels, outputs)
    product = _multiply(jnp.concatenate(_complex(seen), axis=-1), *_complex(filtered))
    back = [
        waves(period, np.arange(side), weighted=True).T for period, side in zip(periods, (height, width), strict=True)
    ]
    response = _transform(_real(*product).reshape(len(rows), len(columns), n * outputs), *back)
    return jnp.moveaxis(response.reshape(height, width, n, outputs), 2, 0)


def waves(period: int, at: np.ndarray, weighted: bool = False) -> np.ndarray:
    """Cosines, then sines, of the frequencies 0 to period // 2 (rows) at the places `at` (columns).

    `weighted` ones belong to the inverse transform: most frequencies stand for their negative as well.
    """
    frequency = np.arange(period // 2 + 1)
    angle = 2 * np.pi * np.outer(frequency, at) / period
    weight = np.where((frequency == 0) | (2 * frequency == period), 1, 2)[:, None] / period if weighted else 1.0
    return np.concatenate([weight * np.cos(angle), weight * np.sin(angle)]).astype(np.float32)


def _transform(maps: Array, rows: Array | np.ndarray, columns: Array | np.ndarray) -> Float[Array, "u v m"]:
    """Matrices applied to both axes of (h, w, m) maps."""
    return jnp.einsum("vw,uwm->uvm", columns, jnp.einsum("uh,hwm->uwm", rows, maps, precision=EXACT), precision=EXACT)


def _complex(waves: Float[Array, "u v *m"]) -> tuple[Float[Array, "2 u/2 v/2 *m"], Float[Array, "2 u/2 v/2 *m"]]:
    """Real and imaginary parts at the frequencies (u, v) and (-u, v), from products of cosines and sines."""
    (cc, cs), (sc, ss) = (jnp.split(half, 2, axis=1) for half in jnp.split(waves, 2, axis=0))
    return jnp.stack([cc - ss, cc + ss]), jnp.stack([-sc - cs, sc - cs])


def _real(real: Float[Array, "2 u v *m"], imaginary: Float[Array, "2 u v *m"]) -> Float[Array, "2*u 2*v *m"]:
    """Inverse of `_complex`: what cosines and sines are to be multiplied with."""
    (plus, minus), (i_plus, i_minus) = real, imaginary
    cosines = jnp.concatenate([plus + minus, -i_plus - i_minus], axis=1)
    sines = jnp.concatenate([i_minus - i_plus, minus - plus], axis=1)
    return jnp.concatenate([cosines, sines]) / 2


def _multiply(
    seen: Float[Array, "2 u v n d"], real: Float[Array, "2 u v c o"], imaginary: Float[Array, "2 u v c o"]
) -> tuple[Float[Array, "2 u v n o"], Float[Array, "2 u v n o"]]:
    """Spectrum of the maps, real parts beside imaginary ones, times the conjugate of the filters', summed over c."""
    to_real = jnp.concatenate([real, imaginary], axis=-2)
    to_imaginary = jnp.concatenate([-imaginary, real], axis=-2)
    if real.shape[-1] == 1:  # XLA on a CPU: two matrix-vector products take half the time of one with two columns
        return jnp.matmul(seen, to_real, precision=EXACT), jnp.matmul(seen, to_imaginary, precision=EXACT)
    both = jnp.matmul(seen, jnp.concatenate([to_real, to_imaginary], axis=-1), precision=EXACT)
    outputs = real.shape[-1]
    return both[..., :outputs], both[..., outputs:]
