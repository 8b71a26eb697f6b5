"""The examples as notebooks, as their README says: jupytext makes them, nbmake runs them, here on less."""

from __future__ import annotations

import base64
import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import jupytext
import nbformat
import numpy as np
import pytest

from roam_jax.video.files import VideoFile

EXAMPLES = Path(__file__).parents[1] / "examples"
LESS = {
    "quickstart": {"FRAMES": "16"},
    "learned_optimizer": {"STEPS": "250"},
    "own_parts": {"STEPS": "30", "XLA_FLAGS": "--xla_backend_optimization_level=0"},  # most of its time is compiling
}
"""what makes each quick, as environment variables"""


def run(name: str, folder: Path) -> nbformat.NotebookNode:
    """The notebook with its outputs."""
    path = folder / f"{name}.ipynb"
    jupytext.write(jupytext.read(EXAMPLES / f"{name}.py"), path)
    inherited = {key: value for key, value in os.environ.items() if key not in ("XLA_FLAGS", "MPLBACKEND")}
    environment = {**inherited, **LESS[name], "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "pytest", "--nbmake", "--overwrite", "--nbmake-timeout=300", str(path)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    return nbformat.read(path, as_version=4)


def outputs(notebook: nbformat.NotebookNode, kind: str) -> list[str]:
    """What the cells show in a format, in their order."""
    every = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [output["data"][kind] for output in every if kind in output.get("data", {})]


def printed(notebook: nbformat.NotebookNode) -> str:
    every = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return "".join(output["text"] for output in every if output["output_type"] == "stream")


def pictures(notebook: nbformat.NotebookNode) -> list[np.ndarray]:
    data = [np.frombuffer(base64.b64decode(text), np.uint8) for text in outputs(notebook, "image/png")]
    return [cv2.imdecode(each, cv2.IMREAD_COLOR) for each in data]


def videos(notebook: nbformat.NotebookNode, folder: Path) -> list[list[np.ndarray]]:
    """Frames of the videos that are shown."""
    found = []
    for html in outputs(notebook, "text/html"):
        if match := re.search(r'<video [^>]*src="data:video/mp4;base64,([^"]+)"', html):
            path = folder / f"{len(found)}.mp4"
            path.write_bytes(base64.b64decode(match[1]))
            found.append(list(VideoFile(path)))
    return found


def test_every_example_is_in_the_index_and_has_a_test():
    names = {path.stem for path in EXAMPLES.glob("*.py")}
    index = set(re.findall(r"\(([a-z0-9_]+)\.py\)", (EXAMPLES / "README.md").read_text(encoding="utf-8")))
    assert names == index == {"method_in_150_lines", *LESS}


def test_quickstart(tmp_path):
    notebook = run("quickstart", tmp_path)
    shown = videos(notebook, tmp_path)
    assert [len(frames) for frames in shown] == [16, 16, 16]
    assert {frame.shape for frames in shown for frame in frames} == {(270, 480, 3)}
    assert "(16, 2, 4)" in printed(notebook)
    assert len(pictures(notebook)) == 1
    assert any("<table" in html for html in outputs(notebook, "text/html"))
    widgets = notebook.metadata["widgets"]["application/vnd.jupyter.widget-state+json"]["state"].values()
    (tracking,) = (widget["state"] for widget in widgets if "shown" in widget["state"])
    assert tracking["targets"] == 1
    assert tracking["frame"] == 15


def test_learned_optimizer(tmp_path):
    notebook = run("learned_optimizer", tmp_path)
    said = re.findall(r"x times ([\d.]+), (\w+) scaling: .*, ([\d.e+-]+) after 8", printed(notebook))
    after = {(float(size), name): float(loss) for size, name, loss in said}
    assert after[2.0, "without"] > 1e3, "it diverges"
    assert after[2.0, "with"] < 0.1
    assert after[1.0, "without"] < after[1.0, "with"] < 0.1, "which costs where it is not needed"
    factors = re.findall(r"off by a factor of ([\d.]+)", printed(notebook))
    assert float(factors[0]) > float(factors[1])
    assert re.search(r"factor is [\d.]+ to [\d.]+\nthe rates change with the power -?[\d.]+", printed(notebook))
    assert [picture.std() > 10 for picture in pictures(notebook)] == [True] * 3


def test_own_parts(tmp_path):
    pytest.importorskip("grain")
    notebook = run("own_parts", tmp_path)
    assert re.search(r"30 steps, 0 refused", printed(notebook))
    grows, shrinks = re.search(r"grows by ([\d.]+) and shrinks by ([\d.]+)", printed(notebook)).groups()
    assert (float(grows), float(shrinks)) != (1.105, 0.905), "which is what it began with"
    overlaps = dict(re.findall(r"(\w+): mean IoU ([\d.]+)", printed(notebook)))
    assert float(overlaps["trained"]) > float(overlaps["untrained"])
    assert [len(frames) for frames in videos(notebook, tmp_path)] == [40]
