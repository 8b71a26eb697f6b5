"""Online tracking (Section 4) as pure functions: start, then one step per frame; everything inside one program.

    online = Online(config)
    state = online.start(params, image, box_xywh)
    state, prediction = online.step(params, state, image)

A step is `locate`, which finds the object, and every tau frames `adapt`, which updates the model. `step` has fixed
shapes: it compiles once, whatever the box does, and may be scanned over frames and mapped over targets.
The `*_patches` functions are the same without the crop, for hosts that crop better than the device; the `*_features`
functions begin after the backbone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Num, UInt8

from roam_jax.backbones import Backbone, make_backbone
from roam_jax.config import Config
from roam_jax.core.boxes import cell_centers, decode, xywh_to_cxcywh
from roam_jax.core.meta import Method
from roam_jax.core.model import predict
from roam_jax.core.samples import Samples, filter_size_of, make_samples, nearest_first
from roam_jax.core.update import ModelState
from roam_jax.extensions.confidence import Usual, begin, judge, look_at, see, signs_of, update_usual
from roam_jax.method import make_method
from roam_jax.patches.crop import crop_device
from roam_jax.patches.geometry import Roi, box_to_image, box_to_patch, on_whole_pixels, roi_of_box
from roam_jax.patches.stretch import stretched_rois
from roam_jax.tracking.memory import Memory, empty_memory, join, recall, remember
from roam_jax.tracking.params import Params
from roam_jax.tracking.scoring import LOOSE_FACTOR, choose, keep_inside, motion_map
from roam_jax.trees import is_finite

SCALES = (0.96, 1.0, 1.04)
"""of the regions that are searched without box regression (ours; Section 4 leaves them open)"""


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
    roi: Roi
    """where the next frame is searched"""
    image_wh: Float[Array, "2"]
    wh_patch: Float[Array, "2"]
    """its size in the last patch"""
    start_wh_patch: Float[Array, "2"]
    """its size in the first patch"""
    reference: Float[Array, ""]
    """score of the first frame after the first update"""
    loose: Bool[Array, ""]
    """whether the wide motion map is in use"""
    frame: Int[Array, ""]
    """frames tracked"""
    usual: Usual
    """what the object's frames have been like of late"""
    lost: Bool[Array, ""]
    """the object was not found in the last frame"""


class Prediction(NamedTuple):
    """What is known of one frame."""

    box_cxcywh: Float[Array, "4"]
    """image pixels"""
    score: Float[Array, ""]
    """probability that the box is on the object; without `online.confidence`, its response over the first frame's"""
    lost: Bool[Array, ""]
    signs: Float[Array, "k"]
    """that the score is made of, as `confidence.SIGNS` names them"""


def first_rois(box_cxcywh: Float[Array | np.ndarray, "4"], config: Config) -> Roi:
    """ROIs of the first-frame samples (Section 4)."""
    return stretched_rois(box_cxcywh, config.model.roi_scale, config.model.aspects)


def search_scales(config: Config) -> tuple[float, ...]:
    """Scales of the ROIs that are searched in a frame."""
    return (1.0,) if config.online.regression else SCALES


def search_roi(box_cxcywh: Float[Array | np.ndarray, "4"], config: Config) -> Roi:
    """Where an object is searched that was in that box before (Section 4)."""
    return on_whole_pixels(roi_of_box(box_cxcywh, config.model.roi_scale))


def search_rois(roi: Roi, config: Config) -> Roi:
    """The ROIs whose patches are searched: that one (ROAM++), or one per scale around it (ROAM)."""
    scales = np.array(search_scales(config), np.float32)
    sizes = roi.size_wh[None] * scales[:, None]
    return Roi(roi.center_xy[None] + 0 * sizes, sizes)


