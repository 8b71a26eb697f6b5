"""From a batch of clips to the episodes of Algorithm 1, and the batch's meta loss (Eq. 14)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from roam_jax.backbones import Backbone
from roam_jax.config import Config
from roam_jax.core.meta import Episode, MetaLoss, unroll
from roam_jax.core.samples import filter_size_of, samples_of
from roam_jax.core.scaling import draw_scale
from roam_jax.core.update import MetaParams

Levels = tuple[Float[Array, "b f h w c"], ...]
"""trunk features of b clips of f samples each, finest level first"""


class Learned(NamedTuple):
    """Everything that the meta-gradient is taken of."""

    meta: MetaParams
    neck: Any


def make_episode(
    neck: Any, levels: tuple[Float[Array, "f h w c"], ...], boxes_cxcywh: Float[Array, "f 4"],
    backbone: Backbone, config: Config, *, key: Array,
) -> Episode:  # fmt: skip
    """Cut one clip for T updates; which of the look-ahead frames judge each update is drawn at random (Eq. 13)."""
    t = config.train
    first = boxes_cxcywh.shape[0] - t.clip_frames
    draws = jax.random.uniform(key, (t.updates, t.look_ahead))
    ahead = jnp.argsort(draws, axis=1)[:, : t.tests]
    starts = first + t.look_ahead * jnp.arange(t.updates)
    tests = (starts[:, None] + ahead).ravel()
    # The truncated meta-gradient does not reach the updates' features: the neck's backward pass skips these frames.
    cut = (lambda tree: tree) if t.full_gradient else jax.lax.stop_gradient
    trained = jnp.concatenate([jnp.arange(first), tests])
    extract = lambda neck, frames: backbone.neck({"neck": neck}, [level[frames] for level in levels])  # noqa: E731
    judged = extract(neck, trained)
    used = jnp.arange(first, first + t.look_ahead * (t.updates - 1))
    updating = extract(cut(neck), used)
    by_update = lambda tree, count: jax.tree.map(lambda x: x.reshape(-1, count, *x.shape[1:]), tree)  # noqa: E731
    sized_by = boxes_cxcywh[jnp.concatenate([jnp.zeros(1, starts.dtype), starts[1:]])]
    return Episode(
        first=samples_of(judged[:first], boxes_cxcywh[:first], config),
        updates=by_update(samples_of(updating, boxes_cxcywh[used], config), t.look_ahead),
        tests=by_update(samples_of(judged[first:], boxes_cxcywh[tests], config), t.tests),
        phis=filter_size_of(sized_by[:, 2:], config),
    )


def clip_meta_loss(
    learned: Learned, levels: tuple[Float[Array, "f h w c"], ...], boxes_cxcywh: Float[Array, "f 4"],
    backbone: Backbone, config: Config, *, key: Array,
) -> tuple[Float[Array, ""], MetaLoss]:  # fmt: skip
    """(Eq. 14) Meta loss of one clip with a random filter scaling; also its parts."""
    key_frames, key_scale = jax.random.split(key)
    t = config.train
    scale = draw_scale(learned.meta.theta0, t.kappa_cf, t.kappa_reg, key=key_scale)
    loss = unroll(
        learned.meta, make_episode(learned.neck, levels, boxes_cxcywh, backbone, config, key=key_frames), config, scale
    )
    return loss.total, loss


def meta_gradient(
    learned: Learned,
    levels: Levels,
    boxes_cxcywh: Float[Array, "b f 4"],
    backbone: Backbone,
    config: Config,
    *,
    key: Array,
) -> tuple[Learned, MetaLoss]:
    """(Eq. 14) Gradient of the meta loss averaged over a batch of clips, one model per clip; also the mean losses.

    On a CPU, batches of one clip averaged by `mean_of` are faster and take a clip's memory.
    """

    def one(levels, boxes, key):
        return jax.grad(clip_meta_loss, has_aux=True)(learned, levels, boxes, backbone, config, key=key)

    keys = jax.random.split(key, boxes_cxcywh.shape[0])
    return jax.tree.map(lambda x: jnp.mean(x, axis=0), jax.vmap(one)(levels, boxes_cxcywh, keys))


def mean_of(trees: Sequence[Any]) -> Any:
    """Average of pytrees of the same structure."""
    return jax.tree.map(lambda *leaves: sum(leaves) / len(leaves), *trees)
