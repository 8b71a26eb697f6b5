"""The tracker's programs, compiled ahead of time; what can be kept of that work is kept in the user's cache folder.

JAX's own cache keeps machine code, but finding it again takes tracing the functions first, which is most of a warm
start. So the traced programs are kept too (by `jax.export`), under a digest of everything they depend on: the package's
sources, the versions of JAX, the configuration, and all shapes.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import uuid
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.export
import jax.numpy as jnp
import jaxlib.version
import numpy as np
import platformdirs

from roam_jax.backbones.registry import OWN
from roam_jax.core.model import Branch, Theta
from roam_jax.core.samples import Samples
from roam_jax.core.update import ModelState
from roam_jax.devices import in_float32
from roam_jax.extensions.confidence import Usual
from roam_jax.method import OWN_OPTIMIZERS
from roam_jax.patches.geometry import Roi
from roam_jax.tracking.memory import Memory
from roam_jax.tracking.online import Online, Prediction, TrackerState, search_scales
from roam_jax.tracking.params import Params

Exported = jax.export.Exported

TRACED_PARTS = ("core", "extensions", "backbones", "patches", "tracking")
"""packages whose sources decide what the programs do"""

CPU_LEVELS = {"features": 2, "step": 2, "start": 0}
"""how hard the compiler tries on a CPU: level 3 takes longer for nothing, and start runs once"""

for kind in (Params, TrackerState, Prediction, ModelState, Memory, Usual, Roi, Samples, Theta, Branch):
    jax.export.register_namedtuple_serialization(kind, serialized_name=f"roam_jax.{kind.__name__}")


class Programs(NamedTuple):
    """Compiled `start` and `step` of one tracker configuration."""

    start: Callable[..., TrackerState]
    step: Callable[..., tuple[TrackerState, Prediction]]


class Shapes(NamedTuple):
    """Structure, shapes and types of a pytree, hashable."""

    structure: Any
    leaves: tuple[tuple[tuple[int, ...], Any], ...]

    @classmethod
    def of(cls, tree: Any) -> Shapes:
        """Those of `tree`."""
        leaves, structure = jax.tree.flatten(tree)
        return cls(structure, tuple((leaf.shape, leaf.dtype) for leaf in leaves))

    def tree(self) -> Any:
        """The pytree with `jax.ShapeDtypeStruct`s as leaves."""
        return jax.tree.unflatten(self.structure, [jax.ShapeDtypeStruct(*leaf) for leaf in self.leaves])


@functools.lru_cache(maxsize=16)
@in_float32()
def compile_programs(online: Online, params: Shapes, image_shape: tuple[int, int, int] | None) -> Programs:
    """Compile start and step ahead of time; they serve every tracker of that configuration.

    Args:
        online: the tracker's functions.
        params: its parameters' shapes.
        image_shape: (height, width, 3) for programs that crop on the device; None for those that take patches.
    """
    file = programs_file(online, params, image_shape)
    kept = read_programs(file) if file else None
    with ThreadPoolExecutor(2) as pool:
        if kept:
            jobs = {name: pool.submit(compile_one, name, program) for name, program in kept.items()}
        else:
            # The compiler leaves Python free to trace the next program.
            kept, jobs = {}, {}
            for name, (function, like) in parts_of(online, params.tree(), image_shape):
                kept[name] = jax.export.export(function)(*like)
                jobs[name] = pool.submit(compile_one, name, kept[name])
            if file:
                write_programs(file, kept)
        done = {name: job.result() for name, job in jobs.items()}
    start, step = done["start"], done["step"]
    if "features" not in done:
        return Programs(start, step)
    extract = functools.partial(extract_features, done["features"], len(search_scales(online.config)))
    return Programs(
        lambda params, patches, box, image_wh: start(params, extract(params, patches), box, image_wh),
        lambda params, state, patches: step(params, state, extract(params, patches)),
    )


@functools.lru_cache(maxsize=16)
def compile_correction(online: Online, on_host: bool) -> Callable[..., TrackerState]:
    """`Online.correct_patches` for the host's patches, or `Online.correct`; few trackers ever need it."""
    return jax.jit(online.correct_patches if on_host else online.correct)


