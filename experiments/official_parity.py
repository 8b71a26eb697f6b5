"""Replay numbers of the official implementation through the package and print the largest relative error of each group.

python experiments/official_parity.py FILE.npz

The file holds inputs and outputs of the authors' PyTorch code, with the keys of `tests/golden/official_parity.npz`.
The official box loss takes the anchors with the largest overlap by an unstable sort. Anchors inside an object tie
exactly, so which of them it took is not defined by the inputs: where ties matter, the replay looks for the choice that
the file's numbers show, and says how many ties it resolved. A choice is a few bits; it cannot hide a difference
elsewhere.

Exit code 0: every group agrees within 1e-4 of its largest magnitude; 1: some do not; 2: the file cannot be used.
"""

from __future__ import annotations

import dataclasses
import itertools
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array

from roam_jax.config import Config
from roam_jax.core import variants
from roam_jax.core.boxes import anchor_boxes, anchor_size, decode, encode, iou
from roam_jax.core.labels import gaussian_label
from roam_jax.core.losses import Loss, best_anchors, box_smooth_l1, masked_response_l2
from roam_jax.core.meta import Episode, MetaParams, Unrolled, unroll
from roam_jax.core.model import Branch, Geometry, Predictions, Theta, predict
from roam_jax.core.optimizer import signed_log, signed_log_inputs, stack_inputs
from roam_jax.core.samples import Samples, filter_size_of
from roam_jax.core.scaling import scale_of_uniform
from roam_jax.core.update import gradient_step
from roam_jax.core.warp import filter_size
from roam_jax.method import make_geometry, make_method
from roam_jax.presets import official

TOLERANCE = 1e-4
FIRST_SAMPLES = 9
"""first-frame samples at the start of every clip of the file"""
Golden = Mapping[str, np.ndarray]
Check = tuple[str, Any, Any]
"""group, ours, theirs"""


def main(path: str) -> int:
    """Print the table; the exit code."""
    try:
        with np.load(path, allow_pickle=False) as file:
            golden = dict(file)
    except (OSError, ValueError) as error:
        print(f"cannot read {path} as an .npz file: {error}", file=sys.stderr)
        return 2
    try:
        errors = compare(golden)
    except KeyError as error:
        print(f"{path} lacks a key that this script replays: {error}", file=sys.stderr)
        return 2
    width = max(map(len, errors))
    for group, error in errors.items():
        print(f"{group:<{width}}  {error:8.2e}  {'ok' if error <= TOLERANCE else 'DIFFERS'}")
    return 0 if all(error <= TOLERANCE for error in errors.values()) else 1


def compare(golden: Golden) -> dict[str, float]:
    """Largest absolute error of each group over the group's largest magnitude; NaN counts as infinite."""
    wrong: dict[str, float] = {}
    largest: dict[str, float] = {}
    for replay in (simple_groups, model_groups, lstm_group, unroll_groups):
        for group, ours, theirs in replay(golden):
            ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
            if ours.shape != theirs.shape:
                raise ValueError(f"{group}: shape {ours.shape} here, {theirs.shape} in the file")
            error = np.nan_to_num(np.max(np.abs(ours - theirs)), nan=np.inf)
            wrong[group] = max(wrong.get(group, 0.0), float(error))
            largest[group] = max(largest.get(group, 0.0), float(np.max(np.abs(theirs))))
    return {group: wrong[group] / max(largest[group], 1e-30) for group in wrong}


def official_config(golden: Golden) -> Config:
    """The `official` preset, shrunk to the sizes of the file."""
    reduce_w = golden["unroll/params/meta_init.meta_cfnet_param.conv.weight"]
    filters = golden["unroll/params/meta_init.meta_cfnet_param.cf.weight"]
    side = golden["unroll/feats"].shape[-1]
    largest = max(side + 1 - side % 2, int(golden["conv/filter_wh"].max()), 2 * side - 1)
    config = official()
    model = dataclasses.replace(
        config.model, patch_size=280, base_filter=filters.shape[-1], reduced_channels=reduce_w.shape[0],
        map_size=side, max_filter=largest,
    )  # fmt: skip
    return dataclasses.replace(config, model=model)


