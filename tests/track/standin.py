"""A tracker that needs no model, for tests of the command that tracks."""

from __future__ import annotations

import numpy as np

from roam_jax import track
from roam_jax.config import Config

SIZE_HW = (96, 128)
FRAMES = 8


class StandIn:
    """Tracker that goes one pixel to the right with every frame, and is lost from the fifth frame on."""

    def __init__(self, fails_at: int = -1, error: BaseException | None = None) -> None:
        self.fails_at, self.error, self.updates, self.score, self.lost = fails_at, error, 0, 1.0, False
        self.box = np.zeros(4, np.float32)

    def init(self, image, box_xywh):
        assert image.shape == (*SIZE_HW, 3) or image.shape == (270, 480, 3)
        self.box = np.asarray(box_xywh, np.float32)

    def update(self, image):
        assert image.dtype == np.uint8
        self.updates += 1
        if self.updates == self.fails_at and self.error:
            raise self.error
        self.score, self.lost = 1 / (1 + self.updates), self.updates >= 4
        self.box = self.box + np.array([1, 0, 0, 0], np.float32)
        return self.box


def make_stand_ins(checkpoint: str, config: Config | None, count: int) -> list[StandIn]:
    return [StandIn() for _ in range(count)]


def make_frames(count: int = FRAMES, size_hw: tuple[int, int] = SIZE_HW) -> list[np.ndarray]:
    rows, columns = np.mgrid[: size_hw[0], : size_hw[1]]
    waves = [np.stack([rows + 9 * i, columns - 5 * i, rows + columns], axis=-1) / 25 for i in range(count)]
    return [(127 + 100 * np.sin(wave)).astype(np.uint8) for wave in waves]


def run(*argv: object, make_trackers=make_stand_ins) -> int:
    return track.main([str(word) for word in argv], make_trackers)
