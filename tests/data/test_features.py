from __future__ import annotations

import dataclasses
import itertools
import json
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from roam_jax import presets
from roam_jax.backbones import make_backbone
from roam_jax.data import features
from roam_jax.data.features import cache_features, cached_batches, describe_features, make_extract
from roam_jax.data.pipeline import make_pipeline
from roam_jax.data.sequences import DataError
from roam_jax.data.synthetic import synthetic_sequence

FIRST, CLIPS = 9, 7
WEIGHTS = {"synthetic": 1.0}


def change(config, section, **changes):
    return dataclasses.replace(config, **{section: dataclasses.replace(getattr(config, section), **changes)})


CONFIG = change(change(presets.tiny(), "meta", batch=6), "clips", occlusion=0.8, absent=0.3)


@pytest.fixture(scope="module")
def sequences():
    return [synthetic_sequence(seed, length=6, height=80, width=80) for seed in range(3)]


def pool(patches):
    """A trunk in NumPy: means over squares, at two scales."""
    return [patches.reshape(-1, 64 // k, k, 64 // k, k, 3).mean(axis=(2, 4)) / 256 for k in (16, 32)]


def describe(config=CONFIG, seed=5, data="d" * 64, trunk="t" * 64):
    return describe_features(config, seed=seed, data_digest=data, trunk_digest=trunk)


def fill(folder, sequences, *, config=CONFIG, extract=pool, clips=CLIPS, manifest=None, **options):
    manifest = manifest or describe(config)
    cache_features(sequences, config, extract, folder, clips=clips, manifest=manifest, **options)
    return folder


@pytest.fixture(scope="module")
def cache(sequences, tmp_path_factory):
    return fill(tmp_path_factory.mktemp("cache"), sequences)


def take(count, folder, config=CONFIG, **options):
    given = {"manifest": describe(config), "seed": 3, "clips": CLIPS} | options
    return list(itertools.islice(cached_batches(folder, config, **given), count))


def assert_same(first, second):
    for a, b in zip(first, second, strict=True):
        jax.tree.map(np.testing.assert_array_equal, a, b)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def rows_of(batches):
    """Boxes of every clip, as a name for it."""
    return [boxes.tobytes() for batch in batches for boxes in batch.boxes_cxcywh]


def test_clips_are_those_of_the_pipeline(cache, sequences):
    live = make_pipeline(sequences, change(CONFIG, "meta", batch=CLIPS), seed=5)
    clips = next(live)
    batches = take(7, cache)
    by_name = {boxes.tobytes(): (patches, visible) for patches, boxes, visible in zip(*clips, strict=True)}
    assert not clips.visible.all()
    for batch in batches:
        assert [level.shape for level in batch.levels] == [(6, 13, 4, 4, 3), (6, 13, 2, 2, 3)]
        assert {level.dtype for level in batch.levels} == {np.dtype(np.float16)}
        assert batch.boxes_cxcywh.dtype == np.float32
        for row in range(6):
            patches, visible = by_name[batch.boxes_cxcywh[row].tobytes()]
            np.testing.assert_array_equal(batch.visible[row], visible)
            expected = pool(patches)
            for level, wanted in zip(batch.levels, expected, strict=True):
                np.testing.assert_array_equal(level[row], wanted.astype(np.float16))


def test_every_clip_once_an_epoch_in_another_order(cache):
    names = rows_of(take(7, cache))  # 42 rows: 6 epochs
    epochs = [names[start : start + CLIPS] for start in range(0, 42, CLIPS)]
    assert all(set(epoch) == set(names) and len(set(epoch)) == CLIPS for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 6
    assert rows_of(take(1, cache, seed=4)) != names[:6]


@pytest.mark.parametrize("n_threads", [0, 1, 3])
def test_batch_is_a_function_of_seed_and_step(cache, n_threads):
    straight = take(6, cache)
    assert_same(straight, take(6, cache, n_threads=n_threads))
    assert_same(straight[4:], take(2, cache, n_threads=n_threads, start_step=4))


def test_processes_share_the_rows_of_a_batch(cache):
    whole = take(4, cache)
    parts = [take(3, cache, process=(index, 3), start_step=1) for index in range(3)]
    for batch, *rows in zip(whole[1:], *parts, strict=True):
        assert_same([batch], [jax.tree.map(lambda *x: np.concatenate(x), *rows)])
    with pytest.raises(DataError, match="rows of 4 processes"):
        cached_batches(cache, CONFIG, manifest=describe(), seed=0, clips=CLIPS, process=(0, 4))


def test_interrupted_and_enlarged(cache, sequences, tmp_path):
    """What is there is kept, what is missing is made, and the result is the same cache."""
    seen = []

    def stop_at_fourth(patches):
        seen.append(patches)
        if len(seen) >= 4:
            raise KeyboardInterrupt
        return pool(patches)

    with pytest.raises(KeyboardInterrupt):
        fill(tmp_path, sequences, extract=stop_at_fourth, n_threads=1)
    assert len(list(tmp_path.glob("*.npz"))) >= 3
    with pytest.raises(DataError, match=r"hold the features of 7 clips, but there are \d"):
        take(1, tmp_path)
    (tmp_path / "000001.npz").unlink()
    (tmp_path / "000006.partial").write_bytes(b"half a clip")
    kept = (tmp_path / "000002.npz").stat().st_mtime_ns
    fill(tmp_path, sequences, clips=CLIPS - 1)
    fill(tmp_path, sequences)
    assert (tmp_path / "000002.npz").stat().st_mtime_ns == kept
    assert contents(tmp_path) == contents(cache)
    count = len(seen)
    fill(tmp_path, sequences, extract=stop_at_fourth)  # nothing is missing: the trunk is not needed
    assert len(seen) == count


def test_processes_share_the_work(cache, sequences, tmp_path):
    for index in range(3):
        done = []
        fill(
            tmp_path, sequences, process=(index, 3), weights=WEIGHTS, progress=lambda x, done=done: done.extend(x) or x
        )
        assert done == list(range(index, CLIPS, 3))
    assert contents(tmp_path) == contents(cache)


def test_fewer_frames_are_a_random_choice_in_order(cache):
    short = change(CONFIG, "unroll", updates=1, look_ahead=3)
    whole = {batch.levels[1][row, :FIRST].tobytes(): (batch, row) for batch in take(2, cache) for row in range(6)}
    choices = set()
    for batch in take(7, cache, short):
        assert batch.boxes_cxcywh.shape == (6, FIRST + 3, 4)
        for row, boxes in enumerate(batch.boxes_cxcywh):
            full, at = whole[batch.levels[1][row, :FIRST].tobytes()]
            later = [int(np.flatnonzero((full.boxes_cxcywh[at] == box).all(axis=1))[0]) for box in boxes[FIRST:]]
            assert later == sorted(set(later))
            assert later[0] >= FIRST
            np.testing.assert_array_equal(batch.levels[1][row, FIRST:], full.levels[1][at, later])
            choices.add(tuple(later))
    assert choices == set(itertools.combinations(range(FIRST, FIRST + 4), 3))


def test_more_frames_are_an_error(cache, sequences):
    long = change(CONFIG, "unroll", updates=3)
    with pytest.raises(DataError, match=r"clip_frames is 4 there, not 6"):
        take(1, cache, long)
    short = change(CONFIG, "unroll", updates=1)
    fill(cache, sequences, config=short)
    with pytest.raises(DataError, match=r"lacks 1 of 8 clips.* a configuration with 2 cannot"):
        fill(cache, sequences, config=short, clips=CLIPS + 1)


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        (describe(change(CONFIG, "clips", colour=0.5)), "clips.colour is 0.2 there, not 0.5"),
        (describe(change(CONFIG, "model", aspects=(1.0,))), "model.aspects"),
        (describe(seed=6), "seed is 5 there, not 6"),
        (describe(trunk="u" * 64), "trunk is t{12} there, not u{12}$"),
        ({**describe(), "new": 1}, "new is None there, not 1"),
    ],
)
def test_another_configuration_is_refused(cache, sequences, manifest, message):
    for use in (lambda: take(1, cache, manifest=manifest), lambda: fill(cache, sequences, manifest=manifest)):
        with pytest.raises(DataError, match=f"features of another configuration: .*{message}"):
            use()


@pytest.mark.parametrize("section", ["backbone", "model", "clips"])
def test_every_field_of_what_features_follow_from_is_in_the_manifest(section):
    """Those that are added later too."""
    manifest = describe()
    for name, value in vars(getattr(CONFIG, section)).items():
        other = value + {str: "x", tuple: (0.5,)}.get(type(value), 1)
        changed = describe(change(CONFIG, section, **{name: other}))
        assert [key for key in changed if changed[key] != manifest[key]] == [f"{section}.{name}"]


def test_what_does_not_change_the_features_is_accepted(cache):
    other = change(change(CONFIG, "meta", batch=2, model_rate=1.0), "unroll", updates=4, look_ahead=1)
    assert len(take(2, cache, other)) == 2


def test_wrong_folders(sequences, tmp_path):
    with pytest.raises(DataError, match="should be a cache"):
        take(1, tmp_path)
    (tmp_path / "0.npz").touch()
    with pytest.raises(DataError, match="should be empty or a cache"):
        fill(tmp_path, sequences)
    (tmp_path / "manifest.json").write_text(json.dumps([1]))
    with pytest.raises(DataError, match="should be the manifest"):
        fill(tmp_path, sequences)


@pytest.mark.parametrize("n_threads", [0, 2])
def test_a_damaged_clip_is_found(cache, sequences, tmp_path, n_threads):
    fill(tmp_path, sequences)
    path = tmp_path / "000003.npz"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"000003.npz should be a cached clip.* remove it"):
        take(3, tmp_path, n_threads=n_threads)
    path.unlink()
    fill(tmp_path, sequences)
    assert contents(tmp_path) == contents(cache)


def test_features_that_are_too_large(sequences, tmp_path):
    with pytest.raises(DataError, match="finite in half precision"):
        fill(tmp_path, sequences, extract=lambda patches: [1e6 * level for level in pool(patches)])
    assert not list(tmp_path.glob("*.npz"))


def test_full_disk(sequences, tmp_path, monkeypatch):
    monkeypatch.setattr(features.shutil, "disk_usage", lambda folder: SimpleNamespace(free=10))
    with pytest.raises(DataError, match="6 more clips should fit"):
        fill(tmp_path, sequences)


def test_extract_is_the_trunk():
    backbone = make_backbone(CONFIG)
    trunk = backbone.init(key=jax.random.key(0))["trunk"]
    patches = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    levels = make_extract(backbone, trunk)(patches)
    expected = jax.jit(backbone.trunk)({"trunk": trunk}, patches)
    for level, wanted in zip(levels, expected, strict=True):
        assert level.dtype == np.float16
        np.testing.assert_allclose(np.asarray(level, np.float32), wanted, rtol=2e-3, atol=1e-3)
