"""The README's Python runs as it is printed; only the checkpoint that `lite` names is a small one here."""

from __future__ import annotations

import re
from pathlib import Path

import jax
import numpy as np
import pytest

from roam_jax import api, presets
from roam_jax.checkpoints import Checkpoint
from roam_jax.tracking import tracker
from roam_jax.tracking.params import init_params, params_to_dict

README = Path(__file__).parents[1] / "README.md"
SNIPPETS = re.findall(r"^```py(?:thon)?\n(.*?)^```$", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture
def images():
    """What the text says is given: frames, here of a square that moves on noise."""
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 80, (160, 240, 3), np.uint8) for _ in range(4)]
    for index, image in enumerate(images):
        image[85:115, 125 + 2 * index : 175 + 2 * index] = (100, 200, 255)
    return images


@pytest.fixture(scope="module")
def checkpoint():
    params = jax.jit(lambda key: init_params(presets.tiny(), key=key))(jax.random.key(0))
    return Checkpoint(presets.tiny(), params_to_dict(params), "")


def test_all_snippets_are_found():
    assert len(SNIPPETS) == README.read_text(encoding="utf-8").count("```py") >= 2


@pytest.mark.parametrize("snippet", SNIPPETS, ids=range(len(SNIPPETS)))
def test_a_snippet_runs_as_printed(snippet, images, checkpoint, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    for module in (tracker, api):
        monkeypatch.setattr(module, "load_checkpoint", lambda name, **_: {"lite": checkpoint}[name])
    exec(compile(snippet, str(README), "exec"), {"images": images})
    assert re.search(r"\d", capsys.readouterr().out), "boxes were printed"
