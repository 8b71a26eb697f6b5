"""The tracker as files that need no roam_jax: two programs in StableHLO, the weights, and what their arguments are.

    start(weights, image, box_xywh) -> state
    step(weights, state, image) -> state, {"box_xywh", "lost", "score"}

The programs take whole frames of any size and cut the patches themselves. Weights and state are dictionaries of arrays;
`standalone.py`, which is written beside them, shows all there is to do.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from roam_jax.devices import in_float32
from roam_jax.tracking import standalone
from roam_jax.tracking.online import Online
from roam_jax.tracking.params import Params

Platform = Literal["cpu", "cuda", "rocm", "tpu"]

MANIFEST, WEIGHTS, LOADER = "manifest.json", "weights.npz", "tracker.py"
PACKAGES = ("roam-jax", "jax", "jaxlib", "numpy")
"""whose versions are noted"""


@in_float32()
def write_exported(folder: Path, online: Online, params: Params, platforms: Sequence[Platform]) -> None:
    """Write a tracker's programs, weights, manifest and loader; files of their names are replaced.

    Args:
        folder: where to; made if it is not there.
        online: the tracker's functions.
        params: its parameters.
        platforms: that the programs are for; JAX needs none of them here.

    Raises:
        OSError: a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = _flat(params)
    programs, arguments = {}, {}
    for name, function, labelled in _functions(online, params):
        labels, like = zip(*labelled, strict=True)
        program = jax.export.export(jax.jit(function), platforms=list(platforms))(*like)
        outputs = jax.tree.unflatten(program.out_tree, program.out_avals)
        outputs = [("state", outputs)] if name == "start" else [("state", outputs[0]), ("", outputs[1])]
        programs[name] = program
        arguments[name] = {
            "file": f"{name}.stablehlo",
            "inputs": _describe(zip(labels, like, strict=True)),
            "outputs": _describe(outputs),
        }
    manifest = {
        "format": "roam_jax export",
        "version": 1,
        "versions": {package: metadata.version(package) for package in PACKAGES},
        "calling_convention_version": programs["step"].calling_convention_version,
        "platforms": list(platforms),
        "weights": WEIGHTS,
        "programs": arguments,
        "config": online.config.to_dict(),
    }
    for name, program in programs.items():
        (folder / f"{name}.stablehlo").write_bytes(program.serialize())
    np.savez(folder / WEIGHTS, **jax.device_get(weights))
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    shutil.copyfile(standalone.__file__, folder / LOADER)


def load_exported(folder: Path) -> Any:
    """The tracker of a folder, a `standalone.Tracker`, made by the file that lies there."""
    spec = importlib.util.spec_from_file_location("exported_tracker", folder / LOADER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Tracker()


def _functions(online: Online, params: Params) -> Iterator[tuple[str, Any, list[tuple[str, Any]]]]:
    """Name, function, and the arguments' names and shapes, of the two programs."""
    height, width = jax.export.symbolic_shape("height, width")
    image = jax.ShapeDtypeStruct((height, width, 3), jnp.uint8)
    box = jax.ShapeDtypeStruct((4,), jnp.float32)
    weights, state = params, jax.eval_shape(online.start, params, image, box)

    def start(flat_weights: dict[str, Any], image: Any, box_xywh: Any) -> dict[str, Any]:
        return _flat(online.start(_nested(weights, flat_weights), image, box_xywh))

    def step(flat_weights: dict[str, Any], flat_state: dict[str, Any], image: Any) -> tuple[dict, dict]:
        after, said = online.step(_nested(weights, flat_weights), _nested(state, flat_state), image)
        corner, size = said.box_cxcywh[:2] - said.box_cxcywh[2:] / 2, said.box_cxcywh[2:]
        return _flat(after), {"box_xywh": jnp.concatenate([corner, size]), "score": said.score, "lost": said.lost}

    of_weights, of_state = (
        {name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for name, leaf in _flat(tree).items()}
        for tree in (weights, state)
    )
    yield "start", start, [("weights", of_weights), ("image", image), ("box_xywh", box)]
    yield "step", step, [("weights", of_weights), ("state", of_state), ("image", image)]


def _names(tree: Any) -> list[str]:
    """Paths of the leaves, with `/` between their parts."""
    paths = jax.tree_util.tree_leaves_with_path(tree)
    return [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in paths]


def _flat(tree: Any) -> dict[str, Any]:
    """Leaves by path: whoever loads a program knows dictionaries, but not our named tuples."""
    return dict(zip(_names(tree), jax.tree.leaves(tree), strict=True))


def _nested(like: Any, flat: dict[str, Any]) -> Any:
    """Inverse of `_flat`."""
    return jax.tree.unflatten(jax.tree.structure(like), [flat[name] for name in _names(like)])


def _describe(labelled: Any) -> list[dict[str, Any]]:
    """Name, shape and type of each array, in the order in which the program has them."""
    return [
        {
            "name": "/".join(filter(None, (label, name))),
            "shape": [size if isinstance(size, int) else str(size) for size in leaf.shape],
            "dtype": str(leaf.dtype),
        }
        for label, tree in labelled
        for name, leaf in zip(_names(tree), jax.tree.leaves(tree), strict=True)
    ]
