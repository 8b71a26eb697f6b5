from __future__ import annotations

import configparser
import shlex
import sys
from pathlib import Path

import pytest
import yaml

from roam_jax.evaluation.vot.metrics import eao_interval
from roam_jax.evaluation.vot.workspace import write_vot_workspace


def command_of(folder: Path, name: str = "ROAM_JAX") -> list[str]:
    """As the toolkit reads it."""
    config = configparser.ConfigParser()
    config.read(folder / "trackers.ini")
    assert config.sections() == [name]
    assert config[name]["protocol"] == "trax"
    assert int(config[name]["timeout"]) >= 60
    return shlex.split(config[name]["command"])


def test_own_data(tmp_path):
    folder, root = tmp_path / "work space", tmp_path / "da: 'ta'"
    root.mkdir()
    written = write_vot_workspace(folder, root=root, lengths=[40, 44, 60])
    assert [path.name for path in written] == ["trackers.ini", "config.yaml", "stack.yaml"]
    assert command_of(folder)[:3] == [sys.executable, "-m", "roam_jax.evaluation.vot"]
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config == {"registry": ["./trackers.ini"], "stack": "stack.yaml", "sequences": str(root)}
    experiment = yaml.safe_load((folder / "stack.yaml").read_text())["experiments"]["baseline"]
    assert (experiment["type"], experiment["repetitions"], experiment["skip_initialize"]) == ("supervised", 15, 5)
    analyses = {analysis["type"]: analysis for analysis in experiment["analyses"]}
    low, high = eao_interval([40, 44, 60])
    assert (analyses["supervised_eao_score"]["low"], analyses["supervised_eao_score"]["high"]) == (low, high)
    assert analyses["supervised_average_ar"]["sensitivity"] == 30


def test_without_lengths_there_is_no_eao(tmp_path):
    write_vot_workspace(tmp_path)
    assert "eao" not in (tmp_path / "stack.yaml").read_text()
    assert (tmp_path / "sequences").is_dir()
    assert (tmp_path / "results").is_dir()


@pytest.mark.parametrize(
    ("dataset", "stack"), [("vot2016", "vot2016/rgb"), ("vot2017", "vot2017"), ("vot2018", "vot2018/shortterm")]
)
def test_data_sets_of_the_toolkit(tmp_path, dataset, stack):
    written = write_vot_workspace(tmp_path, dataset=dataset)
    assert [path.name for path in written] == ["trackers.ini", "config.yaml"]
    config = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert (config["stack"], config["sequences"]) == (stack, "sequences")


def test_commands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    checkpoint = tmp_path / "100% mine"
    checkpoint.mkdir()
    write_vot_workspace(tmp_path / "a", checkpoint="100% mine", tracker="cv2:nano", nano_dir=Path("nets"))
    assert command_of(tmp_path / "a")[3:] == [
        "--tracker",
        "cv2:nano",
        "--checkpoint",
        str(checkpoint),
        "--nano-dir",
        str(tmp_path / "nets"),
    ]
    write_vot_workspace(tmp_path / "b", name="mine-2", command=["./run me", "--fast"])
    assert command_of(tmp_path / "b", "mine-2") == ["./run me", "--fast"]


def test_what_is_there_stays(tmp_path):
    write_vot_workspace(tmp_path)
    (tmp_path / "trackers.ini").write_text("mine")
    (tmp_path / "config.yaml").unlink()
    assert [path.name for path in write_vot_workspace(tmp_path)] == ["config.yaml"]
    assert (tmp_path / "trackers.ini").read_text() == "mine"


def test_names(tmp_path):
    with pytest.raises(ValueError, match="should be of letters, digits, - and _, but is 'ROAM JAX'"):
        write_vot_workspace(tmp_path, name="ROAM JAX")
    assert not list(tmp_path.iterdir())
