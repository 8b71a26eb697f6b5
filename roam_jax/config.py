"""Every number of the method, with its source, in frozen dataclasses of one purpose each; presets are in `presets.py`.

Sources in the field comments: *paper* (section), *official* (the authors' published code), *ours* (measured here).
Lengths carry their unit: `_px` image pixels, `_patch` pixels of the resized patch, `_cell` cells of the feature map.
The range of a number is declared with its field, and nowhere else; `Config.check` has the rules between fields.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from roam_jax.typed import Range, parse

COUNT, COUNT_OR_0 = Range(1, 1_000_000_000), Range(0, 1_000_000_000)
FRACTION, RATE = Range(0, 1), Range(0, 100)
POSITIVE = Range(1e-30, 1e30)


@dataclass(frozen=True)
class BackboneConfig:
    """Feature extractor: `name` picks a line of the registry in `roam_jax.backbones`."""

    name: str = "vgg10"
    """lite, vgg10, vgg12 or tiny, or one that was given to `register_trunk` (official: vgg10)"""
    neck_channels: Annotated[int, Range(0, 4096)] = 0
    """channels after the learned neck (ours); 0: no neck, the trunk's levels are only normalised and stacked"""
    neck_blocks: Annotated[int, Range(1, 64)] = 1
    """residual 3x3 convolutions of the neck (ours)"""
    tuned_stages: Annotated[int, Range(0, 64)] = 0
    """last stages of the trunk that are learned as well (ours); 0: all are frozen"""
    weights: str = ""
    """file with the trunk's weights (ours), for training and for checkpoints without a trunk; empty: those of the
    checkpoint, or of the pip package"""


@dataclass(frozen=True)
class ModelConfig:
    """Tracking model theta = (cf, reg) and its geometry."""

    patch_size: Annotated[int, Range(16, 4096)] = 281
    """side S of the search patch, in patch pixels (paper, Section 5)"""
    roi_scale: Annotated[float, Range(1, 100)] = 5.0
    """gamma: side of the region of interest over sqrt(w h) of the object (paper, Section 5)"""
    stride: Annotated[int, Range(1, 64)] = 4
    """c: patch pixels per cell of the feature map (paper, Section 5)"""
    map_size: Annotated[int, Range(4, 1024)] = 71
    """cells per side of the feature map (official)"""
    filter_scale: Annotated[float, Range(0.1, 10)] = 1.5
    """rho: filter size over object size (paper, Section 5)"""
    base_filter: Annotated[int, Range(1, 255, odd=True)] = 21
    """side of the fixed-shape filters of theta, in cells (paper, Section 5)"""
    max_filter: Annotated[int, Range(1, 1023, odd=True)] = 43
    """side of the canvas that any warped filter is cut to, in cells (ours: aspect ratios up to about 4)"""
    reduced_channels: Annotated[int, Range(1, 4096)] = 64
    """output channels of the 1x1 reduction of each branch (paper, Section 5)"""
    aspects: Annotated[tuple[float, ...], Range(0.1, 10)] = (0.8, 1.0, 1.2)
    """scale and ratio factors of the first-frame samples, all pairs (paper, Section 5)"""
    init_scale: Annotated[float, Range(0, 100)] = 1e-5
    """standard deviation of theta0 at the start, over 1/sqrt(fan-in) (official)"""

    @property
    def target_side_patch(self) -> float:
        """Side of the square with the area that any object has in its patch (official: 56)."""
        return self.patch_size / self.roi_scale


