from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from orbax.checkpoint import v1 as ocp

import roam_jax.backbones
from roam_jax import presets
from roam_jax.checkpoints import (
    Checkpoint,
    CheckpointError,
    digest_tree,
    load_checkpoint,
    load_config,
    load_tree,
    save_checkpoint,
    save_tree,
    shipped_names,
    store,
    tracker,
)
from roam_jax.checkpoints.manifest import digest_json
from roam_jax.tracking.params import Params


def make_tree() -> dict:
    rng = np.random.default_rng(0)
    return {
        "theta0": {"cf": rng.normal(size=(5, 4, 3)).astype(np.float32), "bias": np.zeros(3, np.float32)},
        "lambda0": {"cf": np.full((2, 2), 3e-5, np.float32)},
        "omega": {"step": np.array(7, np.int32)},
        "trunk": {"0": {"kernel": rng.normal(size=(3, 3, 2, 8)).astype(np.float32)}},
        "neck": {},
    }


def assert_same(got: dict, expected: dict) -> None:
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert isinstance(a, np.ndarray)
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def sign_again(directory: Path, edit, files: bool = True) -> None:
    """Change a manifest and make its digests agree, as a careless program would."""
    manifest = json.loads((directory / "manifest.json").read_text())
    manifest.pop("sha256")
    edit(manifest)
    if files and "files" in manifest:
        manifest["files"] = {name: store._digest_file(directory / name) for name in manifest["files"]}
    manifest["sha256"] = digest_json(manifest)
    (directory / "manifest.json").write_text(json.dumps(manifest))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_tree(tmp_path / "saved", make_tree(), metadata={"note": "ä", "list": [1, 2.5]})
    return tmp_path / "saved"


def test_round_trip(saved: Path) -> None:
    tree, metadata = load_tree(saved)
    assert_same(tree, make_tree())
    assert tree["neck"] == {}
    assert metadata == {"note": "ä", "list": [1, 2.5]}
    assert [path.name for path in saved.parent.iterdir()] == ["saved"]


def test_any_leaf_of_numbers(tmp_path: Path) -> None:
    tree = {
        "jax": jnp.arange(3.0),
        "bf": jnp.ones(2, jnp.bfloat16),
        "empty": np.zeros((0, 3), np.float32),
        "float": 2.5,
    }
    tree |= {"bool": np.array([True]), "big": np.arange(3, dtype=">f4"), "strided": np.arange(12.0).reshape(3, 4).T}
    save_tree(tmp_path / "a", tree, metadata={})
    got, _ = load_tree(tmp_path / "a")
    assert {key: str(leaf.dtype) for key, leaf in got.items()} == {
        "jax": "float32", "bf": "bfloat16", "empty": "float32", "float": "float64",
        "bool": "bool", "big": "float32", "strided": "float64",
    }  # fmt: skip
    for key, leaf in tree.items():
        np.testing.assert_array_equal(got[key], np.asarray(leaf))


class Moments(NamedTuple):
    mean: np.ndarray
    count: np.ndarray


def test_like_gives_the_structure(tmp_path: Path) -> None:
    tree = {"opt": (Moments(np.ones(2, np.float32), np.array(3)), [np.zeros(1)])}
    save_tree(tmp_path / "a", tree, metadata={})
    plain, _ = load_tree(tmp_path / "a")
    assert set(plain["opt"]) == {"0", "1"}
    got, _ = load_tree(tmp_path / "a", like=jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree))
    assert isinstance(got["opt"][0], Moments)
    assert_same(got, tree)


def test_like_that_differs(saved: Path) -> None:
    for edit, words in {
        ("shape", "lambda0/cf"): ("float32 of shape (2, 2)", "float32 of shape (2, 3)"),
        ("dtype", "lambda0/cf"): ("float32 of shape (2, 2)", "float16 of shape (2, 2)"),
        ("missing", "omega/head"): ("has no", "float32 of shape (1,)"),
        ("extra", "omega/step"): ("int32 of shape ()", "not expected"),
    }.items():
        like = make_tree()
        match edit[0]:
            case "shape":
                like["lambda0"]["cf"] = np.zeros((2, 3), np.float32)
            case "dtype":
                like["lambda0"]["cf"] = np.zeros((2, 2), np.float16)
            case "missing":
                like["omega"]["head"] = np.zeros(1, np.float32)
            case "extra":
                del like["omega"]["step"]
        with pytest.raises(CheckpointError) as caught:
            load_tree(saved, like=like)
        message = str(caught.value)
        assert all(word in message for word in (f"'{edit[1]}'", *words)), message
        assert "\n" not in message


