"""Numbers of the shipped checkpoint on drawn pictures: `python tests/golden/make_shipped.py FILE.npz` writes them.

They are compared by `tests/test_shipped.py`, and made anew with every checkpoint that ships. Steps and the
meta-gradient are taken with few iterations of the implicit step. With as many as the checkpoint asks for, another
number of threads changes the meta-gradient by a fifth (theta0), and features that differ by 1e-7 change theta after the
first frame by 2e-2, because conjugate gradients amplify rounding.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from roam_jax import presets
from roam_jax.checkpoints import load_checkpoint
from roam_jax.core.losses import measure_terms
from roam_jax.core.meta import MetaParams
from roam_jax.core.samples import filter_size_of, make_samples
from roam_jax.patches.crop import crop_device
from roam_jax.tracking.online import Online, first_rois, search_roi, search_rois
from roam_jax.tracking.params import Params, params_from_dict
from roam_jax.training.episodes import clip_meta_loss

SIDE = 224
FIRST, LATER = 9, 20
ITERATIONS = 2
BOX_CXCYWH = np.array([130.0, 100.0, 60.0, 40.0], np.float32)

compiled = partial(jax.jit, compiler_options={"xla_backend_optimization_level": "1"})
"""most of the time goes into compiling; at level 0 it is half of it, and rounding is three times that of others"""


def draw(seed: int, height: int, width: int) -> np.ndarray:
    """A smooth colour picture, (height, width, 3) uint8: a small random one upsampled, in whole numbers."""
    small = np.random.default_rng(seed).integers(0, 256, (height // 16 + 2, width // 16 + 2, 3))
    rows, columns = np.arange(height), np.arange(width)
    r, c = (rows % 16)[:, None, None], (columns % 16)[None, :, None]

    def at(i: int, j: int) -> np.ndarray:
        return small[rows[:, None] // 16 + i, columns[None] // 16 + j]

    total = (16 - r) * ((16 - c) * at(0, 0) + c * at(0, 1)) + r * ((16 - c) * at(1, 0) + c * at(1, 1))
    return (total // 256).astype(np.uint8)


def flatten(tree: Any) -> jax.Array:
    """All numbers of a pytree."""
    return ravel_pytree(tree)[0]


def compute() -> dict[str, np.ndarray]:
    """All groups of numbers by name."""
    checkpoint = load_checkpoint("lite")
    config = replace(checkpoint.config, implicit=replace(checkpoint.config.implicit, iterations=ITERATIONS))
    online, params = Online(config), params_from_dict(checkpoint.params, config)
    backbone, method, meta, count = online.backbone, online.method, params.meta, FIRST + LATER
    rng = np.random.default_rng(0)
    boxes = np.concatenate([rng.uniform(-40, 40, (count, 2)), rng.uniform(40, 60, (count, 2))], axis=1)
    boxes = jnp.asarray(boxes, jnp.float32)
    actual: dict[str, Any] = {}

    # The patches of all parts at once, so that the backbone is compiled once.
    images = [draw(100, 240, 320), draw(101, 240, 320) // 4 + draw(100, 240, 320) // 4 * 3]
    crop = compiled(jax.vmap(crop_device, (None, 0, None)), static_argnums=2)
    patches = [np.stack([draw(seed, SIDE, SIDE) for seed in range(count)]).astype(np.float32)]
    searched_rois = search_rois(search_roi(BOX_CXCYWH, config), config)
    for image, rois in zip(images, (first_rois(BOX_CXCYWH, config), searched_rois), strict=True):
        patches.append(crop(image, jax.tree.map(jnp.asarray, rois), SIDE))

    @compiled
    def extract(params: Params, patches: jax.Array) -> Any:
        seen = backbone.trunk(params.backbone, patches)
        features = backbone.neck(params.backbone, seen)
        return tuple(level[:count] for level in seen), jnp.split(features, (count, count + FIRST))

    levels, (drawn, started, searched) = extract(params, jnp.concatenate(patches))
    actual["features"] = drawn[:2, ::3, ::3]

    @compiled
    def measure(meta: MetaParams, features: jax.Array) -> Any:
        first, later = (
            make_samples(features[part], boxes[part], method.geometry) for part in (slice(FIRST), slice(FIRST, None))
        )
        phi = filter_size_of(boxes[0, 2:], method.geometry)
        terms = measure_terms(meta.theta0, first, phi, method.meta)
        loss, gradient = jax.value_and_grad(method.loss_on(first, phi, None))(meta.theta0)
        start, _ = method.start(meta, meta.theta0, first, phi)
        after, loss_before = method.update(meta.omega, start, later, phi)
        return {
            "losses": jnp.stack([terms[name] for name in ("response", "box", "peak", "giou")]),
            "update loss": loss,
            "gradient": flatten(gradient),
            "lambda0": flatten(method.first_rates(meta.lambda0)),
            "theta after the first frame": flatten(start.theta),
            "theta after an update": flatten(after.theta),
            "rates": flatten(after.rates),
            "loss before an update": loss_before,
        }

    actual |= measure(meta, drawn)

    state = compiled(online.start_features)(params, started, jnp.asarray(BOX_CXCYWH), jnp.array([320.0, 240.0]))
    _, prediction = compiled(online.step_features)(params, state, searched)
    actual["box"], actual["score"] = prediction.box_cxcywh, prediction.score

    training = presets.lite_optimizer()
    rates = {f"{part}_rate": 1.0 for part in ("model", "lambda", "neck", "top")}
    config = replace(
        config, unroll=replace(training.unroll, updates=2, look_ahead=10), meta=replace(training.meta, **rates)
    )
    grad = jax.grad(lambda *a: clip_meta_loss(*a, backbone, config, key=jax.random.key(0)), has_aux=True)
    meta_gradient, unrolled = compiled(grad)(params._replace(trunk={}), levels, boxes, jnp.ones(count, bool))
    actual["meta loss"] = unrolled.total
    for name in ("theta0", "lambda0", "omega", "top", "neck"):
        part = jax.tree_util.tree_leaves_with_path(getattr(meta_gradient, name))
        norms = {jax.tree_util.keystr(path): np.linalg.norm(leaf) for path, leaf in part}
        actual[f"meta-gradient {name}"] = np.array([norms[key] for key in sorted(norms)])
    return {name: np.asarray(value) for name, value in actual.items()}


if __name__ == "__main__":
    np.savez_compressed(sys.argv[1], **compute())
