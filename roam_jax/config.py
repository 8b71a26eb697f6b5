"""Every number of the tracker, with its source, in frozen dataclasses; presets are class methods of `Config`.

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

    name: Literal["lite", "vgg10", "vgg12", "tiny"] = "vgg10"
    neck_channels: Annotated[int, Range(0, 4096)] = 0
    """channels after the learned neck (ours); 0: no neck, the trunk's levels are only normalised and stacked"""
    neck_blocks: Annotated[int, Range(1, 64)] = 1
    """residual 3x3 convolutions of the neck (ours)"""
    tuned_stages: Annotated[int, Range(0, 64)] = 0
    """last stages of the trunk that are learned as well (ours); 0: all are frozen"""
    weights: str = ""
    """file with the trunk's weights, for training and for checkpoints without a trunk; empty: those of the checkpoint,
    or of the pip package"""


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
    """paper: anchors with an overlap of at least 0.5; official: a fixed number of the best"""
    alpha: Annotated[float, Range(1e-3, 1e4)] = 20.0
    """sharpness of the Gaussian label (paper, Section 5)"""
    ignore_below: Annotated[float, Range(0, 1)] = 0.1
    """absolute response errors below this cost nothing (official form)"""
    top_anchors: Annotated[int, Range(1, 1_000_000)] = 32
    """anchors per frame that the box loss is taken over, by overlap (official form)"""
    box_weight: Annotated[float, Range(0, 1e6)] = 1.0
    """weight of the box loss against the response loss (ours; 1 in the paper)"""
    peak_weight: Annotated[float, Range(0, 1e6)] = 0.0
    """weight of the peak term in the meta loss; updates do without it (ours)"""
    giou_weight: Annotated[float, Range(0, 1e6)] = 0.0
    """weight in the meta loss of how badly the boxes near the object overlap with it; updates do without it (ours)"""
    peak_sharpness: Annotated[float, Range(0, 1e4)] = 20.0
    """factor of the response before the softmax of the peak term (ours)"""


@dataclass(frozen=True)
class OptimizerConfig:
    """Recurrent neural optimizer (Eq. 10, 11) and its variants (Section 6.2)."""

    kind: Literal["lstm", "gru", "fc", "constant", "sgd"] = "lstm"
    inputs: Literal["paper", "official", "log"] = "official"
    """numbers per coordinate: 4; 5 with the gradient as (log magnitude, sign); 6 with the parameter in that form and
    the logarithm of the last rate (ours)"""
    coordinate_rates: Annotated[float, Range(0, 1e6)] = 0.0
    """if not 0: what the optimizer emits, between 0 and 2, multiplies a learned rate of each coordinate, which begins
    at this value (ours)"""
    hidden: Annotated[int, Range(1, 1024)] = 20
    """units of each of the two layers (paper, Section 5)"""
    gradient_p: Annotated[float, Range(0.1, 80)] = 10.0
    """p of the gradient preprocessing (official)"""
    output_bias: Annotated[float, Range(-80, 80)] = -10.0
    """bias before the sigmoid at the start of training (official)"""
    lambda0: Annotated[float, POSITIVE] = 1e-6
    """initial value of every element of lambda0, learned as its logarithm when `log_lambda0` (official)"""
    log_lambda0: bool = False
    first_steps: Annotated[int, Range(1, 1000)] = 1
    """steps with lambda0 on the first frame (1 in the paper; more: ours)"""
    implicit_iterations: Annotated[int, Range(0, 1000)] = 0
    """iterations for an implicit first-frame step of the response filter; 0: explicit, as in the paper (ours)"""
    implicit_lambda0: Annotated[float, POSITIVE] = 100.0
    """lambda0 of the coordinates that step implicitly, before training (ours)"""
    implicit_boxes: bool = False
    """the filters of the box regression take an implicit first-frame step too, with as many iterations (ours)"""
    implicit_box_lambda0: Annotated[float, POSITIVE] = 1e-4
    """their lambda0 before training (ours)"""
    implicit_updates: bool = False
    """the response filter takes such steps later too, with rates that begin at `implicit_lambda0` (ours)"""
    sgd_rate: Annotated[float, Range(0, 1e6)] = 7e-6
    """the one learning rate of kind 'sgd' (paper, Section 6.2); with
    `coordinate_rates` those are multiplied by twice this number"""


