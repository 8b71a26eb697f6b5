"""The wheel has all that tracking needs, and nothing else: it is built, installed elsewhere, and used."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from importlib import util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LARGEST = 8_000_000
"""bytes of the wheel; it is mostly the shipped checkpoint and the demo's photographs"""


def run(*command: object, **options) -> str:
    """What a command prints on stdout; it runs without this checkout in its path."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    words = list(map(str, command))
    ended = subprocess.run(words, capture_output=True, text=True, timeout=300, env=environment, **options)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    for package, why in (("hatchling", "builds the wheel"), ("pip", "installs it")):
        if util.find_spec(package) is None:
            pytest.skip(f"{package}, which {why}, is not installed")
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=ROOT)
    (built,) = folder.glob("*.whl")
    return built


def test_it_holds_the_package_alone(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert wheel.stat().st_size < LARGEST
    tops = {name.split("/")[0] for name in names}
    assert tops == {"roam_jax", wheel.name.rsplit("-", 3)[0] + ".dist-info"}
    assert not [name for name in names if "test" in Path(name).name or "__pycache__" in name or name.endswith(".pyc")]
    ours = [path for path in (ROOT / "roam_jax").rglob("*") if path.is_file() and path.suffix != ".pyc"]
    expected = {path.relative_to(ROOT).as_posix() for path in ours}
    assert expected == {name for name in names if name.startswith("roam_jax/")}
    assert {"roam_jax/presets.py", "roam_jax/checkpoints/lite/manifest.json"} <= expected
    assert any(name.startswith("roam_jax/assets/") and name.endswith(".jpg") for name in expected)


def test_it_tracks_where_the_sources_are_not(wheel, tmp_path):
    """With the packages of this environment, but not with the `roam_jax` in it."""
    environment = tmp_path / "environment"
    run(sys.executable, "-m", "venv", "--without-pip", environment)
    scripts = environment / ("Scripts" if os.name == "nt" else "bin")
    python = scripts / Path(sys.executable).name
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", "--no-compile", wheel)
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    # packages only: what the other folder's own .pth files name, as an editable install does, is not followed
    others = {sysconfig.get_path(name) for name in ("purelib", "platlib")}
    (site / "others.pth").write_text("".join(f"{path}\n" for path in sorted(others)))

    about = json.loads(run(scripts / "roam-info", "--json", cwd=tmp_path))
    assert Path(about["folders"]["package"]) == site / "roam_jax"
    said = run(scripts / "roam-track", "--demo", "--stop", 3, "--no-video", "--output", "out", cwd=tmp_path)
    assert said.startswith("3 frames tracked")
    assert len((tmp_path / "out" / "boxes.txt").read_text().splitlines()) == 3