def test_every_flipped_byte_is_found(saved: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(1)
    files = [path for path in saved.rglob("*") if path.is_file() and path.stat().st_size]
    assert len(files) > 5
    for path in files:
        raw = path.read_bytes()
        for position in rng.choice(len(raw), size=min(len(raw), 6), replace=False):
            damaged = bytearray(raw)
            damaged[position] ^= 1 << int(rng.integers(8))
            path.write_bytes(bytes(damaged))
            with pytest.raises(CheckpointError) as caught:
                load_tree(saved)
            assert "\n" not in str(caught.value)
        path.write_bytes(raw)
    assert capfd.readouterr().err == ""
    load_tree(saved)


def test_every_missing_file_is_found(saved: Path) -> None:
    for path in [path for path in saved.rglob("*") if path.is_file()]:
        raw = path.read_bytes()
        path.unlink()
        with pytest.raises(CheckpointError, match=path.name):
            load_tree(saved)
        path.write_bytes(raw)


def test_arrays_that_are_not_those_of_the_manifest(saved: Path) -> None:
    """The digests of the files agree, those of the leaves do not: what orbax gives back is checked as well."""
    key = "lambda0/cf"
    whole = shutil.copytree(saved, saved.with_name("whole"))
    sign_again(saved, lambda manifest: manifest["leaves"][key].update(sha256="0" * 64))
    with pytest.raises(CheckpointError, match=r"'lambda0/cf' \(float32 of shape \(2, 2\)\).* is damaged"):
        load_tree(saved)
    sign_again(saved, lambda manifest: manifest["leaves"][key].update(shape=[4]))
    with pytest.raises(CheckpointError, match=r"it is float32 of shape \(2, 2\), and was float32 of shape \(4,\)"):
        load_tree(saved)
    sign_again(saved, lambda manifest: manifest["leaves"].pop(key))
    with pytest.raises(CheckpointError, match="'lambda0/cf' is in one"):
        load_tree(saved)

    shutil.rmtree(whole / "arrays" / "state")
    sign_again(whole, lambda manifest: manifest.update(files={}))
    with pytest.raises(CheckpointError, match="damaged or incomplete: ") as caught:
        load_tree(whole)
    assert "\n" not in str(caught.value)


def test_other_versions_are_refused(saved: Path) -> None:
    sign_again(saved, lambda manifest: manifest.update(version=99))
    with pytest.raises(CheckpointError, match="format or version"):
        load_tree(saved)


def places(value, path=()):
    """Path of every dictionary, list and plain value inside a manifest."""
    yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*path, key))


@pytest.mark.parametrize("wrong", ["ten", None, [], {}, -1, 1e400, True, {"x": 1}, [["x"]], "remove", "add"])
def test_a_manifest_that_is_signed_but_wrong_is_one_sentence(tmp_path: Path, wrong) -> None:
    """Whatever its digest says: wrong types, missing and unknown keys, anywhere."""
    tree = {"omega": {"a": np.ones(2, np.float32), "b": np.zeros((0, 3), np.float32)}, "trunk": {"0": {}}}
    save_checkpoint(tmp_path / "c", Checkpoint(presets.tiny(), tree, ""), trunk_source="")
    original = json.loads((tmp_path / "c" / "manifest.json").read_text())
    original["metadata"]["trunk_reference"] = None
    said = []
    for path in places(original):
        if not path or path[0] == "sha256":
            continue

        def edit(manifest, path=path):
            manifest.clear()
            manifest.update(json.loads(json.dumps({k: v for k, v in original.items() if k != "sha256"})))
            *parents, last = path
            for key in parents:
                manifest = manifest[key]
            if wrong == "remove":
                del manifest[last]
            elif wrong == "add" and isinstance(manifest[last], dict):
                manifest[last]["surprise"] = "x"
            elif wrong != "add":
                manifest[last] = wrong

        sign_again(tmp_path / "c", edit, files=path[0] != "files")
        read = load_config if path[:2] == ("metadata", "config") else load_checkpoint
        try:
            read(tmp_path / "c")
        except CheckpointError as error:
            said.append(str(error))
    assert len(said) >= {"add": 4, "remove": 15}.get(wrong if isinstance(wrong, str) else "", 40)
    assert not [text for text in said if "\n" in text]


def test_parts_that_are_in_each_other(saved: Path) -> None:
    for name in ("lambda0/cf", "lambda0/cf/deeper", "trunk"):
        sign_again(saved, lambda manifest, name=name: manifest.update(empty=[name]))
        with pytest.raises(CheckpointError, match=f"{name}' beside another part of that name"):
            load_tree(saved)


