"""Trackers over the frames of a source: what each says about every frame, and a summary of it in words."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing

import numpy as np
from tqdm.auto import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from roam_jax.evaluation.metrics import iou_xywh, success_auc
from roam_jax.evaluation.trackers import Correctable, TrackerLike
from roam_jax.video.formats import Box, Given, Observation
from roam_jax.video.source import Frame, FrameSource, prefetch


def follow(
    frames: Iterable[Frame],
    trackers: Sequence[TrackerLike],
    given: Sequence[Given],
    *,
    known: Mapping[tuple[int, int], Observation] | None = None,
    started: Collection[int] = (),
    backwards: bool = False,
) -> Iterator[tuple[Frame, list[Observation]]]:
    """Every frame with what each tracker says about it.

    A tracker starts at the first box that is given for it, and is corrected by the others. Before, it says nothing, if
    nothing is known.

    Args:
        frames: all of one size.
        trackers: one for each object.
        given: boxes of the objects in frames that may lie between those that there are: then the next one counts.
        known: what is known already, by frame and object.
        started: objects whose trackers have started before, and go on.
        backwards: the numbers of the frames fall.
    """
    sign, started = -1 if backwards else 1, set(started)
    waiting = {
        target: deque(sorted((g for g in given if g.target == target), key=lambda g: sign * (g.frame or 0)))
        for target in range(len(trackers))
    }
    for frame in frames:
        observations = []
        for target, tracker in enumerate(trackers):
            queue, start, box = waiting[target], time.perf_counter(), None
            while queue and (queue[0].frame is None or sign * (frame.number - queue[0].frame) >= 0):
                box = queue.popleft().box_xywh
            if box is None and target not in started:
                if (seen := (known or {}).get((frame.number, target))) is not None:
                    observations.append(seen)
                continue
            score, lost = 1.0, False
            if box is None:
                box = np.asarray(tracker.update(frame.image), np.float32)
                score, lost = float(tracker.score), bool(tracker.lost)
            elif target in started and isinstance(tracker, Correctable):
                tracker.correct(frame.image, box)
            else:
                tracker.init(frame.image, box)
                started.add(target)
            took = time.perf_counter() - start
            observations.append(Observation(frame.number, target, box, score, lost, took, frame.seconds))
        yield frame, observations


def watch(source: FrameSource) -> Generator[Frame, None, None]:
    """Frames with a progress bar; files are decoded in the background while the tracker works."""
    frames = source.timed() if source.live else prefetch(source.timed())
    with closing(frames), logging_redirect_tqdm([logging.getLogger()]):
        bar = tqdm(frames, desc="tracking", total=source.n_frames, unit="frame", mininterval=0.5)
        for frame in bar:
            yield frame
            bar.set_postfix_str(source.note(), refresh=False)


def summarise(observed: Sequence[Sequence[Observation]], truth: Sequence[Box | None]) -> str:
    """How many frames were tracked and how fast, and how well where the truth is known: a line or two.

    Args:
        observed: what `follow` gave for each frame.
        truth: x, y, w, h of the one object in each of these frames; None where it is unknown.
    """
    if not observed:
        return "no frame was tracked"
    seconds = [sum(observation.seconds for observation in frame) for frame in observed]
    lost = sum(any(observation.lost for observation in frame) for frame in observed)
    text = f"{len(observed)} frames tracked, lost in {lost}; first frame {seconds[0]:.1f} s"
    median = float(np.median(seconds[1:])) if len(seconds) > 1 else 0.0
    text += f", then {1 / median:.1f} frames/s (median {1e3 * median:.1f} ms a frame)" if median > 0 else ""
    pairs = [(frame[0].box_xywh, box) for frame, box in zip(observed, truth, strict=False) if box is not None]
    if len(pairs) > 1:  # the first box was given
        boxes, true = (np.stack(column) for column in zip(*pairs, strict=True))
        mean_iou, auc = float(np.mean(iou_xywh(boxes, true))), float(success_auc(boxes, true))
        text += f"\nsuccess AUC {auc:.3f}, mean IoU {mean_iou:.3f} over {len(pairs)} frames with a known box"
    return text
