"""What the official losses take where rounding decides it: the anchors of the box loss, the cells of the response loss.

The box loss takes the anchors with the largest IoU by an unstable sort, and anchors inside an object tie exactly. The
response loss takes the cells with an error of at least 0.1, and a cell may be so close to it that two programs differ.
One anchor or cell more changes a loss by about 1e-4 of its size. What the inputs leave open in this way is a few bits,
each of which can be taken in two ways: those are looked for that explain the file's numbers best. All that is not
within rounding of the limit is taken as the inputs say, so that a choice cannot hide a difference elsewhere.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from roam_jax.config import Config
from roam_jax.core.boxes import anchor_boxes, anchor_size, iou
from roam_jax.core.losses import cells_above

NEAR_IOU = 4 * 2.0**-24
"""IoUs that differ by at most this may be taken in either order: about four roundings of a number between 0.5 and 1"""
NEAR_ERROR = 5e-6
"""errors this close to the limit may count or not: responses differ by up to 3e-6 between two float32 programs"""
BY_ERROR = -1.0
"""in place of a cell's weight: the cell counts if its error says so"""
ROUNDS = 4
"""a choice in one update may bring a cell of a later one to the limit"""
EXPLAINED = 5e-5
"""no choice is looked for where all numbers agree within this, relative to the largest of their array"""


class Choice(NamedTuple):
    """Anchors that the official box loss takes."""

    sure: np.ndarray
    """(g, n, m, m) 1 for the anchors above the last overlap that is taken"""
    tied: np.ndarray
    """flat places of the anchors at that overlap, or within rounding of it, from the smallest to the largest"""
    needed: int
    """how many of these are taken"""
    close: int
    """how many of these are not at exactly that overlap"""

    @property
    def is_open(self) -> bool:
        """Whether the inputs leave the choice open."""
        return 0 < self.needed < len(self.tied)

    def first(self) -> np.ndarray:
        """Weights of all anchors as a stable sort takes them: the largest, and the last among equal ones."""
        weights = self.sure.copy()
        weights.ravel()[self.tied[len(self.tied) - self.needed :]] = 1.0
        return weights

    def __str__(self) -> str:
        close = f" ({self.close} of them within rounding)" if self.close else ""
        return f"{self.needed} of {len(self.tied)}{close}"


def official_choice(boxes_cxcywh: Array, phi: Array, config: Config) -> Choice:
    """The anchors with the largest overlap over all samples of all clips, `top_anchors` for each frame of one clip."""
    m = config.model
    anchors = anchor_boxes(m.map_size, m.stride, anchor_size(phi, m.filter_scale, m.stride))
    ious = np.asarray(jax.jit(iou)(anchors[:, None], boxes_cxcywh[:, :, None, None]))
    count = min(config.loss.top_anchors * boxes_cxcywh.shape[1], ious.size)
    last = np.sort(ious, axis=None)[-count]
    sure = ious > last + NEAR_IOU
    tied = np.flatnonzero(np.abs(ious - last) <= NEAR_IOU)
    values = ious.ravel()[tied]
    tied = tied[np.argsort(values, kind="stable")]
    return Choice(sure.astype(np.float32), tied, count - int(sure.sum()), int(np.sum(values != last)))


def near_cells(errors: np.ndarray, limit: float) -> np.ndarray:
    """Flat places of the cells that rounding may put on either side of the limit."""
    return np.flatnonzero(np.abs(errors - limit) <= NEAR_ERROR)


def choose_cells(errors: Array, weights: Array, limit: float) -> Array:
    """Cells that count: by their weight where one is given."""
    return jnp.where(weights >= 0, weights, cells_above(errors, limit))


def describe_cell(loss: str, errors: np.ndarray, place: int, counted: bool) -> str:
    """Where a cell at the limit is, and what was chosen."""
    clip, sample, row, column = np.unravel_index(place, errors.shape)
    return (
        f"response loss of {loss}: cell ({row}, {column}) of sample {sample} of clip {clip} has an error of "
        f"{errors.ravel()[place]:.7f} at the limit: {'counted' if counted else 'not counted'}"
    )


def closest_subset(
    base: float, count: float, gains: np.ndarray, sizes: range, extra: float, target: float
) -> tuple[float, tuple[int, ...]]:
    """The mean that is closest to `target`: `base` of `count` things, and that of a subset of others.

    Args:
        base: sum over the things that are taken in any case.
        count: how many these are.
        gains: what each of the others adds to the sum.
        sizes: how many of them may be taken.
        extra: is added to the number of things.
        target: the number to be explained.

    Returns:
        The mean, and which of the others are taken.
    """
    best = (np.inf, ())
    for size in sizes:
        subsets = itertools.islice(itertools.combinations(range(len(gains)), size), 1_000_000)
        subsets = np.array(list(subsets), int)
        means = (base + gains[subsets].sum(axis=1)) / (count + size + extra)
        closest = np.argmin(np.abs(means - target))
        if abs(means[closest] - target) < abs(best[0] - target):
            best = float(means[closest]), tuple(subsets[closest])
    return best


class Taken(NamedTuple):
    """Weights of anchors and cells in every loss of an unroll."""

    anchors: tuple[Array, ...]
    """(g, n, m, m) for each loss"""
    cells: tuple[Array, ...]
    """(g, n, m, m) for each loss; BY_ERROR where it is not given"""

    def at(self, bit: Bit) -> float:
        """The weight of one anchor or cell."""
        return float(getattr(self, bit.kind)[bit.loss].ravel()[bit.place])

    def put(self, bits: list[Bit], values: np.ndarray) -> Taken:
        """With other weights."""
        kinds = {kind: [np.array(weights) for weights in getattr(self, kind)] for kind in self._fields}
        for bit, value in zip(bits, values, strict=True):
            kinds[bit.kind][bit.loss].ravel()[bit.place] = value
        return Taken(*(tuple(map(jnp.asarray, kinds[kind])) for kind in self._fields))


