from __future__ import annotations

import pickle

import numpy as np
import pytest

from roam_jax.data.synthetic import SyntheticFrames, synthetic_sequence


@pytest.mark.parametrize("seed", range(4))
def test_boxes_are_exact(seed):
    sequence = synthetic_sequence(seed, length=40, height=180, width=240, distractors=0)
    frames = sequence.frames
    for index in (0, 13, 39):
        bare = SyntheticFrames(180, 240, 40, -1, seed)
        changed = np.abs(frames[index].astype(int) - bare[index]).max(axis=-1) > 0
        ys, xs = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
        x, y, w, h = sequence.boxes_xywh[index]
        assert (x, y) >= (0, 0)
        assert x + w <= 240
        assert y + h <= 180
        np.testing.assert_allclose([xs[0], ys[0], xs[-1] + 1, ys[-1] + 1], [x, y, x + w, y + h], atol=1.01)


def test_sequence_is_a_function_of_its_seed():
    first, again, other = (synthetic_sequence(seed, length=5) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.frames[3], again.frames[3])
    np.testing.assert_array_equal(first.frames[3], pickle.loads(pickle.dumps(first.frames))[3])
    assert not np.array_equal(first.boxes_xywh, other.boxes_xywh)
    assert first.frames[3].shape == (240, 320, 3)
    assert first.frames[3].dtype == np.uint8


def test_object_background_and_distractors_move():
    sequence = synthetic_sequence(3, length=30)
    assert np.abs(sequence.boxes_xywh[0] - sequence.boxes_xywh[29]).max() > 5
    tracks = sequence.frames.tracks
    assert len(tracks) == 3
    assert all(np.abs(track.centers_xy[0] - track.centers_xy[29]).max() > 5 for track in tracks)
    assert len(np.unique(sequence.frames.background[1], axis=0)) == 30
    assert sequence.visible.all()