def simple_groups(golden: Golden) -> Iterator[Check]:
    """Filter sizes, label maps, anchors, box parameterisation, gradient preprocessing."""
    size = filter_size(jnp.asarray(golden["filter_size/target_wh"]), 56.0, 1.5, 4, 10_001)
    yield "filter_size", size[:, ::-1], golden["filter_size/filter_wh"]

    alpha, factor = 20.0, 0.1  # the file gives sigma = 0.1 x cells with alpha 0.2
    maps = golden["label/map"]
    cells = jnp.asarray(golden["label/sigma_xy"] / factor, jnp.float32)
    center = jnp.asarray(golden["label/center_xy"], jnp.float32)
    yield "label", gaussian_label(center, cells, maps.shape[-1], alpha), maps

    anchors = golden["anchors/boxes_cxcywh_31"]
    side = round(len(anchors) ** 0.5)
    ours = anchor_boxes(side, 4, jnp.asarray(golden["anchors/base_wh"])).reshape(-1, 4)
    yield "anchors", ours, anchors

    deltas = encode(jnp.asarray(golden["bbox/gt_cxcywh"]), jnp.asarray(anchors))
    yield "bbox", deltas, golden["bbox/deltas"]
    yield "bbox", decode(jnp.asarray(golden["bbox/deltas"]) / 2, jnp.asarray(anchors)), golden["bbox/decoded"]
    yield "gradprep", signed_log(jnp.asarray(golden["gradprep/in"]), 10.0).T, golden["gradprep/out"]


def branch_of(reduce_w: np.ndarray, reduce_b: np.ndarray, filters: np.ndarray, bias: np.ndarray) -> Branch:
    """Weights in the authors' layout (out, in, rows, columns) in ours."""
    squeezed = reduce_w.reshape(reduce_w.shape[0], reduce_w.shape[1])
    return Branch(*map(jnp.asarray, (squeezed.T, reduce_b, filters.transpose(2, 3, 1, 0), bias)))


def theta_of_flat(flat: np.ndarray, cf_shapes: list[tuple[int, ...]], reg_shapes: list[tuple[int, ...]]) -> Theta:
    """theta from one vector in the authors' order and layout."""
    parts, start = [], 0
    for shape in cf_shapes + reg_shapes:
        parts.append(flat[start : start + int(np.prod(shape))].reshape(shape))
        start += int(np.prod(shape))
    if start != len(flat):
        raise ValueError(f"{len(flat)} parameters in the file, {start} expected")
    return Theta(branch_of(*parts[:4]), branch_of(*parts[4:]))


def shapes_of(golden: Golden, branch: str) -> list[tuple[int, ...]]:
    """Shapes of a branch's four arrays in the authors' layout."""
    names = ("conv.weight", "conv.bias", "cf.weight", "cf.bias")
    return [golden[f"unroll/params/meta_init.meta_{branch}_param.{name}"].shape for name in names]


class Pooled(NamedTuple):
    """Samples of g clips that share one theta, as the official code has them on one device; losses pool all of them."""

    features: Array
    """(g, n, m, m, c)"""
    labels: Array
    """(g, n, m, m)"""
    boxes_cxcywh: Array
    """(g, n, 4)"""
    anchors: Array
    """(g, n, m, m) weights of the anchors in the box loss"""

    def flat(self) -> Samples:
        """All samples, one after the other."""
        boxes = flatten(self.boxes_cxcywh)
        return Samples(flatten(self.features), flatten(self.labels), boxes, jnp.ones(len(boxes)), jnp.ones(len(boxes)))


def flatten(x: Array | np.ndarray) -> Array:
    """(g, n, ...) to (g n, ...)."""
    return jnp.asarray(x).reshape(-1, *x.shape[2:])


def predict_pooled(theta: Theta, features: Array, phi: Array, geometry: Geometry) -> Predictions:
    """Predictions for all samples of all clips, each clip with its own filter size; phi is (g, 2)."""
    seen = jax.vmap(lambda features, phi: predict(theta, features, phi, geometry))(features, phi)
    anchors = jnp.broadcast_to(seen.anchors[:, None], seen.deltas.shape)
    return Predictions(flatten(seen.response), flatten(seen.deltas), flatten(anchors))


def pooled_loss(config: Config) -> Loss:
    """L over the samples of several clips at once (official)."""

    def response(predictions: Predictions, samples: Pooled) -> Array:
        return masked_response_l2(predictions, samples.flat(), ignore_below=config.loss.ignore_below)

    def box(predictions: Predictions, samples: Pooled) -> Array:
        return box_smooth_l1(predictions, samples.flat(), choose=lambda overlaps: flatten(samples.anchors))

    see = partial(predict_pooled, geometry=make_geometry(config))
    return Loss(see, {"response": response, "box": box}, {"response": 1.0, "box": config.loss.box_weight})  # type: ignore[arg-type]


