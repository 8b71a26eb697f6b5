from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from roam_jax import evaluate as command
from roam_jax.data.layouts import read_layout
from roam_jax.data.sequences import DataError, Frames, Sequence
from roam_jax.evaluation.starts import Kept, Starts, name_of, starts_of, track_by_sequence, track_starts

BOX = np.array([100.0, 50.0, 40.0, 20.0], np.float32)


@dataclass
class Drawn(Frames):
    """Small pictures of their own number; counts how often each is read."""

    count: int
    read_of: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return self.count

    def read(self, index: int) -> np.ndarray:
        self.read_of.append(index)
        return np.full((8, 8, 3), index, np.uint8)


def sequence(frames: int = 40, absent: tuple[int, ...] = ()) -> Sequence:
    """An object that moves by a pixel a frame."""
    boxes = np.tile(BOX, (frames, 1))
    boxes[:, 0] += np.arange(frames)
    boxes[list(absent)] = np.nan
    return Sequence("Walk", Drawn(frames), boxes)


class Recorder:
    """Says that the object is where the tracker was started, and notes pictures and boxes."""

    def __init__(self) -> None:
        self.started: list[tuple[int, list[float]]] = []
        self.seen: list[int] = []

    box, score, lost = np.zeros(4), 1.0, False

    def init(self, image: np.ndarray, box: np.ndarray) -> None:
        self.box = box
        self.started.append((int(image[0, 0, 0]), np.round(box, 3).tolist()))

    def update(self, image: np.ndarray) -> np.ndarray:
        self.seen.append(int(image[0, 0, 0]))
        return self.box


def first_boxes(experiment: str) -> dict[str, list[float]]:
    return {
        each.name.removeprefix("Walk@"): np.round(each.first_xywh, 3).tolist()
        for each in starts_of(sequence(), experiment)  # type: ignore[arg-type]
    }


def test_spatial_starts() -> None:
    assert first_boxes("sre") == {
        "left": [96, 50, 40, 20], "right": [104, 50, 40, 20], "up": [100, 48, 40, 20], "down": [100, 52, 40, 20],
        "left-up": [96, 48, 40, 20], "right-up": [104, 48, 40, 20], "left-down": [96, 52, 40, 20],
        "right-down": [104, 52, 40, 20], "0.8": [104, 52, 32, 16], "0.9": [102, 51, 36, 18], "1.1": [98, 49, 44, 22],
        "1.2": [96, 48, 48, 24],
    }  # fmt: skip


def test_temporal_starts() -> None:
    started = starts_of(sequence(), "tre")
    assert [len(each) for each in started] == list(range(40, 0, -2))
    assert [each.first_xywh[0] for each in started] == list(range(100, 140, 2))
    assert [each.frames[0][0, 0, 0] for each in started] == list(range(0, 40, 2))
    np.testing.assert_array_equal(started[3].boxes_xywh, sequence().boxes_xywh[6:])


def test_the_nine_starts() -> None:
    boxes = first_boxes("robust")
    assert list(boxes) == ["true", "left", "right", "up", "down", "0.9", "1.1", "quarter", "half"]
    assert (boxes["true"], boxes["quarter"], boxes["half"]) == ([100, 50, 40, 20], [110, 50, 40, 20], [120, 50, 40, 20])


def test_a_start_without_the_object_is_the_next_frame_with_it() -> None:
    started = {each.name: each for each in starts_of(sequence(absent=(0, 1, 10, 11, 12)), "robust")}
    assert started["Walk@true"].frames[0][0, 0, 0] == 2
    assert started["Walk@quarter"].frames[0][0, 0, 0] == 13
    late = starts_of(sequence(absent=tuple(range(5, 39))), "robust")
    assert not {"Walk@quarter", "Walk@half"} & {each.name for each in late}  # nothing is left to track in
    # one and the same frame counts once
    assert len(starts_of(sequence(absent=tuple(range(1, 20))), "tre")) == 1 + 10


def test_one_pass_is_the_sequence_itself() -> None:
    walk = sequence()
    (same,) = starts_of(walk, "ope")
    assert (same.name, len(same), same.given_xywh) == ("Walk", 40, None)
    np.testing.assert_array_equal(same.first_xywh, walk.boxes_xywh[0])
    assert [len(each) for each in starts_of(walk, "robust", 30)] == [30] * 8 + [20]


