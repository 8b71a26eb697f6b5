"""Settings as options of a command line: tyro's, with the range that each number may have."""

from __future__ import annotations

import dataclasses
from typing import Annotated, get_args

import tyro
from tyro.constructors import ConstructorRegistry, StructConstructorSpec, StructFieldSpec, StructTypeInfo

from roam_jax.typed import Range


def show_ranges() -> ConstructorRegistry:
    """Registry for `tyro.cli` with which help names the range of each field that declares one."""
    registry, inside = ConstructorRegistry(), []

    @registry.struct_rule
    def with_ranges(info: StructTypeInfo) -> StructConstructorSpec | None:
        if inside or not dataclasses.is_dataclass(info.type):
            return None
        inside.append(info)  # what follows asks all rules again: this one must leave it to tyro's own
        try:
            spec = ConstructorRegistry.get_struct_spec(info)
        finally:
            inside.pop()
        if not isinstance(spec, StructConstructorSpec):
            return None
        return dataclasses.replace(spec, fields=tuple(map(_with_range, spec.fields)))

    return registry


def _with_range(field: StructFieldSpec) -> StructFieldSpec:
    number = next((marker for marker in get_args(field.type)[1:] if isinstance(marker, Range)), None)
    if number is None:
        return field
    kind = get_args(field.type)[0]
    name = kind.__name__.upper() if isinstance(kind, type) else f"{get_args(kind)[0].__name__.upper()} ..."
    metavar = tyro.conf.arg(metavar=f"{name} ({number})")
    return dataclasses.replace(field, type=Annotated[field.type, metavar])  # type: ignore[arg-type]
