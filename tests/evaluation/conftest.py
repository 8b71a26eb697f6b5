from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

LENGTHS = {"Near": 4, "Middle": 6, "Far": 9}
SQUARE_RGB = (100, 200, 255)


def draw_frame(index: int, rng: np.random.Generator, size_wh: tuple[int, int] = (120, 90)) -> np.ndarray:
    """BGR: a square of 20 x 16 pixels on noise, 7 and 5 pixels farther in each frame."""
    image = rng.integers(0, 60, (size_wh[1], size_wh[0], 3), np.uint8)
    x, y = 10 + 7 * index, 12 + 5 * index
    image[y : y + 16, x : x + 20] = SQUARE_RGB[::-1]
    return image


def write_otb_files(root: Path, lengths: dict[str, int] = LENGTHS, suffix: str = "png") -> Path:
    """The square in the layout of OTB, with exact boxes."""
    rng = np.random.default_rng(0)
    for name, length in lengths.items():
        (root / name / "img").mkdir(parents=True)
        for index in range(length):
            cv2.imwrite(str(root / name / "img" / f"{index + 1:04d}.{suffix}"), draw_frame(index, rng))
        boxes = [f"{11 + 7 * index},{13 + 5 * index},20,16" for index in range(length)]
        (root / name / "groundtruth_rect.txt").write_text("\n".join(boxes))
    return root


def write_got10k_files(root: Path, lengths: dict[str, int]) -> Path:
    """The same in the layout of GOT-10k; the third frame of each sequence is labelled as covered."""
    rng = np.random.default_rng(0)
    for name, length in lengths.items():
        folder = root / "val" / name
        folder.mkdir(parents=True)
        for index in range(length):
            cv2.imwrite(str(folder / f"{index + 1:08d}.jpg"), draw_frame(index, rng))
        boxes = [f"{10 + 7 * index}.0000,{12 + 5 * index}.0000,20.0000,16.0000" for index in range(length)]
        (folder / "groundtruth.txt").write_text("\n".join(boxes) + "\n")
        (folder / "meta_info.ini").write_text("[METAINFO]\nurl: none\nresolution: (120, 90)\n")
        covered = ["0" if index == 2 else "8" for index in range(length)]
        (folder / "cover.label").write_text("\n".join(covered) + "\n")
        for label in ("absence", "cut_by_image"):
            flags = ["1" if label == "absence" and index == 2 else "0" for index in range(length)]
            (folder / f"{label}.label").write_text("\n".join(flags) + "\n")
    (root / "val" / "list.txt").write_text("\n".join(lengths) + "\n")
    return root


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_otb_files(tmp_path_factory.mktemp("otb"))


@pytest.fixture(scope="session")
def write_otb() -> Callable[..., Path]:
    """The function of that name: modules cannot import one of several `conftest`s."""
    return write_otb_files


@pytest.fixture(scope="session")
def write_got10k() -> Callable[..., Path]:
    return write_got10k_files