@dataclass(frozen=True)
class LossConfig:
    """Tracking loss L (Eq. 7) and the label map (Eq. 8)."""

    response_form: Literal["paper", "official"] = "official"
    """paper: squared error of all cells, over the label's energy; official: of the badly predicted cells, their mean"""
    box_form: Literal["paper", "official"] = "official"
    """paper: anchors with an IoU of at least 0.5; official: a fixed number of the best"""
    alpha: Annotated[float, Range(1e-3, 1e4)] = 20.0
    """sharpness of the Gaussian label (paper, Section 5)"""
    ignore_below: Annotated[float, Range(0, 1)] = 0.1
    """absolute response errors below this cost nothing (official form)"""
    top_anchors: Annotated[int, Range(1, 1_000_000)] = 32
    """anchors per frame that the box loss is taken over, by IoU (official form)"""
    box_weight: Annotated[float, Range(0, 1e6)] = 1.0
    """weight of the box loss against the response loss (ours; 1 in the paper)"""
    peak_weight: Annotated[float, Range(0, 1e6)] = 0.0
    """weight of the peak term in the meta loss; updates do without it (ours)"""
    giou_weight: Annotated[float, Range(0, 1e6)] = 0.0
    """weight of the GIoU term, of the boxes near the object, in the meta loss; updates do without it (ours)"""


@dataclass(frozen=True)
class OptimizerConfig:
    """Recurrent neural optimizer (Eq. 10, 11) and its variants (Section 6.2)."""

    kind: str = "lstm"
    """lstm (paper), gru, fc, constant or sgd (Section 6.2), or one that was given to `register_optimizer`"""
    inputs: Literal["paper", "official", "log"] = "official"
    """numbers per coordinate: 4; 5 with the gradient as (log magnitude, sign); 6 with the parameter in that form and
    the logarithm of the last rate (ours)"""
    coordinate_rates: Annotated[float, Range(0, 1e6)] = 0.0
    """if not 0: what the optimizer emits, between 0 and 2, multiplies a learned rate of each coordinate, which begins
    at this value (ours)"""
    hidden: Annotated[int, Range(1, 1024)] = 20
    """units of each of the two layers (paper, Section 5)"""
    output_bias: Annotated[float, Range(-80, 80)] = -10.0
    """bias before the sigmoid at the start of training (official)"""
    lambda0: Annotated[float, POSITIVE] = 1e-6
    """initial value of every element of lambda0, learned as its logarithm when `log_lambda0` (official)"""
    log_lambda0: bool = False
    """learn lambda0 as its logarithm (ours)"""
    sgd_rate: Annotated[float, Range(0, 1e6)] = 7e-6
    """the one learning rate of kind 'sgd' (paper, Section 6.2); with
    `coordinate_rates` those are multiplied by twice this number"""


@dataclass(frozen=True)
class ImplicitConfig:
    """Implicit steps in place of Eq. 9 (ours; `roam_jax.extensions.implicit`)."""

    iterations: Annotated[int, Range(0, 1000)] = 0
    """of conjugate gradients, for the first-frame step of the response filter; 0: explicit, as in the paper (ours)"""
    lambda0: Annotated[float, POSITIVE] = 3e-3
    """lambda0 of the response filter before training (ours)"""
    largest_rate: Annotated[float, POSITIVE] = 0.1
    """rates of the response filter above count as this: with larger ones the step amplifies rounding (ours)"""
    boxes: bool = False
    """the filters of the box regression take an implicit first-frame step too (ours)"""
    box_lambda0: Annotated[float, POSITIVE] = 1e-4
    """their lambda0 before training (ours)"""
    updates: bool = False
    """the response filter takes such steps later too, with rates that begin at `lambda0` (ours)"""