def test_sequences_that_cannot_be_started_often() -> None:
    with pytest.raises(DataError, match="sequence Walk should have known boxes for robust, but only its first is"):
        starts_of(replace(sequence(), first_box_only=True), "robust")
    with pytest.raises(DataError, match="sequence Walk should show its object, but never does"):
        starts_of(sequence(4, absent=(0, 1, 2, 3)), "tre")


def test_frames_are_decoded_once_for_all_starts() -> None:
    walk, tracker = sequence(), Recorder()
    names = frozenset(each.name for each in starts_of(walk, "robust"))
    runs = track_starts(tracker, Starts(walk, "robust", 0, names))
    assert sorted(walk.frames.read_of) == list(range(40))  # type: ignore[attr-defined]
    assert set(runs) == names
    assert [start for start, _ in tracker.started] == [0] * 7 + [10, 20]
    assert tracker.seen[-19:] == list(range(21, 40))
    left = runs["Walk@left"]
    assert not isinstance(left, str)
    np.testing.assert_array_equal(left.boxes_xywh, np.tile([96, 50, 40, 20], (40, 1)))


def test_frames_for_which_there_is_no_room_are_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("roam_jax.evaluation.starts.MOST_BYTES", 3 * 192)
    frames = Drawn(5)
    kept = Kept(frames)
    for _ in range(2):
        assert [image[0, 0, 0] for image in kept] == list(range(5))
    assert frames.read_of == [0, 1, 2, 3, 4, 3, 4]


def test_only_what_is_left_is_tracked_and_what_breaks_stands_alone() -> None:
    class Fragile(Recorder):
        def init(self, image: np.ndarray, box: np.ndarray) -> None:
            if box[2] > 40:
                raise RuntimeError("too large")
            super().init(image, box)

    walk, tracker = sequence(), Fragile()
    pending = [each for each in starts_of(walk, "sre") if each.name.endswith(("0.9", "1.1"))]

    def track_here(groups):
        yield from ((group.name, track_starts(tracker, group)) for group in groups)

    outcomes = dict(track_by_sequence([walk], "sre", 0, track_here)(pending))
    assert set(outcomes) == {"Walk@0.9", "Walk@1.1"}
    assert outcomes["Walk@1.1"] == "RuntimeError: too large"
    assert len(tracker.started) == 1

    def broken(groups):
        yield from ((group.name, "the process that tracked it died") for group in groups)

    outcomes = dict(track_by_sequence([walk], "sre", 0, broken)(pending))
    assert outcomes == dict.fromkeys(["Walk@0.9", "Walk@1.1"], "the process that tracked it died")


def test_names() -> None:
    assert [name_of(name) for name in ("Walk@left", "a@b@0.9", "Walk")] == ["Walk", "a@b", "Walk"]


