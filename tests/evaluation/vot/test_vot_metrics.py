from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from roam_jax.data.sequences import DataError, Frames, Sequence
from roam_jax.evaluation.vot.metrics import (
    counted_frames,
    eao_curve,
    eao_interval,
    format_vot_table,
    score_vot,
    split_runs,
)
from roam_jax.evaluation.vot.protocol import Trajectory
from roam_jax.evaluation.vot.regions import Code, parse_region

GOLDEN = Path(__file__).with_name("golden_vot.npz")


@dataclass(frozen=True)
class Blank(Frames):
    count: int

    def __len__(self) -> int:
        return self.count

    def read(self, index: int) -> np.ndarray:
        return np.zeros((240, 320, 3), np.uint8)


def make_sequence(name: str, count: int, **labels: np.ndarray) -> Sequence:
    return Sequence(name, Blank(count), np.array([[0, 0, 10, 10]] * count, np.float32), labels=labels)


def make_trajectory(codes: str) -> Trajectory:
    """`x` overlaps by 1, `h` by a half, `q` by a quarter."""
    boxes = {"x": (0, 0, 10, 10), "h": (0, 0, 10, 5), "q": (0, 0, 5, 5)}
    return Trajectory([np.array(boxes[c], np.float32) if c in boxes else int(c) for c in codes])


LONG = "1" + 9 * "q" + 6 * "x" + 3 * "h" + "20000" + "1" + 9 * "x" + 5 * "q"  # 39 frames
SHORT = "1" + 12 * "h"


def test_accuracy_and_failures_by_hand():
    scores = score_vot(
        {"long": [make_trajectory(LONG)], "short": [make_trajectory(SHORT)]},
        [make_sequence("long", len(LONG)), make_sequence("short", len(SHORT))],
        interval=(1, 2),
    )
    long = (6 * 1 + 3 * 0.5 + 5 * 0.25) / 14  # nine frames behind each start do not count
    assert len(LONG) == 39
    assert scores.sequences["long"].accuracy == pytest.approx(long)
    assert scores.sequences["short"].accuracy == 0.5
    assert scores.accuracy == pytest.approx((39 * long + 13 * 0.5) / 52)
    assert (scores.sequences["long"].failures, scores.sequences["short"].failures, scores.failures) == (1, 0, 1)
    assert scores.robustness == pytest.approx(100 / 52)
    assert scores.mean_failures == pytest.approx(39 / 52)
    assert scores.reliability == pytest.approx(np.exp(-30 * (39 / 52) / 26))
    assert scores.sequences["long"].robustness == pytest.approx(100 / 39)
    assert scores.attributes == {}


def test_burn_in_reaches_over_a_failure():
    trajectory = make_trajectory("1x20000" + "1" + 11 * "x")
    assert np.flatnonzero(counted_frames(trajectory)).tolist() == [17, 18]
    assert np.flatnonzero(counted_frames(trajectory, burn_in=2)).tolist() == list(range(9, 19))


def test_a_sequence_without_a_frame_that_counts():
    sequences = [make_sequence("a", 10), make_sequence("b", 30)]
    results = {"a": [make_trajectory("1" + 9 * "x")], "b": [make_trajectory("1" + 29 * "x")]}
    assert score_vot(results, sequences, interval=(1, 2)).accuracy == pytest.approx(30 / 40)


def test_runs():
    overlaps = np.arange(12) / 20
    runs = split_runs(make_trajectory("1xx20000" + "1xxx"), overlaps)
    assert [(overlap.tolist(), complete) for overlap, complete in runs] == [
        ([0, 0.05, 0.1], False),
        ([0.4, 0.45, 0.5, 0.55], True),
    ]
    assert len(split_runs(make_trajectory("1xx2000"), overlaps[:7])) == 1
    assert split_runs(make_trajectory("1xxx"), overlaps[:4])[0][1]


def test_curve_by_hand():
    failed = (np.array([0.9, 1, 0.5]), False)  # 1, 0.5, 0, 0
    complete = (np.array([0.9, 0.5, 0.5]), True)  # 0.5, 0.5 and then nothing
    longest = (np.array([0.0, 1, 1, 1, 1]), True)
    curve = eao_curve([failed, complete, longest])
    by_hand = [0, (1 + 0.5 + 1) / 3, (0.75 + 0.5 + 1) / 3, (0.5 + 1) / 2, (0.375 + 1) / 2]
    assert curve == pytest.approx(by_hand)


