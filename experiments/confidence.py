"""`lost`, measured, and the weights that it is made with: `python experiments/confidence.py LAYOUT:ROOT ...`.

Each sequence is tracked twice, its object hidden for 15 frames from the 31st on: painted out, and covered by a part of
the picture beside it. Reported are the share of these frames that is called lost, that of the visible frames (of all,
and of those in which the box is on the object), how often the object is taken up again within 15 frames, and after how
many frames; and the long-term F-score of VOT, for which hidden frames are such without the object. With `--fit` the
weights of `online.confidence` are fitted on these frames: the probability that the IoU is above 0.5.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

import cv2
import numpy as np
import tyro
from jaxtyping import Bool, Float, UInt8

from roam_jax.checkpoints import load_checkpoint
from roam_jax.data.layouts import read_layout
from roam_jax.data.sequences import Frames, Sequence
from roam_jax.evaluation.metrics import iou_xywh
from roam_jax.evaluation.runner import count_cores, track_in_processes
from roam_jax.evaluation.trackers import TrackerLike
from roam_jax.evaluation.vot.longterm import Judged, long_term_f
from roam_jax.extensions.confidence import SIGNS
from roam_jax.tracking.tracker import Tracker

FROM, HIDDEN, AFTER = 30, 15, 45
"""frames before the object is hidden, while it is, and after"""
Kind = Literal["painted", "covered"]
KINDS: tuple[Kind, ...] = ("painted", "covered")


@dataclass(frozen=True)
class Hidden(Frames):
    """Frames in some of which the object is hidden."""

    frames: Frames
    boxes_xywh: Float[np.ndarray, "n 4"]
    kind: Kind

    def __len__(self) -> int:
        return len(self.frames)

    def read(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """One frame."""
        image = self.frames.read(index)
        box = self.boxes_xywh[index]
        if not FROM <= index < FROM + HIDDEN or not np.isfinite(box).all():
            return image
        return hide(image, box, self.kind)


def hide(image: UInt8[np.ndarray, "h w 3"], box_xywh: Float[np.ndarray, " 4"], kind: Kind) -> np.ndarray:
    """The picture without the object in the box."""
    height, width = image.shape[:2]
    x, y, w, h = box_xywh.round().astype(int).tolist()
    grown = 4 if kind == "painted" else max(2, round(0.1 * max(w, h)))
    left, top = max(x - grown, 0), max(y - grown, 0)
    right, bottom = min(x + w + grown, width), min(y + h + grown, height)
    if right <= left or bottom <= top:
        return image
    if kind == "painted":
        mask = np.zeros((height, width), np.uint8)
        mask[top:bottom, left:right] = 1
        return cv2.inpaint(np.ascontiguousarray(image), mask, 5, cv2.INPAINT_TELEA)
    wide, high = right - left, bottom - top
    # what lies beside it, on the side where there is more room
    start = right if width - right > left else left - wide
    source = image[top:bottom, max(start, 0) : min(start + wide, width)]
    covered = image.copy()
    covered[top:bottom, left:right] = cv2.resize(source, (wide, high)) if source.size else image.mean(axis=(0, 1))
    return covered


class Seen(NamedTuple):
    """What a tracker said of the frames after the first."""

    iou: Float[np.ndarray, " n"]
    score: Float[np.ndarray, " n"]
    lost: Bool[np.ndarray, " n"]
    signs: Float[np.ndarray, "n k"]
    visible: Bool[np.ndarray, " n"]
    hidden: Bool[np.ndarray, " n"]


def watch(tracker: TrackerLike, sequence: Sequence) -> Seen:
    """Track a sequence."""
    frames = iter(sequence.frames)
    tracker.init(next(frames), sequence.boxes_xywh[0])
    boxes, rows = [], []
    for image in frames:
        boxes.append(np.array(tracker.update(image)))
        rows.append((tracker.score, tracker.lost, np.array(getattr(tracker, "signs", ()))))
    score, lost, signs = (np.array(column) for column in zip(*rows, strict=True))
    index = np.arange(1, len(sequence))
    return Seen(
        np.nan_to_num(iou_xywh(np.array(boxes), sequence.boxes_xywh[1:])),
        score,
        lost,
        signs,
        sequence.visible[1:],
        (index >= FROM) & (index < FROM + HIDDEN),
    )


@dataclass(frozen=True)
class Arguments:
    """Measure `lost`, and fit what it is made of."""

    data: tyro.conf.Positional[list[str]]
    """LAYOUT:ROOT, several"""
    checkpoint: str = "lite"
    """name or directory"""
    fit: bool = False
    """fit the weights too"""
    every: int = 1
    """use every so many-th sequence"""
    lost: tuple[float, ...] = ()
    """thresholds of the score to try; none: the tracker's own"""
    record: Path | None = None
    """.npz file for all that was measured"""


@dataclass(frozen=True)
class Make:
    """The tracker of a checkpoint, for other processes."""

    checkpoint: str

    def __call__(self) -> Tracker:
        """It."""
        return Tracker(load_checkpoint(self.checkpoint))


