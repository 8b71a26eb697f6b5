from __future__ import annotations

import collections
import hashlib
import io
import os
import pickle
import sys
import tarfile
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy
import scipy.io

from roam_jax.backbones import lite, weights
from roam_jax.backbones.vgg import IMAGENET, OXFORD, Vgg, convert, load, names_of
from roam_jax.backbones.weights import WeightsError

GOLDEN = Path(__file__).parents[1] / "golden"
TRUNK = Vgg(10, 8, widths=(4, 6, 8, 8, 8))


@pytest.fixture(scope="module")
def state():
    """A narrow VGG-16 under torch's names."""
    return weights.read_arrays(GOLDEN / "vgg_narrow.pth")


@pytest.fixture(scope="module")
def tree(state):
    return convert(TRUNK, state)


def convolutions(tree):
    return {name: (np.asarray(layer["w"]), np.asarray(layer["b"])) for name, layer in tree.items() if name != "input"}


def assert_same(loaded, tree, scaling=IMAGENET):
    assert jax.tree.structure(loaded) == jax.tree.structure(tree)
    for name in set(tree) - {"input"}:
        jax.tree.map(np.testing.assert_array_equal, loaded[name], tree[name])
    np.testing.assert_allclose(loaded["input"]["mean"], scaling["mean"], rtol=1e-6)
    np.testing.assert_allclose(loaded["input"]["scale"], scaling["scale"], rtol=1e-6)


def test_both_torch_formats_hold_the_same(state):
    legacy = weights.read_arrays(GOLDEN / "vgg_narrow_legacy.pth")
    assert list(legacy) == list(state)
    for key in state:
        np.testing.assert_array_equal(legacy[key], state[key])


def test_safetensors(state, tree, tmp_path):
    safetensors.numpy.save_file({k: np.ascontiguousarray(v) for k, v in state.items()}, tmp_path / "vgg.safetensors")
    assert_same(load(TRUNK, tmp_path / "vgg.safetensors"), tree)


def test_npz_of_torch_names_and_of_our_own(state, tree, tmp_path):
    np.savez(tmp_path / "torch.npz", **state)
    assert_same(load(TRUNK, tmp_path / "torch.npz"), tree)
    np.savez(tmp_path / "own.npz", **{f"{a}/{b}": tree[a][b] for a in tree for b in tree[a]})
    assert_same(load(TRUNK, tmp_path / "own.npz"), tree)


def test_pickled_flax_parameters(tree, tmp_path):
    layers = {f"Conv_{n}": {"kernel": w, "bias": b} for n, (w, b) in enumerate(convolutions(tree).values())}
    (tmp_path / "vgg.ckpt").write_bytes(pickle.dumps({"VGG16_0": layers}, protocol=3))
    assert_same(load(TRUNK, tmp_path / "vgg.ckpt"), tree)


@pytest.mark.parametrize("old", [False, True])
def test_matconvnet(tree, tmp_path, old):
    cells = np.empty((1, len(names_of(TRUNK.convolutions)) + 1), object)
    for n, (name, (w, b)) in enumerate(convolutions(tree).items()):
        parts = np.empty((1, 2), object)
        parts[0, 0], parts[0, 1] = w, b[None]
        cells[0, n] = {"name": name, "type": "conv"} | ({"filters": w, "biases": b} if old else {"weights": parts})
    cells[0, -1] = {"name": "relu", "type": "relu"}
    scipy.io.savemat(tmp_path / "vgg.mat", {"layers": cells})
    assert_same(load(TRUNK, tmp_path / "vgg.mat"), tree, OXFORD)


def test_matconvnet_in_hdf5(tree, tmp_path):
    h5py = pytest.importorskip("h5py", reason="h5py reads MATLAB 7.3 files")
    with h5py.File(tmp_path / "vgg.mat", "w", userblock_size=512) as file:
        layers = convolutions(tree)
        cells = file.create_dataset("layers", (len(layers), 1), h5py.ref_dtype)
        for n, (name, (w, b)) in enumerate(layers.items()):
            group = file.create_group(f"#refs#/{n}")
            group["name"] = np.frombuffer(name.encode(), np.uint8).astype(np.uint16)[:, None]
            group["w"], group["b"] = w.T, b[:, None]
            parts = group.create_dataset("weights", (2, 1), h5py.ref_dtype)
            parts[0, 0], parts[1, 0] = group["w"].ref, group["b"].ref
            cells[n, 0] = group.ref
    with open(tmp_path / "vgg.mat", "r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file")
    assert_same(load(TRUNK, tmp_path / "vgg.mat"), tree, OXFORD)