def test_eao_is_the_mean_of_the_curve_in_the_interval():
    sequences, results = [make_sequence("a", 13)], {"a": [make_trajectory(SHORT)]}
    scores = score_vot(results, sequences, interval=(3, 8))
    assert scores.eao == pytest.approx(0.5)
    assert scores.interval == (3, 8)
    assert score_vot(results, sequences, interval=(10, 99)).eao == pytest.approx(0.5)
    assert np.isnan(score_vot(results, sequences, interval=(13, 99)).eao)
    assert score_vot(results, sequences).eao == pytest.approx(0.5)


def test_repetitions_are_averaged():
    sequence = make_sequence("a", 13)
    scores = score_vot({"a": [make_trajectory(SHORT), make_trajectory("1" + 11 * "x" + "2")]}, [sequence])
    assert scores.accuracy == pytest.approx((0.5 + 1) / 2)
    assert scores.failures == 0.5
    assert scores.robustness == pytest.approx(50 / 13)
    assert scores.curve[1] == pytest.approx(0.75)


def test_attributes():
    half = np.arange(39) >= 19
    sequences = [make_sequence("long", 39, dark=half), make_sequence("short", 13, dark=np.ones(13, bool))]
    results = {"long": [make_trajectory(LONG)], "short": [make_trajectory(SHORT)]}
    scores = score_vot(results, sequences, interval=(1, 2))
    dark, rest = scores.attributes["dark"], scores.attributes["empty"]
    assert (dark.frames, rest.frames) == (20 + 13, 19)
    assert dark.accuracy == pytest.approx((5 * 0.25 + 3 * 0.5) / 8)
    assert rest.accuracy == pytest.approx((6 + 3 * 0.5) / 9)
    assert (dark.failures, rest.failures) == (1, 0)
    table = format_vot_table(scores)
    assert "| dark | 33 | 0.344 | 1 | 3.030 |" in table
    assert "| long | 39 | 0.625 | 1 | 2.564 |" in table


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ({}, "the sequence a should have results, but there are none"),
        ({"a": [make_trajectory("1xx")]}, "the results of a should be of its 13 frames, but are of 3"),
        ({"a": [make_trajectory(13 * "x")]}, "the results of a should begin with the code 1"),
    ],
)
def test_results_that_do_not_fit(results, message):
    with pytest.raises(DataError, match=message):
        score_vot(results, [make_sequence("a", 13)])


def test_interval_holds_half_of_the_lengths_around_the_mode():
    lengths = np.random.default_rng(0).normal(300, 50, 2000).round().astype(int)
    low, high = eao_interval(lengths.tolist())
    assert low == pytest.approx(300 - 0.674 * 50, abs=8)
    assert high == pytest.approx(300 + 0.674 * 50, abs=8)
    assert ((lengths >= low) & (lengths <= high)).mean() == pytest.approx(0.5, abs=0.03)


def test_interval_at_the_ends():
    low, high = eao_interval([2, 2, 2, 2, 3, 50])
    assert 1 <= low <= 2 <= high <= 50
    assert eao_interval([40, 40]) == (39, 39)
    with pytest.raises(ValueError, match="needs lengths of at least 2 frames"):
        eao_interval([])


@pytest.mark.parametrize("name", ["random00", "random01"])
def test_scores_are_those_of_the_toolkit(name):
    """Results of random trackers, with boxes, and with polygons in two repetitions: experiments/vot_agreement.py."""
    golden = np.load(GOLDEN)
    ends = golden["lengths"].cumsum()[:-1]
    sequences = [
        make_sequence(str(sequence), len(polygons), polygon_xy=polygons)
        for sequence, polygons in zip(golden["names"], np.split(golden["polygons"], ends), strict=True)
    ]
    results: dict[str, list[Trajectory]] = {sequence.name: [] for sequence in sequences}
    for stem, text in json.loads(str(golden["results"])).items():
        tracker, _, file = stem.partition("/")
        if tracker == name:
            results[file[:-4]].append(Trajectory([parse_region(line) for line in text.split()]))
    scores = score_vot(results, sequences)
    (accuracy, mean_failures, (reliability, _), _), (failures,), (eao,), (curve,) = json.loads(str(golden["toolkit"]))[
        name
    ]
    assert any(isinstance(r, int) and r == Code.FAILURE for runs in results.values() for r in runs[0].regions)
    assert scores.accuracy == pytest.approx(accuracy, abs=1e-9)
    assert scores.mean_failures == pytest.approx(mean_failures, abs=1e-9)
    assert scores.reliability == pytest.approx(reliability, abs=1e-9)
    assert scores.failures == pytest.approx(failures, abs=1e-9)
    assert scores.interval == tuple(golden["interval"])
    assert scores.eao == pytest.approx(eao, abs=1e-6)
    assert scores.curve == pytest.approx(curve, abs=1e-6)
