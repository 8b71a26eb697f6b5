from __future__ import annotations

from itertools import islice

import cv2
import numpy as np
import pytest

from roam_jax.data import demo_clip
from roam_jax.data.demo_clip import disc_box, make_scene, render_demo, write_demo
from roam_jax.video.inputs import open_source


def test_the_clip_is_a_function_of_its_arguments():
    first, second, other = (render_demo(8, (135, 240), seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first[1], second[1])
    first, second, other = (list(clip[0]) for clip in (first, second, other))
    np.testing.assert_array_equal(first, second)
    assert first[0].shape == (135, 240, 3)
    assert first[0].dtype == np.uint8
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("seed", range(5))
def test_the_sticker_stays_in_the_image_and_changes_its_shape(seed):
    _, boxes = render_demo(120, (270, 480), seed)
    assert boxes.shape == (120, 4)
    assert boxes.dtype == np.float32
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, :2] + boxes[:, 2:] <= (480, 270)).all()
    area, aspect = boxes[:, 2:].prod(axis=1), boxes[:, 2] / boxes[:, 3]
    assert area.max() > 2 * area.min()
    assert aspect.max() > 1.15 * aspect.min()
    assert np.abs(np.diff(boxes[:, :2], axis=0)).max() < 12, "no jumps"


def test_the_box_is_the_extent_of_the_ellipse():
    disc = np.array([[3.0, -2.0, 50.0], [1.0, 4.0, 60.0]])
    angles = np.linspace(0, 2 * np.pi, 100_001)
    points = disc[:, :2] @ np.stack([np.cos(angles), np.sin(angles)]) + disc[:, 2:]
    x, y, w, h = disc_box(disc)
    np.testing.assert_allclose([x, y], points.min(axis=1), atol=1e-6)
    np.testing.assert_allclose([x + w, y + h], points.max(axis=1), atol=1e-6)


@pytest.mark.parametrize("time", [0.0, 0.13, 0.41, 0.77])
def test_the_box_encloses_exactly_the_pixels_of_the_sticker(time):
    scene = make_scene((270, 480), np.random.default_rng(0))
    alpha = np.repeat(scene.layers[3][0][..., 3:], 4, axis=-1)
    canvas = np.zeros((270, 480, 3), np.float32)
    demo_clip._lay(canvas, alpha, scene.target(time))
    rows, columns = canvas[..., 0].max(axis=1), canvas[..., 0].max(axis=0)

    def edge(profile: np.ndarray) -> float:
        """Where the profile reaches one half, between the centres of pixels."""
        after = int(np.argmax(profile >= 0.5))
        return after + 0.5 - (profile[after] - 0.5) / (profile[after] - profile[after - 1])

    measured = [edge(columns), edge(rows), 480 - edge(columns[::-1]), 270 - edge(rows[::-1])]
    x, y, w, h = disc_box(scene.target(time))
    np.testing.assert_allclose(measured, [x, y, x + w, y + h], atol=0.6)


def test_the_sticker_is_covered_for_a_while_and_not_for_long():
    scene = make_scene((270, 480), np.random.default_rng(0))
    slat, motion = scene.layers[-1]
    alpha = np.repeat(slat[..., 3:], 4, axis=-1)
    covered = []
    for time in np.linspace(0, 1, 60):
        canvas = np.zeros((270, 480, 3), np.float32)
        demo_clip._lay(canvas, alpha, motion(time))
        x, y, w, h = disc_box(scene.target(time)).astype(int)
        covered.append(canvas[y : y + h, x : x + w, 0].mean())
    assert 0.2 < max(covered) < 0.9
    assert 2 <= sum(part > 0.2 for part in covered) < 20
    assert covered[0] == 0


def test_frames_are_rendered_when_they_are_asked_for():
    frames, boxes = render_demo(10_000, (64, 96))
    assert len(boxes) == 10_000
    assert len(list(islice(frames, 2))) == 2


@pytest.mark.parametrize(("n_frames", "size"), [(0, (270, 480)), (5, (8, 480))])
def test_an_impossible_clip_is_refused(n_frames, size):
    with pytest.raises(ValueError, match="a clip needs"):
        render_demo(n_frames, size)


def test_the_clip_can_be_written_in_the_layout_of_otb(tmp_path):
    write_demo(tmp_path / "Sticker", n_frames=4, size=(96, 160))
    frames, boxes = render_demo(4, (96, 160))
    source = open_source([str(tmp_path / "Sticker")])
    np.testing.assert_allclose(source.groundtruth_xywh, boxes, atol=1e-3)
    for read, frame in zip(source, frames, strict=True):
        assert np.abs(cv2.absdiff(read, frame)).mean() < 6
