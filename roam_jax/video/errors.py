"""What can go wrong between the command line and the tracker: one exception and one exit code for each kind."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from enum import IntEnum
from itertools import pairwise


class DescribedCode(IntEnum):
    """Exit codes that say what they mean; a command's codes are a subclass."""

    meaning: str
    """one line for the help text"""

    def __new__(cls, code: int, meaning: str) -> DescribedCode:
        """Member with a number and a meaning."""
        member = int.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning
        return member


class ExitCode(DescribedCode):
    """Exit codes of the command line; what was tracked before an error is on disk whatever the code is."""

    SUCCESS = 0, "everything was tracked"
    FAILURE = 1, "a fault of the program itself; a traceback follows"
    USAGE = 2, "wrong arguments or settings; a box that is malformed, empty or outside the image"
    INPUT = 3, "the input is missing, empty, unreadable or truncated, or changes its size on the way"
    DISPLAY = 4, "a window is needed to draw the box, or for --show, and none can be opened"
    CHECKPOINT = 5, "the checkpoint is missing or damaged, or does not fit the settings"
    OUTPUT = 6, "the results cannot be written"
    INTERRUPTED = 130, "stopped by Ctrl-C"


class TrackError(Exception):
    """A problem that one sentence explains to the user; `exit_code` is what the command line returns for it."""

    exit_code = ExitCode.FAILURE


class UsageError(TrackError):
    """Wrong arguments or a wrong box."""

    exit_code = ExitCode.USAGE


class InputError(TrackError):
    """Frames or boxes cannot be read."""

    exit_code = ExitCode.INPUT


class DisplayError(TrackError):
    """No window can be opened."""

    exit_code = ExitCode.DISPLAY


class ModelError(TrackError):
    """No tracker can be made from the checkpoint and the settings."""

    exit_code = ExitCode.CHECKPOINT


class OutputError(TrackError):
    """Results cannot be written."""

    exit_code = ExitCode.OUTPUT


def refuse_empty(argv: Sequence[str] | None = None) -> None:
    """Return if no argument is empty, as a variable of a shell is that was not set; a path would mean `.` then.

    Settings (`--config.`) may be empty. For all commands, so that it ends as the parser of their arguments does.

    Args:
        argv: arguments after the program's name; those of the process by default.

    Raises:
        SystemExit: with code 2, after one sentence on stderr.
    """
    for before, word in pairwise(("the command", *(sys.argv[1:] if argv is None else argv))):
        option, equals, value = word.partition("=")
        where, given = (option + equals, value) if option.startswith("--") and equals else (before, word)
        if not given.strip() and not where.startswith("--config."):
            print(f"error: the argument after {where} is empty", file=sys.stderr)
            raise SystemExit(2)
