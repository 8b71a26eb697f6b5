from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from roam_jax import presets
from roam_jax.config import ClipsConfig, UnrollConfig
from roam_jax.data.clips import (
    choose_frames,
    colour_matrix,
    downsample,
    motion_kernel,
    sample_clip,
)
from roam_jax.data.sequences import DataError, Sequence
from roam_jax.patches.crop import FILL_RGB
from roam_jax.patches.stretch import stretch_factors

LENGTHS = UnrollConfig(updates=4, look_ahead=5)
PLAIN = ClipsConfig(shift=0.36, scale=0.2, stretch=0.1, max_stride=3, flip=0.0, grey=0.0, colour=0.0, blur=0.0)


def configure(**clips):
    return dataclasses.replace(presets.lite(), clips=dataclasses.replace(PLAIN, **clips), unroll=LENGTHS)


def measure(patch, colour):
    """(x0, y0, x1, y1) of the pixels that are nearest to a colour, relative to the patch centre; edges by coverage."""
    near = np.abs(patch.astype(int) - colour).sum(axis=-1) < 120
    ys, xs = np.flatnonzero(near.any(axis=1)), np.flatnonzero(near.any(axis=0))
    return np.array([xs[0], ys[0], xs[-1] + 1, ys[-1] + 1]) - len(patch) / 2


def expected_corners(box):
    return np.array([box[0] - box[2] / 2, box[1] - box[3] / 2, box[0] + box[2] / 2, box[1] + box[3] / 2])