class Bit(NamedTuple):
    """An anchor or a cell that may be taken or not."""

    kind: str
    """`anchors` or `cells`"""
    loss: int
    """number of the loss"""
    place: int
    """flat place"""


def take_first(choices: list[Choice]) -> Taken:
    """Anchors as a stable sort takes them, cells by their error."""
    anchors = tuple(jnp.asarray(choice.first()) for choice in choices)
    return Taken(anchors, tuple(jnp.full(a.shape, BY_ERROR) for a in anchors))


def resolve(
    residual: Callable[[Taken], np.ndarray],
    find_errors: Callable[[Taken], list[Array]],
    choices: list[Choice],
    losses: list[str],
    limit: float,
    importance: np.ndarray,
) -> Taken:
    """What the official code took in the losses of an unroll; prints what was open.

    Args:
        residual: differences from the file's numbers, given what is taken.
        find_errors: (g, n, m, m) absolute errors of the cells of each loss.
        choices: anchors of each loss.
        losses: their names.
        limit: errors below it do not count.
        importance: of each of the differences, for the choice.
    """
    anchors = [Bit("anchors", k, int(place)) for k, c in enumerate(choices) if c.is_open for place in c.tied]
    taken, cells, errors = take_first(choices), [], []
    for _ in range(ROUNDS):
        errors = [np.asarray(error) for error in find_errors(taken)]
        cells = [Bit("cells", k, int(at)) for k, error in enumerate(errors) for at in near_cells(error, limit)]
        bits = anchors + cells
        if not bits:
            return take_first(choices)
        # Cells that are no longer at the limit go by their error again.
        now = np.array([taken.at(bit) for bit in bits])
        by_error = np.array([errors[bit.loss].ravel()[bit.place] >= limit for bit in bits])
        now = np.where(now == BY_ERROR, by_error, now)
        taken = take_first(choices).put(bits, now)
        error, groups = residual(taken), groups_of(bits)
        if np.max(np.abs(error)) <= EXPLAINED:
            break
        slopes = [importance * (residual(taken.put(bits, now + step)) - error) for step in steps_of(now, groups)]
        best = explain(importance * error, np.stack(slopes, axis=1), now, groups)
        other = taken.put(bits, best)
        if np.linalg.norm(importance * residual(other)) >= np.linalg.norm(importance * error):
            break
        taken = other
    places = [str(choice) for choice in choices if choice.is_open]
    if places:
        print(f"unroll: chose among tied anchors in {len(places)} losses: {', '.join(places)}")
    for bit in cells:
        print(describe_cell(losses[bit.loss], errors[bit.loss], bit.place, taken.at(bit) > 0))
    return taken


def groups_of(bits: list[Bit]) -> np.ndarray:
    """The number of the loss for anchors, of which a fixed number is taken; -1 for cells, which are free."""
    return np.array([bit.loss if bit.kind == "anchors" else -1 for bit in bits])


def steps_of(now: np.ndarray, groups: np.ndarray) -> Iterator[np.ndarray]:
    """For each bit, a change of the weights that shows its effect: of a cell, the other choice.

    Of an anchor, one more of it and as much less of all in its group: the number that is taken remains, in which the
    loss is not linear, and the difference of two such steps is an exchange.
    """
    for i, group in enumerate(groups):
        step = np.zeros(len(now))
        if group >= 0:
            step[groups == group] = -1.0 / np.sum(groups == group)
        step[i] += 1.0 if group >= 0 else 1.0 - 2.0 * now[i]
        yield step


def explain(error: np.ndarray, slopes: np.ndarray, now: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Bits that make |error + effects of the changes| smallest: least squares, whole ones, exchanges while they help.

    Args:
        error: differences now.
        slopes: effects of the steps of `steps_of`, one a column.
        now: the bits now; as many of a group stay 1.
        groups: of the bits; those of group -1 are free.
    """
    slopes = slopes * np.where(groups < 0, 1.0 - 2.0 * now, 1.0)  # of a cell that counts, the step takes it away
    gram, linear = slopes.T @ slopes, slopes.T @ error
    wish = now - np.linalg.lstsq(slopes, error, rcond=1e-6)[0]
    start = now.copy()
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        best = members[np.argsort(-wish[members], kind="stable")]
        start[members] = wish[members] > 0.5
        if group >= 0:
            start[best] = np.arange(len(best)) < now[members].sum()
    improved = [improve(bits, now, gram, linear, groups) for bits in (start, now)]
    cost = [(bits - now) @ gram @ (bits - now) + 2 * linear @ (bits - now) for bits in improved]
    return improved[int(np.argmin(cost))]


def improve(
    bits: np.ndarray, now: np.ndarray, gram: np.ndarray, linear: np.ndarray, groups: np.ndarray
) -> np.ndarray:  # fmt: skip
    """The bits after exchanges within groups and changes of free ones, the best one each time, while the cost falls."""
    free, same = np.flatnonzero(groups < 0), (groups[:, None] == groups) & (groups >= 0)
    bits = bits.copy()
    while True:
        turn = 1.0 - 2.0 * bits
        alone = 2 * (gram @ (bits - now) + linear) * turn + np.diag(gram)
        both = alone[:, None] + alone + 2 * gram * turn[:, None] * turn
        gain = np.where(same & (turn[:, None] != turn), both, 0.0)
        gain[free, free] = alone[free]
        move = np.unravel_index(np.argmin(gain), gain.shape)
        if not gain[move] < -1e-9 * (1e-30 + np.trace(gram)):
            return bits
        for place in set(move):
            bits[place] = 1.0 - bits[place]
