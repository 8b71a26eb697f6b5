from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import pytest

from roam_jax.data.readers.vot import read_vot
from roam_jax.data.sequences import DataError, Frames, Sequence
from roam_jax.evaluation.vot.protocol import Trajectory, read_results, run_supervised, true_regions, write_results
from roam_jax.evaluation.vot.regions import Code

FAR = (80.0, 60.0, 10.0, 10.0)


@dataclass(frozen=True)
class Blank(Frames):
    """Each picture's first pixel is its index."""

    count: int

    def __len__(self) -> int:
        return self.count

    def read(self, index: int) -> np.ndarray:
        return np.full((80, 100, 3), index, np.uint8)


def make_sequence(count: int, **more) -> Sequence:
    boxes = np.array([[10 + index, 20, 10, 10] for index in range(count)], np.float32)
    return Sequence("blank", Blank(count), boxes, **more)


class Scripted:
    """Says the true box, except in the frames `lost`."""

    def __init__(self, sequence: Sequence, *lost: int) -> None:
        self.boxes, self.lost = sequence.boxes_xywh, lost
        self.starts: list[tuple[int, list[float]]] = []
        self.asked: list[int] = []

    def init(self, image, box_xywh):
        self.starts.append((int(image[0, 0, 0]), list(box_xywh)))

    def update(self, image):
        index = int(image[0, 0, 0])
        self.asked.append(index)
        return FAR if index in self.lost else self.boxes[index]


def as_text(trajectory: Trajectory) -> str:
    return "".join("x" if isinstance(region, np.ndarray) else str(int(region)) for region in trajectory.regions)


@pytest.mark.parametrize(
    ("lost", "expected"),
    [
        ((), "1xxxxxxxxxxxxxxxxxxx"),
        ((4,), "1xxx200001xxxxxxxxxx"),
        ((1, 7), "1200001200001xxxxxxx"),
        ((4, 6, 9), "1xxx200001xxxxxxxxxx"),  # frames that are passed over, and a start, cannot fail
        ((17,), "1xxxxxxxxxxxxxxxx200"),  # too late for another start
        ((14,), "1xxxxxxxxxxxxx200001"),  # a start in the last frame
    ],
)
def test_codes(lost, expected):
    sequence = make_sequence(20)
    tracker = Scripted(sequence, *lost)
    run = run_supervised(tracker, sequence)
    assert as_text(run) == expected
    starts = [index for index, code in enumerate(expected) if code == "1"]
    assert tracker.starts == [(index, sequence.boxes_xywh[index].tolist()) for index in starts]
    assert tracker.asked == [index for index, code in enumerate(expected) if code in "x2"]
    assert np.isnan(run.seconds).tolist() == [code == "0" for code in expected]
    assert run.frames_of(Code.FAILURE) == [index for index, code in enumerate(expected) if code == "2"]


def test_skip():
    sequence = make_sequence(8)
    assert as_text(run_supervised(Scripted(sequence, 2), sequence, skip=1)) == "1x21xxxx"


def test_boxes_that_are_not_finite_fail():
    sequence = make_sequence(3)
    tracker = Scripted(sequence)
    tracker.boxes = np.full((3, 4), np.nan, np.float32)
    assert as_text(run_supervised(tracker, sequence)) == "120"


def test_frames_without_a_box():
    sequence = make_sequence(12)
    boxes = sequence.boxes_xywh.copy()
    boxes[3:9] = np.nan
    gap = Sequence("gap", Blank(12), boxes)
    assert as_text(run_supervised(Scripted(gap), gap)) == "1xx2000001xx"  # the ninth is the first to start from
    boxes[0] = np.nan
    with pytest.raises(DataError, match="sequence gap should have a box in its first frame"):
        run_supervised(Scripted(gap), Sequence("gap", Blank(12), boxes))


def test_the_polygon_decides_about_failures():
    """The tight box of a thin diagonal polygon overlaps the box in its upper corner, the polygon itself does not."""
    corners = np.array([[10, 50], [12, 50], [52, 10], [50, 10]], np.float32).reshape(1, 8).repeat(3, axis=0)
    boxes = np.array([[10, 10, 43, 41]] * 3, np.float32)
    corner = (10.0, 10.0, 15.0, 15.0)
    tracker = Scripted(make_sequence(3))
    tracker.boxes = np.array([corner] * 3, np.float32)
    assert as_text(run_supervised(tracker, Sequence("box", Blank(3), boxes))) == "1xx"
    assert as_text(run_supervised(tracker, Sequence("p", Blank(3), boxes, labels={"polygon_xy": corners}))) == "120"


def test_annotated_boxes_stay_boxes(tmp_path):
    lines = ["5,6,20,10", "5,6,25,6,25,16,5,16", "8.5,4,24.1,9.2,20,20,4.4,14.8", "5.3,6.7,7.123,10.456"]
    for index in range(len(lines)):
        cv2.imwrite(str(tmp_path / f"{index + 1:08d}.jpg"), np.zeros((40, 50, 3), np.uint8))
    (tmp_path / "groundtruth.txt").write_text("\n".join(lines))
    (sequence,) = read_vot(tmp_path)
    regions = true_regions(sequence)
    assert [np.shape(region) for region in regions] == [(4,), (4, 2), (4, 2), (4,)]
    texts = [",".join(f"{x:.3f}".rstrip("0").rstrip(".") for x in np.ravel(region)) for region in regions]
    assert texts == lines


def test_results_are_read_as_they_were_written(tmp_path):
    sequence = make_sequence(20)
    runs = [run_supervised(Scripted(sequence, *lost), sequence) for lost in ((4,), ())]
    write_results(tmp_path, "us", {"blank": runs, "other": runs[:1]})
    place = tmp_path / "us" / "baseline" / "blank"
    assert sorted(path.name for path in place.iterdir()) == [
        "blank_001.txt",
        "blank_001_time.value",
        "blank_002.txt",
        "blank_002_time.value",
    ]
    lines = (place / "blank_001.txt").read_text().splitlines()
    assert lines[:6] == ["1", "11,20,10,10", "12,20,10,10", "13,20,10,10", "2", "0"]
    results = read_results(tmp_path, "us")
    assert {name: len(actual) for name, actual in results.items()} == {"blank": 2, "other": 1}
    for read, run in zip(results["blank"], runs, strict=True):
        assert as_text(read) == as_text(run)
        np.testing.assert_allclose(read.seconds, run.seconds, atol=1e-6)


def test_results_that_are_not_there(tmp_path):
    with pytest.raises(DataError, match="should hold one folder of results per sequence"):
        read_results(tmp_path, "us")
    (tmp_path / "us" / "baseline" / "blank").mkdir(parents=True)
    with pytest.raises(DataError, match=r"should hold SEQUENCE/SEQUENCE_001.txt"):
        read_results(tmp_path, "us")
    (tmp_path / "us" / "baseline" / "blank" / "blank_001.txt").write_text("1\n1,2,3,4\n")
    (tmp_path / "us" / "baseline" / "blank" / "blank_001_time.value").write_text("a\n")
    with pytest.raises(DataError, match="should hold the seconds of one frame per line"):
        read_results(tmp_path, "us")