@dataclass(frozen=True)
class OnlineConfig:
    """Online tracking (Section 4)."""

    regression: bool = True
    """True: ROAM++, boxes by regression; False: ROAM, multi-scale search"""
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
    aspects: Annotated[tuple[float, ...], Range(0.1, 10)] = (0.8, 1.0, 1.2)
    """scale and ratio factors of the first-frame samples, all pairs (paper, Section 5)"""
    refinements: Annotated[int, Range(0, 100)] = 0
    """times that the box is taken again at the cell in its middle (ours; 0 in the paper)"""
    vote: Annotated[float, Range(0, 1e4)] = 0.0
    """if not 0: the box is a mean over cells whose box overlaps with the best one's by half, with the weights
    exp(vote (score / best score - 1)) (ours; 0 in the paper)"""
    penalty: Annotated[float, Range(0, 100)] = 0.05
    """strength of the scale/ratio penalty (official)"""
    motion_sigma: Annotated[float, Range(0.05, 1000)] = 0.5
    """standard deviation of the motion map, in target sizes (official)"""
    loose_factor: Annotated[float, Range(1, 1000)] = 2.0
    """how much wider the motion map is while the target is not surely found (official)"""
    size_rate: Annotated[float, Range(0, 10)] = 0.6
    """weight of the new size in the smoothed one, times penalty and score (official)"""
    accept_score: Annotated[float, Range(0, 10)] = 0.1
    """a frame enters the memory above this fraction of the first frame's score (official)"""
    recover_score: Annotated[float, Range(0, 10)] = 0.6
    """the motion map stays loose until the score is above this fraction of the first frame's (official)"""
    lost_score: Annotated[float, Range(0, 10)] = 0.1
    """`lost` is reported below this fraction of the first frame's score (ours)"""
    scales: Annotated[tuple[float, ...], Range(0.1, 10)] = (0.96, 1.0, 1.04)
    """scale factors of ROAM's multi-scale search (ours)"""


