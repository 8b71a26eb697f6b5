"""Frames as they come: cameras, streams of the network, pipes; and the newest of them alone."""

from __future__ import annotations

import contextlib
import os
import re
import select
import stat
import sys
import threading
import time
from collections.abc import Generator, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
from av.container import InputContainer
from av.error import FFmpegError, InvalidDataError

from roam_jax.errors import InputError
from roam_jax.pictures import Image, upright
from roam_jax.video.source import DEFAULT_FPS, Frame, FrameSource, believable, size_of

PATIENCE = 10.0
"""seconds that a stream may say nothing"""
ATTEMPTS = 3
"""to connect again to a stream that fell silent, a second apart, besides the last"""
OPTIONS = {"rtsp": {"rtsp_transport": "tcp"}}
"""for FFmpeg, by the protocol: over UDP, frames arrive damaged"""
PIPE = "-"
"""name of the standard input"""


class Camera(FrameSource):
    """Camera by its index; frames come until somebody stops taking them.

    Raises:
        InputError: there is no such camera, or it gives no frame.
    """

    live = True
    again = False

    def __init__(self, index: int) -> None:
        self.name = f"camera {index}"
        with _quiet_opencv():
            self.capture = cv2.VideoCapture(index)
            first = self._take()
        if first is None:
            self.close()
            raise InputError(f"{self.name} cannot be opened or gives no frame")
        self.first, self.size_hw = Frame(first, 0.0), size_of(first)
        rate = self.capture.get(cv2.CAP_PROP_FPS)
        self.fps = Fraction(rate).limit_denominator(1001) if 1 <= rate <= 1000 else DEFAULT_FPS

    def read(self) -> Iterator[Frame]:
        """Frames as they come, beginning with the one that was taken when the camera was opened."""
        yield self.first
        began = time.monotonic()
        while (image := self._take()) is not None:
            yield Frame(image, time.monotonic() - began)
        raise InputError(f"{self.name} stopped giving frames")

    def _take(self) -> Image | None:
        _, frame = self.capture.read()
        return None if frame is None else cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)

    def close(self) -> None:
        """Let go of the camera."""
        self.capture.release()


class Stream(FrameSource):
    """What FFmpeg reads once, from its beginning: an address (rtsp, http, ...), a named pipe, or the standard input.

    An address that falls silent is connected to again; the frames that are missed then are missed. A stream that ends
    ends the frames; one that cannot be gone on with raises InputError after the last frame that it gave.

    Raises:
        InputError: nothing comes within `PATIENCE` seconds, or no video that FFmpeg can read.
    """

    again = False

    def __init__(self, name: str) -> None:
        self.name = name
        self.container, self.pipe = self._open()
        self.frames = self._decode()
        self.fps = believable(self.container.streams.video[0].average_rate)
        try:
            first = next(self.frames, None)
        except FFmpegError as error:
            raise self._broken(error) from error
        if first is None:
            self.close()
            raise InputError(f"{name} ended before its first frame")
        self.first, self.size_hw = first, size_of(first.image)

    def read(self) -> Iterator[Frame]:
        """Frames as they come, beginning with the one that was taken when the stream was opened."""
        yield self.first
        began, last = time.monotonic(), 0.0
        while True:
            try:
                for frame in self.frames:
                    last = frame.seconds
                    yield frame
                return
            except FFmpegError as error:
                if self.pipe:
                    raise self._broken(error) from error
            self.close()
            self.container = self._open_again()
            self.frames = self._decode(max(time.monotonic() - began, last + float(1 / self.fps)))

    def close(self) -> None:
        """Let go of the connection."""
        self.container.close()
        if self.pipe:
            self.pipe.close()

    def _decode(self, after: float = 0.0) -> Iterator[Frame]:
        """Frames of the connection, the first of which is shown so many seconds after that of the source."""
        begins = None
        for count, frame in enumerate(self.container.decode(video=0)):
            at = count / self.fps if frame.time is None else frame.time
            begins = at if begins is None else begins
            yield Frame(upright(frame), float(at - begins) + after)

    def _open_again(self) -> InputContainer:
        for attempt in range(ATTEMPTS):
            time.sleep(attempt and 1)
            with contextlib.suppress(InputError):
                return self._open()[0]
        return self._open()[0]

    def _open(self) -> tuple[InputContainer, _Pipe | None]:
        pipe = None if is_address(self.name) else _Pipe(self.name)
        protocol = self.name.partition("://")[0].lower() if pipe is None else ""
        target: Any = pipe or self.name
        options, timeout = OPTIONS.get(protocol, {}), (PATIENCE, PATIENCE)
        try:
            container: Any = av.open(target, "r", metadata_errors="replace", timeout=timeout, options=options)
        except (FFmpegError, OSError) as error:
            raise self._broken(error) from error
        if not container.streams.video:
            container.close()
            raise InputError(f"{self.name} has no pictures in it")
        return container, pipe

    def _broken(self, error: Exception) -> InputError:
        reason = getattr(error, "strerror", None) or error
        if isinstance(error, InvalidDataError) and not is_address(self.name):
            reason = f"{reason} (an MP4 can be read from a pipe only with its index in front: -movflags +faststart)"
        return InputError(f"the stream {self.name} cannot be read, or broke off: {reason}")


