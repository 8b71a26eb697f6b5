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
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.export
import jax.numpy as jnp
import jaxlib
import platformdirs

from roam_jax.core.losses import Samples
from roam_jax.core.model import Branch, Theta
from roam_jax.core.update import MetaParams, ModelState
from roam_jax.tracking.memory import Memory
from roam_jax.tracking.online import Online, Prediction, TrackerParams, TrackerState

Exported = jax.export.Exported

TRACED_PARTS = ("core", "backbones", "tracking")
"""packages whose sources decide what the programs do"""

for kind in (TrackerParams, TrackerState, Prediction, MetaParams, ModelState, Memory, Samples, Theta, Branch):
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
def compile_programs(online: Online, params: Shapes, image_shape: tuple[int, int, int] | None) -> Programs:
    """Compile start and step, both at once, ahead of time; they serve every tracker of that configuration.

    Args:
        online: the tracker's functions.
        params: its parameters' shapes.
        image_shape: (height, width, 3) for programs that crop on the device; None for those that take patches.
    """
    file = cache_file(repr((online, params, image_shape)))
    if file and (kept := read_programs(file)):
        return Programs(*compile_all(kept))
    like = params.tree()
    c = online.config
    floats = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.float32)  # noqa: E731
    pixels = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.uint8)  # noqa: E731
    if image_shape is None:
        side = c.model.patch_size
        searched = 1 if c.online.regression else len(c.online.scales)
        start, step = jax.jit(online.start_patches), jax.jit(online.step_patches)
        first = (pixels(len(c.online.aspects) ** 2, side, side, 3), floats(4), floats(2))
        later = pixels(searched, side, side, 3)
    else:
        start, step = jax.jit(online.start), jax.jit(online.step)
        first, later = (pixels(*image_shape), floats(4)), pixels(*image_shape)
    state = jax.eval_shape(start, like, *first)
    # Step takes longest to compile: the compiler leaves Python free to trace start meanwhile.
    with ThreadPoolExecutor(1) as pool:
        traced_step = jax.export.export(step)(like, state, later)
        compiled_step = pool.submit(compile_one, traced_step)
        traced_start = jax.export.export(start)(like, *first)
        compiled_start = compile_one(traced_start)
        if file:
            write_programs(file, [traced_start, traced_step])
        return Programs(compiled_start, compiled_step.result())


def compile_one(program: Exported) -> Callable:
    """Machine code of a traced program."""
    arguments, keywords = jax.tree.unflatten(
        program.in_tree, [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in program.in_avals]
    )
    return jax.jit(program.call).lower(*arguments, **keywords).compile()


def compile_all(programs: list[Exported]) -> list[Callable]:
    """Machine code of several programs, compiled at once."""
    with ThreadPoolExecutor(len(programs)) as pool:
        return list(pool.map(compile_one, programs))


def enable_compilation_cache() -> None:
    """Keep compiled programs in the user's cache folder, unless JAX was already told where to keep them."""
    if jax.config.values["jax_compilation_cache_dir"] is None and "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        folder = Path(platformdirs.user_cache_dir("roam_jax")) / "programs"
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def cache_file(what: str) -> Path | None:
    """Where the traced programs of something belong; None where JAX is not to keep compiled programs either."""
    folder = jax.config.values["jax_compilation_cache_dir"]
    if not folder or not jax.config.values["jax_enable_compilation_cache"]:
        return None
    versions = (jax.__version__, jaxlib.__version__, jax.default_backend(), jax.config.values["jax_enable_x64"])
    key = hashlib.sha256(repr((what, versions, source_digest())).encode()).hexdigest()
    return Path(folder) / f"roam_jax-{key[:32]}.zip"


@functools.cache
def source_digest() -> str:
    """SHA-256 over the sources that programs are made from."""
    package = Path(__file__).parents[1]
    files = [package / "config.py", *(file for part in TRACED_PARTS for file in sorted((package / part).rglob("*.py")))]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def read_programs(file: Path) -> list[Exported] | None:
    """Programs that `write_programs` wrote; None if there are none, or the file is damaged."""
    try:
        with zipfile.ZipFile(file) as archive:
            # reading a member checks its sum
            return [jax.export.deserialize(bytearray(archive.read(name))) for name in archive.namelist()]
    except (OSError, zipfile.BadZipFile, ValueError, KeyError):
        return None


def write_programs(file: Path, programs: list[Exported]) -> None:
    """Write traced programs, if the folder can be written; the file is complete or not there."""
    partial = file.with_name(f"{file.name}.{uuid.uuid4().hex[:8]}")
    with contextlib.suppress(OSError):  # a cache that cannot be kept is no reason to stop
        file.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(partial, "w") as archive:
            for number, program in enumerate(programs):
                archive.writestr(str(number), bytes(program.serialize()))
        partial.replace(file)
