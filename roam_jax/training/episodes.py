"""From a batch of clips to the episodes of Algorithm 1, and the batch's meta loss (Eq. 14)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from roam_jax.backbones import Backbone
from roam_jax.config import Config
from roam_jax.core.meta import Episode, Method, Unrolled, unroll
from roam_jax.core.samples import filter_size_of, make_samples, nearest_first
from roam_jax.core.scaling import draw_scale
from roam_jax.method import make_method
from roam_jax.tracking.params import Params
from roam_jax.training.parts import hold_parts

Levels = tuple[Float[Array, "b f h w c"], ...]
"""trunk features of b clips of f samples each, finest level first"""


def make_episode(
    learned: Params, levels: tuple[Float[Array, "f h w c"], ...], boxes_cxcywh: Float[Array, "f 4"],
    visible: Bool[Array, "f"], backbone: Backbone, method: Method, config: Config, *, key: Array,
) -> Episode:  # fmt: skip
    """Cut one clip for T updates; which of the look-ahead frames judge each update is drawn at random (Eq. 13).

    A frame that judges asks for no response where the object cannot be seen. Updates learn from such a frame as a
    tracker would that had not noticed, and are judged by whether they resist.
    """
    t = config.unroll
    given = boxes_cxcywh.shape[0] - t.clip_frames
    key_first, key_tests, key_jitter = jax.random.split(key, 3)
    # As it is online, the filter of the first frame is that of the object itself: the middle of its stretched forms.
    first_wh = jnp.exp(jnp.mean(jnp.log(boxes_cxcywh[:given, 2:]), axis=0))
    if t.first_samples:
        kept = jax.random.permutation(key_first, given)[: t.first_samples]
        frames = jnp.concatenate([kept, jnp.arange(given, boxes_cxcywh.shape[0])])
        levels, boxes_cxcywh = tuple(level[frames] for level in levels), boxes_cxcywh[frames]
        visible = visible[frames]
    first = t.first_samples or given
    draws = jax.random.uniform(key_tests, (t.updates, t.look_ahead))
    ahead = jnp.argsort(draws, axis=1)[:, : t.tests]
    starts = first + t.look_ahead * jnp.arange(t.updates)
    tests = (starts[:, None] + ahead).ravel()
    used = jnp.arange(first, first + t.look_ahead * (t.updates - 1))
    jittered = jitter_boxes(boxes_cxcywh[used].reshape(-1, t.look_ahead, 4), t.box_noise, key=key_jitter).reshape(-1, 4)

    def cut(tree: Any) -> Any:
        """The truncated meta-gradient does not reach the updates' features: no backward pass through these frames."""
        return tree if t.full_gradient else jax.lax.stop_gradient(tree)

    def extract(params: Params, frames: Array) -> Array:
        return backbone.neck(params.backbone, [level[frames] for level in levels])

    def by_update(tree: Any, count: int) -> Any:
        return jax.tree.map(lambda x: x.reshape(-1, count, *x.shape[1:]), tree)

    judged = extract(learned, jnp.concatenate([jnp.arange(first), tests]))
    updating = extract(cut(learned), used) if t.updates > 1 else judged[:0]  # nothing to extract
    first_samples = make_samples(judged[:first], boxes_cxcywh[:first], method.geometry)
    updates = by_update(make_samples(updating, jittered, method.geometry), t.look_ahead)
    if config.online.first_samples:  # as the online tracker does
        kept = nearest_first(boxes_cxcywh[:first, 2:], config.online.first_samples)
        again = jax.tree.map(lambda x: jnp.broadcast_to(cut(x[kept]), (t.updates - 1, *x[kept].shape)), first_samples)
        updates = jax.tree.map(lambda a, b: jnp.concatenate([a, b], axis=1), again, updates)
    return Episode(
        first=first_samples,
        updates=updates,
        tests=by_update(make_samples(judged[first:], boxes_cxcywh[tests], method.geometry, visible[tests]), t.tests),
        phis=filter_size_of(jnp.concatenate([first_wh[None], boxes_cxcywh[starts[1:], 2:]]), method.geometry),
    )


def jitter_boxes(boxes_cxcywh: Float[Array, "u n 4"], strength: float, *, key: Array) -> Float[Array, "u n 4"]:
    """(ours) Boxes as a tracker finds them: wrong by a common and a single error, each of that strength.

    Errors are normal: of the centre in units of the object's size, of the size in its logarithm. The n boxes of one
    update share the common error, because a tracker that is off stays off for a while.
    """
    key_common, key_single = jax.random.split(key)
    common = jax.random.normal(key_common, (boxes_cxcywh.shape[0] * 4,)).reshape(-1, 1, 4)
    single = jax.random.normal(key_single, (boxes_cxcywh.size,)).reshape(boxes_cxcywh.shape)
    error = strength * (common + single)
    sizes = boxes_cxcywh[..., 2:]
    return jnp.concatenate([boxes_cxcywh[..., :2] + error[..., :2] * sizes, sizes * jnp.exp(error[..., 2:])], axis=-1)


def clip_meta_loss(
    learned: Params, levels: tuple[Float[Array, "f h w c"], ...], boxes_cxcywh: Float[Array, "f 4"],
    visible: Bool[Array, "f"], backbone: Backbone, config: Config, *, key: Array,
) -> tuple[Float[Array, ""], Unrolled]:  # fmt: skip
    """Meta loss of one clip averaged over its updates (Eq. 14), with a random filter scaling; also its parts."""
    key_frames, key_scale = jax.random.split(key)
    t, method = config.unroll, make_method(config)
    learned = hold_parts(learned, config.meta)
    scale = draw_scale(learned.theta0, t.kappa_cf, t.kappa_reg, key=key_scale)
    episode = make_episode(learned, levels, boxes_cxcywh, visible, backbone, method, config, key=key_frames)
    result = unroll(
        learned.meta, episode, method, scale, scale_first=t.scale_first, truncate=not t.full_gradient
    )  # fmt: skip
    return result.total, result


def meta_gradient(
    learned: Params, levels: Levels, boxes_cxcywh: Float[Array, "b f 4"], visible: Bool[Array, "b f"],
    backbone: Backbone, config: Config, *, keys: Key[Array, "b"],
) -> tuple[Params, Unrolled]:  # fmt: skip
    """Gradient of the meta loss averaged over a batch of clips (Eq. 14), one model per clip; also the mean losses.

    On a CPU, batches of one clip are faster and take a clip's memory: `parallel.Trainer` averages over them.
    """

    def one(levels, boxes, seen, key):
        return jax.grad(clip_meta_loss, has_aux=True)(learned, levels, boxes, seen, backbone, config, key=key)

    if len(keys) == 1:  # without an axis that the compiler would have to find out to be of length 1
        return one(tuple(level[0] for level in levels), boxes_cxcywh[0], visible[0], keys[0])
    return jax.tree.map(lambda x: jnp.mean(x, axis=0), jax.vmap(one)(levels, boxes_cxcywh, visible, keys))