@pytest.mark.parametrize("names", ["_W_1:0 _b_1:0", "/kernel:0 /bias:0"])
def test_keras_is_bgr(tree, tmp_path, names):
    h5py = pytest.importorskip("h5py", reason="h5py reads Keras files")
    kernel, bias = names.split()
    with h5py.File(tmp_path / "vgg.h5", "w") as file:
        for name, (w, b) in convolutions(tree).items():
            at = f"block{name[4]}_conv{name[6]}"
            file[f"{at}/{at}{kernel}"], file[f"{at}/{at}{bias}"] = w[:, :, ::-1] if name == "conv1_1" else w, b
    assert_same(load(TRUNK, tmp_path / "vgg.h5"), tree, OXFORD)


def test_hdf5_without_its_library_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    (tmp_path / "vgg.h5").write_bytes(b"anything")
    with pytest.raises(WeightsError, match="pip install h5py"):
        load(TRUNK, tmp_path / "vgg.h5")


class Malice:
    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def write_hostile(folder: Path, kind: str, bad: object) -> Path:
    content = pickle.dumps({"VGG16_0": bad, "features.0.weight": bad}, protocol=3)
    path = folder / ("x.ckpt" if kind == "ckpt" else "x.pth")
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x/data.pkl", content)
    elif kind == "legacy":
        header = [pickle.dumps(part, protocol=2) for part in (0x1950A86A20F9469CFC6C, 1001, {})]
        path.write_bytes(b"".join(header) + content + pickle.dumps([], protocol=2))
    else:
        path.write_bytes(content)
    return path


@pytest.mark.parametrize("kind", ["zip", "legacy", "ckpt"])
def test_a_pickle_that_would_run_code_is_refused(tmp_path, kind):
    marker = tmp_path / "ran"
    path = write_hostile(tmp_path, kind, Malice(marker))
    with pytest.raises(WeightsError, match=r"x\.(pth|ckpt): the pickle wants posix\.mkdir, which is refused"):
        load(TRUNK, path)
    assert not marker.exists()
    pickle.loads(pickle.dumps(Malice(marker)))
    assert marker.exists(), "the payload itself works, so the refusal above means something"


def test_hostile_first_pickle_of_the_old_format_is_refused(tmp_path):
    (tmp_path / "x.pth").write_bytes(pickle.dumps(Malice(tmp_path / "ran"), protocol=2))
    with pytest.raises(WeightsError, match="refused"):
        load(TRUNK, tmp_path / "x.pth")
    assert not (tmp_path / "ran").exists()


def test_object_arrays_in_a_pickle_are_refused(tmp_path):
    path = write_hostile(tmp_path, "ckpt", np.array([{}], dtype=object))
    with pytest.raises(WeightsError, match="'O8', which is refused"):
        load(TRUNK, path)


@pytest.mark.parametrize(
    ("offset", "shape", "strides", "message"),
    [
        (0, (5, 5), (5, 1), "reaches outside its storage"),
        (20, (2, 2), (2, 1), "reaches outside its storage"),
        (0, (3, 3), (-3, 1), "impossible shape"),
        (-4, (2, 2), (2, 1), "impossible shape"),
        (0, (1 << 40,), (0,), "reaches outside its storage"),
    ],
)
def test_tensors_cannot_reach_outside_their_bytes(tmp_path, offset, shape, strides, message):
    path = write_tensor(tmp_path / "x.pth", offset, shape, strides)
    with pytest.raises(WeightsError, match=message):
        weights.read_arrays(path)


def test_strided_tensors_are_read(tmp_path):
    arrays = weights.read_arrays(write_tensor(tmp_path / "x.pth", 1, (3, 4), (1, 5)))
    np.testing.assert_array_equal(arrays["t"], np.arange(20, dtype=np.float32).reshape(4, 5).T[1:4])


def write_tensor(path: Path, offset, shape, strides) -> Path:
    """A zip state dict with one tensor over a storage of 20 numbers, its pickle written opcode by opcode."""
    numbers = b"".join(pickle.dumps(x, protocol=2)[2:-1] for x in (offset, shape, strides))
    storage = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x14tQ"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + numbers + b"\x89ccollections\nOrderedDict\n)RtR"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", b"\x80\x02}X\x01\x00\x00\x00t" + tensor + b"s.")
        archive.writestr("x/data/0", np.arange(20, dtype="<f4").tobytes())
    return path


@pytest.mark.parametrize("name", ["vgg_narrow.pth", "vgg_narrow_legacy.pth"])
@pytest.mark.parametrize("keep", [0, 10, 300, 0.5, 0.99])
def test_truncated_files_are_errors_of_one_kind(tmp_path, name, keep):
    content = (GOLDEN / name).read_bytes()
    (tmp_path / name).write_bytes(content[: int(keep * len(content)) if isinstance(keep, float) else keep])
    with pytest.raises(WeightsError, match=name):
        load(TRUNK, tmp_path / name)


