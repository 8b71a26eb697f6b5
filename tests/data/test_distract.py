from __future__ import annotations

import dataclasses
import itertools

import cv2
import numpy as np
import pytest

from roam_jax import presets
from roam_jax.config import ClipsConfig
from roam_jax.data.clips import far_shifts, sample_clip
from roam_jax.data.distract import LEAST_VISIBLE, Cut, Material, Scene, cut_out, draw_bar, paste, soft_ellipse, vary
from roam_jax.data.mix import Mix, read_cutouts, with_cutouts
from roam_jax.data.pipeline import make_pipeline
from roam_jax.data.sequences import DataError, Frames

FIRST, SIDE = 9, 224
PLAIN = ClipsConfig(
    shift=0.1, scale=0.1, stretch=0.0, flip=0.0, grey=0.0, colour=0.0, blur=0.0, max_stride=1
)  # fmt: skip
YELLOW = np.dstack([np.full((40, 60, 3), (250, 250, 0), np.uint8), np.full((40, 60), 255, np.uint8)])
"""a cut-out"""


def configure(**clips):
    return dataclasses.replace(presets.lite(), clips=dataclasses.replace(PLAIN, **clips))


def sample(sequence, material=Material(), seed=0, **clips):  # noqa: B008
    return sample_clip(sequence, configure(**clips), material, rng=np.random.default_rng(seed))


def share_of_object(patch, box):
    """Share of the box's pixels that are red or blue, as the object of `rectangles` is."""
    low = np.maximum(np.round(SIDE / 2 + box[:2] - box[2:] / 2).astype(int), 0)
    high = np.round(SIDE / 2 + box[:2] + box[2:] / 2).astype(int)
    inside = patch[low[1] : high[1], low[0] : high[0]].astype(int)
    near = [np.abs(inside - colour).sum(axis=-1) < 100 for colour in ((200, 30, 30), (30, 30, 200))]
    return (near[0] | near[1]).mean()


def make_scene(side=40, ground=100):
    patches = np.full((1, side, side, 3), ground, np.uint8)
    return Scene(patches, np.array([[2, -3, 10, 8]], np.float32), np.ones((1, 2)), np.ones(1), 0)


def test_pasting_blends_by_the_opacity():
    scene = make_scene()
    cut = Cut(np.full((6, 6, 3), 200, np.uint8), np.full((6, 6), 0.5, np.float32), 1.0)
    covered = paste(scene, 0, cut, np.array([0.0, 0.0]), np.array([6.0, 6.0]))
    assert covered == pytest.approx(0.5 * 36 / 80)
    changed = scene.patches[0] != 100
    assert (scene.patches[0][changed] == 150).all()
    ys, xs = np.flatnonzero(changed.any(axis=(1, 2))), np.flatnonzero(changed.any(axis=(0, 2)))
    assert (xs[0], xs[-1], ys[0], ys[-1]) == (19, 24, 14, 19)


@pytest.mark.parametrize(("offset", "covered"), [((0, 0), 1.0), ((10, 0), 0.5), ((0, -8), 0.5), ((40, 0), 0.0)])
def test_how_much_of_the_object_is_covered(offset, covered):
    scene = make_scene()
    cut = Cut(np.zeros((16, 20, 3), np.uint8), np.ones((16, 20), np.float32), 1.25)
    actual = paste(scene, 0, cut, np.array(offset, float), np.array([20.0, 16.0]))
    assert actual == pytest.approx(covered)
    assert (scene.patches != 100).any() == (covered > 0)


def test_a_soft_edge_has_no_step():
    alpha = soft_ellipse((61, 81))
    assert alpha[30, 40] == 1
    assert max(alpha[0].max(), alpha[-1].max(), alpha[:, 0].max(), alpha[:, -1].max()) < 0.05
    assert np.abs(np.diff(alpha, axis=0)).max() < 0.3


def test_variations_flip_and_colour():
    rgba = np.zeros((8, 10, 4), np.uint8)
    rgba[:, :5] = (100, 50, 20, 255)
    cut = cut_out(rgba)
    same, other = vary(cut, False, 0.0, np.ones(3)), vary(cut, True, 0.0, np.array([2.0, 1.0, 1.0]))
    np.testing.assert_array_equal(same.rgb, cut.rgb)
    np.testing.assert_array_equal(same.alpha, cut.alpha)
    np.testing.assert_array_equal(other.alpha, cut.alpha[:, ::-1])
    assert other.rgb[0, -1].tolist() == [200, 50, 20]


@pytest.mark.parametrize("turn", [0.0, 0.7, 1.5708])
def test_a_bar_is_as_thick_as_it_should_be(turn):
    bar = draw_bar(turn, 0.1, rng=np.random.default_rng(0))
    length = 1 / max(abs(np.cos(turn)), abs(np.sin(turn)))
    assert bar.alpha.mean() == pytest.approx(0.1 * length, rel=0.08)
    assert bar.alpha[96, 96] == 1


def test_visible_says_whether_enough_of_the_object_is_left(rectangles):
    material, hidden = Material([rectangles(3, source="b", ground=(250, 250, 250))], [YELLOW]), 0
    for seed in range(24):
        clip = sample(rectangles(25), material, seed, occlusion=1.0)
        assert clip.visible[:FIRST].all()
        for patch, box, visible in zip(*(part[FIRST:] for part in clip), strict=True):
            share = share_of_object(patch, box)
            if abs(share - LEAST_VISIBLE) > 0.12:
                assert visible == (share > LEAST_VISIBLE)
            hidden += not visible
    assert 10 < hidden < 120


