"""One training forward and backward of the official code, replayed: its file's keys `unroll/*`.

The official code updates one theta for the clips of a device, whose losses pool the samples of all of them. That form
exists only here, on top of `core`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from official_ties import Choice, Taken, choose_cells, official_choice, resolve, take_first

from roam_jax.config import Config
from roam_jax.core.losses import Loss, box_smooth_l1, masked_response_l2
from roam_jax.core.meta import Episode, MetaParams, Method, Unrolled, unroll
from roam_jax.core.model import Branch, Geometry, Predictions, Theta, predict
from roam_jax.core.samples import Samples, filter_size_of
from roam_jax.core.scaling import divide, multiply, scale_of_uniform
from roam_jax.core.update import ModelState
from roam_jax.method import make_geometry, make_method
from roam_jax.presets import official

NETS = "cfnet", "regnet"
NAMES = [f"{part}.{leaf}" for part in ("conv", "cf") for leaf in ("weight", "bias")]
"""arrays of each, in the file's order"""
FIRST_SAMPLES = 9
"""first-frame samples at the start of every clip of the file"""
Golden = Mapping[str, np.ndarray]
Check = tuple[str, Any, Any]
"""group, ours, theirs"""


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


def shapes_of(golden: Golden, net: str) -> list[tuple[int, ...]]:
    """Shapes of a branch's four arrays in the authors' layout."""
    return [golden[f"unroll/params/meta_init.meta_{net}_param.{name}"].shape for name in NAMES]


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
    cells: Array
    """(g, n, m, m) weights of the cells in the response loss, where they are not left to the error"""

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
        choose = partial(choose_cells, weights=flatten(samples.cells), limit=config.loss.ignore_below)
        return masked_response_l2(predictions, samples.flat(), choose=choose)

    def box(predictions: Predictions, samples: Pooled) -> Array:
        return box_smooth_l1(predictions, samples.flat(), choose=lambda overlaps: flatten(samples.anchors))

    see = partial(predict_pooled, geometry=make_geometry(config))
    return Loss(see, {"response": response, "box": box}, {"response": 1.0, "box": config.loss.box_weight})  # type: ignore[arg-type]


def omega_of(golden: Golden, prefix: str) -> dict:
    """Our optimizer's parameters from PyTorch's; its two bias vectors are one here."""

    def get(name: str) -> Array:
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


def unroll_groups(golden: Golden) -> Iterator[Check]:
    """One training forward and backward: the losses, and the gradient of every meta-parameter."""
    config, given, choices = load_unroll(golden)
    run, find_errors = make_programs(config)

    def checks(taken: Taken) -> list[Check]:
        result, gradient = run(given, taken)
        return [*loss_checks(golden, result), *gradient_checks(golden, gradient)]

    def residual(taken: Taken) -> np.ndarray:
        pairs = ((np.asarray(ours, np.float64), np.asarray(theirs)) for _, ours, theirs in checks(taken))
        return np.concatenate([np.ravel(ours - theirs) / max(np.max(np.abs(theirs)), 1e-30) for ours, theirs in pairs])

    names = [f"{kind} {k + 1}" for kind in ("update", "test") for k in range(len(given.episode.phis))]
    importance = np.ones(residual(take_first(choices)).shape)
    # The gradients, many numbers, decide on cells: none is taken for the sake of a wrong total or response loss.
    importance[:2] = 0.1
    limit = config.loss.ignore_below
    yield from checks(resolve(residual, partial(find_errors, given), choices, names, limit, importance))


class Given(NamedTuple):
    """What an unroll is computed from."""

    meta: MetaParams
    episode: Episode
    scale: Theta
    """random scaling of the filters"""


def load_unroll(golden: Golden) -> tuple[Config, Given, list[Choice]]:
    """The inputs of the unroll, and the anchors of its box losses."""
    prefix = "unroll/params/meta_init.meta_"

    def load(kind: str) -> Theta:
        return Theta(*(branch_of(*(golden[f"{prefix}{net}_{kind}.{name}"] for name in NAMES)) for net in NETS))

    config = official_config(golden)
    hidden = golden["unroll/params/meta_opti.cw_lstm.weight_hh_l0"].shape[1]
    config = dataclasses.replace(config, optimizer=dataclasses.replace(config.optimizer, hidden=hidden))
    meta = MetaParams(load("param"), load("lr"), omega_of(golden, "unroll/params/meta_opti."))
    flat = np.concatenate([golden["unroll/uniform_cf"], golden["unroll/uniform_reg"]])
    uniform = theta_of_flat(flat, *(shapes_of(golden, net) for net in NETS))
    episode, choices = episode_of(golden, config)
    scale = scale_of_uniform(uniform, config.unroll.kappa_cf, config.unroll.kappa_reg)
    return config, Given(meta, episode, scale), choices


