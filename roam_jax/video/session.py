"""A run of trackers over an input: forwards, or first backwards, with whatever stops it on the way."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, suppress

from roam_jax.errors import InputError, UsageError
from roam_jax.evaluation.trackers import TrackerLike
from roam_jax.interrupts import StopRequest
from roam_jax.pictures import Image
from roam_jax.video.backwards import Backwards
from roam_jax.video.draw import draw_observations
from roam_jax.video.follow import follow, summarise, watch
from roam_jax.video.formats import Box, Given, Observation
from roam_jax.video.resume import Keeper, Progress, Resumed
from roam_jax.video.select import Wish, select_box, show_frame
from roam_jax.video.sink import ResultWriter
from roam_jax.video.source import Frame, FrameSource


class Session:
    """Trackers, what they have said of the frames so far, and what the user wants next.

    Args:
        trackers: one for each object.
        given: the boxes that they start from, and corrections.
        make_writer: makes the files for results; called when the first frame is tracked.
        show: show the frames in a window.
        keeper: keeps what the run can be resumed from.
        resumed: the run to go on with.
    """

    def __init__(
        self,
        trackers: Sequence[TrackerLike],
        given: Sequence[Given],
        make_writer: Callable[[FrameSource], ResultWriter],
        *,
        show: bool = False,
        keeper: Keeper | None = None,
        resumed: Resumed | None = None,
    ) -> None:
        self.trackers, self.given, self.make_writer, self.show = trackers, given, make_writer, show
        self.keeper, self.resumed = keeper, resumed
        self.known: dict[tuple[int, int], Observation] = {}
        """what was said going backwards, by frame and object"""
        self.stop = StopRequest((signal.SIGINT,))
        self.ended = False
        """the user wants no more"""
        self.trouble: Exception | None = None
        """what ended the way back"""

    def look_back(self, source: Backwards) -> None:
        """Track backwards; nothing is written before `run`, but what goes wrong is only remembered until then."""
        with ExitStack() as opened, closing(watch(source)) as frames:
            try:
                for frame, observations in follow(frames, self.trackers, self.given, backwards=True):
                    if not self.known:
                        opened.enter_context(self.stop)
                    self.known |= {(frame.number, each.target): each for each in observations}
                    if self._wants_to_end(frame.image, observations):
                        break
            except Exception as error:
                if not self.known:
                    raise
                self.trouble, self.ended = error, True

    def run(self, source: FrameSource, *, only_known: bool = False) -> None:
        """Track forwards, and write the results.

        Args:
            source: the frames, those that were tracked backwards included.
            only_known: write those alone.

        Raises:
            ExplainedError: what went wrong; results up to there are on disk.
            KeyboardInterrupt: likewise.
        """
        observed: list[Sequence[Observation]] = []
        truth: list[Box | None] = []
        results: ResultWriter | None = None
        progress = Progress()
        try:
            with ExitStack() as opened, closing(watch(source)) as frames:
                for frame, observations in self._follow(frames, only_known=only_known):
                    if results is None:  # the first frame has compiled the programs; from here on there is work to lose
                        if not self.stop.requested:
                            opened.enter_context(self.stop)
                        results = opened.enter_context(self.make_writer(source))
                    true_box = source.true_box(frame.number) if len(self.trackers) == 1 else None
                    if observations:
                        observed.append(observations)
                        truth.append(true_box)
                    results.write(frame, observations, true_box)
                    progress = Progress(
                        frame.number,
                        progress.frames + 1,
                        progress.lines + len(observations),
                        tuple(each.target for each in observations),
                    )
                    if self.keeper:
                        self.keeper.keep_sometimes(self.trackers, progress)
                    if not only_known and self._wants_to_end(frame.image, observations):
                        break
        except InputError:
            self._keep(progress)
            raise
        finally:
            print(summarise(observed, truth))
            if results is not None:
                print("results:", ", ".join(str(results.folder / name) for name in results.files))
        if self.trouble:
            raise self.trouble
        if self.stop.requested:
            self._keep(progress)
            raise KeyboardInterrupt
        if self.keeper:
            self.keeper.done()

    def _follow(self, frames: Iterator[Frame], *, only_known: bool) -> Iterator[tuple[Frame, Sequence[Observation]]]:
        """Each frame with what is said of it; those of a run that goes on come again first."""
        given, started = () if only_known else self.given, ()
        if self.resumed:
            yield from self.resumed.again(frames)
            given, started = self.resumed.waiting(given), self.resumed.progress.started
        yield from follow(frames, self.trackers, given, known=self.known, started=started)

    def _keep(self, progress: Progress) -> None:
        """What the run can be resumed from, now that it ends too early."""
        if self.keeper and progress.frames:
            self.keeper.keep(self.trackers, progress)
            print(f"go on with: python -m roam_jax.track --resume {self.keeper.folder.parent}")

    def _wants_to_end(self, image: Image, observations: Sequence[Observation]) -> bool:
        """Whether the user wants no more; if new boxes are wanted, they are drawn first."""
        wish = show_frame(draw_observations(image, observations)) if self.show else Wish.GO_ON
        if wish is Wish.DRAW:
            for tracker in self.trackers:
                with suppress(UsageError):  # none was drawn: it goes on as it is
                    tracker.init(image, select_box(image))
        self.ended = self.stop.requested or wish is Wish.END
        return self.ended