def model_groups(golden: Golden) -> Iterator[Check]:
    """Both branches with three filter sizes, and the losses of their outputs."""
    config = official_config(golden)
    theta = theta_of_flat(golden["conv/params_flat"], shapes_of(golden, "cfnet"), shapes_of(golden, "regnet"))
    features = jnp.asarray(golden["conv/feats_btchw"].transpose(0, 1, 3, 4, 2))
    phi = jnp.asarray(golden["conv/filter_wh"][:, ::-1])
    predictions = jax.jit(partial(predict_pooled, geometry=make_geometry(config)))(theta, features, phi)
    yield "conv", predictions.response.reshape(features.shape[:-1]), golden["conv/response"][:, :, 0]
    yield "conv", predictions.deltas.reshape(golden["conv/deltas"].shape), golden["conv/deltas"]

    labels, true = jnp.asarray(golden["loss/label"][:, :, 0]), jnp.asarray(golden["loss/gt_cxcywh"])
    samples = Pooled(features, labels, true, jnp.zeros_like(labels)).flat()
    loss = masked_response_l2(predictions, samples, ignore_below=config.loss.ignore_below)
    yield "loss", loss, golden["loss/response_loss"]

    def take(weights: Array) -> Array:
        return box_smooth_l1(predictions, samples, choose=lambda overlaps: weights)

    choice = official_choice(true, phi, config)
    if not choice.is_open:
        count = config.loss.top_anchors * true.shape[1]
        yield (
            "loss",
            box_smooth_l1(predictions, samples, choose=partial(best_anchors, count=count)),
            golden["loss/bbox_loss"],
        )
        return
    # The loss is affine in the weights of the tied anchors: one evaluation for each.
    sure = flatten(choice.sure)
    sums = jax.jit(lambda w: take(w) * jnp.maximum(jnp.sum(w), 1.0))
    gain = np.array([sums(jnp.eye(1, sure.size, t).reshape(sure.shape)) for t in choice.tied])
    count = sure.sum() + choice.wanted
    subsets = itertools.islice(itertools.combinations(range(len(gain)), choice.wanted), 1_000_000)
    base = float(sums(sure))
    totals = np.array([base + gain[list(subset)].sum() for subset in subsets]) / count
    closest = totals[np.argmin(np.abs(totals - golden["loss/bbox_loss"]))]
    print(f"loss: chose {choice.wanted} of {len(gain)} tied anchors")
    yield "loss", closest, golden["loss/bbox_loss"]


class Choice(NamedTuple):
    """Anchors that the official box loss takes."""

    sure: np.ndarray
    """(g, n, m, m) 1 for the anchors above the last overlap that is taken"""
    tied: np.ndarray
    """flat places of the anchors at that overlap"""
    wanted: int
    """how many of these are taken"""

    @property
    def is_open(self) -> bool:
        """Whether the inputs leave the choice open."""
        return 0 < self.wanted < len(self.tied)

    def weights(self, open_weights: Array | np.ndarray | None = None) -> Array:
        """Weights of all anchors; without weights for the tied ones, the last of them are taken."""
        if open_weights is None:
            open_weights = (np.arange(len(self.tied)) >= len(self.tied) - self.wanted).astype(np.float32)
        return jnp.asarray(self.sure).ravel().at[self.tied].set(open_weights).reshape(self.sure.shape)


def official_choice(boxes_cxcywh: Array, phi: Array, config: Config) -> Choice:
    """The anchors with the largest overlap over all samples of all clips, `top_anchors` for each frame of one clip."""
    m = config.model
    anchors = anchor_boxes(m.map_size, m.stride, anchor_size(phi, m.filter_scale, m.stride))
    found = np.asarray(jax.jit(iou)(anchors[:, None], boxes_cxcywh[:, :, None, None]))
    count = min(config.loss.top_anchors * boxes_cxcywh.shape[1], found.size)
    last = np.sort(found, axis=None)[-count]
    sure = found > last
    return Choice(sure.astype(np.float32), np.flatnonzero(found == last), count - int(sure.sum()))


def omega_of(golden: Golden, prefix: str) -> dict:
    """Our optimizer's parameters from PyTorch's; its two bias vectors are one here."""

    def get(name: str) -> jax.Array:
        return jnp.asarray(golden[prefix + name])

    layers = {
        f"layer{k}": {
            "x": {
                "w": get(f"cw_lstm.weight_ih_l{k}").T,
                "b": get(f"cw_lstm.bias_ih_l{k}") + get(f"cw_lstm.bias_hh_l{k}"),
            },
            "h": get(f"cw_lstm.weight_hh_l{k}").T,
        }
        for k in (0, 1)
    }
    return {**layers, "head": {"w": get("linear.weight").T, "b": get("linear.bias")}}


