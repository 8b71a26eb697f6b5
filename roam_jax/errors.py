"""Kinds of errors that one sentence explains to a user; the packages' own errors are of one of them.

What a command line makes of each kind is in `cli.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class ExplainedError(Exception):
    """An error whose message is one sentence for the user."""


class UsageError(ExplainedError):
    """Wrong arguments or settings, or a package of an extra that is not installed."""


class InputError(ExplainedError):
    """Frames, boxes or data sets are missing or cannot be read."""


class DisplayError(ExplainedError):
    """No window can be opened."""


class ModelError(ExplainedError):
    """A checkpoint or weights are missing or damaged, or do not fit the settings."""


class OutputError(ExplainedError):
    """Results cannot be written."""


class DivergedError(ExplainedError):
    """Training cannot go on, as what it computes is not finite."""


@contextmanager
def usage_errors(*kinds: type[Exception]) -> Iterator[None]:
    """Context that turns errors of some kinds into a `UsageError`, but for those that explain themselves already."""
    try:
        yield
    except kinds as error:
        if isinstance(error, ExplainedError):
            raise
        raise UsageError(str(error)) from error
