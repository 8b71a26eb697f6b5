"""Replay numbers of the official implementation through the package and print the largest relative error of each group.

python experiments/official_parity.py FILE.npz

The file holds inputs and outputs of the authors' PyTorch code, with the keys of `tests/golden/official_parity.npz`.
Which anchors and cells the official losses take can rest on exact ties or on rounding: there, the replay looks for the
choice that the file's numbers show (`official_ties.py`), and says what it chose.

Exit code 0: every group agrees within 1e-4 of its largest magnitude; 1: some do not; 2: the file cannot be used.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from official_ties import closest_subset, describe_cell, near_cells, official_choice
from official_unroll import (
    Check,
    Golden,
    Pooled,
    official_config,
    omega_of,
    predict_pooled,
    shapes_of,
    theta_of_flat,
    unroll_groups,
)

from roam_jax.core import variants
from roam_jax.core.boxes import anchor_boxes, decode, encode
from roam_jax.core.labels import gaussian_label
from roam_jax.core.losses import box_smooth_l1, cells_above, masked_response_l2
from roam_jax.core.optimizer import signed_log, signed_log_inputs, stack_inputs
from roam_jax.core.update import gradient_step
from roam_jax.core.warp import filter_size
from roam_jax.method import make_geometry

TOLERANCE = 1e-4


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
    samples = Pooled(features, labels, true, jnp.zeros_like(labels), jnp.zeros_like(labels)).flat()

    @jax.jit
    def response(weights: Array) -> Array:
        return masked_response_l2(predictions, samples, choose=lambda errors: weights.reshape(errors.shape))

    @jax.jit
    def box(weights: Array) -> Array:
        return box_smooth_l1(predictions, samples, choose=lambda overlaps: weights.reshape(overlaps.shape))

    limit = config.loss.ignore_below
    errors = jnp.abs(predictions.response - samples.labels)
    sure = np.array(cells_above(errors, limit)).ravel()
    errors = np.asarray(errors).reshape(labels.shape)
    near = near_cells(errors, limit)
    sure[near] = 0.0
    value, counted = complete(response, sure, near, range(len(near) + 1), 1.0, golden["loss/response_loss"])
    for place in near:
        print(describe_cell("the group loss", errors, place, place in counted))
    yield "loss", value, golden["loss/response_loss"]

    choice = official_choice(true, phi, config)
    sizes = range(choice.needed, choice.needed + 1)
    value, _ = complete(box, choice.sure.ravel(), choice.tied, sizes, 0.0, golden["loss/bbox_loss"])
    if choice.is_open:
        print(f"loss: chose {choice} tied anchors")
    yield "loss", value, golden["loss/bbox_loss"]


def complete(
    loss, sure: np.ndarray, open_places: np.ndarray, sizes: range, extra: float, target: np.ndarray
) -> tuple[float, set[int]]:
    """A loss that is a mean, with those of the open places that bring it closest to the file's; which these are.

    Args:
        loss: of the weights of all places, its sum divided by their sum plus `extra`.
        sure: weights of all places, 0 for the open ones.
        open_places: the others.
        sizes: how many of these may be taken.
        extra: see `loss`.
        target: number in the file.
    """
    # The sum is linear in the weights: one evaluation for each open place.
    base = float(loss(jnp.asarray(sure))) * max(sure.sum() + extra, 1.0)
    gains = np.array([float(loss(jnp.eye(1, sure.size, at)[0])) * (1.0 + extra) for at in open_places])
    value, subset = closest_subset(base, sure.sum(), gains, sizes, extra, float(target))
    return value, {int(open_places[i]) for i in subset}


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


if __name__ == "__main__":
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    sys.exit(main(sys.argv[1]))