@dataclass(frozen=True)
class TrainConfig:
    """Meta-training (Sections 3.2, 3.3 and 5)."""

    updates: Annotated[int, Range(1, 100)] = 6
    """T: model updates per clip (official)"""
    look_ahead: Annotated[int, Range(1, 100)] = 5
    """frames between two updates; also the samples of one update (official)"""
    batch: Annotated[int, Range(1, 100_000)] = 16
    """clips per meta-gradient (paper, Section 5)"""
    kappa_cf: Annotated[float, Range(0, 10)] = 1.6
    """range of the random filter scaling of cf (paper, Section 5)"""
    kappa_reg: Annotated[float, Range(0, 10)] = 1.3
    """range of the random filter scaling of reg (paper, Section 5)"""
    scale_first: bool = True
    """apply the random filter scaling to the first-frame step too (official), or only to the recurrent ones (ours)"""
    first_samples: Annotated[int, Range(0, 1024)] = 0
    """first-frame samples of a clip that are used, a random choice; 0: all of them (ours)"""
    tests: Annotated[int, Range(1, 100)] = 1
    """future frames that judge each update (paper, footnote 3)"""
    box_noise: Annotated[float, FRACTION] = 0.0
    """strength of the errors of the boxes that updates learn from, in object sizes (ours)"""
    full_gradient: bool = False
    """backpropagate through the whole unroll instead of truncating it as the official code does"""
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
    model_clip: Annotated[float, POSITIVE] = 10.0
    """element-wise clip of the meta-gradient of theta0 and lambda0 (official)"""
    optimizer_clip: Annotated[float, POSITIVE] = 1.0
    """element-wise clip of the meta-gradient of omega (official)"""
    neck_clip: Annotated[float, POSITIVE] = 1.0
    """largest norm of the meta-gradient of the neck, and of the trunk's learned stages (ours)"""
    epochs: Annotated[int, COUNT] = 20
    """length of the training (paper, Section 5)"""
    steps_per_epoch: Annotated[int, COUNT] = 1000
    steps: Annotated[int, COUNT_OR_0] = 0
    """length of the training in steps; 0: that of all epochs"""
    schedule: Literal["halve", "cosine"] = "halve"
    """rates are halved every few epochs (paper, Section 5), or fall along a cosine to the last step (ours)"""
    halve_every: Annotated[int, COUNT] = 5
    """epochs after which the rates are halved (paper, Section 5)"""
    warmup_steps: Annotated[int, COUNT_OR_0] = 0
    """steps over which the rates grow from almost nothing (ours)"""
    final_rate: Annotated[float, FRACTION] = 0.02
    """rates at the end of the cosine, over the largest (ours)"""
    micro_batch: Annotated[int, Range(1, 100_000)] = 1
    """clips that a device works on at once; the batch is the sum of several of them (ours)"""
    half_backbone: bool = False
    """compute the trunk in bfloat16 (ours)"""
    max_refused: Annotated[int, COUNT] = 10
    """stop after so many meta-gradients in a row that are not finite (ours)"""
    max_skipped: Annotated[int, COUNT_OR_0] = 20
    """sequences that cannot be read and are left out at most, before the run stops (ours)"""
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
    shift: Annotated[float, FRACTION] = 112 / 281
    """largest shift of the object from the patch centre, over the patch side (official)"""
    stretch: Annotated[float, Range(0, 2)] = 0.1
    """largest random stretch of a frame: factors in exp(+-stretch) (ours)"""
    scale: Annotated[float, Range(0, 2)] = 0.2
    """largest random scale of a frame: factors in exp(+-scale) (ours)"""
    max_stride: Annotated[int, Range(1, 10_000)] = 3
    """largest temporal stride of a clip's frames (ours)"""
    flip: Annotated[float, FRACTION] = 0.5
    """probability that a clip is mirrored (ours)"""
    grey: Annotated[float, FRACTION] = 0.1
    """probability that a clip is grey (ours)"""
    colour: Annotated[float, Range(0, 2)] = 0.2
    """strength of the colour jitter of a clip (ours)"""
    blur: Annotated[float, FRACTION] = 0.1
    """probability that a frame is blurred (ours)"""
    coarse: Annotated[float, FRACTION] = 0.0
    """probability that a clip has a lower resolution, as that of a small object (ours)"""

    @property
    def clip_frames(self) -> int:
        """Frames after the first-frame samples: T times the look-ahead."""
        return self.updates * self.look_ahead

    @property
    def total_steps(self) -> int:
        """Meta-gradient steps of the whole training."""
        return self.steps or self.epochs * self.steps_per_epoch


