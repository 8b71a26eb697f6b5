from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from roam_jax.evaluation import metrics

GOLDEN = np.load(Path(__file__).with_name("golden_got10k.npz"))
SIZE_WH = (320, 240)


@pytest.fixture(params=range(4))
def case(request: pytest.FixtureRequest) -> dict[str, np.ndarray]:
    """Boxes and what the got10k toolkit says about them; the last case has frames without a true box."""
    prefix = f"{request.param}_"
    return {key.removeprefix(prefix): GOLDEN[key] for key in GOLDEN.files if key.startswith(prefix)}


def test_rows_agree_with_got10k(case: dict[str, np.ndarray]) -> None:
    frames = metrics.has_box(case["true"])
    predicted = np.concatenate([case["true"][:1], case["predicted"][1:]])
    iou = metrics.iou_xywh(predicted, case["true"])
    error = metrics.centre_error_px(predicted, case["true"])
    np.testing.assert_allclose(iou[frames], case["overlap"][frames], atol=1e-12)
    np.testing.assert_allclose(error[frames], case["error"][frames], atol=1e-9)
    assert iou[frames].min() < 0.4 < 0.7 < iou[frames][1:].max()


def test_curves_agree_with_got10k(case: dict[str, np.ndarray]) -> None:
    scores = metrics.score(case["predicted"], case["true"])
    np.testing.assert_allclose(scores.success, case["success"], atol=1e-6)
    np.testing.assert_allclose(scores.precision, case["precision"], atol=1e-6)
    assert scores.auc == pytest.approx(case["success"].mean(), abs=1e-6)
    assert scores.precision20 == pytest.approx(case["precision"][20], abs=1e-6)
    assert metrics.success_auc(case["predicted"], case["true"]) == scores.auc


def test_average_overlap_agrees_with_got10k(case: dict[str, np.ndarray]) -> None:
    for size_wh, key in ((None, "free"), (SIZE_WH, "confined")):
        scores = metrics.score(case["predicted"], case["true"], size_wh=size_wh)
        np.testing.assert_allclose([scores.ao, scores.sr50, scores.sr75], case[key], atol=1e-6)


def test_confined_boxes_matter(case: dict[str, np.ndarray]) -> None:
    """The golden boxes leave the image, so that the agreement above means something."""
    assert not np.allclose(case["free"], case["confined"], atol=1e-3)


def test_iou_by_hand() -> None:
    a = np.array([[0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 4, 4], [5, 5, 0, 0]])
    b = np.array([[0, 0, 10, 10], [5, 0, 10, 10], [20, 0, 5, 5], [1, 1, 2, 2], [5, 5, 0, 0]])
    np.testing.assert_allclose(metrics.iou_xywh(a, b), [1, 1 / 3, 0, 1 / 4, 0], atol=1e-12)


def test_normalised_precision_by_hand() -> None:
    true = np.tile([[100.0, 100.0, 20.0, 40.0]], (3, 1))
    predicted = true + np.array([[0, 0, 0, 0], [4, 0, 0, 0], [0, 20, 0, 0]])  # 0, 0.2 widths, 0.5 heights
    np.testing.assert_allclose(metrics.normalised_centre_error(predicted, true), [0, 0.2, 0.5])
    scores = metrics.score(predicted, true)
    assert scores.normalised_precision[19] == pytest.approx(1 / 3)
    assert scores.normalised_precision[21] == pytest.approx(2 / 3)
    assert scores.normalised_precision[50] == 1
    twice = metrics.score(predicted * 2, true * 2)
    np.testing.assert_array_equal(twice.normalised_precision, scores.normalised_precision)


def test_perfect_and_lost() -> None:
    true = np.tile([[10.0, 10.0, 20.0, 20.0]], (5, 1))
    perfect = metrics.score(true, true)
    assert perfect.auc == pytest.approx(20 / 21)  # no IoU is above 1
    assert (perfect.precision20, perfect.normalised_auc, perfect.ao, perfect.sr75) == pytest.approx((1, 1, 1, 1))
    lost = metrics.score(true + np.array([500, 0, 0, 0]), true)
    assert lost.auc == pytest.approx(20 / 21 / 5)  # the first frame is given
    assert (lost.precision20, lost.ao, lost.sr50) == (0.2, 0, 0)


