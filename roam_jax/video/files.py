"""Frames of picture files and video files, decoded when they are asked for."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import av
import av.logging
from av.container import InputContainer
from av.error import FFmpegError

from roam_jax.data.readers.tree import IMAGE_SUFFIXES
from roam_jax.errors import InputError
from roam_jax.pictures import Image, read_image, upright
from roam_jax.video.formats import Boxes
from roam_jax.video.sound import has_sound
from roam_jax.video.source import Frame, FrameSource, Sound, believable, size_of
from roam_jax.video.truncation import ends_whole

log = logging.getLogger(__name__)


class ImageFiles(FrameSource):
    """Picture files in the given order.

    Raises:
        InputError: there is none, or the first cannot be read.
    """

    def __init__(self, name: str, paths: Sequence[Path], groundtruth_xywh: Boxes | None = None) -> None:
        if not paths:
            raise InputError(f"{name} holds no pictures ({', '.join(IMAGE_SUFFIXES)})")
        self.name, self.paths, self.groundtruth_xywh = name, tuple(paths), groundtruth_xywh
        self.n_frames, self.size_hw = len(paths), size_of(read_image(paths[0]))

    def read(self) -> Iterator[Image]:
        """Frames, one file after the other."""
        return map(read_image, self.paths)

    def count(self) -> int:
        """Files."""
        return len(self.paths)

    def between(self, start: int, stop: int) -> list[Frame]:
        """Frames of those files."""
        part = ImageFiles(self.name, self.paths[start:stop])
        return [
            frame._replace(number=start + frame.number, seconds=float((start + frame.number) / self.fps))
            for frame in part.timed()
        ]


class VideoFile(FrameSource):
    """Video file, decoded by FFmpeg.

    Frames that the decoder drops are counted out; damage that it conceals is reported once as a warning of this
    module's logger, as soon as frames follow it, so that the end of a truncated file is not called damage. A file that
    holds fewer frames than its header declares, or that was cut as far as its container tells (`ends_whole`), raises
    InputError after its last frame; where the container never tells, as in a stream of MPEG or of bare frames, a last
    frame that is damaged says so.

    Raises:
        InputError: the file is missing, empty, no video, or in a format that FFmpeg cannot decode.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.name = path, str(path)
        with self._open() as (container, stream):
            self.fps = believable(stream.average_rate, stream.guessed_rate)
            heard = has_sound(container)
            self.declared = stream.frames
            """frames in the file according to its header; 0: it does not say"""
            self.seconds = float(container.duration or 0) / av.time_base
            self.n_frames = self.declared or round(self.seconds * self.fps) or None
        self._begins = 0.0
        first = next(self._decode(), None)
        if first is None:
            raise InputError(f"{self.name} is a video without a single frame that can be decoded")
        self.size_hw = size_of(first.image)
        self.sound = Sound(path, self._begins) if heard else None

    def read(self) -> Iterator[Frame]:
        """Frames in the order in which they are shown, turned upright."""
        return self._decode(report=True)

    def count(self) -> int:
        """Frames that are shown."""
        return len(self._stamps)

    def between(self, start: int, stop: int) -> list[Frame]:
        """Those frames, decoded from the last key frame before them."""
        stamps = [stamp for stamp in self._stamps if stamp is not None]
        if len(set(stamps)) < len(self._stamps):  # they do not tell frames apart
            return super().between(start, stop)
        numbers, found = {stamp: start + index for index, stamp in enumerate(stamps[start:stop])}, {}
        with self._open() as (container, stream):
            container.seek(min(numbers), stream=stream)
            for packet in _until_unreadable(container.demux(stream)):
                found |= {frame.pts: frame for frame in _decode_packet(packet)[0] if frame.pts in numbers}
                if len(found) == len(numbers):
                    break
            unit = float(stream.time_base or 0)
        if len(found) < len(numbers):  # the container cannot seek
            return super().between(start, stop)
        return [Frame(upright(found[stamp]), (stamp - stamps[0]) * unit, number) for stamp, number in numbers.items()]

    @cached_property
    def _stamps(self) -> list[int | None]:
        """Presentation time of each frame, in units of the stream; decoding alone says which there are."""
        with self._open() as (container, stream):
            packets = _until_unreadable(container.demux(stream))
            return [frame.pts for packet in packets for frame in _decode_packet(packet)[0]]

    def shows_one(self) -> bool:
        """Whether FFmpeg finds one frame, and no more."""
        return len(list(itertools.islice(self._decode(), 2))) == 1

    def _decode(self, report: bool = False) -> Iterator[Frame]:
        """Frames of one pass over the file; `report` warns of damage and raises where frames are missing."""
        frames = packets = 0
        shown_until, begins = 0.0, None
        damage, told, broken, heard = "", not report, False, 0
        with self._open() as (container, stream), _ffmpeg_errors() as messages:
            kind = container.format.name
            # One thread: only then do FFmpeg's messages, the one sign of concealed damage, arrive in this thread.
            stream.codec_context.thread_count = 1
            for packet in _until_unreadable(container.demux(stream)):
                packets += packet.size > 0
                decoded, error = _decode_packet(packet)
                for frame in decoded:
                    frames += 1
                    if frame.time is None:  # a bare stream has no clock
                        at = float((frames - 1) / self.fps)
                    else:
                        shown_until = frame.time
                        begins = self._begins = frame.time if begins is None else begins
                        at = frame.time - begins
                    yield Frame(upright(frame), at)
                corrupt = packet.is_corrupt or any(frame.is_corrupt for frame in decoded)
                # The empty packet at the end brings frames that the decoder has held back.
                broken = bool(corrupt or error or messages[heard:]) or (not packet.size and broken)
                heard = len(messages)
                if damage and decoded and packet.size and not told:  # there is more: this is not where the file ends
                    log.warning("%s; tracking goes on", damage)
                    told = True
                if broken and not damage:
                    reason = error or (messages[0][2].strip() if messages else "corrupt frame")
                    damage = f"{self.name} is damaged near frame {frames} ({reason})"
        if not report:
            return
        whole = ends_whole(self.path, kind)
        if packets < self.declared:
            raise InputError(f"{self.name} is truncated: it ends after {frames} of {self.declared} frames")
        if whole is False or (whole is None and broken and not self.declared):
            raise InputError(f"{self.name} is truncated: it breaks off after {frames} frames")
        if damage and not told:
            log.warning("%s", damage)
        if not self.declared and shown_until < self.seconds - 1:
            # Sound may be longer than the picture, so this is no error.
            log.warning("%s ends after %.1f of %.1f seconds", self.name, shown_until, self.seconds)

    @contextmanager
    def _open(self) -> Iterator[tuple[InputContainer, av.VideoStream]]:
        """The opened file and its video stream, for as long as the context lasts."""
        if self.path.is_file() and self.path.stat().st_size == 0:
            raise InputError(f"{self.name} is empty")
        try:
            # Old files have titles in Latin-1 and the like; nobody asks for them here.
            container = av.open(self.name, metadata_errors="replace")
        except (FFmpegError, OSError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"{self.name} is not a video that FFmpeg can read, or is cut short: {reason}") from error
        with container:
            stream = container.streams.best("video")
            if not isinstance(stream, av.VideoStream):
                raise InputError(f"{self.name} has no pictures in it, only {_kinds(container)}")
            if stream.codec_context is None:
                raise InputError(f"{self.name} is coded in a way that this build of FFmpeg has no decoder for")
            yield container, stream


def _decode_packet(packet: av.Packet) -> tuple[list[av.VideoFrame], str]:
    """Frames of a packet, and what the decoder had against it."""
    try:
        return [frame for frame in packet.decode() if isinstance(frame, av.VideoFrame)], ""
    except FFmpegError as error:
        return [], str(error.strerror)


def _until_unreadable(packets: Iterator[av.Packet]) -> Iterator[av.Packet]:
    """Packets up to where the container cannot be read any further: the count of frames tells what is missing."""
    try:
        yield from packets
    except FFmpegError:
        return


@contextmanager
def _ffmpeg_errors() -> Iterator[list[tuple[int, str, str]]]:
    """Messages of FFmpeg's error level, which it prints nowhere and raises nowhere when it conceals damage."""
    level = av.logging.get_level()
    av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture() as messages:
            yield messages
    finally:
        av.logging.set_level(level)


def _kinds(container: InputContainer) -> str:
    return " and ".join(sorted({stream.type for stream in container.streams})) or "nothing"
