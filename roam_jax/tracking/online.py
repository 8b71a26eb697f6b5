"""Online tracking (Section 4) as pure functions: start, then one step per frame; everything inside one program.

    online = Online(config, make_backbone(config))
    state = online.start(params, image, box_xywh)
    state, prediction = online.step(params, state, image)

`step` has fixed shapes: it compiles once, whatever the box does, and may be scanned over frames and mapped over
targets.
The `*_patches` functions are the same without the crop, for hosts that crop better than the device; the `*_features`
functions begin after the backbone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Num, UInt8

from roam_jax.backbones import Backbone
from roam_jax.config import Config
from roam_jax.core.boxes import cell_centers, decode, xywh_to_cxcywh
from roam_jax.core.losses import Samples, predict
from roam_jax.core.samples import filter_size_of, nearest_first, samples_of
from roam_jax.core.update import MetaParams, ModelState, first_update, is_finite, update
from roam_jax.tracking.crop import crop_device
from roam_jax.tracking.geometry import Roi, box_to_image, box_to_patch, roi_of_box
from roam_jax.tracking.memory import Memory, empty_memory, join, recall, remember
from roam_jax.tracking.scoring import Choice, choose, keep_inside, motion_map, vote


class TrackerParams(NamedTuple):
    """What a checkpoint holds."""

    meta: MetaParams
    backbone: dict[str, Any]


class TrackerState(NamedTuple):
    """Everything that changes from frame to frame."""

    model: ModelState
    memory: Memory
    first: Samples
    """first-frame samples that take part in every update"""
    phi: Float[Array, "2"]
    """filter size (rows, columns), cells; follows the object at every update"""
    box_cxcywh: Float[Array, "4"]
    """the object, image pixels"""
    image_wh: Float[Array, "2"]
    start_wh_patch: Float[Array, "2"]
    """the object's size in the first patch"""
    reference: Float[Array, ""]
    """score of the first frame after the first update"""
    loose: Bool[Array, ""]
    """whether the wide motion map is in use"""
    frame: Int[Array, ""]
    """frames tracked"""


class Prediction(NamedTuple):
    """What is known of one frame."""

    box_cxcywh: Float[Array, "4"]
    """image pixels"""
    score: Float[Array, ""]
    """relative to the first frame's"""
    lost: Bool[Array, ""]


def first_rois(box_cxcywh: Float[Array | np.ndarray, "4"], config: Config) -> Roi:
    """ROIs of the first-frame samples: the object stretched by all pairs of scale and ratio (Section 4)."""
    aspects = np.array(config.online.aspects, np.float32)
    s, r = (a.ravel() for a in np.meshgrid(aspects, aspects, indexing="ij"))
    side = roi_of_box(box_cxcywh, config.model.roi_scale).size_wh
    sizes = side / np.stack([s * r, s / r], axis=-1)
    return Roi(box_cxcywh[:2] + 0 * sizes, sizes)


def search_scales(config: Config) -> tuple[float, ...]:
    """Scales of the ROIs that are searched in a frame."""
    return (1.0,) if config.online.regression else config.online.scales


def search_rois(box_cxcywh: Float[Array | np.ndarray, "4"], config: Config) -> Roi:
    """ROIs that are searched: one (ROAM++), or one per scale (ROAM)."""
    roi = roi_of_box(box_cxcywh, config.model.roi_scale)
    scales = np.array(search_scales(config), np.float32)
    sizes = roi.size_wh * scales[:, None]
    return Roi(roi.center_xy + 0 * sizes, sizes)


