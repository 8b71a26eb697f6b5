from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from roam_jax.patches.crop import FILL_RGB, block_size, crop_device, crop_host
from roam_jax.patches.geometry import Roi

SIDE = 32
ROIS = {
    "identity": ((40.0, 36.0), (32.0, 32.0)),
    "inside, enlarged": ((50.3, 41.7), (20.5, 20.5)),
    "inside, reduced": ((60.2, 47.1), (71.3, 71.3)),
    "over the corner": ((3.0, 5.0), (50.0, 50.0)),
    "over all sides": ((61.0, 48.0), (300.0, 300.0)),
    "anisotropic": ((55.5, 40.25), (90.0, 25.0)),
    "large reduction": ((64.0, 50.0), (1000.0, 640.0)),
    "over the far corner": ((118.0, 94.0), (80.0, 110.0)),
    "outside": ((-500.0, 40.0), (60.0, 60.0)),
    "one pixel": ((33.5, 20.5), (1.0, 1.0)),
}


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 256, (97, 121, 3), np.uint8)


@functools.partial(jax.jit, static_argnums=3)
def on_device(image, center, size, side):
    return crop_device(image, Roi(center, size), side)


def both(image, center, size, side=SIDE):
    ours = on_device(image, jnp.array(center, jnp.float32), jnp.array(size, jnp.float32), side)
    return np.asarray(ours), crop_host(image, np.array(center), np.array(size), side).astype(float)


@pytest.mark.parametrize("name", ROIS)
def test_device_and_host_agree(image, name):
    device, host = both(image, *ROIS[name])
    assert device.shape == host.shape == (SIDE, SIDE, 3)
    assert np.abs(device - host).max() <= 2.0


def test_random_rois_agree(image):
    rng = np.random.default_rng(1)
    for _ in range(40):
        device, host = both(image, rng.uniform(-20, 140, 2), np.exp(rng.uniform(np.log(8), np.log(400), 2)))
        assert np.abs(device - host).max() <= 2.0


def test_a_roi_of_the_patch_size_is_cut_as_it_is(image):
    device, host = both(image, *ROIS["identity"])
    np.testing.assert_allclose(device, image[20:52, 24:56], atol=1e-3)
    np.testing.assert_array_equal(host, image[20:52, 24:56])


def test_outside_is_the_fill_colour(image):
    for patch in both(image, *ROIS["outside"]):
        np.testing.assert_allclose(patch, np.broadcast_to(FILL_RGB, patch.shape), atol=1e-3)


def test_a_reduction_averages(image):
    """A patch pixel is the mean of its block, so that noise cannot alias."""
    device, _ = both(image, (48.0, 48.0), (96.0, 96.0))
    expected = image[:96, :96].reshape(32, 3, 32, 3, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(device, expected, atol=1e-2)


@pytest.mark.parametrize(("extent", "blocks"), [(10, 1), (32, 1), (47, 1), (48, 2), (320, 10)])
def test_block_size(extent, blocks):
    assert block_size(float(extent), 32) == blocks