def lstm_group(golden: Golden) -> Iterator[Check]:
    """Recurrent updates of a few coordinates: learning rates, and theta after each."""
    omega = omega_of(golden, "lstm/weights/")
    hidden = golden["lstm/weights/cw_lstm.weight_hh_l0"].shape[1]
    optimizer = variants.lstm(signed_log_inputs(), hidden=hidden)
    theta, rates = jnp.asarray(golden["lstm/theta0"]), jnp.asarray(golden["lstm/lambda0"])
    carry = optimizer.start(theta)
    for step, gradient in enumerate(map(jnp.asarray, golden["lstm/grads"])):
        inputs = stack_inputs(rates, gradient, theta, jnp.asarray(golden["lstm/losses"][step]))
        rates, carry = optimizer.apply(omega, inputs, carry)
        theta = gradient_step(theta, rates, gradient)
        yield "lstm", rates, golden["lstm/lambda"][step]
        yield "lstm", theta, golden["lstm/theta"][step]


def unroll_groups(golden: Golden) -> Iterator[Check]:
    """One training forward and backward: the losses, and the gradient of every meta-parameter."""
    config = official_config(golden)
    names = [f"{part}.{leaf}" for part in ("conv", "cf") for leaf in ("weight", "bias")]
    prefix = "unroll/params/meta_init.meta_"

    def load(kind: str) -> Theta:
        return Theta(
            *(branch_of(*(golden[f"{prefix}{net}_{kind}.{name}"] for name in names)) for net in ("cfnet", "regnet"))
        )

    hidden = golden["unroll/params/meta_opti.cw_lstm.weight_hh_l0"].shape[1]
    config = dataclasses.replace(config, optimizer=dataclasses.replace(config.optimizer, hidden=hidden))
    meta = MetaParams(load("param"), load("lr"), omega_of(golden, "unroll/params/meta_opti."))
    uniform = theta_of_flat(
        np.concatenate([golden["unroll/uniform_cf"], golden["unroll/uniform_reg"]]),
        shapes_of(golden, "cfnet"),
        shapes_of(golden, "regnet"),
    )
    scale = scale_of_uniform(uniform, config.unroll.kappa_cf, config.unroll.kappa_reg)
    episode, choices = episode_of(golden, config)
    pooled = pooled_loss(config)
    method = make_method(config)._replace(loss=pooled, meta=pooled)

    @jax.jit  # given what could be constants, which take long to compile
    def run(meta, episode, scale, open_weights):
        def total(meta):
            result = unroll(meta, with_choices(episode, choices, open_weights), method, scale)
            return result.total, result

        (_, result), gradient = jax.value_and_grad(total, has_aux=True)(meta)
        return result, gradient

    replay = partial(run, meta, episode, scale)

    def checks(result, gradient) -> list[Check]:
        return [*loss_checks(golden, result), *gradient_checks(golden, gradient, names)]

    open_weights = [c.weights().ravel()[c.tied] if c.is_open else jnp.zeros(0) for c in choices]
    if any(c.is_open for c in choices):
        open_weights = resolve_ties(replay, checks, choices, open_weights)
    yield from checks(*replay(open_weights))


def resolve_ties(replay, checks, choices: list[Choice], open_weights: list[Array]) -> list[Array]:
    """Weights of the tied anchors that explain the file's numbers best: linear least squares, then whole anchors."""

    def residual(flat):
        parts = []
        for _, ours, theirs in checks(*replay(unravel(flat))):
            parts.append(jnp.ravel(jnp.asarray(ours) - theirs) / jnp.maximum(jnp.max(jnp.abs(theirs)), 1e-30))
        return jnp.concatenate(parts)

    flat, unravel = ravel_pytree(open_weights)
    slopes = jax.jit(jax.jacfwd(residual))
    for _ in range(2):
        error = residual(flat)
        target = flat - np.linalg.lstsq(np.asarray(slopes(flat)), np.asarray(error), rcond=1e-6)[0]
        whole = []
        for choice, part in zip(choices, unravel(jnp.asarray(target, jnp.float32)), strict=True):
            best = np.argsort(-np.asarray(part), kind="stable")[: choice.wanted]
            whole.append(jnp.zeros(len(part)).at[best].set(1.0) if choice.is_open else part)
        whole = ravel_pytree(whole)[0]
        if np.linalg.norm(residual(whole)) >= np.linalg.norm(error):
            break
        flat = whole
    places = [f"{c.wanted} of {len(c.tied)}" for c in choices if c.is_open]
    print(f"unroll: chose among tied anchors in {len(places)} losses: {', '.join(places)}")
    return unravel(flat)