@dataclass(frozen=True)
class OnlineConfig:
    """Online tracking (Section 4)."""

    regression: bool = True
    """True: ROAM++, boxes by regression; False: ROAM, multi-scale search (paper)"""
    updates: bool = True
    """whether the model is updated after the first frame (paper)"""
    tau: Annotated[int, Range(1, 1_000_000_000)] = 5
    """frames between two model updates (official)"""
    steps: Annotated[int, Range(1, 1000)] = 2
    """recurrent steps per update (paper, Section 4)"""
    step_samples: Annotated[int, Range(1, 1000)] = 5
    """samples per step (official)"""
    memory: Annotated[int, Range(1, 1000)] = 10
    """frames kept as updating samples (paper: the last 2 tau)"""
    first_samples: Annotated[int, Range(0, 1024)] = 0
    """first-frame samples that take part in every step as well (ours; 0 in the paper)"""
    vote: Annotated[float, Range(0, 1e4)] = 0.0
    """if not 0: the box is a mean over cells whose box has an IoU of 0.5 or more with the best one's, with the weights
    exp(vote (score / best score - 1)) (ours; 0 in the paper)"""
    penalty: Annotated[float, Range(0, 100)] = 0.05
    """strength of the scale/ratio penalty (official)"""
    motion_sigma: Annotated[float, Range(0.05, 1000)] = 0.5
    """standard deviation of the motion map, in target sizes (official)"""
    size_rate: Annotated[float, Range(0, 10)] = 0.6
    """weight of the new size in the smoothed one, times penalty and score (official)"""
    accept_score: Annotated[float, Range(0, 10)] = 0.1
    """a frame enters the memory above this fraction of the first frame's score (official)"""
    confidence: Annotated[tuple[float, ...], Range(-1e4, 1e4, empty=True)] = ()
    """weights of a constant and of each of `extensions.confidence.SIGNS`: they make the score a probability; empty: the
    score is the response over the first frame's (ours)"""
    lost_score: Annotated[float, Range(0, 10)] = 0.1
    """`lost` is reported from a frame on whose score is below this (ours) ..."""
    found_score: Annotated[float, Range(0, 10)] = 0.1
    """... until one is not below this (ours)"""


@dataclass(frozen=True)
class ClipsConfig:
    """Clips: how they are drawn from videos and pictures, and how they are changed (Section 5)."""

    shift: Annotated[float, FRACTION] = 112 / 281
    """largest shift of the object from the patch centre, over the patch side (official)"""
    stretch: Annotated[float, Range(0, 2)] = 0.1
    """largest random stretch of a frame: factors in exp(+-stretch) (ours)"""
    scale: Annotated[float, Range(0, 2)] = 0.2
    """largest random scale of a frame: factors in exp(+-scale) (ours)"""
    max_stride: Annotated[int, Range(1, 10_000)] = 3
    """largest temporal stride of a clip's frames (ours)"""
    flip: Annotated[float, FRACTION] = 0.5
    """probability that a clip is flipped left to right (ours)"""
    grey: Annotated[float, FRACTION] = 0.1
    """probability that a clip is grey (ours)"""
    colour: Annotated[float, Range(0, 2)] = 0.2
    """strength of the colour jitter of a clip (ours)"""
    blur: Annotated[float, FRACTION] = 0.1
    """probability that a frame is blurred (ours)"""
    coarse: Annotated[float, FRACTION] = 0.0
    """probability that a clip has a lower resolution, as that of a small object (ours)"""
    lookalikes: Annotated[float, FRACTION] = 0.0
    """probability that a clip has copies of the object or other objects beside it (ours)"""
    occlusion: Annotated[float, FRACTION] = 0.0
    """probability that something passes in front of the object in a clip (ours)"""
    absent: Annotated[float, FRACTION] = 0.0
    """probability that a later frame shows another place or picture, without the object (ours)"""
    jump: Annotated[float, FRACTION] = 0.0
    """probability that a later frame has the object further from the patch centre than `shift` and twice as much
    changed in size, as after a cut or in fast motion (ours)"""
    still_motion: Annotated[float, Range(0, 2)] = 0.0
    """strength of the smooth zoom, rotation, perspective, blur, light, resolution and compression of stills (ours)"""