def test_a_manifest_that_is_nested_without_end(saved: Path) -> None:
    (saved / "manifest.json").write_text("[" * 100_000)
    with pytest.raises(CheckpointError, match="is no manifest"):
        load_tree(saved)


def test_settings_out_of_range_are_no_checkpoint(tmp_path: Path) -> None:
    values = presets.tiny().to_dict()
    values["online"]["tau"] = 0
    save_tree(tmp_path / "c", {"a": np.ones(1)}, metadata={"config": values})
    for read in (load_checkpoint, load_config):
        with pytest.raises(CheckpointError, match=r"damaged, or of another version .*online\.tau must be 1 to"):
            read(tmp_path / "c")


def test_what_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        load_tree(tmp_path / "nothing")
    (tmp_path / "folder").mkdir()
    with pytest.raises(CheckpointError, match=r"it has no manifest\.json$"):
        load_tree(tmp_path / "folder")
    (tmp_path / "folder" / "weights.ckpt").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(CheckpointError, match=r"weights\.ckpt in it is a pickle"):
        load_tree(tmp_path / "folder")
    with pytest.raises(CheckpointError, match="is a pickle"):
        load_tree(tmp_path / "folder" / "weights.ckpt")
    with zipfile.ZipFile(tmp_path / "model.pth", "w") as archive:
        archive.writestr("model/data.pkl", b"")
    with pytest.raises(CheckpointError, match="is a pickle"):
        load_tree(tmp_path / "model.pth")
    (tmp_path / "file.txt").write_text("hello")
    with pytest.raises(CheckpointError, match="is a file and no checkpoint"):
        load_tree(tmp_path / "file.txt")
    ocp.save(str(tmp_path / "orbax"), {"a": np.ones(2)})
    with pytest.raises(CheckpointError, match=r"it has no manifest\.json$"):
        load_tree(tmp_path / "orbax")
    (tmp_path / "orbax" / "manifest.json").write_text("[1, 2]")
    with pytest.raises(CheckpointError, match="damaged or of another kind"):
        load_tree(tmp_path / "orbax")


@pytest.mark.parametrize(
    "tree",
    [
        {"a": "text"},
        {"a": np.array([None])},
        {"a": np.array(["2020-01-01"], "datetime64[D]")},
        {"a/b": np.ones(1)},
        {"": np.ones(1)},
        np.ones(3),
        {"a": {}},
        {"a": np.zeros((0, 2))},
        {"a": np.ones(1), "x": {"y": object()}},
    ],
)
def test_trees_that_cannot_be_stored(tmp_path: Path, tree: object) -> None:
    with pytest.raises(CheckpointError):
        save_tree(tmp_path / "a", tree, metadata={})
    assert list(tmp_path.iterdir()) == []


def test_metadata_that_cannot_be_stored(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="JSON"):
        save_tree(tmp_path / "a", {"a": np.ones(1)}, metadata={"path": tmp_path})


def test_saving_replaces_a_checkpoint_and_nothing_else(saved: Path) -> None:
    save_tree(saved, {"a": np.ones(1)}, metadata={})
    assert set(load_tree(saved)[0]) == {"a"}
    other = saved.parent / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("x")
    with pytest.raises(CheckpointError, match="left as it is"):
        save_tree(other, {"a": np.ones(1)}, metadata={})
    assert sorted(path.name for path in saved.parent.iterdir()) == ["other", "saved"]