class Newest(FrameSource):
    """The newest frame of another source, whenever one is asked for; those in between are dropped.

    It begins with the other source's first frame, on which a user may have drawn the box. Numbers and times are those
    of the other source, so that what is left out can be seen.
    """

    live = True
    again = False

    def __init__(self, source: FrameSource) -> None:
        self.source, self.name, self.size_hw, self.fps = source, source.name, source.size_hw, source.fps
        self.dropped = 0
        """frames that nobody asked for in time"""
        self._first: tuple[Frame, float] | None = None
        self._latest: tuple[Frame, float] | None = None
        self._taken_at = 0.0
        self._error: Exception | None = None
        self._ended = self._stopped = False
        self._news = threading.Condition()
        self._thread: threading.Thread | None = None

    def read(self) -> Iterator[Frame]:
        """Frames, for as long as the other source gives some.

        Raises:
            InputError: as the other source does, after its last frame.
        """
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="newest", daemon=True)
            self._thread.start()
        with self._news:
            self._news.wait_for(lambda: self._first is not None or self._ended)
        latest = self._first
        while latest is not None:
            frame, self._taken_at = latest
            yield frame
            with self._news:
                self._news.wait_for(lambda: self._latest is not None or self._ended)
                latest, self._latest = self._latest, None
        if self._error:
            raise self._error

    def timed(self) -> Generator[Frame, None, None]:
        """As `read`: the other source has seen to size and numbers."""
        yield from self.read()

    def note(self) -> str:
        """How old the present frame is, and how many were dropped before it."""
        return f"{time.monotonic() - self._taken_at:.2f} s behind, {self.dropped} dropped"

    def _watch(self) -> None:
        try:
            for frame in self.source.timed():
                with self._news:
                    if self._first is None:
                        self._first = frame, time.monotonic()
                    else:
                        self.dropped += self._latest is not None
                        self._latest = frame, time.monotonic()
                    self._news.notify()
                if self._stopped:
                    break
        except Exception as error:
            self._error = error
        with self._news:
            self._ended = True
            self._news.notify()

    def close(self) -> None:
        """Let go of what the other source holds, as soon as it gives its next frame."""
        self._stopped = True
        if self._thread is not None:
            self._thread.join(2 * PATIENCE)
        self.source.close()


def is_address(text: str) -> bool:
    """Whether it is one of the network, such as rtsp://camera/1 or https://host/a.m3u8."""
    return re.match(r"[a-z][a-z0-9+.-]+://", text, re.IGNORECASE) is not None


def is_stream(text: str) -> bool:
    """Whether it can be read once only: an address, a named pipe, or the standard input."""
    return is_address(text) or _is_pipe(text)


def _is_pipe(text: str) -> bool:
    return text == PIPE or (os.path.exists(text) and stat.S_ISFIFO(os.stat(text).st_mode))


class _Pipe:
    """A pipe as a file that does not wait for ever."""

    def __init__(self, name: str) -> None:
        self.name = name
        # Without waiting for somebody to write, which could not be interrupted.
        self.number = sys.stdin.fileno() if name == PIPE else os.open(Path(name), os.O_RDONLY | os.O_NONBLOCK)

    def read(self, count: int) -> bytes:
        """Up to so many bytes, as soon as there are some; none at the end.

        Raises:
            TimeoutError: nothing comes.
        """
        if not select.select([self.number], [], [], PATIENCE)[0]:
            raise TimeoutError(f"nothing comes through it for {PATIENCE:.0f} seconds")
        return os.read(self.number, count)

    def close(self) -> None:
        """Let go of it."""
        if self.name != PIPE:
            os.close(self.number)


@contextlib.contextmanager
def _quiet_opencv() -> Iterator[None]:
    """No messages of OpenCV itself, which prints pages about a camera that is not there."""
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)
