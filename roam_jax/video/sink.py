"""Results on disk, written frame by frame so that whatever stops the program leaves what it had done."""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import cv2
import numpy as np
from av.error import FFmpegError

from roam_jax.errors import OutputError
from roam_jax.pictures import Image
from roam_jax.video.draw import draw_observations
from roam_jax.video.exports import FORMATS, Clip, write_exports
from roam_jax.video.formats import Box, Observation, format_box, format_observation
from roam_jax.video.sound import SoundTrack
from roam_jax.video.source import Frame, Sound

ENCODERS = ("libx264", "libopenh264", "mpeg4")
"""in the order of preference; the first two write H.264, and FFmpeg's builds differ in which they have"""
SRGB, BT601 = 1, 6
"""FFmpeg's numbers for the primaries of RGB images, and for the YUV that OpenCV makes of them"""
TICKS = 60_000
"""of the video's clock in a second, at least"""
LONGEST = 3600
"""seconds that a frame is shown at most: what FFmpeg cannot count in 31 bits makes it end the process when it closes"""
QUEUE = 4
"""frames that may wait for the encoder"""
UNKNOWN = np.full(4, np.nan, np.float32)
"""box of an object that is not tracked yet"""
RESULTS = re.compile(
    r"boxes(_[1-9][0-9]*)?\.txt|track\.jsonl|video\.mp4|" + "|".join(re.escape(file) for file, _ in FORMATS.values())
)
"""names of the files that a `ResultWriter` may write"""


