from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import roam_jax
from roam_jax.cli import ExitCode
from roam_jax.info import main


def test_a_report_has_versions_devices_folders_and_extras(capsys, monkeypatch):
    monkeypatch.setenv("JAX_SOMETHING", "7")
    assert main(["--json"]) == ExitCode.SUCCESS
    found = json.loads(capsys.readouterr().out)
    assert found["versions"]["roam_jax"] == roam_jax.__version__
    assert found["versions"]["jax"] == metadata.version("jax")
    assert found["devices"]
    assert found["environment"]["JAX_SOMETHING"] == "7"
    assert Path(found["checkpoints"]["lite"], "MODEL_CARD.md").is_file()
    assert found["extras"]["train"] == "installed"
    assert main([]) == ExitCode.SUCCESS
    text = capsys.readouterr().out
    assert all(value in text for values in found.values() for value in values.values())


@pytest.mark.parametrize("name", ["track", "train", "evaluate", "info", "export", "app"])
def test_console_commands_are_the_modules(name):
    (script,) = (entry for entry in metadata.entry_points(group="console_scripts") if entry.name == f"roam-{name}")
    assert script.value == f"roam_jax.scripts:{name}"
    words = [[Path(sys.executable).with_name(f"roam-{name}")], [sys.executable, "-m", f"roam_jax.{name}"]]
    codes = [
        subprocess.run([*word, "--nonsense"], capture_output=True, env={**os.environ}, timeout=120).returncode
        for word in words
    ]
    assert codes == [ExitCode.USAGE, ExitCode.USAGE]
