"""Annotation files of text: boxes, flags and lists of names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Int64

from roam_jax.data.sequences import DataError

SEPARATORS = str.maketrans({",": " ", ";": " ", "\t": " "})


def decode_text(data: bytes) -> str:
    """Text of a file; bytes that are no UTF-8 become signs that no parser takes for a number."""
    return data.decode("utf-8-sig", errors="replace")


def read_boxes(path: Path) -> Float32[np.ndarray, "n 4"]:
    """Rows `x y w h` of a text file, between commas, semicolons, tabs or spaces; empty lines at its end are dropped.

    Raises:
        DataError: no file that can be read, or a line that is not four numbers (`nan` is a number).
    """
    return np.array(read_rows(path, "x,y,w,h", (4,)), np.float32)


def read_rows(path: Path, what: str, lengths: tuple[int, ...]) -> list[list[float]]:
    """Numbers of each line of a text file, as `parse_rows`.

    Raises:
        DataError: no file that can be read; and as `parse_rows`.
    """
    try:
        data = path.read_bytes()  # of a pipe too
    except OSError as error:
        missing = isinstance(error, (FileNotFoundError, NotADirectoryError))
        reason = "there is no such file" if missing else f"it cannot be read: {error.strerror}"
        raise DataError(f"{path} should hold one box {what} per line, but {reason}") from error
    return parse_rows(decode_text(data), path, what, lengths)


def parse_boxes(text: str, path: Path) -> Float32[np.ndarray, "n 4"]:
    """Rows `x y w h` of the text that `path` holds.

    Raises:
        DataError: a line that is not four numbers, or no line.
    """
    rows = parse_rows(text, path, "x,y,w,h", (4,))
    return np.array(rows, np.float32)


def parse_rows(text: str, path: Path, what: str, lengths: tuple[int, ...]) -> list[list[float]]:
    """Numbers of each line, as many as one of `lengths` says.

    Args:
        text: what the file holds.
        path: the file, for messages.
        what: the numbers of a line, for messages.
        lengths: how many numbers a line may have.

    Raises:
        DataError: a line that is different, or no line.
    """
    lines = text.translate(SEPARATORS).rstrip().splitlines()
    if not lines:
        raise DataError(f"{path} should hold one box {what} per line, but it is empty")
    try:
        rows = [list(map(float, line.split())) for line in lines]
    except ValueError:
        rows = [_numbers(line) for line in lines]
    if set(map(len, rows)) <= set(lengths):
        return rows
    for number, row in enumerate(rows):
        if len(row) not in lengths:
            count = " or ".join({4: "four", 5: "five", 6: "six", 8: "eight"}.get(n, str(n)) for n in lengths)
            line = text.rstrip().splitlines()[number].strip()[:60]
            raise DataError(f"{path} line {number + 1} should be {count} numbers {what}, but is {line!r}")
    return rows


def parse_flags(text: str, path: Path, count: int) -> Bool[np.ndarray, " n"]:
    """One 0 or 1 for each frame, between commas, spaces or line ends.

    Raises:
        DataError: other values, or another number of them.
    """
    flags = text.translate(SEPARATORS).split()
    if len(flags) != count or set(flags) - {"0", "1"}:
        raise DataError(f"{path} should hold one 0 or 1 for each of the {count} frames")
    return np.array([flag == "1" for flag in flags])


def parse_integers(text: str, path: Path, count: int) -> Int64[np.ndarray, " n"]:
    """One integer for each frame, between commas, spaces or line ends.

    Raises:
        DataError: something else, or another number of them.
    """
    parts = text.translate(SEPARATORS).split()
    try:
        values = [int(part) for part in parts]
    except ValueError:
        values = []
    if len(values) != count:
        raise DataError(f"{path} should hold one integer for each of the {count} frames")
    return np.array(values, np.int64)


def parse_names(text: str) -> list[str]:
    """One name per line."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def _numbers(line: str) -> list[float]:
    try:
        return [float(part) for part in line.split()]
    except ValueError:
        return []
