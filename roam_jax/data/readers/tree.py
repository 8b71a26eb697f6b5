"""The folder of a data set as readers look at it: it remembers what they saw, and what was wrong."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import Float32

from roam_jax.data.readers.text import decode_text, parse_boxes
from roam_jax.data.sequences import DataError, FolderPaths, Sequence

T = TypeVar("T")
Stamp = tuple[int, int] | None
"""time of the last change in nanoseconds, and size of a file (0 for a folder); None: there is nothing"""

IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".jp2", ".avif",
)  # fmt: skip
"""of the pictures that OpenCV reads; whether it does the last two depends on its build"""
THREADS = 8
"""sequences that are looked at together: nothing is gained on a local disk, much on one over a network"""


class Tree:
    """A data set's folder.

    Readers list folders and read texts only through it, so that `stamps` says afterwards what their result depends on:
    while no stamp changes, an index of the result stays true.
    """

    def __init__(self, root: Path | str, *, problems: list[str] | None = None) -> None:
        """Look at a folder.

        Args:
            root: the folder.
            problems: gets the messages of sequences that are broken, which are left out; without a list, the first
                broken sequence raises its error.

        Raises:
            DataError: there is no such folder.
        """
        self.root = Path(os.path.abspath(root))
        self.problems = problems
        self.stamps: dict[str, Stamp] = {}
        if not self.root.is_dir():
            raise DataError(f"{root} should be a folder of data, but there is no such folder")

    @classmethod
    def of(cls, root: Path | str | Tree) -> Tree:
        """The tree itself, or that of a folder."""
        return root if isinstance(root, Tree) else cls(root)

    def names(self, folder: Path) -> list[str]:
        """Names of everything in a folder, sorted.

        Raises:
            DataError: there is no such folder.
        """
        self._look_at(folder)
        try:
            return sorted(os.listdir(folder))
        except OSError as error:
            raise DataError(f"{folder} should be a folder of data, but {error.strerror}") from error

    def folders(self, folder: Path) -> list[Path]:
        """Folders in a folder, sorted; hidden ones are left out.

        Raises:
            DataError: there is no such folder.
        """
        return [folder / name for name in self.names(folder) if name[0] != "." and (folder / name).is_dir()]

    def pictures(self, folder: Path) -> FolderPaths:
        """Picture files of a folder in the order of the numbers that they are named by, or else of their names.

        Raises:
            DataError: there is no such folder.
        """
        if not folder.is_dir():
            raise DataError(f"{folder} should be a folder of frames, but there is no such folder")
        return picture_paths(folder, self.names(folder))

    def has(self, path: Path) -> bool:
        """Whether there is such a file or folder."""
        return self._look_at(path) is not None

    def text(self, path: Path, what: str) -> str:
        """What a text file holds.

        Args:
            path: the file.
            what: what it should hold, for the message.

        Raises:
            DataError: there is no such file.
        """
        text = self.find_text(path)
        if text is None:
            raise DataError(f"{path} should hold {what}, but there is no such file")
        return text

    def find_text(self, path: Path) -> str | None:
        """What a text file holds; None if there is none."""
        self._look_at(path)
        try:
            return decode_text(path.read_bytes())
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        except OSError as error:
            raise DataError(f"{path} should be a text file, but {error.strerror}") from error

    def boxes(self, path: Path) -> Float32[np.ndarray, "n 4"]:
        """Rows `x y w h` of a text file, as they stand there.

        Raises:
            DataError: no such file, or a line that is not four numbers.
        """
        boxes = parse_boxes(self.text(path, "one box x,y,w,h per line"), path)
        empty = (boxes[:, 2:] <= 0).any(axis=1) & boxes.any(axis=1)
        endless = ~np.isfinite(boxes).all(axis=1) & ~np.isnan(boxes).all(axis=1)
        for wrong, what in ((empty, "a box or all zeros, but is empty"), (endless, "four finite numbers or four nan")):
            if wrong.any():
                number = int(np.flatnonzero(wrong)[0]) + 1
                self.remark(f"{path} line {number} should be {what}; {wrong.sum()} such lines")
        return boxes

    def each(self, read: Callable[[T], Iterable[Sequence]], items: Iterable[T]) -> list[Sequence]:
        """Sequences that `read` makes of each item, in their order; broken ones are noted, if problems are wanted.

        Raises:
            DataError: a broken sequence, if problems are not wanted.
        """
        with ThreadPoolExecutor(THREADS) as pool:
            try:
                return list(itertools.chain.from_iterable(pool.map(lambda item: self.attempt(read, item), items)))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def note(self, problem: str) -> None:
        """Write a problem down, if problems are wanted.

        Raises:
            DataError: they are not; with the problem as its message.
        """
        if self.problems is None:
            raise DataError(problem)
        self.problems.append(problem)

    def remark(self, problem: str) -> None:
        """Write a problem down that only leaves something out, if problems are wanted."""
        if self.problems is not None:
            self.problems.append(problem)

    def attempt(self, read: Callable[[T], Iterable[Sequence]], item: T) -> list[Sequence]:
        """Sequences that `read` makes of one item; none, with a note, if it is broken and problems are wanted.

        Raises:
            DataError: it is broken, if problems are not wanted.
        """
        try:
            return list(read(item))
        except DataError as error:
            if self.problems is None:
                raise
            self.note(str(error))
            return []

    def _look_at(self, path: Path) -> Stamp:
        self.stamps[str(path)] = stamp = stamp_of(path)
        return stamp


def is_picture(name: str) -> bool:
    """Whether a file is a picture by its name; hidden files are none: macOS leaves `._x.jpg` beside `x.jpg`."""
    return name.lower().endswith(IMAGE_SUFFIXES) and name[0] != "."


def picture_paths(folder: Path, names: list[str]) -> FolderPaths:
    """Pictures among the sorted names of a folder, in the order of the numbers that they are named by, if they are."""
    pictures = [name for name in names if is_picture(name)]
    if len({len(name) for name in pictures}) > 1 and all(name.rpartition(".")[0].isdecimal() for name in pictures):
        pictures.sort(key=lambda name: int(name.rpartition(".")[0]))
    return FolderPaths(folder, pictures)


def stamp_of(path: Path | str) -> Stamp:
    """What tells whether a file or folder has changed."""
    try:
        state = os.stat(path)
    except OSError:
        return None
    return state.st_mtime_ns, 0 if state.st_mode & 0o040000 else state.st_size
