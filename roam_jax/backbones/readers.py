"""Readers of weight files of other frameworks: bytes in, a flat dict of named NumPy arrays out.

Nothing in a file can run. Pickles (torch, and Flax parameters pickled by hand) are read by an unpickler that knows the
few functions that build arrays and refuses every other by name. While it runs, tensors and arrays are inert records;
they become arrays afterwards, with every offset, size and stride checked against the bytes that are there.
"""

from __future__ import annotations

import collections
import io
import json
import math
import pickle
import struct
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from roam_jax.errors import ModelError


class WeightsError(ModelError, ValueError):
    """Weights that cannot be used; the message says which file or key, and why."""


class _Unpickler(pickle.Unpickler):
    """Knows the given globals and refuses every other by name."""

    def __init__(self, file: io.BytesIO, known: Mapping[tuple[str, str], Any]):
        super().__init__(file)
        self._known = known

    def find_class(self, module_name: str, global_name: str) -> Any:
        """The global, if it is one of those that build arrays."""
        try:
            return self._known[module_name, global_name]
        except KeyError:
            raise WeightsError(f"the pickle wants {module_name}.{global_name}, which is refused") from None

    def persistent_load(self, pid: Any) -> Any:
        """Torch's reference to a storage: ('storage', type, key, device, elements, ...)."""
        if not (isinstance(pid, tuple) and len(pid) >= 5 and pid[0] == "storage" and isinstance(pid[1], np.dtype)):
            raise WeightsError("the pickle refers to something that is not a tensor's storage")
        return _Storage(pid[1], str(pid[2]))


@dataclass(frozen=True)
class _Storage:
    dtype: np.dtype
    key: str


@dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def build(self, content: bytes) -> np.ndarray:
        """The array in the storage's bytes."""
        flat = np.frombuffer(content, self.storage.dtype)
        numbers = (self.offset, *self.shape, *self.strides)
        if len(self.shape) != len(self.strides) or any(not isinstance(n, int) or n < 0 for n in numbers):
            raise WeightsError("a tensor has an impossible shape")
        last = self.offset + sum((n - 1) * step for n, step in zip(self.shape, self.strides, strict=True))
        if 0 in self.shape:
            return np.zeros(self.shape, self.storage.dtype)
        if last >= flat.size or math.prod(self.shape) > flat.size:
            raise WeightsError("a tensor reaches outside its storage")
        steps = [step * flat.itemsize for step in self.strides]
        return np.lib.stride_tricks.as_strided(flat[self.offset :], self.shape, steps, writeable=False).copy()


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _Tensor:
    if not isinstance(storage, _Storage):
        raise WeightsError("a tensor without a storage")
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


_TORCH = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
    ("torch", "HalfStorage"): np.dtype("<f2"),
    ("torch", "FloatStorage"): np.dtype("<f4"),
    ("torch", "DoubleStorage"): np.dtype("<f8"),
    ("torch", "IntStorage"): np.dtype("<i4"),
    ("torch", "LongStorage"): np.dtype("<i8"),
}
_TORCH_MAGIC = 0x1950A86A20F9469CFC6C


def _read_torch(content: bytes) -> dict[str, np.ndarray]:
    """A torch state dict, of today's zip format or the one before torch 1.6."""
    if content[:2] == b"PK":
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            index = next((n for n in archive.namelist() if n.endswith("/data.pkl")), None)
            if index is None:
                raise WeightsError("no torch state dict is in it")
            folder = index.removesuffix("data.pkl")
            state = _Unpickler(io.BytesIO(archive.read(index)), _TORCH).load()
            return _build_tensors(state, lambda storage: archive.read(f"{folder}data/{storage.key}"))
    file = io.BytesIO(content)
    if _Unpickler(file, {}).load() != _TORCH_MAGIC:
        raise WeightsError("no torch state dict is in it")
    for _ in ("protocol", "machine"):
        _Unpickler(file, {}).load()
    state = _Unpickler(file, _TORCH).load()
    keys = _Unpickler(file, {}).load()
    sizes = {t.storage.key: t.storage.dtype.itemsize for t in state.values() if isinstance(t, _Tensor)}
    storages = {}
    for key in keys:
        (elements,) = struct.unpack("<q", file.read(8))
        storages[key] = file.read(elements * sizes[key])
    return _build_tensors(state, lambda storage: storages[storage.key])


def _build_tensors(state: Any, read: Callable[[_Storage], bytes]) -> dict[str, np.ndarray]:
    if not isinstance(state, dict):
        raise WeightsError("the file is a whole model, not a state dict")
    return {str(key): value.build(read(value.storage)) for key, value in state.items() if isinstance(value, _Tensor)}


class _Array:
    """NumPy's `ndarray` while a pickle runs; its state becomes an array of plain numbers."""

    value: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, by_columns, content = state
        if not (isinstance(dtype, _Dtype) and isinstance(content, bytes) and all(isinstance(n, int) for n in shape)):
            raise WeightsError("an array is not made of plain numbers")
        if math.prod(shape) * dtype.plain.itemsize != len(content):
            raise WeightsError("an array's size does not agree with its shape")
        self.value = np.frombuffer(content, dtype.plain).reshape(shape, order="F" if by_columns else "C").copy()