def test_an_occlusion_passes(rectangles):
    """It covers some frames that follow each other, and no other."""
    lengths = set()
    for seed in range(24):
        clip = sample(rectangles(25), Material([], [YELLOW]), seed, occlusion=1.0)
        shares = [share_of_object(*one) for one in zip(clip.patches[FIRST:], clip.boxes_cxcywh[FIRST:], strict=True)]
        covered = np.flatnonzero(np.array(shares) < 0.6)
        assert (np.diff(covered) == 1).all()
        lengths.add(len(covered))
    assert max(lengths) <= 6
    assert len(lengths) > 2


def test_lookalikes_are_beside_the_object(rectangles):
    beside = from_start = 0
    for seed in range(12):
        material = Material([rectangles(3, source="b", ground=(250, 250, 250))], [YELLOW])
        plain, clip = sample(rectangles(25), seed=seed), sample(rectangles(25), material, seed, lookalikes=1.0)
        np.testing.assert_array_equal(plain.boxes_cxcywh, clip.boxes_cxcywh)
        assert clip.visible.all()
        changed = (plain.patches != clip.patches).any(axis=(1, 2, 3))
        beside += changed[FIRST:].mean()
        assert changed[:FIRST].all() or not changed[:FIRST].any()
        from_start += changed[0]
        assert all(
            share_of_object(*one) > 0.6 for one in zip(clip.patches[FIRST:], clip.boxes_cxcywh[FIRST:], strict=True)
        )
    assert beside > 9
    assert 0 < from_start < 12


def test_absent_frames_are_without_the_object(rectangles):
    other = rectangles(3, source="b", ground=(250, 250, 250))
    other = dataclasses.replace(other, frames=type(other.frames)([np.full((300, 400, 3), 250, np.uint8)] * 3))
    for seed in range(6):
        plain = sample(rectangles(25), seed=seed)
        clip = sample(rectangles(25), Material([other]), seed, absent=1.0, lookalikes=1.0, occlusion=1.0)
        assert clip.visible.tolist() == [True] * FIRST + [False] * 10
        np.testing.assert_array_equal(plain.boxes_cxcywh, clip.boxes_cxcywh)
        assert (np.abs(clip.patches[FIRST:].astype(int) - (200, 30, 30)).sum(axis=-1) > 100).all()


class Broken(Frames):
    def __len__(self):
        return 3

    def read(self, index):
        raise DataError("broken")


def test_without_another_picture_the_object_stays(rectangles):
    """Its own picture has no place without it; the other is of the same video, or cannot be read."""
    sequence = rectangles(25)
    boxes = np.tile(np.array([[100, 50, 200, 200]], np.float32), (25, 1))
    sequence = dataclasses.replace(sequence, boxes_xywh=boxes)
    others = ([], [sequence], [dataclasses.replace(rectangles(3, source="b"), frames=Broken())])
    for material in map(Material, others):
        clip = sample(sequence, material, absent=1.0)
        assert clip.visible.all()


def test_jumps_go_far():
    shifts = np.abs(far_shifts(0.36, 200, rng=np.random.default_rng(0)))
    assert (shifts.max(axis=1) >= 0.36).all()
    assert 0.44 < shifts.max() <= 0.45
    assert shifts.min() < 0.05
    assert (np.abs(far_shifts(0.49, 5, rng=np.random.default_rng(0))).max(axis=1) == 0.45).all()


def test_clips_jump(rectangles):
    clip = sample(rectangles(25), jump=0.5)
    far = np.abs(clip.boxes_cxcywh[FIRST:, :2]).max(axis=1) > 0.1 * SIDE
    assert 0 < far.sum() < 10


def test_batches_with_everything_are_a_function_of_seed_and_step(rectangles):
    config = configure(lookalikes=0.5, occlusion=0.5, absent=0.2, jump=0.1, still_motion=1.0)
    config = dataclasses.replace(config, meta=dataclasses.replace(config.meta, batch=2))
    data = [rectangles(4, source="a"), rectangles(1, source="b", still=True), rectangles(6, source="c")]
    one, two = (
        list(itertools.islice(make_pipeline(data, config, seed=1, n_threads=n, cutouts=[YELLOW]), 3)) for n in (0, 2)
    )
    for a, b in zip(one, two, strict=True):
        for x, y in zip(a, b, strict=True):
            np.testing.assert_array_equal(x, y)
    visible = np.stack([batch.visible for batch in one])
    assert visible.dtype == bool
    assert visible[:, :, :FIRST].all()
    assert not visible.all()


def test_cutouts_of_a_folder(tmp_path):
    for name in ("b.png", "a.webp"):
        cv2.imwrite(str(tmp_path / name), np.full((4, 5, 4), (10, 20, 30, 128), np.uint8))
    (tmp_path / "index.json").write_text("[]")
    cutouts, digest = read_cutouts(tmp_path)
    assert [cutout.shape for cutout in cutouts] == [(4, 5, 4)] * 2
    assert cutouts[1][0, 0].tolist() == [30, 20, 10, 128]
    mix = Mix([], [], {}, "d")
    assert with_cutouts(mix, tmp_path).digest not in ("d", digest)
    cv2.imwrite(str(tmp_path / "c.png"), np.zeros((4, 5, 4), np.uint8))
    assert read_cutouts(tmp_path)[1] != digest
    cv2.imwrite(str(tmp_path / "d.png"), np.zeros((4, 5, 3), np.uint8))
    with pytest.raises(DataError, match=r"d\.png should be a picture with RGB and opacity"):
        read_cutouts(tmp_path)
    with pytest.raises(DataError, match="should hold cut-outs"):
        read_cutouts(tmp_path / "none")
