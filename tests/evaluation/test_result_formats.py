from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from roam_jax.data.sequences import DataError
from roam_jax.evaluation.formats import (
    Run,
    claim_folder,
    find_results,
    read_result,
    read_run,
    result_key,
    run_files,
    write_run,
    write_submission,
    write_whole,
)
from roam_jax.evaluation.protocols import protocol_of

RUN = Run(np.array([[10, 20, 30, 40], [11.5, 20.25, 30.125, 40]]), np.array([0.5, 0.25]))


@pytest.mark.parametrize(
    ("dataset", "files", "first"),
    [
        ("otb2015", ["a-1.txt", "times/a-1_time.txt"], "11.000,21.000,30.000,40.000"),
        ("lasot-test", ["a-1.txt", "times/a-1_time.txt"], "10.000,20.000,30.000,40.000"),
        ("uav123", ["a-1.txt", "times/a-1_time.txt"], "11.000,21.000,30.000,40.000"),
        ("got10k-test", ["a-1/a-1_001.txt", "a-1/a-1_time.txt"], "10.000,20.000,30.000,40.000"),
        ("trackingnet-test", ["a-1.txt", "times/a-1_time.txt"], "10.000,20.000,30.000,40.000"),
        ("images", ["a-1.txt", "times/a-1_time.txt"], "10.000,20.000,30.000,40.000"),
    ],
)
def test_files_of_each_benchmark(tmp_path: Path, dataset: str, files: list[str], first: str) -> None:
    protocol = protocol_of(dataset)
    write_run(tmp_path, "a-1", RUN, protocol)
    written = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert written == sorted(files)
    assert (tmp_path / files[0]).read_text().splitlines()[0] == first
    assert (tmp_path / files[1]).read_text().split() == ["0.50000000", "0.25000000"]
    back = read_run(tmp_path, "a-1", 2, protocol)
    assert back
    np.testing.assert_allclose(back.boxes_xywh, RUN.boxes_xywh, atol=1e-9)
    np.testing.assert_array_equal(back.seconds, RUN.seconds)


def test_incomplete_files_are_no_run(tmp_path: Path) -> None:
    protocol = protocol_of("otb")
    assert read_run(tmp_path, "a", 2, protocol) is None
    write_run(tmp_path, "a", RUN, protocol)
    assert read_run(tmp_path, "a", 3, protocol) is None
    boxes, times = run_files(tmp_path, "a", protocol)
    for path, text in ((boxes, "1,2,3,4\n1,2,"), (times, "0.5\n"), (times, "0.5\nx\n"), (boxes, "")):
        write_run(tmp_path, "a", RUN, protocol)
        path.write_text(text)
        assert read_run(tmp_path, "a", 2, protocol) is None


@pytest.mark.parametrize("separator", [",", "\t", " ", ", ", ";"])
def test_any_separator(tmp_path: Path, separator: str) -> None:
    path = tmp_path / "a.txt"
    path.write_text("\ufeff" + separator.join("1234") + "\r\n" + separator.join(["1.5", "-2", "nan", "4e1"]) + "\n\n")
    np.testing.assert_array_equal(read_result(path), [[1, 2, 3, 4], [1.5, -2, np.nan, 40]])


def test_lines_that_are_no_boxes(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("1,2,3,4\n1,2,3\n")
    with pytest.raises(DataError, match=r"a.txt line 2 should be four numbers x,y,w,h, but is '1,2,3'"):
        read_result(path)
    with pytest.raises(DataError, match="no such file"):
        read_result(tmp_path / "b.txt")


def test_spellings_of_a_name() -> None:
    assert len({result_key(name) for name in ("Jogging-1", "Jogging.1", "jogging_1", "Jogging 1")}) == 1
    assert result_key("Jogging-1") != result_key("Jogging-2")


def test_results_of_a_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        find_results(tmp_path / "none")
    with pytest.raises(DataError, match="there is none"):
        find_results(tmp_path)
    write_run(tmp_path, "Jogging.1", RUN, protocol_of("otb"))
    write_run(tmp_path, "GOT-10k_Val_000001", RUN, protocol_of("got10k"))
    assert set(find_results(tmp_path)) == {"jogging-1", "got-10k-val-000001"}


def test_submissions(tmp_path: Path) -> None:
    for dataset, inside in (
        ("got10k-test", {"a/a_001.txt", "a/a_time.txt", "b/b_001.txt", "b/b_time.txt"}),
        ("trackingnet-test", {"a.txt", "b.txt"}),
    ):
        folder, protocol = tmp_path / dataset, protocol_of(dataset)
        for name in "abc":
            write_run(folder, name, RUN, protocol)
        with zipfile.ZipFile(write_submission(folder, ["a", "b"], protocol)) as archive:
            assert set(archive.namelist()) == inside
            first = archive.read(min(inside)).decode().splitlines()[0]
        assert first == "10.000,20.000,30.000,40.000"


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "folder" / "a.txt"
    write_whole(path, "first")

    def fail(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:2])
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OSError, match="disk full"):
        write_whole(path, "second")
    assert path.read_text() == "first"
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_belongs_to_one_tracker(tmp_path: Path) -> None:
    claim_folder(tmp_path, {"tracker": "a"})
    claim_folder(tmp_path, {"tracker": "a"})
    with pytest.raises(ValueError, match="results of another tracker"):
        claim_folder(tmp_path, {"tracker": "b"})
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(ValueError, match="results of another tracker"):
        claim_folder(tmp_path, {"tracker": "a"})
