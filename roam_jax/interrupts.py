"""What Ctrl-C does to a command: at first it ends it at once, and while results are written, in good order.

Nothing is imported here that takes time: Ctrl-C may come while a command is still importing the rest.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType, TracebackType

TYPE_CHECKING = False  # that of typing, which takes time to import
if TYPE_CHECKING:
    from typing import Any


def leave_at_once() -> None:
    """From now on Ctrl-C ends the process with one line and code 130, unless the process was started to ignore it.

    A KeyboardInterrupt does not do that reliably in the seconds of importing and compiling: it is lost where it meets
    a callback of a library, and some libraries crash of it, or keep the process up until their threads are done.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)


def _leave(number: int, frame: FrameType | None) -> None:
    bars = getattr(sys.modules.get("tqdm"), "tqdm", None)  # which may be half imported
    try:
        with contextlib.suppress(Exception):
            if bars:  # off the screen, so that the line stands alone
                bars.external_write_mode(sys.stderr, nolock=True).__enter__()
        os.write(2, b"interrupted\n")
        sys.stdout.flush()
    finally:
        os._exit(128 + number)


@contextlib.contextmanager
def raised_again() -> Iterator[None]:
    """Context in which Ctrl-C raises KeyboardInterrupt after `leave_at_once`: there are other processes to end."""
    ours = signal.getsignal(signal.SIGINT) is _leave
    if ours:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGINT, _leave)


@contextlib.contextmanager
def deaf_children() -> Iterator[None]:
    """Context in which processes that are started never hear of Ctrl-C, which a terminal sends to all of them."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # starting it unblocks the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class StopRequest:
    """Context in which the first SIGTERM or SIGINT is only remembered.

    The handlers of before are back when the first signal has come, and when the context is left.

    Args:
        signals: those that are remembered.
    """

    def __init__(self, signals: tuple[signal.Signals, ...] = (signal.SIGTERM, signal.SIGINT)) -> None:
        self.requested = False
        self.signals = signals
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopRequest:
        with contextlib.suppress(ValueError):  # in other threads than the main one, where Python allows no handlers
            self._before = {number: signal.signal(number, self._remember) for number in self.signals}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