def test_predictions_that_are_not_finite_count_as_lost() -> None:
    true = np.tile([[10.0, 10.0, 20.0, 20.0]], (4, 1))
    predicted = true.copy()
    predicted[2] = np.nan
    predicted[3] = [np.inf, 0, 1, 1]
    scores = metrics.score(predicted, true)
    assert scores.ao == pytest.approx(1 / 3)
    assert scores.precision[50] == 0.5
    assert scores.normalised_precision[50] == 0.5


def test_frames_without_a_true_box_do_not_count() -> None:
    rng = np.random.default_rng(3)
    true = np.concatenate([rng.uniform(0, 50, (6, 2)), rng.uniform(20, 40, (6, 2))], axis=1)
    predicted = true + rng.normal(0, 5, (6, 4))
    expected = metrics.score(predicted[[0, 1, 5]], true[[0, 1, 5]])
    true[2:5] = [[np.nan] * 4, [0, 0, 0, 0], [3, 3, -1, 5]]
    got = metrics.score(predicted, true)
    np.testing.assert_array_equal(got.success, expected.success)
    np.testing.assert_array_equal(got.normalised_precision, expected.normalised_precision)
    assert (got.frames, got.ao) == (3, expected.ao)
    visible = np.array([True, True, True, True, True, False])
    assert metrics.score(predicted, true, visible=visible).frames == 2


def test_absent_frames_that_count_as_lost() -> None:
    true = np.tile([[10.0, 10.0, 20.0, 20.0]], (5, 1))
    visible = np.array([True, True, False, True, False])
    skipped = metrics.score(true, true, visible=visible)
    counted = metrics.score(true, true, visible=visible, absent_is_lost=True)
    assert (skipped.precision20, counted.precision20) == (1, pytest.approx(3 / 5))
    assert counted.auc == pytest.approx(skipped.auc * 3 / 5)
    assert counted.normalised20 == pytest.approx(3 / 5)
    assert counted.ao == skipped.ao == 1


def test_mean_of_sequences_and_of_frames() -> None:
    true = np.tile([[10.0, 10.0, 20.0, 20.0]], (11, 1))
    short, long = metrics.score(true[:2], true[:2]), metrics.score(true + np.array([500, 0, 0, 0]), true)
    mean, pooled = metrics.mean_scores([short, long]), metrics.mean_scores([short, long], pooled=True)
    assert (mean.ao, pooled.ao) == (0.5, pytest.approx(1 / 11))
    assert mean.frames == 13
    np.testing.assert_allclose(mean.success, (short.success + long.success) / 2)
    np.testing.assert_array_equal(mean.success, pooled.success)
    with pytest.raises(ValueError, match="at least one sequence"):
        metrics.mean_scores([])


def test_boxes_of_any_real_dtype() -> None:
    rng = np.random.default_rng(4)
    true = rng.integers(10, 90, (20, 4))
    predicted = true + rng.integers(-3, 4, (20, 4))
    wide = metrics.score(predicted.astype(float), true.astype(float))
    for dtype in (np.int32, np.float32):
        assert metrics.score(predicted.astype(dtype), true.astype(dtype)).auc == wide.auc


def test_bad_input() -> None:
    boxes = np.tile([[10.0, 10.0, 20.0, 20.0]], (3, 1))
    with pytest.raises(ValueError, match="2 predicted boxes do not fit 3 true ones"):
        metrics.score(boxes[:2], boxes)
    hidden = boxes.copy()
    hidden[0] = np.nan
    with pytest.raises(ValueError, match="first frame"):
        metrics.score(boxes, hidden)
    with pytest.raises(ValueError, match="one more"):
        metrics.score(boxes[:1], boxes[:1])