def test_a_save_that_fails_leaves_the_old_one(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace = store.os.replace

    def fail(source: Path, target: Path) -> None:
        if str(source).endswith(".new"):
            raise OSError("disk full")
        replace(source, target)

    monkeypatch.setattr(store.os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        save_tree(saved, {"a": np.ones(1)}, metadata={})
    assert_same(load_tree(saved)[0], make_tree())
    assert [path.name for path in saved.parent.iterdir()] == ["saved"]


def test_half_is_smaller_and_close(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    tree = {
        "weights": rng.normal(size=(64, 512)).astype(np.float32),
        "tiny": np.full((4,), 1e-7, np.float32),
        "huge": np.full((4,), 1e6, np.float32),
        "count": np.arange(4),
        "double": np.full((2,), 1 / 3),
    }
    save_tree(tmp_path / "half", tree, metadata={}, half=True)
    save_tree(tmp_path / "full", tree, metadata={})
    got, _ = load_tree(tmp_path / "half", like=tree)
    np.testing.assert_allclose(got["weights"], tree["weights"], rtol=1e-3, atol=1e-6)
    assert not np.array_equal(got["weights"], tree["weights"])
    for key in ("tiny", "huge", "count", "double"):
        np.testing.assert_array_equal(got[key], tree[key])
    sizes = {d: sum(f.stat().st_size for f in (tmp_path / d).rglob("*") if f.is_file()) for d in ("half", "full")}
    assert sizes["half"] < 0.6 * sizes["full"]
    leaves = json.loads((tmp_path / "half" / "manifest.json").read_text())["leaves"]
    assert (leaves["weights"]["dtype"], leaves["weights"]["load_as"]) == ("float16", "float32")
    assert (leaves["tiny"]["dtype"], leaves["tiny"]["load_as"]) == ("float32", "float32")


def test_digest_tree_sees_keys_shapes_dtypes_and_values() -> None:
    a = np.arange(6, dtype=np.float32)
    digests = [
        digest_tree(tree)
        for tree in ({"a": a}, {"b": a}, {"a": a.reshape(2, 3)}, {"a": a.view(np.int32)}, {"a": a + np.float32(1e-6)})
    ]
    assert len(set(digests)) == len(digests)
    assert digest_tree({"x": a, "a": a}) == digest_tree({"a": jnp.asarray(a), "x": a})


def test_checkpoint_round_trip(tmp_path: Path) -> None:
    written = Checkpoint(presets.lite(), make_tree(), "# Größe\n")
    save_checkpoint(tmp_path / "c", written)
    read = load_checkpoint(tmp_path / "c")
    assert read.config == written.config
    assert read.card == written.card
    assert_same(read.params, written.params)
    assert_same(load_checkpoint(str(tmp_path / "c")).params, written.params)
    assert load_config(tmp_path / "c") == written.config


def test_trunk_by_reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = make_tree()
    save_checkpoint(tmp_path / "c", Checkpoint(presets.lite(), tree, ""), trunk_source="lite weights by pip")
    assert "trunk" in tree
    assert "trunk" not in load_tree(tmp_path / "c")[0]

    trunk = make_tree()["trunk"]
    configs = []
    monkeypatch.setattr(
        roam_jax.backbones, "load_trunk", lambda config: configs.append(config) or {"trunk": trunk, "top": {}}
    )
    assert_same(load_checkpoint(tmp_path / "c").params, tree)
    assert configs == [presets.lite()]
    assert load_checkpoint(tmp_path / "c", weights="mine.pth").config.backbone.weights == "mine.pth"
    assert configs.pop().backbone.weights == "mine.pth"
    trunk["0"]["kernel"][0, 0, 0, 0] += 1
    with pytest.raises(CheckpointError, match="lite weights by pip"):
        load_checkpoint(tmp_path / "c")


def test_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckpointError, match="'no-such-name'") as caught:
        load_checkpoint("no-such-name")
    assert all(name in str(caught.value) for name in shipped_names() or ["none"])

    monkeypatch.setattr(tracker, "__file__", str(tmp_path / "tracker.py"))
    save_checkpoint(tmp_path / "small", Checkpoint(presets.tiny(), make_tree(), "card"))
    (tmp_path / "not_one").mkdir()
    assert shipped_names() == ("small",)
    assert load_checkpoint("small").config == presets.tiny()
    with pytest.raises(CheckpointError, match=r"\(small\)"):
        load_checkpoint("large")


def test_a_tree_is_no_tracker(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no configuration"):
        load_checkpoint(saved)
    save_tree(tmp_path / "later", {"a": np.ones(1)}, metadata={"config": {"model": {"wheels": 4}}})
    with pytest.raises(CheckpointError, match="another version"):
        load_checkpoint(tmp_path / "later")


def test_shipped_checkpoints_load() -> None:
    for name in shipped_names():
        checkpoint = load_checkpoint(name)
        assert set(checkpoint.params) == set(Params._fields)
        assert checkpoint.card.strip()
        checkpoint.config.check()


def test_survives_git_and_stays_silent(saved: Path, tmp_path: Path) -> None:
    """Git keeps no empty directories, and a fresh process prints nothing, whatever it thinks of warnings."""
    repository, clone = tmp_path / "repository", tmp_path / "clone"
    shutil.copytree(saved, repository / "lite")
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for command in ([*git, "init", "-q"], [*git, "add", "."], [*git, "commit", "-qm", "x"]):
        subprocess.run(command, cwd=repository, check=True)
    subprocess.run([*git, "clone", "-q", str(repository), str(clone)], check=True)
    program = "import sys; from roam_jax.checkpoints import load_tree; print(len(load_tree(sys.argv[1])[0]))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, str(clone / "lite")], capture_output=True, text=True
    )
    assert (done.stdout.strip(), done.stderr, done.returncode) == ("5", "", 0)