@dataclass(frozen=True)
class Config:
    """The whole tracker. Without arguments it is that of `Config.official()`; `Config.lite()` is the CPU default."""

    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    online: OnlineConfig = field(default_factory=OnlineConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    @classmethod
    def official(cls) -> Config:
        """The authors' published code: VGG-16 up to conv4_3, 71 x 71 cells."""
        return cls(backbone=BackboneConfig(name="vgg10", neck_channels=0))

    @classmethod
    def paper(cls) -> Config:
        """The paper's text: 12 convolutions of VGG-16, the losses of Eq. 7, 4 optimizer inputs."""
        return cls(
            backbone=BackboneConfig(name="vgg12", neck_channels=0),
            loss=LossConfig(response_form="paper", box_form="paper"),
            optimizer=OptimizerConfig(inputs="paper"),
        )

    @classmethod
    def lite(cls) -> Config:
        """The CPU default: EfficientNet-Lite0 with a learned upper half and neck, stride 8, implicit steps.

        Its training is that of everything but the optimizer: one update per clip, judged by many frames.
        """
        return cls(
            backbone=BackboneConfig(name="lite", neck_channels=64, neck_blocks=3, tuned_stages=3),
            model=ModelConfig(
                patch_size=224, roi_scale=4.5, stride=8, map_size=28, base_filter=9, max_filter=23,
                reduced_channels=32, init_scale=1e-2,
            ),
            loss=LossConfig(top_anchors=16, box_weight=20.0, peak_weight=1.0, giou_weight=1.0),
            optimizer=OptimizerConfig(
                inputs="log", coordinate_rates=1e-5, output_bias=0.0, lambda0=2e-6, log_lambda0=True,
                implicit_iterations=16, implicit_boxes=True, implicit_updates=True,
            ),
            online=OnlineConfig(
                tau=10, steps=1, memory=10, step_samples=10, first_samples=9, penalty=0.3, size_rate=0.37,
                vote=5.0, motion_sigma=0.8,
            ),
            train=TrainConfig(
                updates=1, look_ahead=10, tests=6, first_samples=5, batch=8, kappa_cf=0.5, kappa_reg=0.4,
                scale_first=False, model_rate=4e-4, lambda_rate=1e-2, optimizer_rate=0.0, neck_rate=1e-3, top_rate=1e-4,
                schedule="cosine", warmup_steps=50, epochs=1, steps_per_epoch=2200, shift=0.36, scale=0.25,
                stretch=0.12, max_stride=6, box_noise=0.06, coarse=0.1,
            ),
        )  # fmt: skip

    @classmethod
    def lite_optimizer(cls) -> Config:
        """`lite` with the training of its optimizer alone: five updates per clip, everything else held."""
        lite = cls.lite()
        train = dataclasses.replace(
            lite.train, updates=5, look_ahead=10, tests=2, first_samples=0, model_rate=0.0, lambda_rate=0.0,
            optimizer_rate=2e-3, coordinate_rate=2e-2, neck_rate=0.0, top_rate=0.0, steps_per_epoch=300, max_stride=3,
        )  # fmt: skip
        return dataclasses.replace(lite, train=train)

    @classmethod
    def tiny(cls) -> Config:
        """A few thousand parameters on a three-layer random trunk: for tests, not for tracking."""
        return cls(
            backbone=BackboneConfig(name="tiny", neck_channels=0),
            model=ModelConfig(
                patch_size=64, roi_scale=4.0, stride=4, map_size=16, base_filter=5, max_filter=11,
                reduced_channels=4, init_scale=1e-1,
            ),
            optimizer=OptimizerConfig(hidden=4, lambda0=1e-3, log_lambda0=True),
            online=OnlineConfig(memory=4, step_samples=2, tau=2),
            train=TrainConfig(updates=2, look_ahead=2, batch=2, steps_per_epoch=4, epochs=2),
        )  # fmt: skip

    @classmethod
    def preset(cls, name: str) -> Config:
        """The preset called `name`.

        Raises:
            ValueError: no preset has that name.
        """
        presets = {
            "lite": cls.lite,
            "lite-optimizer": cls.lite_optimizer,
            "paper": cls.paper,
            "official": cls.official,
            "tiny": cls.tiny,
        }
        if name not in presets:
            raise ValueError(f"no preset is called {name!r}; there are {', '.join(sorted(presets))}")
        return presets[name]()

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
        m, t = self.model, self.train
        if m.map_size != (cells := math.ceil(m.patch_size / m.stride)):
            raise ValueError(
                f"model.map_size must be {cells}, the cells of model.patch_size {m.patch_size} at model.stride "
                f"{m.stride}, but is {m.map_size}"
            )
        square = math.ceil(m.filter_scale * m.target_side_patch / m.stride)
        if m.max_filter < square:
            raise ValueError(f"model.max_filter {m.max_filter} is below {square}, the filter of a square object")
        if self.optimizer.implicit_updates and not self.optimizer.implicit_iterations:
            raise ValueError("optimizer.implicit_updates needs optimizer.implicit_iterations of at least 1")
        if t.total_steps > COUNT.high:
            raise ValueError(f"train.epochs times train.steps_per_epoch must be {COUNT}, but is {t.total_steps}")
        if t.batch % t.micro_batch:
            raise ValueError(f"train.batch {t.batch} does not divide into train.micro_batch {t.micro_batch} clips")
        pairs = len(self.online.aspects) ** 2
        if t.first_samples > pairs:
            raise ValueError(f"train.first_samples must be 0 to {pairs}, but is {t.first_samples}")
        if t.tests > t.look_ahead:
            raise ValueError(f"train.tests must be 1 to train.look_ahead, which is {t.look_ahead}, but is {t.tests}")
        return self