def prepare(sequences: list[Sequence]) -> list[Sequence]:
    """Both kinds of hiding of each sequence that is long enough and shows its object throughout."""
    prepared = []
    for sequence in sequences:
        cut = sequence.head(FROM + HIDDEN + AFTER)
        if len(cut) < FROM + HIDDEN + 15 or not cut.visible.all():
            continue
        for kind in KINDS:
            frames = Hidden(cut.frames, cut.boxes_xywh, kind)
            prepared.append(replace(cut, name=f"{cut.name} {kind}", frames=frames))
    return prepared


def summarise(seen: dict[str, Seen], threshold: float | None) -> str:
    """One line of the table: below a threshold of the score, or as the tracker says."""

    def shares(ask) -> float:
        return float(np.mean(np.concatenate([ask(s).astype(float) for s in seen.values()])))

    def lost(s: Seen) -> np.ndarray:
        return s.lost if threshold is None else s.score < threshold

    hidden = {kind: shares_of(seen, kind, lost) for kind in KINDS}
    was_on = {name: s for name, s in seen.items() if s.iou[FROM - 2] > 0.5}  # tracked when it was hidden
    again, waits = [], []
    for s in was_on.values():
        after = np.flatnonzero((s.iou[FROM + HIDDEN - 1 :][:15] > 0.5) & ~lost(s)[FROM + HIDDEN - 1 :][:15])
        again.append(bool(len(after)))
        waits += after[:1].tolist()
    figures = [
        "own" if threshold is None else f"{threshold:.2f}",
        f"{shares(lambda s: lost(s)[s.hidden]):.3f}",
        *(f"{hidden[kind]:.3f}" for kind in KINDS),
        f"{shares(lambda s: lost(s)[s.visible & ~s.hidden]):.3f}",
        f"{shares(lambda s: lost(s)[s.visible & ~s.hidden & (s.iou > 0.5)]):.3f}",
        f"{shares(lambda s: lost(s)[s.visible & ~s.hidden & (s.iou < 0.1)]):.3f}",
        f"{np.mean(again):.3f}",
        f"{np.mean(waits) if waits else np.nan:.1f}",
    ]
    return f"| {' | '.join(figures)} |"


def shares_of(seen: dict[str, Seen], kind: Kind, lost) -> float:
    """Share of the hidden frames of a kind that are called lost."""
    parts = [lost(s)[s.hidden] for name, s in seen.items() if name.endswith(kind)]
    return float(np.mean(np.concatenate(parts).astype(float)))


def fit_weights(signs: Float[np.ndarray, "n k"], on: Bool[np.ndarray, " n"], ridge: float = 1e-3) -> np.ndarray:
    """Logistic regression by Newton's method, the constant first; `ridge` counts signs in their standard deviations."""
    spread = signs.std(axis=0) + 1e-9
    x = np.concatenate([np.ones((len(signs), 1)), signs / spread], axis=1).astype(float)
    weights = np.zeros(x.shape[1])
    for _ in range(50):
        p = 1 / (1 + np.exp(-np.clip(x @ weights, -50, 50)))
        gradient = x.T @ (p - on) / len(x) + ridge * weights
        hessian = (x * (p * (1 - p))[:, None]).T @ x / len(x) + ridge * np.eye(len(weights))
        weights = weights - np.linalg.solve(hessian, gradient)
    return weights / np.concatenate([[1.0], spread])


def main() -> None:
    arguments = tyro.cli(Arguments, prog="python experiments/confidence.py")
    sequences = []
    for text in arguments.data:
        layout, root = text.split(":", 1)
        sequences += prepare(read_layout(layout, Path(root))[:: arguments.every])
    seen: dict[str, Seen] = {}
    for name, outcome in track_in_processes(sequences, Make(arguments.checkpoint), count_cores(), watch):
        if isinstance(outcome, str):
            print(f"left out: {name}: {outcome}")
        else:
            seen[name] = outcome
    if arguments.record:
        np.savez(arguments.record, **{f"{n}/{f}": v for n, s in seen.items() for f, v in s._asdict().items()})
    print(f"{len(seen)} clips, of which {sum(s.iou[FROM - 2] > 0.5 for s in seen.values())} tracked when hidden\n")
    judged = [Judged(s.iou, s.score, s.visible & ~s.hidden) for s in seen.values()]
    print("long-term F-score {:.3f} (precision {:.3f}, recall {:.3f}, from {:.3f} on)\n".format(*long_term_f(judged)))
    head = ("lost below", "hidden", *KINDS, "visible", "visible, IoU > 0.5", "visible, IoU < 0.1", "again", "after")
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for threshold in arguments.lost or (None,):
        print(summarise(seen, threshold))
    if arguments.fit:
        signs = np.concatenate([s.signs for s in seen.values()])
        on = np.concatenate([(s.iou > 0.5) & ~s.hidden for s in seen.values()])
        weights = fit_weights(signs, on)
        print("\nconstant", *SIGNS, sep=", ")
        print("weights", np.round(weights, 3).tolist())
        p = 1 / (1 + np.exp(-(weights[0] + signs @ weights[1:])))
        for low in np.arange(0, 1, 0.1):
            inside = (p >= low) & (p < low + 0.1)
            if inside.any():
                print(f"said {low:.1f} to {low + 0.1:.1f}: {inside.sum()} frames, true {on[inside].mean():.3f}")


if __name__ == "__main__":
    main()
