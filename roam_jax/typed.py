"""Frozen dataclasses from JSON: every value is checked against the type, and the range, that its field declares."""

from __future__ import annotations

import dataclasses
import functools
import reprlib
import sys
from dataclasses import dataclass
from numbers import Integral, Real
from types import UnionType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

MOST_ITEMS = 32
"""numbers that a field with a range may list"""
MOST = sys.float_info.max


@dataclass(frozen=True)
class Range:
    """Marker of a field, `Annotated[int, Range(1, 64)]`: the numbers that it may have, both ends included.

    A field of several numbers has one at least, or none where it may be empty, each of them in the range.
    """

    low: float
    high: float
    odd: bool = False
    empty: bool = False

    def __str__(self) -> str:
        """For help texts and errors."""
        return f"{self.low:.10g} to {self.high:.10g}{', odd' if self.odd else ''}"

    def check(self, value: Any, name: str) -> None:
        """Raise a `ValueError` unless the number, or each of them, is in the range."""
        least = 0 if self.empty else 1
        if isinstance(value, tuple) and not least <= len(value) <= MOST_ITEMS:
            raise ValueError(f"{name} must be {least} to {MOST_ITEMS} numbers, but is {len(value)}")
        for number in value if isinstance(value, tuple) else (value,):
            if not self.low <= number <= self.high or (self.odd and number % 2 == 0):
                raise ValueError(f"{name} must be {self}, but is {_show(number)}")


def parse(kind: Any, value: Any, name: str = "") -> Any:
    """The value as `kind`: a dataclass from a dictionary, a tuple from a list, everything else as it is.

    Args:
        kind: a dataclass, bool, int, float, str, `Literal`, `tuple[X, ...]`, `dict[str, X]`, `X | None`, `Any`, or one
            of these in `Annotated` with a `Range`. A float may be given as an int, and must be finite.
        value: as JSON gives it.
        name: of the value, for errors.

    Raises:
        ValueError: which value is of another type, out of its range, missing or not known.
    """
    origin, args = get_origin(kind), get_args(kind)
    if origin is Annotated:
        parsed = parse(args[0], value, name)
        for marker in args[1:]:
            if isinstance(marker, Range):
                marker.check(parsed, name)
        return parsed
    if kind is Any:
        return value
    if dataclasses.is_dataclass(kind):
        return _parse_fields(kind, _require(isinstance(value, dict), value, name, "a group of values"), name)
    if origin is dict:
        _require(isinstance(value, dict) and all(isinstance(key, str) for key in value), value, name, "named values")
        return {key: parse(args[1], item, f"{name}[{key!r}]") for key, item in value.items()}
    if origin is tuple:
        _require(isinstance(value, list | tuple), value, name, "a list")
        return tuple(parse(args[0], item, f"{name}[{index}]") for index, item in enumerate(value))
    if origin is UnionType:
        return None if value is None else parse(args[0], value, name)
    if origin is Literal:
        return _require(isinstance(value, str) and value in args, value, name, "one of " + ", ".join(map(str, args)))
    if kind is float:
        number = isinstance(value, Real) and not isinstance(value, bool)
        finite = number and -MOST <= value <= MOST  # type: ignore[operator]  # not so of NaN
        return float(_require(finite, value, name, "a finite number"))
    if kind is int:
        return int(_require(isinstance(value, Integral) and not isinstance(value, bool), value, name, "a whole number"))
    return _require(isinstance(value, kind), value, name, {bool: "true or false", str: "a text"}[kind])


def ranges(kind: Any) -> dict[str, Range]:
    """The range of each field of a dataclass that has one."""
    markers = {name: get_args(hint)[1:] for name, hint in _hints(kind).items() if get_origin(hint) is Annotated}
    return {name: m for name, several in markers.items() for m in several if isinstance(m, Range)}


def _parse_fields(kind: Any, values: dict[Any, Any], name: str) -> Any:
    hints, where = _hints(kind), name or "the configuration"
    if unknown := sorted(str(key) for key in values.keys() - hints.keys()):
        raise ValueError(f"unknown fields in {where}: {', '.join(map(_show, unknown))}")
    fields = dataclasses.fields(kind)
    needed = {f.name for f in fields if f.default is f.default_factory is dataclasses.MISSING}
    if missing := sorted(needed - values.keys()):
        raise ValueError(f"{where} lacks {', '.join(missing)}")
    inner = f"{name}." if name else ""
    return kind(**{key: parse(hints[key], value, inner + key) for key, value in values.items()})


@functools.lru_cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _require(fine: bool, value: Any, name: str, expected: str) -> Any:
    if not fine:
        raise ValueError(f"{name or 'the configuration'} must be {expected}, but is {_show(value)}")
    return value


def _show(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else reprlib.repr(value)
