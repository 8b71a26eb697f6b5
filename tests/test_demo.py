from __future__ import annotations

import pytest

from roam_jax.demo import main


def test_the_command_writes_the_clip(tmp_path, capsys):
    argv = ["--output", str(tmp_path / "clip"), "--frames", "2", "--size", "96", "160"]
    assert main(argv) == 0
    assert capsys.readouterr().out == f"wrote 2 frames to {tmp_path / 'clip'}\n"
    assert sorted(path.name for path in (tmp_path / "clip" / "img").iterdir()) == ["0001.jpg", "0002.jpg"]


@pytest.mark.parametrize(
    ("argv", "code", "reason"),
    [
        (["--frames", "0"], 2, "a clip needs"),
        (["--output", ""], 2, "the argument after --output is empty"),
        (["--output", "{file}"], 6, "File exists"),
    ],
)
def test_what_goes_wrong_is_one_sentence(tmp_path, capsys, monkeypatch, argv, code, reason):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file" / "img").parent.mkdir()
    (tmp_path / "file" / "img").write_text("in the way")
    assert main([part.format(file=tmp_path / "file") for part in argv]) == code
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert reason in error
    assert error.count("\n") == 1