@dataclass(frozen=True)
class UnrollConfig:
    """The unroll of Algorithm 1 over a clip (Section 3.2, 3.3)."""

    updates: Annotated[int, Range(1, 100)] = 6
    """T: model updates per clip (official)"""
    look_ahead: Annotated[int, Range(1, 100)] = 5
    """frames between two updates; also the samples of one update (official)"""
    tests: Annotated[int, Range(1, 100)] = 1
    """future frames that judge each update (paper, footnote 3)"""
    first_samples: Annotated[int, Range(0, 1024)] = 0
    """first-frame samples of a clip that are used, a random choice; 0: all of them (ours)"""
    box_noise: Annotated[float, FRACTION] = 0.0
    """strength of the errors of the boxes that updates learn from, in object sizes (ours)"""
    kappa_cf: Annotated[float, Range(0, 10)] = 1.6
    """range of the random filter scaling of cf (paper, Section 5)"""
    kappa_reg: Annotated[float, Range(0, 10)] = 1.3
    """range of the random filter scaling of reg (paper, Section 5)"""
    scale_first: bool = True
    """apply the random filter scaling to the first-frame step too (official), or only to the recurrent ones (ours)"""
    full_gradient: bool = False
    """backpropagate through the whole unroll (ours) instead of truncating it (official)"""

    @property
    def clip_frames(self) -> int:
        """Frames after the first-frame samples: T times the look-ahead."""
        return self.updates * self.look_ahead


@dataclass(frozen=True)
class MetaConfig:
    """The meta-optimizer: Adam on the meta-gradient of a batch (Section 5)."""

    batch: Annotated[int, Range(1, 100_000)] = 16
    """clips per meta-gradient (paper, Section 5)"""
    micro_batch: Annotated[int, Range(1, 100_000)] = 1
    """clips that a device works on at once; the batch is the sum of several of them (ours)"""
    model_rate: Annotated[float, RATE] = 1e-6
    """Adam's rate for theta0 (paper, Section 5)"""
    lambda_rate: Annotated[float, RATE] = 1e-6
    """Adam's rate for lambda0 (paper, Section 5), or for its logarithm"""
    optimizer_rate: Annotated[float, RATE] = 1e-3
    """Adam's rate for omega (paper, Section 5)"""
    coordinate_rate: Annotated[float, RATE] = 0.0
    """Adam's rate for the logarithms of `optimizer.coordinate_rates` (ours)"""
    neck_rate: Annotated[float, RATE] = 0.0
    """Adam's rate for the backbone's learned neck (ours)"""
    top_rate: Annotated[float, RATE] = 0.0
    """Adam's rate for the learned stages of the trunk, `backbone.tuned_stages` (ours)"""
    epochs: Annotated[int, COUNT] = 20
    """length of the training (paper, Section 5)"""
    steps_per_epoch: Annotated[int, COUNT] = 1000
    """meta-gradients that count as an epoch (ours)"""
    steps: Annotated[int, COUNT_OR_0] = 0
    """length of the training in steps; 0: that of all epochs (ours)"""
    schedule: Literal["halve", "cosine"] = "halve"
    """rates are halved every five epochs (paper, Section 5), or fall along a cosine to the last step (ours)"""
    warmup_steps: Annotated[int, COUNT_OR_0] = 0
    """steps over which the rates grow from almost nothing (ours)"""

    @property
    def total_steps(self) -> int:
        """Meta-gradient steps of the whole training."""
        return self.steps or self.epochs * self.steps_per_epoch


