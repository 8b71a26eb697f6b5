"""Numbers of the shipped checkpoint on drawn pictures: `python tests/golden/make_shipped.py FILE.npz` writes them.

They are compared by `tests/test_shipped.py`, and made anew with every checkpoint that ships. Steps and the
meta-gradient are taken with few iterations of the implicit step. With as many as the checkpoint asks for, another
number of threads changes the meta-gradient by a fifth (theta0), and features that differ by 1e-7 change theta after the
first frame by 2e-2, because conjugate gradients amplify rounding.
"""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from roam_jax.backbones import make_backbone
from roam_jax.checkpoints import load_checkpoint
from roam_jax.config import Config
from roam_jax.core.losses import tracking_losses
from roam_jax.core.samples import filter_size_of, samples_of
from roam_jax.core.update import first_update, initial_rates, loss_and_gradient, update
from roam_jax.tracking.online import Online
from roam_jax.tracking.params import params_from_dict
from roam_jax.training.episodes import clip_meta_loss
from roam_jax.training.parts import Learned

SIDE = 224
FIRST, LATER = 9, 20
ITERATIONS = 2
BOX = np.array([100.0, 80.0, 60.0, 40.0], np.float32)


def draw(seed: int, height: int, width: int) -> np.ndarray:
    """A smooth colour picture, (height, width, 3) uint8: a coarse random one between its points, in whole numbers."""
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 16 + 2, width // 16 + 2, 3))
    rows, columns = np.arange(height), np.arange(width)
    r, c = (rows % 16)[:, None, None], (columns % 16)[None, :, None]
    at = lambda i, j: coarse[rows[:, None] // 16 + i, columns[None] // 16 + j]  # noqa: E731
    total = (16 - r) * ((16 - c) * at(0, 0) + c * at(0, 1)) + r * ((16 - c) * at(1, 0) + c * at(1, 1))
    return (total // 256).astype(np.uint8)


def compute() -> dict[str, np.ndarray]:
    """All groups of numbers by name."""
    checkpoint = load_checkpoint("lite")
    config = checkpoint.config.check()
    backbone, params = make_backbone(config), params_from_dict(checkpoint.params, config)
    meta = params.meta
    patches = np.stack([draw(seed, SIDE, SIDE) for seed in range(FIRST + LATER)])
    rng = np.random.default_rng(0)
    boxes = np.concatenate([rng.uniform(-40, 40, (len(patches), 2)), rng.uniform(40, 60, (len(patches), 2))], axis=1)
    boxes = jnp.asarray(boxes, jnp.float32)
    phi = filter_size_of(boxes[0, 2:], config)
    found: dict[str, Any] = {}

    features = jax.jit(backbone.features)(params.backbone, patches)
    found["features"] = features[:2, ::3, ::3]
    first, later = (samples_of(features[part], boxes[part], config) for part in (slice(FIRST), slice(FIRST, None)))
    found["losses"] = jnp.stack(
        jax.jit(tracking_losses, static_argnums=(3, 4))(meta.theta0, first, phi, config.model, config.loss)
    )
    loss, gradient = jax.jit(loss_and_gradient, static_argnums=(3, 4))(meta.theta0, first, phi, config, None)
    found["update loss"], found["gradient"] = loss, ravel_pytree(gradient)[0]
    found["lambda0"] = ravel_pytree(initial_rates(meta, config))[0]

    few = dataclasses.replace(config, optimizer=dataclasses.replace(config.optimizer, implicit_iterations=ITERATIONS))

    @jax.jit
    def adapt(meta, first, later):
        start, _ = first_update(meta, meta.theta0, first, phi, few)
        return start, update(meta.omega, start, later, phi, few)

    start, (after, loss) = adapt(meta, first, later)
    found["theta after the first frame"], found["theta after an update"] = (
        ravel_pytree(start.theta)[0],
        ravel_pytree(after.theta)[0],
    )
    found["rates"], found["loss before an update"] = ravel_pytree(after.rates)[0], loss

    online = Online(few, backbone)
    images = [draw(100, 240, 320), draw(101, 240, 320) // 4 + draw(100, 240, 320) // 4 * 3]
    state = jax.jit(online.start)(params, images[0], jnp.asarray(BOX))
    state, prediction = jax.jit(online.step)(params, state, images[1])
    found["box"], found["score"] = prediction.box_cxcywh, prediction.score

    train = dataclasses.replace(
        Config.preset("lite-optimizer").train, updates=2, look_ahead=10, model_rate=1.0, lambda_rate=1.0,
        neck_rate=1.0, top_rate=1.0,
    )  # fmt: skip
    config = dataclasses.replace(few, train=train)
    levels = tuple(backbone.trunk(params.backbone, patches))
    learned = Learned(meta, params.backbone["neck"])
    grad = jax.jit(jax.grad(lambda *a: clip_meta_loss(*a, backbone, config, key=jax.random.key(0)), has_aux=True))
    meta_gradient, losses = grad(learned, levels, boxes)
    found["meta loss"] = losses.total
    neck = dict(meta_gradient.neck)
    parts = {
        **meta_gradient.meta._asdict(),
        "top": neck.pop("top"),
        "neck": {k: v for k, v in neck.items() if k != "stats"},
    }
    for name, part in parts.items():
        leaves = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(part)}
        found[f"meta-gradient {name}"] = jnp.stack([jnp.linalg.norm(leaves[key]) for key in sorted(leaves)])
    return {name: np.asarray(value) for name, value in found.items()}


if __name__ == "__main__":
    np.savez_compressed(sys.argv[1], **compute())