def loss_checks(golden: Golden, result: Unrolled) -> Iterator[Check]:
    """The three averaged losses."""
    yield "unroll losses", result.total, golden["unroll/meta_loss"]
    yield "unroll losses", jnp.mean(result.terms["response"]), golden["unroll/map_loss"]
    yield "unroll losses", jnp.mean(result.terms["box"]), golden["unroll/bbox_loss"]


def gradient_checks(golden: Golden, gradient: MetaParams, names: list[str]) -> Iterator[Check]:
    """The gradient of the meta loss with respect to every meta-parameter."""
    prefix = "unroll/grads/meta_init.meta_"
    for field, kind in (("theta0", "param"), ("lambda0", "lr")):
        for branch, net in (("cf", "cfnet"), ("reg", "regnet")):
            theirs = branch_of(*(golden[f"{prefix}{net}_{kind}.{name}"] for name in names))
            ours = getattr(getattr(gradient, field), branch)
            for leaf in Branch._fields:
                yield f"grad {field}.{branch}.{leaf}", getattr(ours, leaf), getattr(theirs, leaf)
    prefix = "unroll/grads/meta_opti."
    for k in (0, 1):
        layer = gradient.omega[f"layer{k}"]
        yield f"grad omega.layer{k}.x.w", layer["x"]["w"].T, golden[f"{prefix}cw_lstm.weight_ih_l{k}"]
        yield f"grad omega.layer{k}.h", layer["h"].T, golden[f"{prefix}cw_lstm.weight_hh_l{k}"]
        for bias in ("ih", "hh"):
            yield f"grad omega.layer{k}.x.b", layer["x"]["b"], golden[f"{prefix}cw_lstm.bias_{bias}_l{k}"]
    yield "grad omega.head.w", gradient.omega["head"]["w"].T, golden[prefix + "linear.weight"]
    yield "grad omega.head.b", gradient.omega["head"]["b"], golden[prefix + "linear.bias"]


def episode_of(golden: Golden, config: Config) -> tuple[Episode, list[Choice]]:
    """The clips of the file, which share one theta, cut as the official code cuts them.

    Also the anchors of each box loss: of the first update, of each later one, of each test.
    """
    features = jnp.asarray(golden["unroll/feats"].transpose(0, 1, 3, 4, 2))
    labels, boxes = jnp.asarray(golden["unroll/labels"][:, :, 0]), jnp.asarray(golden["unroll/gt_cxcywh"])
    ahead = np.asarray(golden["unroll/lookahead_idx"])
    updates = len(ahead)
    look = (boxes.shape[1] - FIRST_SAMPLES) // updates

    def samples(frames: np.ndarray) -> Pooled:
        return Pooled(features[:, frames], labels[:, frames], boxes[:, frames], jnp.zeros_like(labels[:, frames]))

    def stack(items: list[Pooled]) -> Pooled:
        return jax.tree.map(lambda *x: jnp.stack(x), *items)

    start = FIRST_SAMPLES + look * np.arange(updates)
    sized_by = boxes[:, np.concatenate([[0], start[1:]])]
    phis = jnp.moveaxis(filter_size_of(sized_by[..., 2:], make_geometry(config)), 1, 0)
    first = np.arange(FIRST_SAMPLES)
    used = [np.arange(s, s + look) for s in start[:-1]]
    tests = [np.array([s + a]) for s, a in zip(start, ahead, strict=True)]
    at = [(first, phis[0]), *zip(used, phis[1:], strict=True), *zip(tests, phis, strict=True)]
    choices = [official_choice(boxes[:, frames], phi, config) for frames, phi in at]
    episode = Episode(
        first=samples(first),  # type: ignore[arg-type]
        updates=stack([samples(frames) for frames in used]),  # type: ignore[arg-type]
        tests=stack([samples(frames) for frames in tests]),  # type: ignore[arg-type]
        phis=phis,
    )
    return episode, choices


def with_choices(episode: Episode, choices: list[Choice], open_weights: list[Array]) -> Episode:
    """The episode with the anchors of its box losses."""
    weights = [
        choice.weights(given if choice.is_open else None) for choice, given in zip(choices, open_weights, strict=True)
    ]
    updates = episode.updates.labels.shape[0]
    return episode._replace(
        first=episode.first._replace(anchors=weights[0]),
        updates=episode.updates._replace(anchors=jnp.stack(weights[1 : 1 + updates])),
        tests=episode.tests._replace(anchors=jnp.stack(weights[1 + updates :])),
    )


if __name__ == "__main__":
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    sys.exit(main(sys.argv[1]))
