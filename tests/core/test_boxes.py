from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from roam_jax.core.boxes import (
    anchor_boxes,
    anchor_size,
    cxcywh_to_xywh,
    decode,
    encode,
    iou,
    xywh_to_cxcywh,
)

IOU = jax.jit(iou)


def random_boxes(seed, *shape):
    rng = np.random.default_rng(seed)
    return jnp.asarray(
        np.concatenate([rng.uniform(-50, 50, (*shape, 2)), rng.uniform(2, 60, (*shape, 2))], axis=-1), jnp.float32
    )


def test_corner_and_centre():
    box_xywh = jnp.array([10.0, 20.0, 4.0, 6.0])
    np.testing.assert_array_equal(xywh_to_cxcywh(box_xywh), [12.0, 23.0, 4.0, 6.0])
    np.testing.assert_array_equal(cxcywh_to_xywh(xywh_to_cxcywh(box_xywh)), box_xywh)


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ((0.0, 0.0, 2.0, 2.0), 1.0),
        ((1.0, 0.0, 2.0, 2.0), 1 / 3),
        ((1.0, 1.0, 2.0, 2.0), 1 / 7),
        ((0.0, 0.0, 1.0, 1.0), 1 / 4),
        ((2.0, 0.0, 2.0, 2.0), 0.0),  # touches
        ((9.0, 9.0, 2.0, 2.0), 0.0),
        ((0.0, 0.0, 0.0, 2.0), 0.0),  # empty
    ],
)
def test_iou_of_known_boxes(other, expected):
    box = jnp.array([0.0, 0.0, 2.0, 2.0])
    assert float(IOU(box, jnp.array(other))) == pytest.approx(expected, abs=1e-7)
    assert float(IOU(jnp.array(other), box)) == pytest.approx(expected, abs=1e-7)


def test_iou_of_two_empty_boxes_is_zero():
    assert float(IOU(jnp.zeros(4), jnp.zeros(4))) == 0.0


def test_iou_broadcasts():
    a, b = random_boxes(0, 5), random_boxes(1, 3)
    table = IOU(a[:, None], b[None])
    assert table.shape == (5, 3)
    for i in range(5):
        for j in range(3):
            assert float(table[i, j]) == pytest.approx(float(IOU(a[i], b[j])), abs=1e-6)


def test_iou_is_rounded_as_plain_arithmetic_whatever_is_fused():
    """Anchors inside an object tie exactly: the official choice among them rests on it."""
    a, b = np.asarray(random_boxes(0, 200)), np.asarray(random_boxes(1, 200))
    (a_low, b_low), (a_wh, b_wh) = (x[:, :2] - x[:, 2:] / 2 for x in (a, b)), (x[:, 2:] for x in (a, b))
    sides = np.maximum(np.minimum(a_low + a_wh, b_low + b_wh) - np.maximum(a_low, b_low), 0)
    inter, area_a, area_b = (wh[:, 0] * wh[:, 1] for wh in (sides, a_wh, b_wh))
    assert np.count_nonzero(inter) > 20
    np.testing.assert_array_equal(IOU(a, b), inter / (area_a + area_b - inter))


def test_decode_inverts_encode():
    boxes, anchors = random_boxes(2, 40), random_boxes(3, 40)
    np.testing.assert_allclose(decode(encode(boxes, anchors), anchors), boxes, rtol=2e-5, atol=2e-4)


def test_encode_is_the_usual_parameterisation():
    actual = encode(jnp.array([3.0, -2.0, 8.0, 5.0]), jnp.array([1.0, 2.0, 4.0, 10.0]))
    np.testing.assert_allclose(actual, [2 / 4, -4 / 10, np.log(2), np.log(0.5)], rtol=1e-6)


def test_decode_cannot_overflow():
    decoded = decode(jnp.array([0.0, 0.0, 1e6, -1e6]), jnp.array([0.0, 0.0, 4.0, 4.0]))
    np.testing.assert_allclose(decoded[2:], [4 * np.exp(4), 4 * np.exp(-4)], rtol=1e-5)


def test_anchors_sit_on_the_cells_rows_first():
    anchors = anchor_boxes(3, 8, jnp.array([10.0, 20.0]))
    assert anchors.shape == (3, 3, 4)
    np.testing.assert_array_equal(anchors[0, 2], [8, -8, 10, 20])
    np.testing.assert_array_equal(anchors[1, 1], [0, 0, 10, 20])
    np.testing.assert_array_equal(anchor_boxes(4, 2, jnp.ones((5, 2)))[3, 3, 0], [-3, 3, 1, 1])


def test_an_anchor_is_the_object_that_its_filter_is_for():
    np.testing.assert_allclose(anchor_size(jnp.array([5.0, 9.0]), 1.5, 4), [9 / 1.5 * 4, 5 / 1.5 * 4], rtol=1e-6)
