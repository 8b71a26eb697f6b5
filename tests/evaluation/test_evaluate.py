from __future__ import annotations

from pathlib import Path

import pytest

from roam_jax import evaluate as command
from roam_jax.evaluation.trackers import NANO_FILES


def test_command_line(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["--root", str(root), "--tracker", "cv2:mil", "--output", str(tmp_path), "--sequences", "Near"]
    assert command.main(args) == 0
    table = (tmp_path / "cv2-mil" / "table.md").read_text()
    assert table in capsys.readouterr().out
    first = (tmp_path / "cv2-mil" / "Near.txt").read_text().splitlines()[0]
    assert first == "11.000,13.000,20.000,16.000"  # OTB counts from 1


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (["--root", "/no/such/folder"], 3, "no such folder"),
        (["--sequences", "Near,Fog"], 2, "'Fog'; there are Far, Middle, Near"),
        (["--tracker", "cv2:nano"], 2, NANO_FILES[0]),
        (["--output", "/dev/null/x", "--sequences", "Near"], 6, "/dev/null"),
    ],
)
def test_command_line_errors(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: list[str], code: int, words: str
) -> None:
    args = ["--root", str(root), "--tracker", "cv2:mil", "--output", str(tmp_path), *change]
    assert command.main(args) == code
    message = capsys.readouterr().err
    assert words in message
    assert message.count("\n") == 1
