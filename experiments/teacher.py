"""Lets trunk and neck learn to see what a teacher sees: the stage before meta-training.

    python experiments/teacher.py --teacher nanotrack_backbone.onnx --data videos:clips --output runs/taught
    python -m roam_jax.train --start runs/taught ...

The teacher is the backbone of a tracker that was trained on the big tracking sets, an ONNX file that maps a picture to
a feature map (NanoTrack v3 here). Both look at the same patches; a linear map of our features has to give the
teacher's, cell by cell. So every patch, with or without an object, is a dense target. The linear map is thrown away
afterwards, and no array of the teacher enters the checkpoint. Needs `pip install onnx onnxruntime`.

Printed is the share of the variance of the teacher's features, on patches that are not learned from (of the same
videos and pictures), which the linear map explains: before (with the linear map that fits best), and while learning.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from jaxtyping import Array, Float, UInt8

from roam_jax.backbones import Backbone, make_backbone
from roam_jax.checkpoints import load_checkpoint, save_checkpoint
from roam_jax.config import Config
from roam_jax.data.pipeline import make_pipeline
from roam_jax.training import parallel, setup

SIDE = 288
"""of the teacher's input, pixels: the object has the size that it has in NanoTrack's own patches"""
STRIDE = 16
"""of the teacher's map, in its pixels"""
FIRST = 12
"""pixel of the teacher's input that its first cell is compared at: there the linear map explains most before learning
(0.463 of the variance at 0, 0.535 at 8, 0.547 at 12)"""
MEASURED = 16
"""batches that the best linear map and the teacher's mean and spread are measured on"""
HELD_OUT = 8
"""batches that are only predicted"""
RIDGE = 1e-2

Decoder = dict[str, Array]
"""`w` (channels, teacher's channels) and `b`: the linear map"""


@dataclass(frozen=True)
class Arguments:
    """Teach trunk and neck."""

    teacher: Path
    """ONNX file: (1, 3, side, side) BGR in 0..255 to (1, channels, cells, cells)"""
    data: Annotated[tuple[str, ...], tyro.conf.UseAppendAction]
    """as of `python -m roam_jax.train`"""
    output: Path
    """checkpoint to write"""
    start: str = "lite"
    """checkpoint to begin from"""
    cutouts: str = ""
    """as of `python -m roam_jax.train`"""
    steps: int = 1500
    frames: int = 7
    """patches of each clip besides the first"""
    neck_rate: float = 1e-3
    """Adam's rate, which falls along a cosine"""
    top_rate: float = 3e-4
    """the same, for the learned stages of the trunk"""
    seed: int = 0


