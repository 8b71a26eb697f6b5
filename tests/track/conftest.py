from __future__ import annotations

from pathlib import Path

import cv2
import pytest
from standin import FRAMES, SIZE_HW, make_frames

from roam_jax.video.sink import VideoWriter
from roam_jax.video.source import DEFAULT_FPS


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def video(tmp_path) -> Path:
    path = tmp_path / "clip.mp4"
    with VideoWriter(path, SIZE_HW, DEFAULT_FPS) as writer:
        for frame in make_frames():
            writer.write(frame)
    return path


@pytest.fixture
def sequence(tmp_path) -> Path:
    """Folder in the layout of OTB whose object moves as the stand-in does."""
    folder = tmp_path / "Wave"
    (folder / "img").mkdir(parents=True)
    for number, frame in enumerate(make_frames(), start=1):
        cv2.imwrite(str(folder / "img" / f"{number:04d}.jpg"), frame)
    (folder / "groundtruth_rect.txt").write_text("".join(f"{11 + i},21,30,40\n" for i in range(FRAMES)))
    return folder
