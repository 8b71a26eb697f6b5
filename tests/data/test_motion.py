from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from roam_jax import presets
from roam_jax.config import ClipsConfig
from roam_jax.data.clips import sample_clip
from roam_jax.data.motion import compress, film, smooth_path, take_view, warp_about_object, warp_box
from roam_jax.patches.crop import FILL_RGB, crop_host

SIDE = 128


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("start", [None, 0.0])
def test_paths_are_smooth_and_wander(seed, start):
    path = smooth_path(40, rng=rng(seed), start=start)
    assert np.abs(path).max() <= 1
    assert np.abs(np.diff(path)).max() < 0.8
    assert np.abs(np.diff(path, n=2)).max() < 0.65
    assert np.ptp(path) > 0.8
    np.testing.assert_array_equal(path, smooth_path(40, rng=rng(seed), start=start))
    if start is not None:
        assert abs(path[0]) < 0.2


def test_one_frame_has_a_path_too():
    assert smooth_path(1, rng=rng()).shape == (1,)


def draw_ellipse(box, picture=300):
    image = np.full((picture, picture, 3), 60, np.uint8)
    y, x = np.mgrid[:picture, :picture] + 0.5
    inside = ((x - box[0]) / box[2]) ** 2 + ((y - box[1]) / box[3]) ** 2 <= 0.25
    image[inside] = 200
    return image


@pytest.mark.parametrize(
    ("scale", "turn", "tilt"),
    [(1.0, 0.0, (0.0, 0.0)), (1.0, 0.3, (0.0, 0.0)), (1.2, -0.2, (0.0, 0.0)), (0.9, 0.1, (0.15, -0.1))],
)
def test_the_box_is_where_the_object_went(scale, turn, tilt):
    box = np.array([140.0, 160.0, 50.0, 30.0])
    center, size = np.array([150.0, 150.0]), np.array([160.0, 200.0])
    in_patch = np.concatenate([(box[:2] - center) * SIDE / size, box[2:] * SIDE / size]).astype(np.float32)
    warp = warp_about_object(scale, turn, np.array(tilt))
    patch, _ = take_view(draw_ellipse(box), center, size, in_patch, warp, SIDE)
    actual = warp_box(in_patch, warp, SIDE)
    seen = patch[..., 0] > 130
    ys, xs = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    low, high = np.array([xs[0], ys[0]]) - SIDE / 2, np.array([xs[-1], ys[-1]]) + 1 - SIDE / 2
    np.testing.assert_allclose(actual[:2] - actual[2:] / 2, low, atol=1.2)
    np.testing.assert_allclose(actual[:2] + actual[2:] / 2, high, atol=1.2)


def test_a_view_without_warp_is_the_patch_with_its_outside():
    image = rng().integers(0, 256, (90, 100, 3), dtype=np.uint8)
    center, size = np.array([20.0, 30.0]), np.array([100.0, 100.0])
    patch, outside = take_view(image, center, size, np.array([5, 5, 20, 20], np.float32), np.eye(3), SIDE)
    plain = crop_host(image, center, size, SIDE).astype(int)
    assert np.abs(patch.astype(int) - plain).mean() < 1
    assert (patch[:20, :] == FILL_RGB).all()
    edge_x, edge_y = (round((50 - c) * SIDE / 100) for c in center)
    assert outside[:, : edge_x - 1].all()
    assert outside[: edge_y - 1].all()
    assert not outside[edge_y + 1 :, edge_x + 1 :].any()


def test_views_follow_the_strength():
    still, moving = film(10, 1e-9, rng=rng()), film(10, 1.0, rng=rng())
    for view in still:
        np.testing.assert_allclose(view.warp, np.eye(3), atol=1e-8)
        assert (view.light, view.downsampled) == pytest.approx((1, 1))
        assert view.quality == 95
    assert max(abs(view.warp[0, 1]) for view in moving) > 0.05
    assert len({view.quality for view in moving}) > 2
    assert all(20 <= view.quality <= 95 for view in film(30, 2.0, rng=rng(1)))


def test_compression_keeps_colours_and_loses_detail():
    red = np.full((64, 64, 3), (200, 30, 60), np.uint8)
    assert np.abs(compress(red, 90).astype(int) - red).max() < 6
    noise = rng().integers(0, 256, (64, 64, 3), dtype=np.uint8)
    errors = [np.abs(compress(noise, quality).astype(int) - noise).mean() for quality in (95, 20)]
    assert errors[0] < errors[1]


def test_only_stills_move_and_not_their_first_frame(rectangles):
    plain = ClipsConfig(shift=0.1, scale=0.0, stretch=0.0, flip=0.0, grey=0.0, colour=0.0, blur=0.0)
    lite = presets.lite()
    off, on = (
        dataclasses.replace(lite, clips=dataclasses.replace(plain, still_motion=strength)) for strength in (0.0, 1.0)
    )
    still = rectangles(1, still=True)
    a, b = (sample_clip(still, config, rng=rng(3)) for config in (off, on))
    np.testing.assert_array_equal(a.patches[:9], b.patches[:9])
    assert all((a.patches[i] != b.patches[i]).any() for i in range(9, 19))
    assert len({tuple(box[2:]) for box in b.boxes_cxcywh[9:]}) == 10
    assert b.visible.all()
    moving = dataclasses.replace(still, still=False)
    a, b = (sample_clip(moving, config, rng=rng(3)) for config in (off, on))
    np.testing.assert_array_equal(a.patches, b.patches)
