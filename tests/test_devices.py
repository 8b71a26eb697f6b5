"""A tracker does not depend on what the process around it asks of JAX, nor hang in one that was forked."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import jax
import numpy as np
import pytest

from roam_jax import presets
from roam_jax.checkpoints import Checkpoint
from roam_jax.tracking.params import init_params, params_to_dict
from roam_jax.tracking.tracker import Tracker

IMAGES = np.random.default_rng(0).integers(0, 255, (3, 90, 120, 3), np.uint8)


def make_checkpoint() -> Checkpoint:
    config = presets.tiny()
    params = jax.jit(lambda key: init_params(config, key=key))(jax.random.key(0))
    return Checkpoint(config, jax.tree.map(np.asarray, params_to_dict(params)), "for tests")


def run_tracker(checkpoint: Checkpoint) -> np.ndarray:
    tracker = Tracker(checkpoint)
    tracker.init(IMAGES[0], (40, 30, 24, 18))
    return np.stack([tracker.update(image) for image in IMAGES[1:]])


@pytest.mark.parametrize("setting", [jax.enable_x64(True), jax.disable_jit(True)], ids=["x64", "no jit"])
def test_settings_of_the_process_change_no_box(setting):
    checkpoint = make_checkpoint()
    expected = run_tracker(checkpoint)
    with setting:
        np.testing.assert_array_equal(run_tracker(checkpoint), expected)


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="this system has no fork")
@pytest.mark.parametrize("use", ["tracker.init(IMAGES[0], (40, 30, 24, 18))", "Tracker(checkpoint)"])
def test_a_forked_process_is_refused_in_one_sentence(use):
    script = f"""
        import multiprocessing, sys, warnings
        sys.path.insert(0, {str(__file__).rpartition("/")[0]!r})
        warnings.simplefilter("ignore")
        from test_devices import IMAGES, Tracker, make_checkpoint
        checkpoint = make_checkpoint()
        tracker = Tracker(checkpoint)
        def work(_):
            try:
                {use}
            except RuntimeError as error:
                return str(error)
        with multiprocessing.get_context("fork").Pool(1) as pool:
            print(pool.map_async(work, [0]).get(60)[0])
    """
    ended = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=120)
    assert ended.stdout.startswith("a tracker cannot run in a forked process: start processes with"), ended.stderr
    assert ended.stdout.count("\n") == 1
