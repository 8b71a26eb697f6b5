"""The networks of a run as linen's tables: modules, shapes and numbers of parameters."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from roam_jax.backbones import make_backbone
from roam_jax.config import Config
from roam_jax.core.optimizer import count
from roam_jax.method import init_meta, make_optimizer

WIDTH = 120
"""columns of a table, whatever the terminal's are"""


def tabulate(config: Config) -> str:
    """Tables of the trunk, of its learned stages, the neck and the optimizer's network, where there are such.

    Shapes are those of one patch, and of all coordinates of theta. Nothing is computed. An optimizer without a
    network has no table.

    Raises:
        ValueError: as `make_backbone`.
    """
    backbone = make_backbone(config)
    spec, shapes = backbone.spec, backbone.shapes
    side = backbone.patch_size
    patches = jax.ShapeDtypeStruct((1, side, side, 3), jnp.uint8)
    tables = [_table("trunk", spec.module, patches)]
    if spec.top is not None:
        seen = jax.eval_shape(backbone.trunk, {"trunk": shapes["trunk"]}, patches)
        tables.append(_table("learned stages of the trunk", spec.top, seen))
    if backbone.neck_channels:
        tables.append(_table("neck", backbone.head, backbone.seen, shapes["stats"]))
    optimizer = make_optimizer(config)
    if optimizer.network is not None:
        network = optimizer.network()
        meta = jax.eval_shape(lambda key: init_meta(config, backbone.channels, key=key), jax.random.key(0))
        n = count(meta.theta0)
        inputs = jax.ShapeDtypeStruct((optimizer.width, n), jnp.float32)
        tables.append(_table("optimizer", network, jax.eval_shape(lambda: network.start(n)), inputs))
    return "\n\n".join(tables)


def _table(title: str, module: Any, *inputs: Any) -> str:
    """One level deep, without colours; the inputs are of these shapes."""
    inputs = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), inputs)
    console = {"width": WIDTH, "force_terminal": False}
    text = module.tabulate(jax.random.key(0), *inputs, depth=1, console_kwargs=console)
    lines = [line.rstrip() for line in text.splitlines()]
    return "\n".join([title, *(line for line in lines if line)])
