from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from roam_jax import presets
from roam_jax.data.clips import sample_clip
from roam_jax.data.synthetic import synthetic_sequence
from roam_jax.patches.geometry import Roi, box_to_patch
from roam_jax.patches.stretch import stretch_factors, stretched_rois
from roam_jax.tracking.host import HostCrop
from roam_jax.tracking.online import first_rois

ASPECTS = (0.8, 1.0, 1.2)


def test_factors_are_all_pairs_of_a_scale_and_a_ratio():
    factors = stretch_factors(ASPECTS)
    assert len({tuple(pair) for pair in factors.round(6).tolist()}) == 9
    scales, ratios = np.sqrt(factors[:, 0] * factors[:, 1]), np.sqrt(factors[:, 0] / factors[:, 1])
    pairs = sorted(zip(scales, ratios, strict=True))
    np.testing.assert_allclose(pairs, [(scale, ratio) for scale in ASPECTS for ratio in ASPECTS], rtol=1e-6)
    np.testing.assert_array_equal(stretch_factors((1.0,)), [[1, 1]])


def test_the_object_is_stretched_around_its_middle():
    box = jnp.array([50.0, 40.0, 16.0, 9.0])
    rois = stretched_rois(box, 5.0, ASPECTS)
    side = 5 * 12
    for center, size, factors in zip(rois.center_xy, rois.size_wh, stretch_factors(ASPECTS), strict=True):
        actual = box_to_patch(box, Roi(center, size), 100)
        np.testing.assert_allclose(actual, [0, 0, *(factors * np.array([16, 9]) * 100 / side)], rtol=1e-6)


@pytest.mark.parametrize("box_xywh", [(60.25, 50.5, 24.0, 18.0), (60.25, 50.5, 0.7, 0.4)])
def test_clips_begin_with_what_the_tracker_sees(box_xywh):
    """Also an object of less than one pixel: both take the surroundings of one pixel."""
    config = presets.tiny()
    plain = dataclasses.replace(config.clips, flip=0.0, grey=0.0, colour=0.0, blur=0.0, coarse=0.0)
    config = dataclasses.replace(config, clips=plain)
    sequence = synthetic_sequence(0)
    sequence = dataclasses.replace(sequence, boxes_xywh=np.tile(np.float32(box_xywh), (len(sequence), 1)))
    # Whichever frame a clip begins with, it is one of these.
    clip = sample_clip(sequence, config, rng=np.random.default_rng(0))
    starts = [HostCrop(config).first(image, np.float32(box_xywh)) for image in sequence.frames]
    assert sum(np.abs(start.patches.astype(int) - clip.patches[:9]).max() <= 1 for start in starts) == 1
    box = jnp.asarray(starts[0].box_cxcywh)
    rois = first_rois(box, config)
    expected = [box_to_patch(box, Roi(*roi), config.model.patch_size) for roi in zip(*rois, strict=True)]
    np.testing.assert_allclose(clip.boxes_cxcywh[:9], expected, rtol=1e-5, atol=1e-4)
