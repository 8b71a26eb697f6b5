"""`roam_jax.track(video, box)`: what the command does, with the result in Python and in a notebook."""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Int

from roam_jax.checkpoints import Checkpoint, load_checkpoint
from roam_jax.config import Config
from roam_jax.errors import UsageError
from roam_jax.extras import require
from roam_jax.pictures import as_rgb
from roam_jax.tracking.tracker import Tracker
from roam_jax.video.choice import choose_frames
from roam_jax.video.follow import follow, summarise, watch
from roam_jax.video.formats import Box, Given, Observation, check_box
from roam_jax.video.inputs import open_source
from roam_jax.video.select import box_beside
from roam_jax.video.sink import ResultWriter
from roam_jax.video.source import FrameSource, MemoryFrames

if TYPE_CHECKING:
    import pandas

WIDTH = 640
"""pixels of a video in a notebook, at most"""


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """What was tracked: t frames, n objects. Of an object that appears later, box and score are nan until then.

    In a notebook it shows itself as a video.
    """

    observations: tuple[tuple[Observation, ...], ...]
    """of each frame, of each object"""
    source: FrameSource
    """the frames that were tracked, to be read again"""
    truth: tuple[Box | None, ...] = ()
    """the object's true box in each frame, where it is known"""

    @cached_property
    def frames(self) -> Int[np.ndarray, "t"]:
        """Number of each frame in the input, from 0."""
        return np.array([each[0].frame for each in self.observations])

    @cached_property
    def times(self) -> Float[np.ndarray, "t"]:
        """When each frame is shown, in seconds after the first one of the input."""
        return np.array([each[0].time for each in self.observations])

    @cached_property
    def boxes_xywh(self) -> Float[np.ndarray, "t n 4"]:
        """Left, top, width, height, in image pixels that count from 0."""
        return self._table(lambda o: o.box_xywh, np.full((len(self), self.targets, 4), np.nan, np.float32))

    @cached_property
    def scores(self) -> Float[np.ndarray, "t n"]:
        """Probability that each box is on its object."""
        return self._table(lambda o: o.score, np.full((len(self), self.targets), np.nan, np.float32))

    @cached_property
    def lost(self) -> Bool[np.ndarray, "t n"]:
        """Whether each object was not found."""
        return self._table(lambda o: o.lost, np.zeros((len(self), self.targets), bool))

    @cached_property
    def targets(self) -> int:
        """Number of objects."""
        return max((o.target + 1 for each in self.observations for o in each), default=0)

    def _table(self, value: Callable[[Observation], Any], table: np.ndarray) -> np.ndarray:
        """The table with the value of each observation in its place."""
        for row, each in zip(table, self.observations, strict=True):
            for observation in each:
                row[observation.target] = value(observation)
        return table

    def __len__(self) -> int:
        return len(self.observations)

    def __repr__(self) -> str:
        return f"<Result: {len(self)} frames of {self.source.name}, objects: {self.targets}>"

    def __str__(self) -> str:
        return summarise(self.observations, self.truth)

    def to_pandas(self) -> pandas.DataFrame:
        """A row for each frame and object: frame, time, target (from 1), x, y, w, h, score, lost.

        Raises:
            MissingExtra: pandas is not installed.
        """
        require("pandas")
        import pandas

        rows = [
            (o.frame, o.time, o.target + 1, *map(float, o.box_xywh), o.score, o.lost)
            for each in self.observations
            for o in each
        ]
        return pandas.DataFrame(rows, columns=["frame", "time", "target", "x", "y", "w", "h", "score", "lost"])

    def save(
        self, folder: str | Path, *, video: bool = True, one_based: bool = False, formats: Sequence[str] = ()
    ) -> None:
        """Write what the command writes: `boxes.txt`, `track.jsonl`, `video.mp4`, and the formats of other tools.

        Args:
            folder: where to.
            video: write the video too.
            one_based: count pixels from 1 in the boxes files.
            formats: names of `roam_jax.video.exports.FORMATS`.

        Raises:
            OutputError: a file cannot be written.
            UsageError: the video is asked for, and its frames could be read once only.
        """
        if not self.source.again:
            raise UsageError(f"the frames of {self.source.name} could be read once only")
        said = {each[0].frame: each for each in self.observations}
        with ResultWriter(
            Path(folder),
            targets=self.targets,
            size_hw=self.source.size_hw,
            fps=self.source.fps,
            video=video,
            one_based=one_based,
            formats=formats,
            name=self.source.name,
            sound=self.source.sound,
        ) as results:
            for frame in self.source.timed():
                if frame.number in said:
                    results.write(frame, said[frame.number])

    def show(self) -> Any:
        """The video with its boxes, to be displayed in a notebook.

        Raises:
            MissingExtra: IPython is not installed.
        """
        require("IPython")
        from IPython.display import HTML

        return HTML(self._repr_html_())

    def _repr_html_(self) -> str:
        if not (self.source.again and self.observations):
            return f"<pre>{self}</pre>"
        with tempfile.TemporaryDirectory() as folder:
            self.save(folder)
            data = base64.b64encode((Path(folder) / "video.mp4").read_bytes()).decode()
        width = min(WIDTH, self.source.size_hw[1])
        return f'<video controls loop width="{width}" src="data:video/mp4;base64,{data}"></video><pre>{self}</pre>'


