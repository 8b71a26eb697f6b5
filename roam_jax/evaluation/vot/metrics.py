"""Accuracy, robustness and expected average overlap (EAO) of supervised runs, as the VOT toolkit (0.7.2) computes them.

- Overlaps are those of `regions.overlap`, with the true polygons.
- Accuracy of a sequence: mean overlap of the frames that count. Starts, failures and frames between them do not, nor do
  the ten frames from each start on (the burn-in, the start included). Of a data set: sequences weigh as their lengths,
  also one without a frame that counts, whose accuracy is 0.
- Robustness is the number of failures. Three forms are in use: the mean over sequences, weighted by their lengths (what
  the toolkit calls robustness); exp(-30 x that / mean length) (the axis of its AR plots); and failures in 100 frames
  (the R in the tables of papers, ROAM's too), which is the field `robustness` here.
- EAO: each start begins a run. Runs that fail are continued with zeros to the greatest length; those that reach the end
  of their sequence count for lengths up to theirs only. The curve at N is the mean over runs of their mean overlap in
  the N frames after the start, and EAO is its mean over an interval of N that the VOT committee found for the data set.
  The N of the older MATLAB toolkit includes the start, so that its interval of the same numbers is one frame earlier.
- Repetitions of a sequence are averaged; in the EAO, the runs of all of them count alike.

Differences: the toolkit's curve is of float32, ours of float64 (below 1e-6); it says nothing of attributes, which the
MATLAB toolkit did: frames of all sequences that have the attribute are counted together here.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as ListOf
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from roam_jax.data.sequences import DataError, Sequence
from roam_jax.evaluation.vot.protocol import Trajectory, true_regions
from roam_jax.evaluation.vot.regions import Code, overlap

BURN_IN = 10
"""frames from a start on, itself included, that do not count for the accuracy"""
SENSITIVITY = 30
"""frames, in the exponential form of the robustness"""
INTERVALS = {
    "vot2015": (108, 371),
    "vot2016": (108, 371),
    "vot2017": (100, 356),
    "vot2018": (100, 356),
    "vot2019": (46, 291),
}
"""first and last N of the EAO, for each data set"""
NO_ATTRIBUTE = "empty"
"""what VOT calls frames without any attribute"""


@dataclass(frozen=True)
class Part:
    """Scores of one sequence, or of the frames with an attribute."""

    frames: int
    accuracy: float
    """mean overlap of the frames that count"""
    failures: float
    """mean over repetitions"""

    @property
    def robustness(self) -> float:
        """Failures in 100 frames."""
        return 100 * self.failures / self.frames if self.frames else 0.0


@dataclass(frozen=True, eq=False)
class VotScores:
    """Scores of a tracker on a data set."""

    accuracy: float
    """mean overlap, sequences weighted by their lengths"""
    robustness: float
    """failures in 100 frames: R in the tables of papers; less is better"""
    eao: float
    """expected average overlap in `interval`; NaN if no run is that long"""
    failures: float
    """number of failures, mean over repetitions"""
    mean_failures: float
    """failures per sequence, weighted by their lengths: what the toolkit calls robustness"""
    reliability: float
    """exp(-30 x mean_failures / mean length): the axis of the AR plot"""
    interval: tuple[int, int]
    """first and last N of the EAO"""
    curve: Float[np.ndarray, " n"]
    """expected average overlap in N frames, at index N; the first is 0"""
    sequences: Mapping[str, Part]
    attributes: Mapping[str, Part]
    """by the name of the label; empty if the sequences have none"""


def score_vot(
    results: Mapping[str, ListOf[Trajectory]],
    sequences: ListOf[Sequence],
    *,
    interval: tuple[int, int] | None = None,
    burn_in: int = BURN_IN,
) -> VotScores:
    """Scores of the trajectories in a data set.

    Args:
        results: by the name of the sequence, one trajectory for each repetition.
        sequences: all that should count.
        interval: first and last N of the EAO: of `INTERVALS`, or by default what `eao_interval` finds.
        burn_in: frames from a start on that do not count for the accuracy.

    Raises:
        DataError: a sequence without results, or whose results have another number of frames, or begin without a start.
    """
    lengths = [len(sequence) for sequence in sequences]
    interval = interval or eao_interval(lengths)
    parts, runs, frames = {}, [], []
    for sequence in sequences:
        trajectories = results.get(sequence.name, [])
        _check(sequence, trajectories)
        overlaps = [frame_overlaps(trajectory, sequence) for trajectory in trajectories]
        counted = [counted_frames(trajectory, burn_in) for trajectory in trajectories]
        runs += [run for pair in zip(trajectories, overlaps, strict=True) for run in split_runs(*pair)]
        accuracies = [_mean(o[c]) for o, c in zip(overlaps, counted, strict=True)]
        failed = [_mask(len(sequence), trajectory.frames_of(Code.FAILURE)) for trajectory in trajectories]
        mean_failures = float(np.mean([mask.sum() for mask in failed]))
        parts[sequence.name] = Part(len(sequence), float(np.mean(accuracies)), mean_failures)
        frames.append((sequence, np.stack(overlaps), np.stack(counted), np.stack(failed)))
    failures = np.array([part.failures for part in parts.values()])
    weighted = float(np.average(failures, weights=lengths))
    curve = eao_curve(runs)
    return VotScores(
        accuracy=float(np.average([part.accuracy for part in parts.values()], weights=lengths)),
        robustness=100 * float(failures.sum()) / sum(lengths),
        eao=float(_mean(curve[interval[0] : interval[1] + 1], empty=np.nan)),
        failures=float(failures.sum()),
        mean_failures=weighted,
        reliability=float(np.exp(-SENSITIVITY * weighted / np.mean(lengths))),
        interval=interval,
        curve=curve,
        sequences=parts,
        attributes=_score_attributes(frames),
    )


def frame_overlaps(trajectory: Trajectory, sequence: Sequence) -> Float[np.ndarray, " n"]:
    """Overlap of each frame with the true region; 0 where the trajectory has a code."""
    height, width = sequence.frames[0].shape[:2]
    pairs = zip(trajectory.regions, true_regions(sequence), strict=True)
    return np.array([overlap(region, true, (width, height)) for region, true in pairs])


def counted_frames(trajectory: Trajectory, burn_in: int = BURN_IN) -> Bool[np.ndarray, " n"]:
    """Frames that count for the accuracy: those with a region, but not the first after each start."""
    counted = np.array([isinstance(region, np.ndarray) for region in trajectory.regions])
    for start in trajectory.frames_of(Code.START):
        counted[start : start + burn_in] = False
    return counted


def split_runs(trajectory: Trajectory, overlaps: Float[np.ndarray, " n"]) -> list[tuple[Float[np.ndarray, " m"], bool]]:
    """Overlaps from each start to the failure, or to the end of the sequence, and whether the run got there."""
    ends = trajectory.frames_of(Code.FAILURE)
    starts = trajectory.frames_of(Code.START)
    runs = [(overlaps[start:end], False) for start, end in zip(starts, ends, strict=False)]
    return runs + [(overlaps[start:], True) for start in starts[len(ends) :]]


def eao_curve(runs: ListOf[tuple[Float[np.ndarray, " m"], bool]]) -> Float[np.ndarray, " n"]:
    """Expected average overlap in the N frames after a start, at index N.

    Args:
        runs: as `split_runs`; the first overlap of each is that of the start and does not count.
    """
    length = max(len(overlaps) for overlaps, _ in runs)
    total, weight = np.zeros(length), np.zeros(length)
    for overlaps, complete in runs:
        padded = np.zeros(length)
        padded[1 : len(overlaps)] = overlaps[1:]
        reach = len(overlaps) if complete else length
        means = padded.cumsum() / np.maximum(np.arange(length), 1)
        total[:reach] += means[:reach]
        weight[:reach] += 1
    return total / weight


def eao_interval(lengths: ListOf[int]) -> tuple[int, int]:
    """First and last N of the EAO for a data set with sequences of these lengths, as the VOT committee found them.

    The density of lengths is estimated with Gaussian kernels, whose width is the plug-in estimate with a normal pilot
    (Wand and Jones, Kernel Smoothing, 1995; Kristan et al., Pattern Recognition 2011); from its maximum, the interval
    grows to the side of the greater density until it holds half of it (Kristan et al., The VOT2015 challenge results).

    Raises:
        ValueError: there are no lengths, or one below 2.
    """
    data = np.asarray(lengths, float)
    if data.size == 0 or data.min() < 2:
        raise ValueError("the interval of the EAO needs lengths of at least 2 frames")
    if np.ptp(data) == 0:
        return int(data[0]) - 1, int(data[0]) - 1
    at = np.arange(1, data.max() + 1)
    density = np.exp(-0.5 * ((at[:, None] - data) / _kernel_width(data)) ** 2).sum(axis=1)
    density /= density.sum()
    low = high = int(density.argmax())
    while density[low : high + 1].sum() < 0.5:
        if high + 1 == len(density) or (low > 0 and density[low - 1] > density[high + 1]):
            low -= 1
        else:
            high += 1
    return int(at[low]), int(at[high])


def format_vot_table(scores: VotScores) -> str:
    """Markdown: the scores in one line, then each sequence, then each attribute."""
    low, high = scores.interval
    total = Part(sum(part.frames for part in scores.sequences.values()), scores.accuracy, scores.failures)
    lines = [
        f"EAO {scores.eao:.4f} (N = {low} to {high}), accuracy {scores.accuracy:.4f}, "
        f"robustness {scores.robustness:.4f} failures in 100 frames ({scores.failures:g} failures; "
        f"{scores.mean_failures:.4f} per sequence, weighted by length; reliability {scores.reliability:.4f})"
    ]
    for kind, parts in (("sequence", {**scores.sequences, "all": total}), ("attribute", scores.attributes)):
        if parts:
            lines += ["", f"| {kind} | frames | accuracy | failures | in 100 frames |", "|---|---:|---:|---:|---:|"]
            lines += [
                f"| {name} | {part.frames} | {part.accuracy:.3f} | {part.failures:g} | {part.robustness:.3f} |"
                for name, part in parts.items()
            ]
    return "\n".join(lines)


def _score_attributes(frames: list[tuple[Sequence, np.ndarray, np.ndarray, np.ndarray]]) -> dict[str, Part]:
    """Scores of the frames with each attribute.

    Args:
        frames: for each sequence also overlap, whether it counts, and whether it failed, of repetitions x frames.
    """
    flags = [{key: v for key, v in sequence.labels.items() if v.dtype == bool} for sequence, *_ in frames]
    names = sorted({name for labels in flags for name in labels})
    if not names:
        return {}
    parts = {}
    for name in [*names, NO_ATTRIBUTE]:
        overlaps, failures, count = [], 0.0, 0
        for labels, (sequence, overlap_, counted, failed) in zip(flags, frames, strict=True):
            if name == NO_ATTRIBUTE:
                mask = ~np.any([*labels.values(), np.zeros(len(sequence), bool)], axis=0)
            else:
                mask = labels.get(name, np.zeros(len(sequence), bool))
            overlaps.append(overlap_[:, mask][counted[:, mask]])
            failures += failed[:, mask].sum() / len(failed)
            count += int(mask.sum())
        parts[name] = Part(count, _mean(np.concatenate(overlaps)), float(failures))
    return parts


def _kernel_width(data: Float[np.ndarray, " n"]) -> float:
    """Width that minimises the asymptotic mean integrated squared error, its roughness estimated by a normal pilot."""
    scaled = (data - data.mean()) / data.std()
    pilot = (4 / (3 * len(data))) ** 0.4
    distance = (scaled[:, None] - scaled) ** 2 / pilot
    fourth = np.exp(-distance / 2) * (3 - 6 * distance + distance**2) / np.sqrt(2 * np.pi * pilot) / pilot**2
    return float(data.std() * (2 * np.sqrt(np.pi) * len(data) * fourth.mean()) ** -0.2)


def _check(sequence: Sequence, trajectories: ListOf[Trajectory]) -> None:
    if not trajectories:
        raise DataError(f"the sequence {sequence.name} should have results, but there are none")
    for trajectory in trajectories:
        if len(trajectory) != len(sequence):
            raise DataError(
                f"the results of {sequence.name} should be of its {len(sequence)} frames, but are of {len(trajectory)}"
            )
        if trajectory.frames_of(Code.START)[:1] != [0]:
            raise DataError(f"the results of {sequence.name} should begin with the code 1 of a start")


def _mask(length: int, indices: list[int]) -> Bool[np.ndarray, " n"]:
    mask = np.zeros(length, bool)
    mask[indices] = True
    return mask


def _mean(values: np.ndarray, empty: float = 0.0) -> float:
    return float(values.mean()) if values.size else empty