@cache
def make_programs(config: Config) -> tuple[Callable[..., Any], Callable[..., list[Array]]]:
    """The unroll with its meta-gradient, and `find_cell_errors`, of what is given and what is taken."""
    pooled = pooled_loss(config)
    method = make_method(config)._replace(loss=pooled, meta=pooled)

    def run(given: Given, taken: Taken) -> tuple[Unrolled, MetaParams]:
        def total(meta):
            result = unroll(meta, with_taken(given.episode, taken), method, given.scale)
            return result.total, result

        (_, result), gradient = jax.value_and_grad(total, has_aux=True)(given.meta)
        return result, gradient

    return jax.jit(run), jax.jit(partial(find_cell_errors, method=method))


def find_cell_errors(given: Given, taken: Taken, method: Method) -> list[Array]:
    """|response - label| of every cell in the losses of an unroll: of all updates, then of all tests."""
    meta, episode, scale = given
    episode = with_taken(episode, taken)

    def see(theta: Theta, samples: Pooled, phi: Array) -> Array:
        seen = method.loss.predict(multiply(theta, scale), samples.features, phi)
        return jnp.abs(seen.response.reshape(samples.labels.shape) - samples.labels)

    def body(state: ModelState, inputs: tuple[Any, Any, Array]) -> tuple[ModelState, tuple[Array, Array]]:
        samples, test, phi = inputs
        before = see(state.theta, samples, phi)
        state, _ = method.update(meta.omega, state, samples, phi, scale)
        return state, (before, see(state.theta, test, phi))

    theta0 = divide(meta.theta0, scale)
    state, _ = method.start(meta, theta0, episode.first, episode.phis[0], scale)
    first: Any = episode.first
    first_test, later_tests = (jax.tree.map(lambda x, at=at: x[at], episode.tests) for at in (0, slice(1, None)))
    before, after = see(theta0, first, episode.phis[0]), see(state.theta, first_test, episode.phis[0])
    _, (updates, tests) = jax.lax.scan(body, state, (episode.updates, later_tests, episode.phis[1:]))
    return [before, *updates, after, *tests]


def loss_checks(golden: Golden, result: Unrolled) -> Iterator[Check]:
    """The three averaged losses: total, response, box."""
    yield "unroll losses", result.total, golden["unroll/meta_loss"]
    yield "unroll losses", jnp.mean(result.terms["response"]), golden["unroll/map_loss"]
    yield "unroll losses", jnp.mean(result.terms["box"]), golden["unroll/bbox_loss"]


def gradient_checks(golden: Golden, gradient: MetaParams) -> Iterator[Check]:
    """The gradient of the meta loss with respect to every meta-parameter."""
    prefix = "unroll/grads/meta_init.meta_"
    for field, kind in (("theta0", "param"), ("lambda0", "lr")):
        for branch, net in zip(Theta._fields, NETS, strict=True):
            theirs = branch_of(*(golden[f"{prefix}{net}_{kind}.{name}"] for name in NAMES))
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
        weights = jnp.zeros_like(labels[:, frames])
        return Pooled(features[:, frames], labels[:, frames], boxes[:, frames], weights, weights)

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


def with_taken(episode: Episode, taken: Taken) -> Episode:
    """The episode with the anchors and cells of its losses."""
    updates = episode.updates.labels.shape[0]

    def give(samples: Any, at: int | slice) -> Any:
        anchors, cells = (w[at] if isinstance(at, int) else jnp.stack(w[at]) for w in taken)
        return samples._replace(anchors=anchors, cells=cells)

    return episode._replace(
        first=give(episode.first, 0),
        updates=give(episode.updates, slice(1, 1 + updates)),
        tests=give(episode.tests, slice(1 + updates, None)),
    )