@pytest.mark.parametrize("flip", [0.0, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_boxes_are_where_the_object_is(rectangles, flip, seed):
    config = configure(flip=flip, stretch=0.3, scale=0.3, shift=0.25)
    clip = sample_clip(rectangles(25), config, rng=np.random.default_rng(seed))
    assert clip.patches.shape == (29, 224, 224, 3)
    assert clip.patches.dtype == np.uint8
    assert clip.boxes_cxcywh.shape == (29, 4)
    assert clip.boxes_cxcywh.dtype == np.float32
    left, right = ((200, 30, 30), (30, 30, 200))[:: -1 if flip else 1]
    for patch, box in zip(clip.patches, clip.boxes_cxcywh, strict=True):
        x0, y0, x1, y1 = expected_corners(box)
        np.testing.assert_allclose(measure(patch, left), [x0, y0, box[0], y1], atol=1.0)
        np.testing.assert_allclose(measure(patch, right), [box[0], y0, x1, y1], atol=1.0)


def test_boxes_have_no_bias(rectangles):
    """Corners are off by less than a quarter of a pixel in the mean, so the conventions of both sides agree."""
    clip = sample_clip(rectangles(25), configure(), rng=np.random.default_rng(0))
    off = []
    for patch, box in zip(clip.patches, clip.boxes_cxcywh, strict=True):
        left, right = measure(patch, (200, 30, 30)), measure(patch, (30, 30, 200))
        off.append(np.array([left[0], left[1], right[2], right[3]]) - expected_corners(box))
    assert np.abs(np.mean(off, axis=0)).max() < 0.25


def test_first_frame_samples(rectangles):
    config = configure(max_stride=1)
    sequence = rectangles(21)
    clip = sample_clip(sequence, config, rng=np.random.default_rng(0))
    w, h = sequence.boxes_xywh[0, 2:]
    scale = config.model.patch_size / (config.model.roi_scale * np.sqrt(w * h))
    expected = [(s * w * r * scale, s * h / r * scale) for s in (0.8, 1.0, 1.2) for r in (0.8, 1.0, 1.2)]
    np.testing.assert_allclose(clip.boxes_cxcywh[:9, 2:], expected, rtol=1e-6)
    np.testing.assert_array_equal(clip.boxes_cxcywh[:9, :2], 0)
    assert np.prod(clip.boxes_cxcywh[4, 2:]) == pytest.approx(config.model.target_side_patch**2)
    np.testing.assert_allclose(stretch_factors((1.0, 2.0)), [(1, 1), (2, 0.5), (2, 2), (4, 1)])


def test_frames_are_shifted_and_scaled_within_limits(rectangles):
    config = configure(shift=0.3, scale=0.2, stretch=0.1)
    boxes = np.stack(
        [sample_clip(rectangles(21), config, rng=np.random.default_rng(i)).boxes_cxcywh[9:] for i in range(8)]
    )
    shifts = boxes[..., :2] / config.model.patch_size
    assert 0.27 < np.abs(shifts).max() <= 0.3
    assert np.abs(shifts.mean(axis=(0, 1))).max() < 0.06
    logs = np.log(np.sqrt(boxes[..., 2] * boxes[..., 3]) / config.model.target_side_patch)
    assert 0.18 < np.abs(logs).max() <= 0.2 + 1e-6
    own = rectangles(21).boxes_xywh[1:]
    aspects = np.log(own[:, 2] / own[:, 3])
    stretches = (np.log(boxes[..., 2] / boxes[..., 3]) - aspects) / 2
    assert 0.09 < np.abs(stretches).max() <= 0.1 + 1e-6


def test_clip_is_a_function_of_the_generator(rectangles):
    config = presets.lite()
    first, again, other = (sample_clip(rectangles(40), config, rng=np.random.default_rng(s)) for s in (5, 5, 6))
    np.testing.assert_array_equal(first.patches, again.patches)
    np.testing.assert_array_equal(first.boxes_cxcywh, again.boxes_cxcywh)
    assert not np.array_equal(first.boxes_cxcywh, other.boxes_cxcywh)


def test_only_the_frames_of_the_clip_are_read(rectangles):
    sequence = rectangles(60)
    sample_clip(sequence, configure(), rng=np.random.default_rng(0))
    assert len(sequence.frames.asked) == len(set(sequence.frames.asked)) == 21


@pytest.mark.parametrize("seed", range(20))
def test_choice_of_frames(seed):
    rng = np.random.default_rng(seed)
    visible = rng.random(100) < 0.8
    chosen = choose_frames(visible, 20, 3, rng=rng)
    assert len(chosen) == 21
    assert visible[chosen].all()
    steps = np.diff(np.searchsorted(np.flatnonzero(visible), chosen))
    assert len(set(steps)) == 1
    assert 1 <= steps[0] <= 3


def test_all_strides_and_both_ends_are_chosen():
    chosen = [choose_frames(np.ones(64, bool), 20, 3, rng=np.random.default_rng(i)) for i in range(300)]
    assert {int(c[1] - c[0]) for c in chosen} == {1, 2, 3}
    assert min(c[0] for c in chosen) == 0
    assert max(c[-1] for c in chosen) == 63
    short = [choose_frames(np.ones(30, bool), 20, 3, rng=np.random.default_rng(i)) for i in range(50)]
    assert {int(c[1] - c[0]) for c in short} == {1}


@pytest.mark.parametrize("length", [2, 5, 20])
def test_short_sequences_run_back_and_forth(length):
    for seed in range(10):
        chosen = choose_frames(np.ones(length, bool), 20, 3, rng=np.random.default_rng(seed))
        assert len(chosen) == 21
        assert set(np.abs(np.diff(chosen))) == {1}
        assert chosen.min() >= 0
        assert chosen.max() < length


def test_one_frame_and_none():
    visible = np.array([False, True, False])
    assert choose_frames(visible, 4, 3, rng=np.random.default_rng(0)).tolist() == [1] * 5
    with pytest.raises(DataError, match="it never does"):
        choose_frames(np.zeros(3, bool), 4, 3, rng=np.random.default_rng(0))


def test_repeated_still_is_not_constant(rectangles):
    config = configure(shift=0.0, scale=0.0, stretch=0.0)
    still = rectangles(1, still=True)
    patches = sample_clip(still, config, rng=np.random.default_rng(0)).patches.astype(float)
    levels = patches[9:, 112, 112].sum(axis=-1) / patches[0, 112, 112].sum()
    assert len(set(levels)) > 10
    assert 0.89 < levels.min() < 0.95 < 1.05 < levels.max() < 1.11
    assert len(set(patches[:9, 112, 112].sum(axis=-1))) == 1
    moving = dataclasses.replace(still, still=False)
    patches = sample_clip(moving, config, rng=np.random.default_rng(0)).patches
    assert (patches[9:] == patches[9]).all()


def test_outside_keeps_its_colour(rectangles):
    config = configure(colour=0.5, blur=0.5, shift=0.0, scale=0.0, stretch=0.0)
    picture = np.full((200, 200, 3), 250, np.uint8)
    frames = type(rectangles(1).frames)([picture] * 3)
    sequence = Sequence("corner", frames, np.array([[0, 0, 60, 60]] * 3, np.float32), still=True)
    clip = sample_clip(sequence, config, rng=np.random.default_rng(1))
    edge = int(224 / 2 - 30 / (4.5 * 60) * 224)
    for patch in clip.patches[9:]:
        assert (patch[: edge - 1] == FILL_RGB).all()
        assert (patch[:, : edge - 1] == FILL_RGB).all()
        assert (patch[edge + 1 : edge + 100, edge + 1 : edge + 100] != FILL_RGB).any(axis=-1).all()


def test_grey_clip(rectangles):
    clip = sample_clip(rectangles(21), configure(grey=1.0, shift=0.0), rng=np.random.default_rng(0))
    inside = clip.patches[9:, 80:144, 80:144].astype(int)
    assert np.abs(np.diff(inside, axis=-1)).max() <= 1


def test_colour_changes_the_clip_alike(rectangles):
    clip = sample_clip(rectangles(21), configure(colour=0.5, shift=0.0), rng=np.random.default_rng(0))
    plain = sample_clip(rectangles(21), configure(shift=0.0), rng=np.random.default_rng(0))
    ground = clip.patches[:, 60, 112].astype(int)
    assert np.abs(ground - ground[0]).max() <= 1
    assert np.abs(ground[0] - plain.patches[0, 60, 112].astype(int)).max() > 10


def test_colour_matrix():
    pixel = np.array([200.0, 100.0, 50.0, 1.0])
    np.testing.assert_allclose(colour_matrix(1.0, 1.0, 1.0, 90.0) @ pixel, pixel[:3])
    np.testing.assert_allclose(colour_matrix(1.5, 1.0, 1.0, 90.0) @ pixel, 1.5 * pixel[:3])
    np.testing.assert_allclose(colour_matrix(1.0, 1.0, 0.0, 90.0) @ pixel, 3 * [0.299 * 200 + 0.587 * 100 + 0.114 * 50])
    np.testing.assert_allclose(colour_matrix(1.0, 0.5, 1.0, 90.0) @ pixel, 90 + 0.5 * (pixel[:3] - 90))


@pytest.mark.parametrize("angle", [0.0, 0.6, 1.5708, 3.0])
def test_motion_blur_moves_nothing(angle):
    kernel = motion_kernel(7.0, angle)
    assert kernel.sum() == pytest.approx(1)
    np.testing.assert_allclose(kernel, kernel[::-1, ::-1], atol=1e-7)
    across = np.arange(len(kernel)) - len(kernel) // 2
    spread = np.array([(kernel * across**2).sum(), (kernel * across[:, None] ** 2).sum()])
    assert spread.sum() == pytest.approx(7**2 / 12, rel=0.25)
    if angle < 0.1:
        assert spread[1] < 0.05


def test_blur_of_some_frames_only(rectangles):
    config = configure(shift=0.0, scale=0.0, stretch=0.0, blur=0.3)
    clip = sample_clip(rectangles(1), config, rng=np.random.default_rng(0)).patches
    changed = (clip[9:] != clip[4]).any(axis=(1, 2, 3))
    assert 1 <= changed.sum() <= 14
    sharp = sample_clip(rectangles(1), configure(shift=0.0), rng=np.random.default_rng(0)).patches
    np.testing.assert_array_equal(clip[:9], sharp[:9])


@pytest.mark.parametrize("factor", [1.0, 2.0, 3.0])
def test_a_downsampled_patch_has_less_detail_and_its_object_in_the_same_place(factor):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (2, 60, 60, 3), dtype=np.uint8)
    less = downsample(noise, factor)
    assert less.shape == noise.shape
    if factor == 1:
        np.testing.assert_array_equal(less, noise)
    else:
        assert less.std() < 0.75 * noise.std() / (factor - 1)
    square = np.zeros((1, 60, 60, 3), np.uint8)
    square[0, 20:40, 10:30] = 200
    across = downsample(square, factor)[0, ..., 0].astype(float)
    rows, columns = np.indices(across.shape)
    middle = (np.sum(rows * across) / across.sum(), np.sum(columns * across) / across.sum())
    np.testing.assert_allclose(middle, (29.5, 19.5), atol=0.1)


def test_downsampled_clips_are_so_in_all_frames(rectangles):
    config = configure(coarse=0.0)
    fine, downsampled = (
        sample_clip(rectangles(1), c, rng=np.random.default_rng(3)) for c in (config, configure(coarse=1.0))
    )

    def detail(clip):
        return np.abs(np.diff(clip.patches.astype(int), axis=2)).max(axis=(1, 2, 3))

    np.testing.assert_array_equal(fine.boxes_cxcywh, downsampled.boxes_cxcywh)
    assert np.all(detail(downsampled) <= detail(fine))
    assert np.mean(detail(downsampled)) < 0.9 * np.mean(detail(fine))


def test_a_box_beside_its_image_is_not_learned_from(rectangles):
    sequence = rectangles(8)
    boxes = sequence.boxes_xywh.copy()
    boxes[[2, 5], :2] = [[5000, 10], [-600, 10]]
    sequence = dataclasses.replace(sequence, boxes_xywh=boxes)
    for seed in range(8):
        clip = sample_clip(sequence, presets.tiny(), rng=np.random.default_rng(seed))
        assert (clip.patches.reshape(len(clip.patches), -1).std(axis=1) > 5).all()
    boxes[:, 0] = 5000
    with pytest.raises(DataError, match="sequence rectangle should show its object"):
        sample_clip(dataclasses.replace(sequence, boxes_xywh=boxes), presets.tiny(), rng=np.random.default_rng(0))