@dataclass(frozen=True)
class Online:
    """The tracker's pure functions for one configuration; hashable, so that methods can be jitted with it static."""

    config: Config

    @cached_property
    def backbone(self) -> Backbone:
        """Feature extractor; made, and with it flax imported, when it is first needed."""
        return make_backbone(self.config)

    @cached_property
    def method(self) -> Method:
        """Losses, optimizer, steps and choice of the box."""
        return make_method(self.config)

    def start(self, params: Params, image: UInt8[Array, "h w 3"], box_xywh: Float[Array, "4"]) -> TrackerState:
        """State after the first frame: one step from theta0 on its stretched samples (Eq. 9, Section 4)."""
        box = xywh_to_cxcywh(box_xywh)
        image_wh = jnp.asarray([image.shape[1], image.shape[0]], jnp.float32)
        return self.start_patches(params, self._crop(image, first_rois(box, self.config)), box, image_wh)

    def step(
        self, params: Params, state: TrackerState, image: UInt8[Array, "h w 3"]
    ) -> tuple[TrackerState, Prediction]:
        """Find the object in the next frame; every tau frames, update the model (Section 4)."""
        return self.step_patches(params, state, self._crop(image, search_rois(state.roi, self.config)))

    def scan(
        self, params: Params, state: TrackerState, images: UInt8[Array, "t h w 3"]
    ) -> tuple[TrackerState, Prediction]:
        """`step` over t frames in one program; predictions are stacked."""
        return jax.lax.scan(lambda state, image: self.step(params, state, image), state, images)

    def start_patches(
        self,
        params: Params,
        patches: Num[Array, "n p p 3"],
        box_cxcywh: Float[Array, "4"],
        image_wh: Float[Array, "2"],
    ) -> TrackerState:
        """`start` from the patches of `first_rois`."""
        return self.start_features(params, self.backbone.features(params.backbone, patches), box_cxcywh, image_wh)

    def step_patches(
        self, params: Params, state: TrackerState, patches: Num[Array, "s p p 3"]
    ) -> tuple[TrackerState, Prediction]:
        """`step` from the patches of `search_rois`."""
        return self.step_features(params, state, self.backbone.features(params.backbone, patches))

    def start_features(
        self,
        params: Params,
        features: Float[Array, "n m m c"],
        box_cxcywh: Float[Array, "4"],
        image_wh: Float[Array, "2"],
    ) -> TrackerState:
        """`start` from the feature maps of the patches."""
        c, geometry = self.config, self.method.geometry
        rois = first_rois(box_cxcywh, c)
        boxes = jax.vmap(lambda roi: box_to_patch(box_cxcywh, roi, c.model.patch_size))(rois)
        samples = make_samples(features, boxes, geometry)
        wh_patch = box_to_patch(box_cxcywh, roi_of_box(box_cxcywh, c.model.roi_scale), c.model.patch_size)[2:]
        phi = filter_size_of(wh_patch, geometry)
        model, _ = self.method.start(params.meta, params.theta0, samples, phi)
        response = predict(model.theta, samples.features, phi, geometry).response
        kept = nearest_first(boxes[:, 2:], c.online.first_samples)
        like = nearest_first(boxes[:, 2:], 1)[0]  # the one that is cut as later frames are
        return TrackerState(
            model=model,
            memory=empty_memory(c.online.memory, samples),
            first=jax.tree.map(lambda x: x[kept], samples),
            phi=phi,
            box_cxcywh=box_cxcywh,
            roi=search_roi(box_cxcywh, c),
            image_wh=image_wh,
            wh_patch=wh_patch,
            start_wh_patch=wh_patch,
            reference=jnp.max(response),
            loose=jnp.asarray(True),
            frame=jnp.zeros((), jnp.int32),
            usual=begin(features[like], boxes[like], c.model.stride),
            lost=jnp.asarray(False),
        )

    def step_features(
        self, params: Params, state: TrackerState, features: Float[Array, "s m m c"]
    ) -> tuple[TrackerState, Prediction]:
        """`step` from the feature maps of the patches."""
        o = self.config.online
        state, prediction = self.locate(state, features)
        if not o.updates:
            return state, prediction
        due = (state.frame % o.tau == 0) & (state.memory.written > 0)
        model, phi = jax.lax.cond(due, lambda: self.adapt(params, state), lambda: (state.model, state.phi))
        return state._replace(model=model, phi=phi), prediction

    def locate(self, state: TrackerState, features: Float[Array, "s m m c"]) -> tuple[TrackerState, Prediction]:
        """Find the object in the feature maps of the searched patches, and remember what it looks like there.

        (Section 4) The best cell of the response after penalties and motion map gives the box, its size is smoothed;
        the frame becomes an updating sample if the score is good enough, and the object not lost.
        """
        m, o = self.config.model, self.config.online
        roi, previous = state.roi, box_to_patch(state.box_cxcywh, state.roi, m.patch_size)
        response, deltas, anchors = predict(state.model.theta, features, state.phi, self.method.geometry)
        boxes = self._boxes(deltas, anchors, previous)
        maps = [
            jnp.broadcast_to(motion_map(state.start_wh_patch, m.map_size, m.stride, sigma), response.shape)
            for sigma in (o.motion_sigma, o.motion_sigma * LOOSE_FACTOR)
        ]
        choice = choose(response, boxes[..., 2:], previous[2:], maps[0], maps[1], state.reference, state.loose, o)
        chosen = self.method.choose_box(boxes.reshape(-1, 4), choice.scores, choice.best)
        size = (1 - choice.size_weight) * previous[2:] + choice.size_weight * chosen[2:]
        predicted = jnp.concatenate([chosen[:2], size])
        finite = jnp.all(jnp.isfinite(predicted))

        scale_index = choice.best // (m.map_size * m.map_size)
        features, to_scale = features[scale_index], 1 / jnp.asarray(search_scales(self.config))[scale_index]
        relative = choice.score / jnp.maximum(state.reference, 1e-6)
        seen = see(state.usual, look_at(features, predicted * to_scale, m.stride), relative)
        signs = signs_of(state.usual, seen)
        score = judge(signs, o.confidence) if o.confidence else relative
        # once lost, only a frame in which the object is surely found ends it; NaN is lost
        lost = ~(score >= jnp.where(state.lost, o.found_score, o.lost_score))

        accept = (choice.score > o.accept_score * state.reference) & finite
        if o.confidence:  # neither size nor looks are learned from a frame in which the object is lost
            accept = accept & ~lost
            predicted = predicted.at[2:].set(jnp.where(lost, previous[2:], size))
        box = keep_inside(box_to_image(predicted, roi, m.patch_size), state.image_wh)
        box = jnp.where(finite & jnp.all(jnp.isfinite(box)), box, state.box_cxcywh)
        sample = make_samples(features[None], (predicted * to_scale)[None], self.method.geometry)
        state = state._replace(
            memory=remember(state.memory, sample, accept),
            box_cxcywh=box,
            roi=search_roi(box, self.config),
            wh_patch=jnp.where(finite, predicted[2:], previous[2:]),
            loose=choice.loose,
            frame=state.frame + 1,
            usual=update_usual(state.usual, seen, score > o.found_score, state.frame + 1),
            lost=lost,
        )
        return state, Prediction(box, score, lost, signs)

    def adapt(self, params: Params, state: TrackerState) -> tuple[ModelState, Float[Array, "2"]]:
        """The model after the recurrent steps of an update on what is remembered, and the filter size it is for.

        (Section 3.1, 4) The filter size follows the object just before; a model that is not finite is refused.
        """
        o = self.config.online
        phi = filter_size_of(state.wh_patch, self.method.geometry)

        def body(model: ModelState, step: Array) -> tuple[ModelState, None]:
            samples = join(state.first, recall(state.memory, step, o.step_samples))
            return self.method.update(params.omega, model, samples, phi)[0], None

        # A loop, not repeated code: half the time to compile.
        model, _ = jax.lax.scan(body, state.model, jnp.arange(o.steps))
        return jax.lax.cond(is_finite(model), lambda: model, lambda: state.model), phi

    def correct(
        self, params: Params, state: TrackerState, image: UInt8[Array, "h w 3"], box_xywh: Float[Array, "4"]
    ) -> TrackerState:
        """Take the object's box in the next frame from the user: it becomes an updating sample, and an update is made.

        (ours) What a drift has taught is not forgotten at once; the first frame's samples and this one outvote it.
        """
        box = xywh_to_cxcywh(box_xywh)
        rois = search_rois(search_roi(box, self.config), self.config)
        return self.correct_patches(params, state, self._crop(image, rois), box)

    def correct_patches(
        self, params: Params, state: TrackerState, patches: Num[Array, "s p p 3"], box_cxcywh: Float[Array, "4"]
    ) -> TrackerState:
        """`correct` from the patches of `search_rois` around the box."""
        scale_index = int(np.argmin(np.abs(np.array(search_scales(self.config)) - 1)))
        features = self.backbone.features(params.backbone, patches)[scale_index]
        roi = search_roi(box_cxcywh, self.config)
        box = box_to_patch(box_cxcywh, roi, self.config.model.patch_size)
        sample = make_samples(features[None], box[None], self.method.geometry)
        state = state._replace(
            memory=remember(state.memory, sample, jnp.asarray(True)),
            box_cxcywh=box_cxcywh,
            roi=roi,
            wh_patch=box[2:],
            loose=jnp.asarray(True),
            frame=state.frame + 1,
            lost=jnp.asarray(False),
        )
        if not self.config.online.updates:
            return state
        model, phi = self.adapt(params, state)
        return state._replace(model=model, phi=phi)

    def _boxes(self, deltas: Array, anchors: Array, previous: Array) -> Float[Array, "s m m 4"]:
        """Boxes of all cells of all scales, in patch pixels of scale 1."""
        m = self.config.model
        if self.config.online.regression:
            return decode(deltas, anchors[None])
        at = cell_centers(m.map_size, m.stride)
        cy, cx = jnp.meshgrid(at, at, indexing="ij")
        size = jnp.broadcast_to(previous[2:], (*cx.shape, 2))
        scales = jnp.asarray(search_scales(self.config))
        return jnp.concatenate([jnp.stack([cx, cy], axis=-1), size], axis=-1)[None] * scales[:, None, None, None]

    def _crop(self, image: Array, rois: Roi) -> Float[Array, "n p p 3"]:
        return jax.vmap(lambda roi: crop_device(image, roi, self.config.model.patch_size))(rois)