class _Dtype:
    """NumPy's `dtype` while a pickle runs: floats and integers of the usual sizes, little-endian."""

    def __init__(self, code: Any, *_: Any):
        if code not in ("f2", "f4", "f8", "i4", "i8"):
            raise WeightsError(f"an array has elements of type {code!r}, which is refused")
        self.plain = np.dtype("<" + code)

    def __setstate__(self, state: Any) -> None:
        if state[1] == ">":
            raise WeightsError("an array is big-endian, which is not supported")


def _reconstruct(*_: Any) -> _Array:
    return _Array()


_NUMPY = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
}


def _read_pickle(content: bytes) -> dict[str, np.ndarray]:
    """Nested dicts of NumPy arrays, pickled; names are joined by slashes."""
    flat: dict[str, np.ndarray] = {}

    def walk(node: Any, at: str) -> None:
        if isinstance(node, dict):
            for key, inner in node.items():
                walk(inner, f"{at}/{key}" if at else str(key))
        elif isinstance(node, _Array) and node.value is not None:
            flat[at] = node.value
        else:
            raise WeightsError(f"{at or 'the file'} is neither a dict nor an array")

    walk(_Unpickler(io.BytesIO(content), _NUMPY).load(), "")
    return flat


def _read_npz(content: bytes) -> dict[str, np.ndarray]:
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        return {key: archive[key] for key in archive.files}


_SAFETENSORS = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "I32": "<i4", "I64": "<i8"}


def _read_safetensors(content: bytes) -> dict[str, np.ndarray]:
    """Eight bytes of header length, a JSON header, the bytes of all arrays."""
    (length,) = struct.unpack("<Q", content[:8])
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    arrays = {}
    for key, entry in header.items():
        if key == "__metadata__":
            continue
        if entry["dtype"] not in _SAFETENSORS:
            raise WeightsError(f"{key} has elements of type {entry['dtype']}, which is not supported")
        start, stop = entry["data_offsets"]
        arrays[key] = np.frombuffer(data[start:stop], _SAFETENSORS[entry["dtype"]]).reshape(entry["shape"])
    return arrays


def _read_mat(content: bytes) -> dict[str, np.ndarray]:
    """A matconvnet network: kernels as `NAME_W` (height, width, in, out), biases as `NAME_b`."""
    if b"MATLAB 7.3" in content[:128]:
        return _read_mat_hdf5(content)
    from scipy.io import loadmat  # JAX itself depends on SciPy

    arrays = {}
    for layer in np.atleast_1d(loadmat(io.BytesIO(content), squeeze_me=True, struct_as_record=False)["layers"]):
        parts = getattr(layer, "weights", None)
        if parts is None and hasattr(layer, "filters"):  # files older than matconvnet 1.0-beta13
            parts = (layer.filters, layer.biases)
        if parts is not None and len(parts) >= 2:
            arrays[f"{layer.name}_W"], arrays[f"{layer.name}_b"] = (
                np.asarray(parts[0]),
                np.asarray(parts[1]).reshape(-1),
            )
    return arrays


def _read_mat_hdf5(content: bytes) -> dict[str, np.ndarray]:
    """The same network saved with `-v7.3`: cells are references, and axes come in reverse order."""
    arrays = {}
    with _open_hdf5(content, "MATLAB 7.3") as file:
        for (reference,) in np.asarray(file["layers"]).reshape(-1, 1):
            layer = file[reference]
            if "weights" not in layer:
                continue
            parts = [np.asarray(file[r]) for r in np.asarray(layer["weights"]).reshape(-1)[:2]]
            if len(parts) == 2:
                name = "".join(chr(c) for c in np.asarray(layer["name"]).reshape(-1))
                arrays[f"{name}_W"], arrays[f"{name}_b"] = parts[0].T, parts[1].reshape(-1)
    return arrays


def _read_hdf5(content: bytes) -> dict[str, np.ndarray]:
    """All data sets of a Keras file, under their paths."""
    arrays: dict[str, np.ndarray] = {}
    with _open_hdf5(content, "Keras") as file:
        datasets: list[str] = []
        file.visit(datasets.append)
        for path in datasets:
            if hasattr(file[path], "shape") and file[path].dtype.kind in "fi":
                arrays[path] = np.asarray(file[path])
    return arrays


def _open_hdf5(content: bytes, kind: str) -> Any:
    try:
        import h5py
    except ImportError:
        raise WeightsError(f"{kind} files need the library h5py: pip install h5py") from None
    return h5py.File(io.BytesIO(content), "r")


READERS: dict[str, Callable[[bytes], dict[str, np.ndarray]]] = {
    ".pth": _read_torch,
    ".pt": _read_torch,
    ".safetensors": _read_safetensors,
    ".npz": _read_npz,
    ".ckpt": _read_pickle,
    ".mat": _read_mat,
    ".h5": _read_hdf5,
}