def test_wrong_shapes_and_missing_keys_are_named(state, tmp_path):
    with pytest.raises(WeightsError, match=r"conv1_1/b has shape \(4,\), but the backbone needs \(64,\)"):
        convert(Vgg(10), state)
    with pytest.raises(WeightsError, match=r"conv1_2/w has shape \(3, 3, 5, 4\), but .* needs \(3, 3, 4, 4\)"):
        convert(TRUNK, {**state, "features.2.weight": np.zeros((4, 5, 3, 3))})
    broken = {key: value for key, value in state.items() if key != "features.7.bias"}
    with pytest.raises(WeightsError, match=r"no 'features\.7\.bias'"):
        convert(TRUNK, broken)
    with pytest.raises(WeightsError, match=r"features\.0\.weight has shape \(3,\), but the backbone needs 4 axes"):
        convert(TRUNK, {**state, "features.0.weight": np.zeros(3)})
    with pytest.raises(WeightsError, match="any of the known names"):
        convert(TRUNK, {"layer": np.zeros(3)})
    with pytest.raises(WeightsError, match="conv1_1/b has values that are not finite"):
        convert(TRUNK, {**state, "features.0.bias": np.full(4, np.nan, np.float32)})
    with np.load(GOLDEN / "lite_narrow.npz") as golden:
        small = {key.removeprefix("state/"): golden[key] for key in golden.files if key.startswith("state/")}
    with pytest.raises(WeightsError, match=r"stage0_block0/project/b has shape \(8,\), but .* needs \(16,\)"):
        lite.convert(pad_blocks(small))
    with pytest.raises(WeightsError, match=r"_bn0 has shape \(32,\), but _conv_stem\.weight before it \(9, 3, 3, 3\)"):
        lite.convert({**small, "_conv_stem.weight": np.zeros((9, 3, 3, 3))})


def pad_blocks(small):
    """The narrow state with its last block repeated, so that all of Lite0's names exist."""
    more = collections.OrderedDict(small)
    for number in range(7, 11):
        more |= {k.replace("_blocks.6.", f"_blocks.{number}."): v for k, v in small.items() if "_blocks.6." in k}
    return more


def test_unknown_formats_are_named(tmp_path):
    (tmp_path / "weights.onnx").write_bytes(b"")
    with pytest.raises(WeightsError, match=r"no reader for \.onnx; known: \.pth"):
        load(TRUNK, tmp_path / "weights.onnx")


def make_source(content: bytes) -> weights.Source:
    return weights.Source("some-weights", "some_weights", "some_weights/deep/w.npz", weights.digest(content), "pip x")


def npz_bytes(**arrays) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def test_files_inside_wheels_and_sdists(tmp_path):
    content = npz_bytes(a=np.arange(3.0))
    source = make_source(content)
    with zipfile.ZipFile(tmp_path / "some_weights-1.whl", "w") as wheel:
        wheel.writestr(source.member, content)
    with tarfile.open(tmp_path / "some_weights-1.tar.gz", "w:gz") as sdist:
        info = tarfile.TarInfo(f"some_weights-1/{source.member}")
        info.size = len(content)
        sdist.addfile(info, io.BytesIO(content))
    for name in ("some_weights-1.whl", "some_weights-1.tar.gz"):
        np.testing.assert_array_equal(weights.read_arrays(tmp_path / name, source)["a"], np.arange(3.0))
    with zipfile.ZipFile(tmp_path / "empty.whl", "w"):
        pass
    with pytest.raises(WeightsError, match=r"has no file some_weights/deep/w\.npz"):
        weights.read_arrays(tmp_path / "empty.whl", source)


def test_another_content_fails_by_digest(tmp_path):
    content = npz_bytes(a=np.arange(3.0))
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 1
    (tmp_path / "w.npz").write_bytes(flipped)
    expected = hashlib.sha256(content).hexdigest()
    with pytest.raises(WeightsError, match=f"w.npz is not the expected file: sha256 [0-9a-f]+, expected {expected}"):
        weights.read_arrays(tmp_path / "w.npz", make_source(content))


def test_packages_are_found_without_importing_them(tmp_path, monkeypatch):
    source = make_source(b"")
    with pytest.raises(WeightsError, match="some-weights is not installed: pip x"):
        weights.find_package_file(source)
    package = tmp_path / "some_weights"
    (package / "deep").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(WeightsError, match=r"has no file some_weights/deep/w\.npz"):
        weights.find_package_file(source)
    (package / "deep" / "w.npz").touch()
    assert weights.find_package_file(source) == package / "deep" / "w.npz"
    assert "some_weights" not in sys.modules