def parts_of(
    online: Online, params: Any, image_shape: tuple[int, int, int] | None
) -> Iterator[tuple[str, tuple[jax.stages.Wrapped, tuple]]]:
    """The functions to compile by name, with their arguments' shapes; for the host's patches the backbone is one.

    It is a program of its own there because start and step would both contain it: a third of the time that they take
    to compile. It comes first, as it is traced soonest, and step next, as it takes longest to compile.
    """
    c = online.config

    def floats(*shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, jnp.float32)

    def pixels(*shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, jnp.uint8)

    if image_shape is None:
        side = c.model.patch_size
        start, step = jax.jit(online.start_features), jax.jit(online.step_features)
        features = jax.jit(lambda params, patches: online.backbone.features(params.backbone, patches))
        searched = (params, pixels(len(search_scales(online.config)), side, side, 3))
        yield "features", (features, searched)
        seen = jax.eval_shape(features, *searched)
        first = (params, floats(len(c.model.aspects) ** 2, *seen.shape[1:]), floats(4), floats(2))
    else:
        start, step = jax.jit(online.start), jax.jit(online.step)
        seen = pixels(*image_shape)
        first = (params, seen, floats(4))
    yield "step", (step, (params, jax.eval_shape(start, *first), seen))
    yield "start", (start, first)


def extract_features(program: Callable, count: int, params: Params, patches: np.ndarray) -> Any:
    """Feature maps of any number of patches by a program that takes `count` of them."""
    pads = -len(patches) % count
    padded = np.concatenate([patches, patches[:pads]]) if pads else patches
    maps = [program(params, padded[i : i + count]) for i in range(0, len(padded), count)]
    return np.concatenate(maps)[: len(patches)] if len(maps) > 1 else maps[0]


@in_float32()
def compile_one(name: str, program: Exported) -> Callable:
    """Machine code of a traced program."""
    arguments, keywords = jax.tree.unflatten(
        program.in_tree, [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in program.in_avals]
    )
    options: dict[str, str | bool] = (
        {"xla_backend_optimization_level": str(CPU_LEVELS[name])} if jax.default_backend() == "cpu" else {}
    )
    return jax.jit(program.call).lower(*arguments, **keywords).compile(compiler_options=options)


def enable_compilation_cache() -> None:
    """Keep compiled programs in the user's cache folder, unless JAX was already told where to keep them."""
    if jax.config.values["jax_compilation_cache_dir"] is None and "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        folder = Path(platformdirs.user_cache_dir("roam_jax")) / "programs"
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def programs_are_kept(online: Online, params: Shapes) -> bool:
    """Whether programs for the host's patches have been traced before, with parameters of these shapes."""
    file = programs_file(online, params, None)
    return file is not None and file.is_file()


def programs_file(online: Online, params: Shapes, image_shape: tuple[int, int, int] | None) -> Path | None:
    """Where the traced programs belong; None if they are not kept, as those with a user's own trunk or optimizer."""
    own = online.config.backbone.name in OWN and online.config.optimizer.kind in OWN_OPTIMIZERS
    return cache_file(repr((online, params, image_shape))) if own else None


def cache_file(what: str) -> Path | None:
    """Where the traced programs of something belong; None where JAX is not to keep compiled programs either."""
    folder = jax.config.values["jax_compilation_cache_dir"]
    if not folder or not jax.config.values["jax_enable_compilation_cache"]:
        return None
    versions = (jax.__version__, jaxlib.version.__version__, jax.default_backend(), jax.config.values["jax_enable_x64"])
    key = hashlib.sha256(repr((what, versions, source_digest())).encode()).hexdigest()
    return Path(folder) / f"roam_jax-{key[:32]}.zip"


@functools.cache
def source_digest() -> str:
    """SHA-256 over the sources that programs are made from."""
    package = Path(__file__).parents[1]
    files = [
        *(package / f"{name}.py" for name in ("config", "method", "trees")),
        *(file for part in TRACED_PARTS for file in sorted((package / part).rglob("*.py"))),
    ]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def read_programs(file: Path) -> dict[str, Exported] | None:
    """Programs that `write_programs` wrote; None if there are none, or the file is damaged."""
    try:
        with zipfile.ZipFile(file) as archive:
            # reading a member checks its sum
            return {name: jax.export.deserialize(bytearray(archive.read(name))) for name in archive.namelist()}
    except (OSError, zipfile.BadZipFile, ValueError, KeyError):
        return None


def write_programs(file: Path, programs: dict[str, Exported]) -> None:
    """Write traced programs, if the folder can be written; the file is complete or not there."""
    partial = file.with_name(f"{file.name}.{uuid.uuid4().hex[:8]}")
    with contextlib.suppress(OSError):  # a cache that cannot be kept is no reason to stop
        file.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(partial, "w") as archive:
            for name, program in programs.items():
                archive.writestr(name, bytes(program.serialize()))
        partial.replace(file)