class Teacher:
    """The teacher's feature maps."""

    def __init__(self, path: Path) -> None:
        """Read it, for patches of `SIDE` pixels."""
        import onnx  # type: ignore[import-not-found]
        import onnxruntime  # type: ignore[import-not-found]

        model = onnx.load(path)
        del model.graph.value_info[:]  # shapes inside, for another input
        for value, sides in ((model.graph.input[0], (SIDE, SIDE)), (model.graph.output[0], (None, None))):
            for dimension, side in zip(value.type.tensor_type.shape.dim[2:], sides, strict=True):
                dimension.Clear() if side is None else setattr(dimension, "dim_value", side)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(model.SerializeToString(), options)
        self.name = model.graph.input[0].name

    def __call__(self, patch: UInt8[np.ndarray, "p p 3"]) -> Float[np.ndarray, "h w c"]:
        """Its map of one RGB patch."""
        picture = cv2.resize(patch[..., ::-1], (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
        (seen,) = self.session.run(None, {self.name: picture.transpose(2, 0, 1)[None].astype(np.float32)})
        return np.asarray(seen)[0].transpose(1, 2, 0)


class Lesson(NamedTuple):
    """Patches and what the teacher makes of them; a leading axis over devices."""

    patches: UInt8[np.ndarray, "d n p p 3"]
    maps: Float[np.ndarray, "d n h w c"]


class Pupil(NamedTuple):
    """What is learned."""

    neck: Any
    top: Any
    decoder: Decoder


def positions(config: Config, cells: int) -> Float[np.ndarray, "h cells"]:
    """(cells of the teacher, our cells): weights of bilinear interpolation at the centres of the teacher's cells."""
    m = config.model
    centres_patch = (STRIDE * np.arange(cells) + FIRST + 0.5) * (m.patch_size / SIDE) - 0.5
    at = np.clip((centres_patch - (m.stride - 1) / 2) / m.stride, 0, m.map_size - 1)
    return np.maximum(0.0, 1.0 - np.abs(at[:, None] - np.arange(m.map_size))).astype(np.float32)


def make_lessons(args: Arguments, config: Config, teacher: Teacher, devices: int) -> Iterator[Lesson]:
    """Endless lessons; pictures are seen by the teacher while the pupil learns."""
    unroll = dataclasses.replace(config.unroll, updates=1, look_ahead=args.frames, tests=1)
    config = dataclasses.replace(config, unroll=unroll)
    mix = setup.read_data(args.data, config, cutouts=args.cutouts)
    batches = make_pipeline(mix.train, config, seed=args.seed, weights=mix.weights, cutouts=mix.cutouts)

    def lesson(pool: ThreadPoolExecutor) -> Lesson:
        patches = next(batches).patches[:, -args.frames - 1 :]
        patches = patches.reshape(devices, -1, *patches.shape[2:])
        maps = list(pool.map(teacher, patches.reshape(-1, *patches.shape[2:])))
        return Lesson(patches, np.stack(maps).reshape(devices, -1, *maps[0].shape))

    with ThreadPoolExecutor(2) as pool, ThreadPoolExecutor(1) as ahead:
        coming = ahead.submit(lesson, pool)
        while True:
            ready, coming = coming.result(), ahead.submit(lesson, pool)
            yield ready


class School:
    """The programs, over all devices."""

    def __init__(self, backbone: Backbone, frozen: Any, at: np.ndarray, transform: optax.GradientTransformation):
        """Make them; nothing is compiled yet.

        Args:
            backbone: of the pupil.
            frozen: its parameters that are not learned, `trunk` and `stats`.
            at: of `positions`.
            transform: the optimizer.
        """
        self.backbone, self.frozen, self.at, self.transform = backbone, frozen, jnp.asarray(at), transform
        pmap = partial(jax.pmap, axis_name="device", in_axes=(None, 0))
        self.see = pmap(self._see)
        self.judge = pmap(self._judge)
        self.learn = jax.pmap(self._learn, axis_name="device", donate_argnums=(0, 1))

    def _see(self, pupil: Pupil, patches: Any) -> Float[Array, "n h w C"]:
        """Our features at the teacher's cells."""
        params = {**self.frozen, "top": pupil.top, "neck": pupil.neck}
        seen = self.backbone.features(params, patches)
        return jnp.einsum("hH,nHWC,wW->nhwC", self.at, seen, self.at)

    def _judge(self, pupil: Pupil, lesson: Lesson) -> Float[Array, ""]:
        """Squared error over the variance of the teacher's features, which have unit variance."""
        predicted = self._see(pupil, lesson.patches) @ pupil.decoder["w"] + pupil.decoder["b"][None, None, None]
        return jnp.mean(jnp.square(predicted - lesson.maps))

    def _learn(self, pupil: Pupil, state: Any, lesson: Lesson) -> tuple[Pupil, Any, Array]:
        loss, gradient = jax.value_and_grad(self._judge)(pupil, lesson)
        gradient = jax.lax.pmean(gradient, "device")
        updates, state = self.transform.update(gradient, state, pupil)
        learned: Any = optax.apply_updates(pupil, updates)
        return learned, state, jax.lax.pmean(loss, "device")


def fit_decoder(features: Float[np.ndarray, "n C"], targets: Float[np.ndarray, "n c"]) -> Decoder:
    """The linear map with the least squared error."""
    x = np.concatenate([features, np.ones((len(features), 1))], axis=1).astype(np.float64)
    gram = x.T @ x + RIDGE * np.eye(x.shape[1])
    solved = np.linalg.solve(gram, x.T @ targets)
    return {"w": jnp.asarray(solved[:-1], jnp.float32), "b": jnp.asarray(solved[-1], jnp.float32)}


def make_transform(args: Arguments) -> optax.GradientTransformation:
    """Adam with a rate for each part."""

    def adam(rate: float) -> optax.GradientTransformation:
        schedule = optax.warmup_cosine_decay_schedule(rate / 20, rate, min(50, args.steps // 4), args.steps, rate / 50)
        return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))

    rates = {"neck": args.neck_rate, "top": args.top_rate, "decoder": args.neck_rate}
    labels: Any = Pupil("neck", "top", "decoder")  # type: ignore[arg-type]
    return optax.partition({name: adam(rate) for name, rate in rates.items()}, labels)


def main() -> None:
    args = tyro.cli(Arguments, prog="python experiments/teacher.py")
    parallel.start_devices()
    devices = jax.local_device_count()
    checkpoint = load_checkpoint(args.start)
    config, params = checkpoint.config, checkpoint.params
    backbone, teacher = make_backbone(config), Teacher(args.teacher)
    lessons = make_lessons(args, config, teacher, devices)

    first = list(islice(lessons, MEASURED))
    flat = np.concatenate([lesson.maps.reshape(-1, lesson.maps.shape[-1]) for lesson in first])
    mean, spread = flat.mean(0), flat.std(0) + 1e-3

    def normal(lesson: Lesson) -> Lesson:
        return lesson._replace(maps=((lesson.maps - mean) / spread).astype(np.float32))

    at = positions(config, first[0].maps.shape[2])
    transform = make_transform(args)
    school = School(backbone, {name: params[name] for name in ("trunk", "stats")}, at, transform)
    nothing = {"w": jnp.zeros((backbone.channels, len(mean))), "b": jnp.zeros(len(mean))}
    pupil = Pupil(params["neck"], params["top"], nothing)
    seen = [np.asarray(school.see(pupil, lesson.patches)) for lesson in first]
    features = np.concatenate([part.reshape(-1, backbone.channels) for part in seen])
    pupil = pupil._replace(decoder=fit_decoder(features, (flat - mean) / spread))
    held_out = [normal(lesson) for lesson in islice(lessons, HELD_OUT)]

    def explained(pupil: Pupil) -> float:
        return 1.0 - float(np.mean([np.mean(school.judge(pupil, lesson)) for lesson in held_out]))

    print(f"step 0: {explained(pupil):.3f} of the variance explained", flush=True)
    copies = jax.pmap(lambda tree, number: tree, in_axes=(None, 0))
    replicated, state = copies((pupil, transform.init(pupil)), np.arange(devices))
    began = time.perf_counter()
    for step in range(1, args.steps + 1):
        replicated, state, loss = school.learn(replicated, state, normal(next(lessons)))
        if step % 100 == 0 or step == args.steps:
            pupil = jax.tree.map(lambda x: np.asarray(x[0]), replicated)
            seconds = (time.perf_counter() - began) / step
            print(
                f"step {step}: {explained(pupil):.3f} explained, {1 - float(loss[0]):.3f} of the last batch, "
                f"{seconds:.2f} s a step",
                flush=True,
            )
            how = json.dumps(vars(args), default=str)
            card = f"{checkpoint.card}\n\nTrunk and neck learned {step} steps from a teacher: {how}"
            save_checkpoint(
                args.output,
                dataclasses.replace(checkpoint, params={**params, "neck": pupil.neck, "top": pupil.top}, card=card),
            )


if __name__ == "__main__":
    main()