@dataclass(frozen=True)
class Online:
    """The tracker's pure functions for one configuration; hashable, so that methods can be jitted with it static."""

    config: Config
    backbone: Backbone

    def start(self, params: TrackerParams, image: UInt8[Array, "h w 3"], box_xywh: Float[Array, "4"]) -> TrackerState:
        """State after the first frame: one step from theta0 on its stretched samples (Eq. 9, Section 4)."""
        box = xywh_to_cxcywh(box_xywh)
        image_wh = jnp.asarray([image.shape[1], image.shape[0]], jnp.float32)
        return self.start_patches(params, self._crop(image, first_rois(box, self.config)), box, image_wh)

    def step(
        self, params: TrackerParams, state: TrackerState, image: UInt8[Array, "h w 3"]
    ) -> tuple[TrackerState, Prediction]:
        """Find the object in the next frame; every tau frames, update the model (Section 4)."""
        return self.step_patches(params, state, self._crop(image, search_rois(state.box_cxcywh, self.config)))

    def scan(
        self, params: TrackerParams, state: TrackerState, images: UInt8[Array, "t h w 3"]
    ) -> tuple[TrackerState, Prediction]:
        """`step` over t frames in one program; predictions are stacked."""
        return jax.lax.scan(lambda state, image: self.step(params, state, image), state, images)

    def start_patches(
        self,
        params: TrackerParams,
        patches: Num[Array, "n p p 3"],
        box_cxcywh: Float[Array, "4"],
        image_wh: Float[Array, "2"],
    ) -> TrackerState:
        """`start` from the patches of `first_rois`."""
        return self.start_features(params, self.backbone.features(params.backbone, patches), box_cxcywh, image_wh)

    def step_patches(
        self, params: TrackerParams, state: TrackerState, patches: Num[Array, "s p p 3"]
    ) -> tuple[TrackerState, Prediction]:
        """`step` from the patches of `search_rois`."""
        return self.step_features(params, state, self.backbone.features(params.backbone, patches))

    def start_features(
        self,
        params: TrackerParams,
        features: Float[Array, "n m m c"],
        box_cxcywh: Float[Array, "4"],
        image_wh: Float[Array, "2"],
    ) -> TrackerState:
        """`start` from the feature maps of the patches."""
        c = self.config
        rois = first_rois(box_cxcywh, c)
        boxes = jax.vmap(lambda roi: box_to_patch(box_cxcywh, roi, c.model.patch_size))(rois)
        samples = samples_of(features, boxes, c)
        wh_patch = box_to_patch(box_cxcywh, roi_of_box(box_cxcywh, c.model.roi_scale), c.model.patch_size)[2:]
        phi = filter_size_of(wh_patch, c)
        model, _ = first_update(params.meta, params.meta.theta0, samples, phi, c)
        response, _, _ = predict(model.theta, samples.features, phi, c.model)
        kept = nearest_first(boxes[:, 2:], c.online.first_samples)
        return TrackerState(
            model=model,
            memory=empty_memory(c.online.memory, samples),
            first=jax.tree.map(lambda x: x[kept], samples),
            phi=phi,
            box_cxcywh=box_cxcywh,
            image_wh=image_wh,
            start_wh_patch=wh_patch,
            reference=jnp.max(response),
            loose=jnp.asarray(True),
            frame=jnp.zeros((), jnp.int32),
        )

    def step_features(
        self, params: TrackerParams, state: TrackerState, features: Float[Array, "s m m c"]
    ) -> tuple[TrackerState, Prediction]:
        """`step` from the feature maps of the patches."""
        m, o = self.config.model, self.config.online
        roi = roi_of_box(state.box_cxcywh, m.roi_scale)
        previous = box_to_patch(state.box_cxcywh, roi, m.patch_size)
        response, deltas, anchors = predict(state.model.theta, features, state.phi, m)
        boxes = self._boxes(deltas, anchors, previous)
        maps = [
            jnp.broadcast_to(motion_map(state.start_wh_patch, m.map_size, m.stride, sigma), response.shape)
            for sigma in (o.motion_sigma, o.motion_sigma * o.loose_factor)
        ]
        choice = choose(response, boxes[..., 2:], previous[2:], maps[0], maps[1], state.reference, state.loose, o)
        chosen = self._refine(boxes, choice)
        size = (1 - choice.size_weight) * previous[2:] + choice.size_weight * chosen[2:]
        found = jnp.concatenate([chosen[:2], size])
        box = keep_inside(box_to_image(found, roi, m.patch_size), state.image_wh)
        box = jnp.where(jnp.all(jnp.isfinite(box)), box, state.box_cxcywh)

        accept = (choice.score > o.accept_score * state.reference) & jnp.all(jnp.isfinite(found))
        scale_index = choice.index // (m.map_size * m.map_size)
        seen = found / self._scales[scale_index]
        memory = remember(state.memory, samples_of(features[scale_index][None], seen[None], self.config), accept)
        frame = state.frame + 1
        model, phi = jax.lax.cond(
            (frame % o.tau == 0) & (memory.written > 0),
            lambda: self._update(params, state, memory, found[2:]),
            lambda: (state.model, state.phi),
        )
        state = state._replace(model=model, memory=memory, phi=phi, box_cxcywh=box, loose=choice.loose, frame=frame)
        score = choice.score / jnp.maximum(state.reference, 1e-6)
        return state, Prediction(box, score, score < o.lost_score)

    @property
    def _scales(self) -> Array:
        return jnp.asarray(search_scales(self.config))

    def _boxes(self, deltas: Array, anchors: Array, previous: Array) -> Float[Array, "s m m 4"]:
        """Boxes of all cells of all scales, in patch pixels of scale 1."""
        m = self.config.model
        if self.config.online.regression:
            return decode(deltas, anchors)
        at = cell_centers(m.map_size, m.stride)
        cy, cx = jnp.meshgrid(at, at, indexing="ij")
        size = jnp.broadcast_to(previous[2:], (*cx.shape, 2))
        return jnp.concatenate([jnp.stack([cx, cy], axis=-1), size], axis=-1) * self._scales[:, None, None, None]

    def _refine(self, boxes: Float[Array, "s m m 4"], choice: Choice) -> Float[Array, "4"]:
        """The chosen cell's box; (ours) or the mean of those around it, or again the one at its middle."""
        m, o, index = self.config.model, self.config.online, choice.index
        flat = boxes.reshape(-1, 4)
        box = vote(flat, choice, o.vote) if o.vote else flat[index]
        found = boxes[index // (m.map_size * m.map_size)]
        for _ in range(o.refinements):
            at = jnp.clip(box[:2] / m.stride, (1 - m.map_size) / 2, (m.map_size - 1) / 2)
            across, down = jnp.maximum(0.0, 1.0 - jnp.abs(at[:, None] - cell_centers(m.map_size, 1)))  # bilinear
            box = down @ jnp.einsum("c,rcb->rb", across, found)
        return box

    def _update(
        self, params: TrackerParams, state: TrackerState, memory: Memory, size_wh_patch: Float[Array, "2"]
    ) -> tuple[ModelState, Float[Array, "2"]]:
        """Filter size of the object as it is now, then the recurrent steps; a model that is not finite is refused."""
        o = self.config.online
        phi = filter_size_of(size_wh_patch, self.config)

        def body(model, step):
            samples = join(state.first, recall(memory, step, o.step_samples))
            return update(params.meta.omega, model, samples, phi, self.config)[0], None

        # A loop, not repeated code: half the time to compile.
        model, _ = jax.lax.scan(body, state.model, jnp.arange(o.steps))
        return jax.lax.cond(is_finite(model), lambda: model, lambda: state.model), phi

    def _crop(self, image: Array, rois: Roi) -> Float[Array, "n p p 3"]:
        return jax.vmap(lambda roi: crop_device(image, roi, self.config.model.patch_size))(rois)
