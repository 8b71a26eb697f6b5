from __future__ import annotations

import dataclasses
import re

import jax
import pytest

from roam_jax import presets
from roam_jax.backbones import make_backbone
from roam_jax.method import OPTIMIZERS
from roam_jax.tracking.params import init_params, params_to_dict
from roam_jax.train import main
from roam_jax.training.tables import WIDTH, tabulate


def with_part(config, section, **changes):
    return dataclasses.replace(config, **{section: dataclasses.replace(getattr(config, section), **changes)})


def totals(text: str) -> dict[str, int]:
    """Number of parameters in each table, by its title."""
    actual = re.findall(r"^(\w[\w ]*)\n.*?Total Parameters: ([\d,]+)", text, re.MULTILINE | re.DOTALL)
    return {title: int(number.replace(",", "")) for title, number in actual}


def count(tree) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("name", ["tiny", "lite"])
def test_the_tables_count_all_parameters_of_the_networks(name):
    config = with_part(presets.preset(name), "backbone", neck_channels=4)
    params = params_to_dict(jax.eval_shape(lambda key: init_params(config, key=key), jax.random.key(0)))
    expected = {"trunk": count(params["trunk"]), "neck": count(params["neck"])}
    expected["optimizer"] = count(params["omega"].get("inner", params["omega"]))
    if make_backbone(config).spec.top is not None:
        expected["learned stages of the trunk"] = count(params["top"])
    assert totals(tabulate(config)) == expected


def test_the_width_does_not_depend_on_the_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    narrow = tabulate(presets.tiny())
    monkeypatch.setenv("COLUMNS", "400")
    assert tabulate(presets.tiny()) == narrow
    assert 40 < max(map(len, narrow.splitlines())) <= WIDTH
    assert "\x1b" not in narrow, "no colours"


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_an_optimizer_has_a_table_if_it_has_a_network(kind):
    config = with_part(presets.tiny(), "optimizer", kind=kind)
    assert ("optimizer" in totals(tabulate(config))) == (kind in {"lstm", "gru", "fc"})


def test_a_dry_run_prints_them(monkeypatch, capsys):
    monkeypatch.setattr("roam_jax.training.parallel.start_devices", lambda *_, **__: None)  # JAX runs already
    monkeypatch.setattr("roam_jax.training.session.enable_compilation_cache", lambda: None)
    assert main(["--preset", "tiny", "--data", "synthetic", "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert tabulate(presets.tiny()) in printed
    assert "s a step" in printed
