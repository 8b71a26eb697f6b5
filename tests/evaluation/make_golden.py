"""Writes golden_got10k.npz with the got10k toolkit: run it by hand where `got10k==0.1.3` is installed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from got10k.experiments import ExperimentGOT10k, ExperimentOTB, ExperimentUAV123
from got10k.utils.metrics import center_error, rect_iou


def walk(rng: np.random.Generator, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """True boxes that also leave the image of 320 x 240, and predictions that drift away from them."""
    centre = np.array([160, 120]) + np.cumsum(rng.normal(0, 12, (frames, 2)), axis=0)
    size = np.exp(np.cumsum(rng.normal(0, 0.03, (frames, 2)), axis=0)) * [60, 40]
    true = np.concatenate([centre - size / 2, size], axis=1).round()
    drift = np.cumsum(rng.normal(0, 2.5, (frames, 2)), axis=0)
    return true, np.concatenate([true[:, :2] + drift, true[:, 2:] * np.exp(rng.normal(0, 0.15, (frames, 2)))], axis=1)


def measure(true: np.ndarray, predicted: np.ndarray, size_wh: tuple[int, int]) -> dict[str, np.ndarray]:
    otb, uav, got = (object.__new__(kind) for kind in (ExperimentOTB, ExperimentUAV123, ExperimentGOT10k))
    otb.nbins_iou = uav.nbins_iou = 21
    otb.nbins_ce = uav.nbins_ce = 51
    predicted = predicted.copy()
    predicted[0] = true[0]
    counts = ~np.isnan(true).any(axis=1)
    # UAV123 is OTB that leaves out frames without a box
    success, precision = uav._calc_curves(*uav._calc_metrics(predicted, true))
    if counts.all():
        same = otb._calc_curves(*otb._calc_metrics(predicted, true))
        assert all(np.array_equal(a, b) for a, b in zip(same, (success, precision), strict=True))
    results = {"overlap": rect_iou(predicted, true), "error": center_error(predicted, true)}
    results |= {"success": success, "precision": precision}
    for name, bound in (("free", None), ("confined", size_wh)):
        later = rect_iou(predicted[1:].copy(), true[1:].copy(), bound=bound)[counts[1:]]
        ao, sr50, _, curve = got._evaluate(later, np.ones(1))
        results[name] = np.array([ao, sr50, curve[75]])
    return results


def main() -> None:
    rng = np.random.default_rng(0)
    arrays = {"size_wh": np.array([320, 240])}
    for index in range(4):
        true, predicted = walk(rng, 120)
        if index == 3:
            true[[7, 50, 51]] = np.nan
        arrays |= {f"{index}_true": true, f"{index}_predicted": predicted}
        arrays |= {f"{index}_{key}": value for key, value in measure(true, predicted, (320, 240)).items()}
    np.savez_compressed(Path(__file__).with_name("golden_got10k.npz"), **arrays)


if __name__ == "__main__":
    main()