@dataclass(frozen=True)
class RunConfig:
    """What a training run does besides learning."""

    hold_out: Annotated[float, Range(0, 0.9)] = 0.05
    """share of the videos and pictures that are kept for validation (ours)"""
    split_seed: Annotated[int, Range(0, 2**31 - 1)] = 0
    """seed of the choice of these and of their clips, so that runs with other seeds are judged alike (ours)"""
    validate_every: Annotated[int, COUNT_OR_0] = 500
    """steps between two validations; 0: none (ours)"""
    validate_batches: Annotated[int, Range(0, 10_000)] = 2
    """batches of held-out clips for the meta loss of a validation (ours)"""
    save_every: Annotated[int, COUNT] = 100
    """steps between two checkpoints (ours)"""
    keep: Annotated[int, COUNT] = 3
    """newest checkpoints that are kept, besides the best (ours)"""
    histogram_every: Annotated[int, COUNT] = 50
    """steps between two records of histograms; the last step has one too (ours)"""
    half_backbone: bool = False
    """compute the trunk in bfloat16 (ours)"""
    max_refused: Annotated[int, COUNT] = 10
    """stop after so many meta-gradients in a row that are not finite (ours)"""
    max_skipped: Annotated[int, COUNT_OR_0] = 20
    """sequences that cannot be read and are left out at most, before the run stops (ours)"""


@dataclass(frozen=True)
class Config:
    """The whole method. Without arguments it is the authors' published code (preset `official`)."""

    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    implicit: ImplicitConfig = field(default_factory=ImplicitConfig)
    online: OnlineConfig = field(default_factory=OnlineConfig)
    clips: ClipsConfig = field(default_factory=ClipsConfig)
    unroll: UnrollConfig = field(default_factory=UnrollConfig)
    meta: MetaConfig = field(default_factory=MetaConfig)
    run: RunConfig = field(default_factory=RunConfig)

    def to_dict(self) -> dict[str, Any]:
        """Nested plain dictionary, ready for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Config:
        """Inverse of `to_dict`; fields that are absent take their default.

        Raises:
            ValueError: a section or a field that this version does not know, of another type, or out of its range.
        """
        return parse(cls, values)

    def check(self) -> Config:
        """The same configuration, if every value is in its range and its parts fit together.

        Raises:
            ValueError: which fields do not, and why.
        """
        parse(Config, self.to_dict())
        m, t = self.model, self.meta
        if m.map_size != (cells := math.ceil(m.patch_size / m.stride)):
            raise ValueError(
                f"model.map_size must be {cells}, the cells of model.patch_size {m.patch_size} at model.stride "
                f"{m.stride}, but is {m.map_size}"
            )
        square = math.ceil(m.filter_scale * m.target_side_patch / m.stride)
        if m.max_filter < square:
            raise ValueError(f"model.max_filter {m.max_filter} is below {square}, the filter of a square object")
        if self.implicit.updates and not self.implicit.iterations:
            raise ValueError("implicit.updates needs implicit.iterations of at least 1")
        if self.implicit.boxes and not self.implicit.iterations:
            raise ValueError("implicit.boxes needs implicit.iterations of at least 1")
        if self.implicit.iterations and not self.optimizer.log_lambda0:
            raise ValueError("implicit.iterations needs optimizer.log_lambda0: a metric has no negative weights")
        if self.implicit.iterations and self.loss.response_form != "paper":
            raise ValueError("implicit.iterations needs loss.response_form 'paper', which it minimises")
        o = self.online
        if len(o.confidence) not in (0, 3):
            raise ValueError(f"online.confidence must be empty or 3 numbers, but is {len(o.confidence)}")
        if o.found_score < o.lost_score:
            raise ValueError(f"online.found_score must be at least online.lost_score, which is {o.lost_score:g}")
        if t.total_steps > COUNT.high:
            raise ValueError(f"meta.epochs times meta.steps_per_epoch must be {COUNT}, but is {t.total_steps}")
        if t.batch % t.micro_batch:
            raise ValueError(f"meta.batch {t.batch} does not divide into meta.micro_batch {t.micro_batch} clips")
        u, pairs = self.unroll, len(self.model.aspects) ** 2
        if u.first_samples > pairs:
            raise ValueError(f"unroll.first_samples must be 0 to {pairs}, but is {u.first_samples}")
        if u.tests > u.look_ahead:
            raise ValueError(f"unroll.tests must be 1 to unroll.look_ahead, which is {u.look_ahead}, but is {u.tests}")
        return self
