from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

LENGTHS = {"Near": 4, "Middle": 6, "Far": 9}


def write_otb(root: Path) -> Path:
    """A white square of 20 x 16 pixels on noise, with exact boxes."""
    rng = np.random.default_rng(0)
    for name, length in LENGTHS.items():
        (root / name / "img").mkdir(parents=True)
        boxes = []
        for index in range(length):
            image = rng.integers(0, 60, (90, 120, 3), np.uint8)
            x, y = 10 + 7 * index, 12 + 5 * index
            image[y : y + 16, x : x + 20] = (255, 200, 100)
            cv2.imwrite(str(root / name / "img" / f"{index + 1:04d}.png"), image)
            boxes.append(f"{x + 1},{y + 1},20,16")
        (root / name / "groundtruth_rect.txt").write_text("\n".join(boxes))
    return root


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_otb(tmp_path_factory.mktemp("otb"))
