"""Run by `test_parallel.py` in a process of its own: the same steps on one and on eight simulated devices.

python worker.py OUT.npz
"""

from __future__ import annotations

import dataclasses
import sys

import jax
import numpy as np

from roam_jax import presets
from roam_jax.backbones import make_backbone
from roam_jax.data.pipeline import ClipBatch
from roam_jax.tracking.params import init_params
from roam_jax.training.parallel import Trainer, start_devices
from roam_jax.training.report import forecast
from roam_jax.training.state import make_meta_optimizer, make_state

STEPS, CLIPS = 3, 8


def main(path: str) -> None:
    start_devices(8)
    config = presets.tiny()
    config = dataclasses.replace(
        config,
        backbone=dataclasses.replace(config.backbone, neck_channels=4),
        meta=dataclasses.replace(config.meta, batch=CLIPS, neck_rate=1e-3, model_rate=1e-3, steps=STEPS),
    )
    backbone, transform = make_backbone(config), make_meta_optimizer(config.meta)
    params = jax.jit(lambda key: init_params(config, key=key))(jax.random.key(0))
    start = jax.device_get(make_state(params._replace(trunk={}), transform))
    rng = np.random.default_rng(0)
    frames, side = 9 + config.unroll.clip_frames, config.model.patch_size
    patches = rng.integers(0, 255, (STEPS, CLIPS, frames, side, side, 3)).astype(np.uint8)
    shape = (STEPS, CLIPS, frames, 2)
    boxes = np.concatenate([rng.uniform(-6, 6, shape), rng.uniform(10, 24, shape)], axis=-1)
    visible = np.ones((STEPS, CLIPS, frames), bool)
    batches = [ClipBatch(*batch) for batch in zip(patches, boxes.astype(np.float32), visible, strict=True)]

    results, compilations = {}, []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **_: compilations.append(event) if "backend_compile" in event else None
    )
    for count in (1, 8):
        trainer = Trainer(
            backbone, config, transform, params.trunk, seed=0, devices=jax.devices()[:count]
        )  # fmt: skip
        state = trainer.replicate(start)
        gradient = trainer.gradient(state.learned, 0, batches[0])
        for step, batch in enumerate(batches):
            state, report = trainer.step(state, step, batch, stop=step == 1 and count == 8)
            results[f"stop{step}/{count}"] = trainer.fetch(report).stop
            results[f"compilations{step}/{count}"] = np.array(len(compilations))
        for name, tree in (("gradient", gradient), ("state", state)):
            for index, leaf in enumerate(jax.tree.leaves(tree)):
                shards = [np.asarray(shard.data)[0] for shard in leaf.addressable_shards]
                assert all(np.array_equal(shards[0], shard) for shard in shards), "the devices drift apart"
                results[f"{name}{index}/{count}"] = shards[0]
    results["forecast"] = np.array(forecast(trainer, start, params.trunk, iter(batches)))
    np.savez(path, **results)


if __name__ == "__main__":
    main(sys.argv[1])