class VideoWriter:
    """MP4 file of RGB frames, H.264 where FFmpeg has it; usable as a context manager.

    The file is playable while it grows: after a crash it lacks about its last second. Odd sizes grow by one pixel.
    Sound that cannot be decoded is left out, and so is what a pause has above an hour.

    Raises:
        OutputError: the file cannot be written.
    """

    def __init__(self, path: Path, size_hw: tuple[int, int], fps: Fraction, sound: Sound | None = None) -> None:
        self.path, height, width = path, *size_hw
        self.sound: SoundTrack | None = None
        self.padding = (height % 2, width % 2)
        encoder = next(name for name in ENCODERS if name in av.codecs_available)
        with _writing(path):
            # Fragments make a growing file readable; "hybrid" turns it into an ordinary MP4 at the end.
            self.container = av.open(str(path), "w", options={"movflags": "hybrid_fragmented", "flush_packets": "1"})
            self.fps = max(fps.limit_denominator(65535), Fraction(1, LONGEST))
            self.stream = cast(av.VideoStream, self.container.add_stream(encoder, rate=self.fps))
        self.stream.height, self.stream.width = height + height % 2, width + width % 2
        self.stream.pix_fmt = "yuv420p"
        context = self.stream.codec_context
        context.colorspace, context.color_primaries, context.color_trc = BT601, SRGB, SRGB
        # Fine enough for any pause, and whole numbers at a constant rate.
        context.time_base = Fraction(1, self.fps.numerator * math.ceil(TICKS / self.fps.numerator))
        self.last, self.left_out = -1, 0
        """ticks of the clock: the last frame's time, and how much later it was in the input"""
        context.gop_size = max(1, round(fps))  # a fragment ends where the next key frame begins
        if encoder == "libx264":
            self.stream.options = {"preset": "superfast", "crf": "20"}  # the tracker needs the processor
        if sound is not None:
            with suppress(FFmpegError, OSError):
                self.sound = SoundTrack(sound, self.container)

    def write(self, image: Image, seconds: float | None = None) -> None:
        """Add a frame.

        Args:
            image: RGB.
            seconds: when it is shown, after the first one; None: a frame after the one before.

        Raises:
            OutputError: the file cannot be written.
        """
        if any(self.padding):
            image = np.pad(image, ((0, self.padding[0]), (0, self.padding[1]), (0, 0)), mode="edge")
        # OpenCV's conversion is three times as fast as FFmpeg's.
        yuv = np.asarray(cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2YUV_I420), np.uint8)
        frame, clock = av.VideoFrame.from_ndarray(yuv, format="yuv420p"), self.stream.codec_context.time_base
        assert clock is not None
        next_one = self.last + round(1 / (self.fps * clock)) if self.last >= 0 else 0
        at = next_one if seconds is None else max(round(seconds / clock) - self.left_out, self.last + 1)
        self.left_out += max(at - self.last - round(LONGEST / clock), 0)
        self.last = min(at, self.last + round(LONGEST / clock))
        frame.pts, frame.time_base = self.last, clock
        with _writing(self.path):
            self.container.mux(self.stream.encode(frame))
            if self.sound:
                self.sound.write_until(float(self.last * clock))

    def close(self) -> None:
        """Write what the encoder still holds, and the file's index.

        Raises:
            OutputError: the file cannot be written.
        """
        with _writing(self.path):
            try:
                self.container.mux(self.stream.encode(None))
                if self.sound:
                    clock = self.stream.codec_context.time_base or Fraction(0)
                    self.sound.write_until(float(self.last * clock + 1 / self.fps))
                    self.sound.close()
            finally:
                self.container.close()

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class TextWriter:
    """Text file whose lines are on disk as soon as they are written; usable as a context manager.

    Args:
        path: of the file.
        kept: first lines of the file that is there, which stay.

    Raises:
        OutputError: the file cannot be written, or has not so many lines.
    """

    def __init__(self, path: Path, kept: int = 0) -> None:
        self.path = path
        with _writing(path):
            if kept:
                with path.open("rb+") as there:
                    if not all(there.readline().endswith(b"\n") for _ in range(kept)):
                        raise OutputError(f"{path} has lost lines that the run to resume had written")
                    there.truncate(there.tell())
            self.file = path.open("a" if kept else "w", encoding="utf-8", newline="\n", buffering=1)

    def write(self, line: str) -> None:
        """Add a line.

        Raises:
            OutputError: the file cannot be written.
        """
        with _writing(self.path):
            self.file.write(line + "\n")

    def close(self) -> None:
        """Close the file."""
        with _writing(self.path):
            self.file.close()

    def __enter__(self) -> TextWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class ResultWriter:
    """Folder of results; usable as a context manager.

    - `boxes.txt`: a line x,y,w,h for each frame, of nan where the object is not tracked yet; with several objects
      `boxes_1.txt`, `boxes_2.txt`, ...
    - `track.jsonl`: a line of JSON for each frame and object (`format_observation`), boxes 0-based
    - `video.mp4`: the frames with boxes drawn, encoded in the background; the last `QUEUE` may be missing if the
      program is killed

    Args:
        folder: where to; made if it is not there. Results of an earlier run are replaced or removed.
        targets: number of objects.
        size_hw: of the frames.
        fps: of the video.
        constant: frames follow each other at that rate, whenever they were shown in the input.
        video: write it.
        one_based: count pixels from 1 in the boxes files, as OTB does.
        sound: what is heard with the frames; not with a constant rate.
        formats: names of `exports.FORMATS` to write as well, when the writer is closed.
        name: of the input, for them.
        kept: frames, and observations of them, whose texts are there and stay: they come again for the video.

    Raises:
        OutputError: the folder or a file in it cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        *,
        targets: int,
        size_hw: tuple[int, int],
        fps: Fraction,
        constant: bool = False,
        video: bool = True,
        one_based: bool = False,
        sound: Sound | None = None,
        formats: Sequence[str] = (),
        name: str = "",
        kept: tuple[int, int] = (0, 0),
    ) -> None:
        sound = None if constant else sound
        make_folder(folder)
        self.folder, self.one_based, self.constant = folder, one_based, constant
        self.formats, self.clip = formats, Clip(name, size_hw, float(fps), [])
        self.began: float | None = None
        self.kept = kept[0]
        """frames that are still to come again"""
        names = ["boxes.txt"] if targets == 1 else [f"boxes_{target}.txt" for target in range(1, targets + 1)]
        self.files = [*names, "track.jsonl", *(["video.mp4"] if video else []), *(FORMATS[each][0] for each in formats)]
        """names of the files in the folder"""
        remove_results(folder, keep=self.files)
        with ExitStack() as stack:
            stack.callback(self._export)
            self.boxes = [stack.enter_context(TextWriter(folder / name, kept[0])) for name in names]
            self.lines = stack.enter_context(TextWriter(folder / "track.jsonl", kept[1]))
            self.video = stack.enter_context(VideoWriter(folder / "video.mp4", size_hw, fps, sound)) if video else None
            self.encoder = stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="encoder"))
            self.waiting: deque[Future[None]] = deque()
            stack.callback(self._wait, 0)
            self.stack = stack.pop_all()

    def write(self, frame: Frame, observations: Sequence[Observation], groundtruth_xywh: Box | None = None) -> None:
        """Add a frame: texts first, because they are what counts.

        Raises:
            OutputError: a file cannot be written.
        """
        if self.kept:
            self.kept -= 1
        else:
            self._write_texts(observations)
        if self.formats:
            self.clip.observations.extend(observations)
        if self.video:
            self._wait(QUEUE - 1)
            self.waiting.append(self.encoder.submit(self._write_video, frame, observations, groundtruth_xywh))

    def _write_texts(self, observations: Sequence[Observation]) -> None:
        said = {observation.target: observation.box_xywh for observation in observations}
        for target, boxes in enumerate(self.boxes):
            boxes.write(format_box(said.get(target, UNKNOWN), one_based=self.one_based))
        for observation in observations:
            self.lines.write(format_observation(observation))

    def _export(self) -> None:
        with _writing(self.folder):
            write_exports(self.folder, self.formats, self.clip)

    def _write_video(self, frame: Frame, observations: Sequence[Observation], groundtruth_xywh: Box | None) -> None:
        assert self.video
        if self.began is None:
            self.began = frame.seconds
            if self.video.sound:
                self.video.sound.begins += self.began
        shown = None if self.constant else frame.seconds - self.began
        self.video.write(draw_observations(frame.image, observations, groundtruth_xywh), shown)

    def _wait(self, count: int) -> None:
        """Wait until no more than `count` frames wait for the encoder; its errors arrive here."""
        while len(self.waiting) > count:
            self.waiting.popleft().result()

    def close(self) -> None:
        """Close all files, the others too if one of them cannot be written.

        Raises:
            OutputError: a file cannot be written.
        """
        self.stack.close()

    def __enter__(self) -> ResultWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def make_folder(folder: Path) -> None:
    """Make a folder, if it is not there, and see that files can be made in it.

    Raises:
        OutputError: it cannot be made, or not written to.
    """
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        trial = folder / ".roam_jax_trial"
        trial.touch()
        trial.unlink()


def find_results(folder: Path) -> list[Path]:
    """Files in a folder, if there is one, whose names are those of results.

    Raises:
        OutputError: the folder cannot be read.
    """
    with _writing(folder):
        paths = folder.iterdir() if folder.is_dir() else ()
        return sorted(path for path in paths if RESULTS.fullmatch(path.name) and path.is_file())


def remove_results(folder: Path, keep: Sequence[str]) -> None:
    """Remove what an earlier run has left and this one does not replace.

    Nothing is removed where there is no `track.jsonl`: a `video.mp4` alone may be anybody's.

    Raises:
        OutputError: a file cannot be removed.
    """
    if (folder / "track.jsonl").is_file():
        for path in find_results(folder):
            if path.name not in keep:
                with _writing(path):
                    path.unlink()


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turn every way of failing to write into one sentence."""
    try:
        yield
    except (OSError, FFmpegError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OutputError(f"{path} cannot be written: {reason}") from error
