from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import numpy as np
import pytest

HEIGHT, WIDTH = 8, 12


def write_pictures(folder: Path, names: Iterable[str]) -> None:
    """Grey pictures whose level is the number in their name."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        level = int("".join(filter(str.isdigit, Path(name).stem)) or 0) % 256
        path = folder / name
        written = path if path.suffix != ".JPEG" else path.with_suffix(".jpg")
        assert cv2.imwrite(str(written), np.full((HEIGHT, WIDTH, 3), level, np.uint8))
        written.rename(path)


def write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def pictures() -> Callable[[Path, Iterable[str]], None]:
    return write_pictures


@pytest.fixture
def text() -> Callable[[Path, str], None]:
    return write_text


@pytest.fixture
def numbers() -> Callable:
    """Numbers by which the pictures of a sequence are named."""
    return lambda sequence: [int("".join(filter(str.isdigit, path.stem))) for path in sequence.frames.paths]
