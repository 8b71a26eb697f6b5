"""An exported tracker, with jax and numpy alone: this file lies beside its programs and weights.

    tracker = Tracker()
    tracker.init(images[0], (x, y, w, h))
    for image in images[1:]:
        x, y, w, h = tracker.update(image)

Images are RGB, uint8, (height, width, 3), all of one size; boxes are in pixels that count from 0.
"""

from pathlib import Path

import jax
import jax.export
import numpy as np


class Tracker:
    """As `roam_jax.Tracker`; patches are cut inside the programs."""

    def __init__(self, folder=Path(__file__).parent):
        """Read the programs and the weights of a folder."""
        names = [Path(folder, f"{name}.stablehlo") for name in ("start", "step")]
        self._start, self._step = (jax.jit(jax.export.deserialize(bytearray(n.read_bytes())).call) for n in names)
        self.weights = jax.device_put(dict(np.load(Path(folder, "weights.npz"))))

    def init(self, image, box):
        """Start on the object in the box."""
        self.state = self._start(self.weights, image, np.asarray(box, np.float32))

    def update(self, image):
        """The object's box in the next image."""
        self.state, said = self._step(self.weights, self.state, image)
        self.box, self.score, self.lost = jax.device_get((said["box_xywh"], said["score"], said["lost"]))
        return self.box
