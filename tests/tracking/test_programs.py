from __future__ import annotations

import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from roam_jax.checkpoints import save_checkpoint
from roam_jax.config import Config
from roam_jax.tracking import programs
from roam_jax.tracking.online import Online
from roam_jax.tracking.programs import (
    Shapes,
    cache_file,
    compile_programs,
    programs_are_kept,
    programs_file,
    read_programs,
)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A folder that JAX and the package keep programs in."""
    before = {name: jax.config.values[name] for name in ("jax_compilation_cache_dir", "jax_enable_compilation_cache")}
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "cache"))
    jax.config.update("jax_enable_compilation_cache", True)
    yield tmp_path / "cache"
    for name, value in before.items():
        jax.config.update(name, value)


def count_traces(monkeypatch):
    traced = []
    parts = programs.parts_of
    monkeypatch.setattr(programs, "parts_of", lambda *args: (traced.append(args), parts(*args))[1])
    return traced


FOLLOW = """
import sys
import numpy as np
from roam_jax import Tracker
images = np.random.default_rng(0).integers(0, 255, (2, 96, 120, 3), dtype=np.uint8)
tracker = Tracker(sys.argv[1])
tracker.init(images[0], (40, 30, 24, 18))
print("flax" in sys.modules, *tracker.update(images[1]))
"""


def run(compiled, params, config):
    side = config.model.patch_size
    patches = np.random.default_rng(0).integers(0, 255, (9, side, side, 3), dtype=np.uint8)
    state = compiled.start(params, patches, np.array([60, 50, 20, 16], np.float32), np.array([120, 100], np.float32))
    return [np.asarray(x) for x in compiled.step(params, state, patches[:1])[1]]


def test_traced_programs_are_kept_and_damaged_ones_made_again(cache, online, params, config, monkeypatch):
    traced = count_traces(monkeypatch)
    results = []
    shapes = Shapes.of(params)
    assert not programs_are_kept(online, shapes)
    for expected_traces in (1, 1, 2):
        if expected_traces == 2:
            (kept,) = cache.glob("roam_jax-*.zip")
            damaged = bytearray(kept.read_bytes())
            damaged[len(damaged) // 2] ^= 255
            kept.write_bytes(damaged)
        compile_programs.cache_clear()
        results.append(run(compile_programs(online, shapes, None), params, config))
        assert len(traced) == expected_traces
        assert programs_are_kept(online, shapes)
    for result in results[1:]:
        for actual, expected in zip(result, results[0], strict=True):
            np.testing.assert_array_equal(actual, expected)
    assert not programs_are_kept(online, Shapes.of(params._replace(omega={})))


def test_a_tracker_whose_programs_are_kept_does_without_flax(checkpoint, tmp_path):
    """No network is made, and no parameters are compared with one."""
    save_checkpoint(tmp_path / "tiny", checkpoint)
    kept = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    command = [sys.executable, "-c", FOLLOW, str(tmp_path / "tiny")]
    said = []
    for _ in range(2):
        environment = {**os.environ, **kept, "JAX_PLATFORMS": "cpu"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        said.append(done.stdout.split())
    assert [words[0] for words in said] == ["True", "False"]
    assert said[0][1:] == said[1][1:]


@pytest.mark.parametrize("own", [{"backbone": {"name": "mine"}}, {"optimizer": {"kind": "mine"}}])
def test_programs_with_a_trunk_or_optimizer_of_the_users_own_are_not_kept(cache, online, config, params, own):
    """Their sources are not known, so that kept programs could be those of another one."""
    mine = Online(Config.from_dict({**config.to_dict(), **own}))
    assert programs_file(online, Shapes.of(params), None) is not None
    assert programs_file(mine, Shapes.of(params), None) is None
    assert not programs_are_kept(mine, Shapes.of(params))


def test_a_file_per_configuration_and_none_without_a_cache(cache):
    assert cache_file("one") == cache_file("one")
    assert cache_file("one") != cache_file("two")
    jax.config.update("jax_enable_compilation_cache", False)
    assert cache_file("one") is None


def test_unreadable_files_are_no_programs(tmp_path):
    assert read_programs(tmp_path / "absent.zip") is None
    (tmp_path / "text.zip").write_text("no archive")
    assert read_programs(tmp_path / "text.zip") is None


def test_patches_in_groups(online, params, config):
    """Three patches a frame (ROAM): nine first-frame patches and any other number go through one program."""
    calls = []

    def program(params, patches):
        calls.append(len(patches))
        return patches.sum(axis=(1, 2, 3))

    patches = np.arange(8 * 3, dtype=np.float32).reshape(8, 1, 1, 3)
    actual = programs.extract_features(program, 3, params, patches)
    np.testing.assert_array_equal(actual, patches.sum(axis=(1, 2, 3)))
    assert calls == [3, 3, 3]
