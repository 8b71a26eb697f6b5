"""From a batch of clips to the episodes of Algorithm 1, and the batch's meta loss (Eq. 14)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from roam_jax.backbones import Backbone
from roam_jax.config import Config
from roam_jax.core.meta import Episode, MetaLoss, unroll
from roam_jax.core.samples import filter_size_of, nearest_first, samples_of
from roam_jax.core.scaling import draw_scale
from roam_jax.training.parts import Learned, hold_parts

Levels = tuple[Float[Array, "b f h w c"], ...]
"""trunk features of b clips of f samples each, finest level first"""


def make_episode(
    neck: Any, levels: tuple[Float[Array, "f h w c"], ...], boxes_cxcywh: Float[Array, "f 4"],
    backbone: Backbone, config: Config, *, key: Array,
) -> Episode:  # fmt: skip
    """Cut one clip for T updates; which of the look-ahead frames judge each update is drawn at random (Eq. 13)."""
    t = config.train
    given = boxes_cxcywh.shape[0] - t.clip_frames
    key_first, key_tests, key_noise = jax.random.split(key, 3)
    # As it is online, the filter of the first frame is that of the object itself: the middle of its stretched forms.
    first_wh = jnp.exp(jnp.mean(jnp.log(boxes_cxcywh[:given, 2:]), axis=0))
    if t.first_samples:
        kept = jax.random.permutation(key_first, given)[: t.first_samples]
        frames = jnp.concatenate([kept, jnp.arange(given, boxes_cxcywh.shape[0])])
        levels, boxes_cxcywh = tuple(level[frames] for level in levels), boxes_cxcywh[frames]
    first = t.first_samples or given
    draws = jax.random.uniform(key_tests, (t.updates, t.look_ahead))
    ahead = jnp.argsort(draws, axis=1)[:, : t.tests]
    starts = first + t.look_ahead * jnp.arange(t.updates)
    tests = (starts[:, None] + ahead).ravel()
    # The truncated meta-gradient does not reach the updates' features: the neck's backward pass skips these frames.
    cut = (lambda tree: tree) if t.full_gradient else jax.lax.stop_gradient
    trained = jnp.concatenate([jnp.arange(first), tests])
    extract = lambda neck, frames: backbone.neck({"neck": neck}, [level[frames] for level in levels])  # noqa: E731
    judged = extract(neck, trained)
    used = jnp.arange(first, first + t.look_ahead * (t.updates - 1))
    updating = extract(cut(neck), used) if t.updates > 1 else judged[:0]  # nothing to extract
    by_update = lambda tree, count: jax.tree.map(lambda x: x.reshape(-1, count, *x.shape[1:]), tree)  # noqa: E731
    found = misplace(boxes_cxcywh[used].reshape(-1, t.look_ahead, 4), t.box_noise, key=key_noise).reshape(-1, 4)
    first_samples = samples_of(judged[:first], boxes_cxcywh[:first], config)
    updates = by_update(samples_of(updating, found, config), t.look_ahead)
    if config.online.first_samples:  # as the online tracker does
        kept = nearest_first(boxes_cxcywh[:first, 2:], config.online.first_samples)
        again = jax.tree.map(lambda x: jnp.broadcast_to(cut(x[kept]), (t.updates - 1, *x[kept].shape)), first_samples)
        updates = jax.tree.map(lambda a, b: jnp.concatenate([a, b], axis=1), again, updates)
    return Episode(
        first=first_samples,
        updates=updates,
        tests=by_update(samples_of(judged[first:], boxes_cxcywh[tests], config), t.tests),
        phis=filter_size_of(jnp.concatenate([first_wh[None], boxes_cxcywh[starts[1:], 2:]]), config),
    )


def misplace(boxes_cxcywh: Float[Array, "u n 4"], noise: float, *, key: Array) -> Float[Array, "u n 4"]:
    """(ours) Boxes as a tracker finds them: wrong by a common and a single error, each of the strength `noise`.

    Errors are normal: of the centre in units of the object's size, of the size in its logarithm. The n boxes of one
    update share the common error, because a tracker that is off stays off for a while.
    """
    key_common, key_single = jax.random.split(key)
    common = jax.random.normal(key_common, (boxes_cxcywh.shape[0] * 4,)).reshape(-1, 1, 4)
    single = jax.random.normal(key_single, (boxes_cxcywh.size,)).reshape(boxes_cxcywh.shape)
    error = noise * (common + single)
    sizes = boxes_cxcywh[..., 2:]
    return jnp.concatenate([boxes_cxcywh[..., :2] + error[..., :2] * sizes, sizes * jnp.exp(error[..., 2:])], axis=-1)


def clip_meta_loss(
    learned: Learned, levels: tuple[Float[Array, "f h w c"], ...], boxes_cxcywh: Float[Array, "f 4"],
    backbone: Backbone, config: Config, *, key: Array,
) -> tuple[Float[Array, ""], MetaLoss]:  # fmt: skip
    """(Eq. 14) Meta loss of one clip with a random filter scaling; also its parts."""
    key_frames, key_scale = jax.random.split(key)
    t = config.train
    learned = hold_parts(learned, t)
    scale = draw_scale(learned.meta.theta0, t.kappa_cf, t.kappa_reg, key=key_scale)
    loss = unroll(
        learned.meta, make_episode(learned.neck, levels, boxes_cxcywh, backbone, config, key=key_frames), config, scale
    )
    return loss.total, loss


def meta_gradient(
    learned: Learned, levels: Levels, boxes_cxcywh: Float[Array, "b f 4"], backbone: Backbone, config: Config,
    *, keys: Key[Array, "b"],
) -> tuple[Learned, MetaLoss]:  # fmt: skip
    """(Eq. 14) Gradient of the meta loss averaged over a batch of clips, one model per clip; also the mean losses.

    On a CPU, batches of one clip are faster and take a clip's memory: `parallel.Trainer` averages over them.
    """

    def one(levels, boxes, key):
        return jax.grad(clip_meta_loss, has_aux=True)(learned, levels, boxes, backbone, config, key=key)

    if len(keys) == 1:  # without an axis that the compiler would have to find out to be of length 1
        return one(tuple(level[0] for level in levels), boxes_cxcywh[0], keys[0])
    return jax.tree.map(lambda x: jnp.mean(x, axis=0), jax.vmap(one)(levels, boxes_cxcywh, keys))
