"""Validation: the meta loss on held-out clips, and the accuracy of the online tracker itself."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as ListOf
from dataclasses import dataclass, field
from itertools import islice

import jax
import numpy as np
from jaxtyping import UInt8

from roam_jax.checkpoints import Checkpoint
from roam_jax.config import Config
from roam_jax.core.meta import Unrolled
from roam_jax.data.pipeline import ClipBatch, make_pipeline
from roam_jax.data.sequences import DataError, Sequence
from roam_jax.data.skipped import Skipped
from roam_jax.evaluation.metrics import has_box, success_auc
from roam_jax.evaluation.trackers import TrackerLike
from roam_jax.tracking.params import Params
from roam_jax.tracking.tracker import Tracker
from roam_jax.training.parallel import Trainer

FIRST_KEY = 2**30
"""number that stands for the step in the random keys of the first validation batch: no training step has it"""

Judge = Callable[[Checkpoint], dict[str, float]]
"""success AUC of a tracker in each of the sequences that are kept for validation"""


@dataclass(frozen=True)
class Validation:
    """What one validation found."""

    losses: Unrolled | None = None
    """means over the held-out clips; None without any"""
    aucs: dict[str, float] = field(default_factory=dict)
    """success AUC by sequence"""

    @property
    def auc(self) -> float | None:
        """Mean success AUC."""
        return float(np.mean(list(self.aucs.values()))) if self.aucs else None

    @property
    def score(self) -> float | None:
        """What the best checkpoint is chosen by, the higher the better: the AUC, or else the negative meta loss."""
        if self.auc is not None:
            return self.auc
        return None if self.losses is None or not np.isfinite(self.losses.total) else -float(self.losses.total)

    def __str__(self) -> str:
        """One line for the console."""
        loss = [] if self.losses is None else [f"loss on held-out clips {float(self.losses.total):.4f}"]
        return ", ".join(loss + ([] if self.auc is None else [f"success AUC {self.auc:.3f}"]))

    def summary(self) -> dict[str, float]:
        """Numbers for the log."""
        numbers = {f"validation/auc/{name}": auc for name, auc in self.aucs.items()}
        if self.auc is not None:
            numbers["validation/auc"] = self.auc
        if self.losses is not None:
            numbers["validation/loss"] = float(self.losses.total)
        return numbers


def read_clips(
    held_out: ListOf[Sequence],
    config: Config,
    *,
    process: tuple[int, int],
    skipped: Skipped | None = None,
    cutouts: ListOf[UInt8[np.ndarray, "h w 4"]] = (),
) -> list[ClipBatch]:
    """The same `run.validate_batches` batches for the whole run, this process's rows of them.

    Raises:
        DataError: as from the iterator of `make_pipeline`.
    """
    if not held_out or not config.run.validate_batches:
        return []
    batches = make_pipeline(
        held_out, config, seed=config.run.split_seed, process=process, skipped=skipped, cutouts=cutouts
    )
    return list(islice(batches, config.run.validate_batches))


def mean_losses(trainer: Trainer, learned: Params, batches: ListOf[ClipBatch]) -> Unrolled | None:
    """Mean losses over batches, with the same random numbers at each call. The program is that of training.

    Args:
        trainer: of the run.
        learned: replicated.
        batches: of `read_clips`.
    """
    losses = [
        trainer.fetch(trainer.gradient(learned, FIRST_KEY + index, batch)[1]) for index, batch in enumerate(batches)
    ]
    return jax.tree.map(lambda *values: np.mean(values, axis=0), *losses) if losses else None


def make_judge(sequences: ListOf[Sequence], frames: int) -> Judge:
    """Function that measures the success AUC of a tracker in each sequence.

    Args:
        sequences: with a box in the first frame.
        frames: how many of each count; 0: all.

    Raises:
        DataError: a sequence has no box in its first frame.
    """
    for sequence in sequences:
        if not has_box(sequence.boxes_xywh[:1]).all():
            raise DataError(f"the sequence {sequence.name} should have a box in its first frame to track from")

    def follow(tracker: TrackerLike, sequence: Sequence) -> float:
        count = min(frames or len(sequence), len(sequence))
        boxes = [sequence.boxes_xywh[0]]
        for index, image in enumerate(islice(sequence.frames, count)):
            if index == 0:
                tracker.init(image, boxes[0])
            else:
                boxes.append(tracker.update(image))
        return success_auc(np.stack(boxes), sequence.boxes_xywh[:count])

    def judge(checkpoint: Checkpoint) -> dict[str, float]:
        tracker = Tracker(checkpoint)
        return {sequence.name: follow(tracker, sequence) for sequence in sequences}

    return judge