def track(
    video: str | Path | Sequence[Any] | np.ndarray,
    box: Any = None,
    *,
    boxes: Sequence[Any] = (),
    checkpoint: str | Path | Checkpoint = "lite",
    config: Config | None = None,
    start: str | int = "",
    stop: str | int = "",
    step: int = 1,
) -> Result:
    """Track an object, or several, through a video.

    Args:
        video: whatever `python -m roam_jax.track` takes, or the frames: RGB arrays (height, width, 3), or PIL images.
        box: x, y, w, h of the object in the first frame; a sequence folder has its own.
        boxes: the same of several objects.
        checkpoint: name of one that ships with the package, a directory, or one that is loaded.
        config: instead of the checkpoint's.
        start: number of the first frame, or a text such as `12.5s`.
        stop: frame to stop before, in the same way.
        step: track every so many frames only.

    Raises:
        InputError: the video cannot be read.
        UsageError: there is no box, or none that a tracker can start from.
        CheckpointError, ValueError: as `Tracker`.
    """
    source = choose_frames(open_frames(video), str(start), str(stop), step)
    given = list(boxes) if box is None else [box, *boxes]
    if not given:
        first = next(source.timed())
        if source.groundtruth_xywh is None:
            raise UsageError("give the object's box: track(video, (x, y, w, h))")
        given = [box_beside(source, first.number)]
    starts = [Given(None, target, as_box(each, source)) for target, each in enumerate(given)]
    loaded = checkpoint if isinstance(checkpoint, Checkpoint) else load_checkpoint(checkpoint)
    trackers = [Tracker(loaded, config) for _ in starts]
    observations: list[tuple[Observation, ...]] = []
    truth: list[Box | None] = []
    with closing(watch(source)) as frames:
        for frame, said in follow(frames, trackers, starts):
            observations.append(tuple(said))
            truth.append(source.true_box(frame.number) if len(starts) == 1 else None)
    return Result(tuple(observations), source, tuple(truth))


def open_frames(video: str | Path | Sequence[Any] | np.ndarray) -> FrameSource:
    """Frames of whatever `track` takes.

    Raises:
        InputError: it cannot be read.
        ValueError: the frames are no images.
    """
    if isinstance(video, str | Path):
        return open_source([str(video)])
    return MemoryFrames("frames", [as_rgb(image) for image in video])


def as_box(box: Any, source: FrameSource) -> Box:
    """Four numbers as a box that a tracker can start from.

    Raises:
        UsageError: they are not.
    """
    array = np.asarray(box, np.float32).ravel()
    if array.shape != (4,):
        raise UsageError(f"a box is four numbers x, y, w, h, but {box!r} was given")
    return check_box(array, source.size_hw)
