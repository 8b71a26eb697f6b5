"""The page with a tracker that needs no model, in a process of its own: `python serve.py [PORT]`."""

from __future__ import annotations

import sys

import numpy as np

from roam_jax.app.__main__ import AppArgs, run
from roam_jax.cli import run_command


class Mover:
    """It goes two pixels to the right with every frame."""

    score, lost = 0.75, False

    def init(self, image, box):
        self.box = np.asarray(box, np.float32)

    correct = init

    def update(self, image):
        self.box = self.box + np.array([2, 0, 0, 0], np.float32)
        return self.box


if __name__ == "__main__":
    args = AppArgs(port=int(sys.argv[1]) if sys.argv[1:] else 0, browser=False)
    sys.exit(run_command(lambda: run(args, Mover)))
