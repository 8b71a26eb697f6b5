from __future__ import annotations

from dataclasses import dataclass, field

import av
import numpy as np
import pytest

from roam_jax.data.sequences import Frames, Sequence

LEFT_RGB, RIGHT_RGB, GROUND_RGB = (200, 30, 30), (30, 30, 200), (60, 160, 60)


@dataclass(frozen=True)
class ArrayFrames(Frames):
    """Frames in memory that write down what is asked for."""

    pictures: list[np.ndarray]
    asked: list[int] = field(default_factory=list)

    def __len__(self):
        return len(self.pictures)

    def read(self, index):
        self.asked.append(index)
        return self.pictures[index]


def draw_rectangle(box_xywh, height=300, width=400, ground=GROUND_RGB):
    """A rectangle with a red left and a blue right half, on green."""
    x, y, w, h = box_xywh
    picture = np.full((height, width, 3), ground, np.uint8)
    picture[y : y + h, x : x + w // 2] = LEFT_RGB
    picture[y : y + h, x + w // 2 : x + w] = RIGHT_RGB
    return picture


def rectangle_sequence(count, *, still=False, source="", ground=GROUND_RGB):
    """A rectangle that moves and grows; even sizes, so that its halves meet in the middle."""
    boxes = np.array([[120 + 2 * i, 110 + i, 50 + 2 * i, 36 + 2 * (i // 2)] for i in range(count)])
    frames = ArrayFrames([draw_rectangle(box, ground=ground) for box in boxes])
    return Sequence(f"rectangle{source}", frames, boxes.astype(np.float32), source=source, still=still)


@pytest.fixture
def write_video():
    """Writes a grey video of so many frames."""

    def write(path, count):
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            for number in range(count):
                picture = np.full((48, 64, 3), 10 * number % 256, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())

    return write


@pytest.fixture
def rectangles():
    return rectangle_sequence