OWN = """
import numpy as np
from beside import SHIFT

class Follower:
    def init(self, image, box):
        assert image.dtype == np.uint8
        self.box = np.array(box) + SHIFT
    def update(self, image):
        self.box = self.box + np.array([7, 5, 0, 0])
        return self.box
class Half:
    def init(self, image, box): pass
def breaks(): raise RuntimeError("no such weights")
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    (tmp_path / "beside.py").write_text("SHIFT = 0.0\n")
    (tmp_path / "mine.py").write_text(OWN)
    return tmp_path / "mine.py"


def test_the_command_with_several_starts(
    root: Path, own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], write_otb: Callable[..., Path]
) -> None:
    data = write_otb(tmp_path / "data", {"Far": 9, "Middle": 8})
    args = ["--root", str(data), "--output", str(tmp_path), "--protocol", "robust", "--workers", "1"]
    assert command.main([*args, "--tracker", f"{own}:Follower"]) == 0
    out = capsys.readouterr().out
    folder = tmp_path / "otb/mine.py-Follower-robust"
    assert "Far@left: AUC 0.8" in out
    assert "| Far " in out
    report = json.loads((folder / "report.json").read_text())
    assert report["starts"]["overall"]["starts"] == 18
    assert report["starts"]["sequences"]["Far"]["worst"] < report["starts"]["sequences"]["Far"]["mean"] <= 1
    assert report["protocol"] == "robust"
    assert "The starts of each sequence" in (folder / "report.md").read_text()
    # each start against the true boxes: the shifted one stays beside them
    rows = report["sequences"]
    assert rows["Far@true"]["ao"] == pytest.approx(1.0)
    assert rows["Far@left"]["ao"] == pytest.approx(18 / 22, abs=1e-3)
    assert rows["Far@half"]["length"] == 5

    # again: nothing is tracked
    before = {file: file.stat().st_mtime_ns for file in folder.glob("*.txt")}
    assert len(before) == 18
    assert command.main([*args, "--tracker", f"{own}:Follower"]) == 0
    assert {file: file.stat().st_mtime_ns for file in folder.glob("*.txt")} == before
    # results of something else have folders of their own
    assert command.main([*args, "--tracker", f"{own}:Follower", "--max-frames", "4"]) == 0
    assert (tmp_path / "otb/mine.py-Follower-robust-4").is_dir()

    (own.parent / "beside.py").write_text("SHIFT = 4.0\n")
    own.write_text(OWN + "\nprint('changed')\n")
    assert command.main([*args, "--tracker", f"{own}:Follower"]) == 2
    assert "holds results of another tracker" in capsys.readouterr().err
    assert command.main([*args, "--compare", str(folder), str(folder) + "-4"]) == 0
    out, err = capsys.readouterr()
    assert "left out: Far@true" in err  # which has not as many boxes in both
    assert "2 trackers on 1 starts in sequences of otb" in out
    twin = tmp_path / "twin"
    twin.mkdir()
    for file in folder.glob("*.txt"):
        (twin / file.name).write_bytes(file.read_bytes())
    capsys.readouterr()
    assert command.main([*args, "--compare", str(folder), str(twin)]) == 0
    out = capsys.readouterr().out
    assert "2 trackers on 18 starts in sequences of otb" in out
    assert "0.000 [0.000, 0.000] | may be chance" in out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--tracker", "{own}:Nobody"], 2, "mine.py should have a function or class 'Nobody' that gives the tracker"),
        (["--tracker", "{own}:Half"], 2, "mine.py:Half gives should have the method update"),
        (["--tracker", "{own}:breaks"], 2, "mine.py:breaks gives no tracker: RuntimeError: no such weights"),
        (["--tracker", "nowhere.py:Nobody"], 2, "nowhere.py:Nobody gives no tracker: FileNotFoundError"),
        (["--tracker", "nobody"], 2, "no tracker is called 'nobody'; there are roam, cv2:csrt"),
        (["--max-frames", "1"], 2, "--max-frames should be 2 or more"),
        (["--protocol", "robust", "--dataset", "vot2016"], 2, "VOT's supervised experiment has starts of its own"),
    ],
)
def test_wrong_arguments(
    root: Path, own: Path, tmp_path: Path, arguments: list[str], code: int, message: str,
    capsys: pytest.CaptureFixture[str], write_vot: Callable[[Path], Path],
) -> None:  # fmt: skip
    data = write_vot(tmp_path / "vot") if "vot2016" in arguments else root
    filled = [text.format(own=own) for text in arguments]
    assert command.main(["--root", str(data), "--output", str(tmp_path / "out"), *filled]) == code
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err


@pytest.fixture
def write_vot() -> Callable[[Path], Path]:
    """One sequence in the layout of VOT."""

    def write(folder: Path) -> Path:
        import cv2

        (folder / "Near").mkdir(parents=True)
        for index in range(3):
            cv2.imwrite(str(folder / "Near" / f"{index + 1:08d}.jpg"), np.zeros((40, 40, 3), np.uint8))
        (folder / "Near" / "groundtruth.txt").write_text("1,1,9,9\n" * 3)
        (folder / "list.txt").write_text("Near\n")
        return folder

    return write


def test_otb_counts_starts_from_one_as_well(root: Path) -> None:
    (near, *_) = read_layout("otb", root)
    assert all(each.first_xywh.dtype == np.float32 for each in starts_of(near, "sre"))
