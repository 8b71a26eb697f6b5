"""`Tracking(video)`: in a notebook, draw boxes on a frame, watch the tracker, correct it, and use what it found.

What is seen and clicked is in `notebook.js` beside this file; everything that it can do, the methods can do too.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from roam_jax.api import Result, as_box, open_frames
from roam_jax.checkpoints import Checkpoint, load_checkpoint
from roam_jax.config import Config
from roam_jax.errors import ExplainedError, UsageError
from roam_jax.extras import require
from roam_jax.pictures import Image
from roam_jax.tracking.tracker import Tracker
from roam_jax.video.draw import COLOURS, LOST
from roam_jax.video.formats import Observation, format_observation
from roam_jax.video.interactive import Browser, Interactive
from roam_jax.video.source import Frame

require("anywidget")
import anywidget  # noqa: E402 (what to install is said first)
import traitlets  # noqa: E402 (anywidget brings it)

WIDTH = 960
"""pixels of a picture that is sent to the browser, at most"""
QUALITY = 85
"""of the JPEG"""
PAUSE = 0.15
"""seconds between two pictures while the tracker runs"""
NOTHING, TRACKED, WAS_LOST, GIVEN = range(4)
"""what the timeline says of a frame"""


class Tracking(anywidget.AnyWidget):
    """A frame of a video with a slider, on which boxes are drawn with the mouse and tracked.

        tracking = Tracking("video.mp4")
        tracking  # at the end of a cell: draw a box, press "Track"; correct a box in a later frame, and go on
        tracking.result.to_pandas()  # in another cell

    The first box of an object starts its tracker in whatever frame it is drawn. A box that is drawn where the object is
    tracked already corrects it: the tracker goes back to how it was before that frame, learns from the box
    (`Tracker.correct`), and goes on from there. Frames are sent one at a time, when they are looked at.

    Args:
        video: as `roam_jax.track` takes it; no camera or stream, which can be read once only.
        checkpoint: name of one that ships with the package, a directory, or one that is loaded.
        config: instead of the checkpoint's.

    Attributes:
        frame: number of the frame that is shown, from 0; may be set.
        target: number of the object that is drawn next, from 0; may be set.
        running: the tracker runs.
        message: how it goes, or what went wrong.

    Raises:
        InputError: the video cannot be read.
        UsageError: it can be read once only.
        CheckpointError, ValueError: as `Tracker`.
    """

    _esm = Path(__file__).with_suffix(".js")

    frame = traitlets.Int(0).tag(sync=True)
    target = traitlets.Int(0).tag(sync=True)
    running = traitlets.Bool(False).tag(sync=True)
    message = traitlets.Unicode("").tag(sync=True)
    shown = traitlets.Dict().tag(sync=True)
    """the picture: number, jpeg, boxes as lines of `track.jsonl`, and the objects, from 1, whose boxes are given"""
    timeline = traitlets.Bytes(b"").tag(sync=True)
    """a number for each frame: NOTHING (or out of date), TRACKED, WAS_LOST or GIVEN"""
    targets = traitlets.Int(0).tag(sync=True)
    """number of objects"""
    video = traitlets.Dict().tag(sync=True)
    """what never changes: count, width and height in pixels, fps, colours"""

    def __init__(
        self,
        video: str | Path | Sequence[Any] | np.ndarray,
        *,
        checkpoint: str | Path | Checkpoint = "lite",
        config: Config | None = None,
    ) -> None:
        super().__init__()
        source = open_frames(video)
        loaded = checkpoint if isinstance(checkpoint, Checkpoint) else load_checkpoint(checkpoint)
        self._work = Interactive(source, partial(Tracker, loaded, config))
        self._pictures = Browser(source, self._work.count)
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        height, width = source.size_hw
        self.video = {
            "count": self._work.count,
            "width": width,
            "height": height,
            "fps": float(source.fps),
            "colours": [f"rgb{colour}" for colour in COLOURS],
            "lost": f"rgb{LOST}",
        }
        self.message = "draw a box around the object"
        self.on_msg(self._obey)
        self.observe(lambda _: self._show_frame(), "frame")
        self._show_frame()
        self._mark()

    def give(self, box: Any, *, frame: int | None = None, target: int | None = None) -> None:
        """Draw a box: where the object is in a frame.

        Args:
            box: x, y, w, h in image pixels, counted from 0.
            frame: its number; None: the one that is shown.
            target: number of the object, from 0; None: the one that is chosen.

        Raises:
            UsageError: no tracker can start from the box, there is no such frame, or the tracker runs.
        """
        self._must_not_run()
        target = self.target if target is None else target
        self._work.give(self.frame if frame is None else frame, target, as_box(box, self._work.source))
        self._after_a_box()

    def take_back(self, *, frame: int | None = None, target: int | None = None) -> None:
        """Remove a box that was given; arguments as `give`.

        Raises:
            UsageError: the tracker runs.
        """
        self._must_not_run()
        self._work.take_back(self.frame if frame is None else frame, self.target if target is None else target)
        self._after_a_box()

    def track(self) -> None:
        """Track from the first box, or go on from the first one that is new; in the background.

        Raises:
            UsageError: no box is given, or the tracker runs already.
        """
        self._must_not_run()
        frames = self._work.run()
        self.running, self.message = True, "the programs are compiled"
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, args=(frames,), name="tracking", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop after the frame that is being tracked; what was tracked stays."""
        self._stop.set()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until the tracker has come to the end, or so many seconds; whether it has."""
        if self._thread is not None:
            self._thread.join(seconds)
        return not self.running

    def close(self) -> None:
        """Stop, and leave the page."""
        self.stop()
        super().close()

    @property
    def result(self) -> Result:
        """What was tracked so far, as `roam_jax.track` gives it.

        After a new box, what was found beyond it stays until it is tracked again.
        """
        source = self._work.source
        said = [each for _, each in sorted(self._work.said.items())]
        truth = [source.true_box(each[0].frame) if self._work.targets == 1 else None for each in said]
        return Result(tuple(said), source, tuple(truth))

    def _run(self, frames: Generator[tuple[Frame, Sequence[Observation]], None, None]) -> None:
        """What the thread does."""
        shown = 0.0
        try:
            with closing(frames):
                for frame, _ in frames:
                    if time.monotonic() - shown > PAUSE:
                        self._show(frame)
                        self._mark()
                        self.message = f"tracking: frame {frame.number} of {self._work.count}"
                        shown = time.monotonic()
                    if self._stop.is_set():
                        break
            self.message = str(self.result)
        except ExplainedError as error:
            self.message = str(error)
        except BaseException as error:
            self.message = f"a fault of the program itself: {error!r}"
            raise
        finally:
            self.running = False
            self._mark()
            self.frame = max(self._work.next - 1, 0)
            self._show_frame()

    @traitlets.validate("frame")
    def _within(self, proposal: Any) -> int:
        return min(max(proposal["value"], 0), self._work.count - 1)

    def _show_frame(self) -> None:
        """Send the frame that is asked for; while the tracker runs, its thread sends those that it sees."""
        if not self.running:
            try:
                self._show(self._pictures[self.frame])
            except ExplainedError as error:
                self.message = str(error)

    def _show(self, frame: Frame) -> None:
        number, given = frame.number, {}
        for (at, target), box in self._work.given.items():
            if at == number:
                given[target] = Observation(number, target, box, 1.0, False, 0.0, frame.seconds)
        said = {each.target: each for each in self._work.said.get(number, ())}
        self.shown = {
            "number": number,
            "jpeg": _jpeg(frame.image),
            "boxes": [format_observation(each) for each in (said | given).values()],
            "given": [target + 1 for target in given],
        }

    def _mark(self) -> None:
        timeline = np.full(self._work.count, NOTHING, np.uint8)
        for number, said in list(self._work.said.items()):
            if number < self._work.next:
                timeline[number] = WAS_LOST if any(each.lost for each in said) else TRACKED
        for number, _ in self._work.given:
            timeline[number] = GIVEN
        self.timeline, self.targets = timeline.tobytes(), self._work.targets

    def _after_a_box(self) -> None:
        self.message = f'"Track" goes on from frame {self._work.next}' if self._work.given else "draw a box"
        self._mark()
        self._show_frame()

    def _must_not_run(self) -> None:
        if self.running:
            raise UsageError("the tracker runs: stop it first")

    def _obey(self, _: object, content: dict[str, Any], buffers: object) -> None:
        """What the browser asks for by its buttons and the mouse."""
        actions = {
            "give": lambda: self.give(content["box"]),
            "take back": self.take_back,
            "track": self.track,
            "stop": self.stop,
        }
        try:
            actions[content["do"]]()
        except ExplainedError as error:
            self.message = str(error)


def _jpeg(image: Image) -> bytes:
    """The picture, small enough to be sent often."""
    scale = min(1.0, WIDTH / image.shape[1])
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else image
    return cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[
        1
    ].tobytes()
