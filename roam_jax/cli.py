"""What the command lines share: exit codes and the one mapping from errors to them, options, and settings as options.

A command parses its arguments with `parse`, runs inside `run_command`, and raises errors of the kinds of `errors.py`.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from itertools import pairwise
from typing import Annotated, Any, NoReturn, get_args

import tyro
from tyro.constructors import ConstructorRegistry, StructConstructorSpec, StructFieldSpec, StructTypeInfo

from roam_jax.errors import DisplayError, DivergedError, InputError, ModelError, OutputError, UsageError, usage_errors
from roam_jax.typed import Range, ranges

Flag = Annotated[bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(help_behavior_hint="")]
"""option that is there or not; a field that is True by default is the option --no-..."""


class ExitCode(IntEnum):
    """Exit codes of all commands; what each means for one of them is in its help."""

    SUCCESS = 0
    FAILURE = 1
    """a fault of the program itself; a traceback follows"""
    USAGE = 2
    INPUT = 3
    DISPLAY = 4
    CHECKPOINT = 5
    OUTPUT = 6
    DIVERGED = 7
    STOPPED = 75
    """stopped in good order, and can be gone on with"""
    INTERRUPTED = 130


CODES: dict[type[Exception], ExitCode] = {
    UsageError: ExitCode.USAGE,
    InputError: ExitCode.INPUT,
    DisplayError: ExitCode.DISPLAY,
    ModelError: ExitCode.CHECKPOINT,
    OutputError: ExitCode.OUTPUT,
    OSError: ExitCode.OUTPUT,
    DivergedError: ExitCode.DIVERGED,
}
"""exit code of each kind of error; all others are faults of the program"""


def code_of(error: BaseException) -> ExitCode:
    """Exit code for an error: that of the nearest of its classes in `CODES`, or `FAILURE`."""
    return next((CODES[kind] for kind in type(error).__mro__ if kind in CODES), ExitCode.FAILURE)


def run_command(command: Callable[[], int | None]) -> int:
    """Run a command; an error that explains itself, and Ctrl-C, become one line on stderr.

    Args:
        command: returns its exit code, or None for success. The text of a KeyboardInterrupt replaces "interrupted".

    Returns:
        The exit code (`ExitCode`).

    Raises:
        Exception: a fault of the program, which is no error of a kind in `CODES`.
    """
    try:
        return int(command() or ExitCode.SUCCESS)
    except KeyboardInterrupt as stop:
        print(str(stop) or "interrupted", file=sys.stderr)
        return int(ExitCode.INTERRUPTED)
    except SystemExit as stop:  # tyro has printed its help, or what is wrong with the arguments
        return int(stop.code or 0)
    except Exception as error:
        if (code := code_of(error)) == ExitCode.FAILURE:
            raise
        print(f"error: {error}", file=sys.stderr)
        return int(code)


def list_codes(meanings: Mapping[ExitCode, str]) -> str:
    """Lines of a help text with the exit codes of a command."""
    return "\n".join(f"  {code.value:3d}  {meaning}" for code, meaning in meanings.items())


def option(metavar: str, text: str | None = None) -> Any:
    """Marker, for `Annotated`, of an option without a default worth telling.

    Args:
        metavar: what stands for the value in help.
        text: help, instead of the field's docstring.
    """
    return tyro.conf.arg(metavar=metavar, help=text, help_behavior_hint="")


def parse(kind: Any, program: str, argv: Sequence[str] | None = None, *, first: str = "", **more: Any) -> Any:
    """Arguments of a command: `tyro.cli` that refuses empty ones.

    Args:
        kind: dataclass of the arguments, or function that takes them.
        program: what starts it, as `python -m roam_jax.track`.
        argv: arguments after the program's name; those of the process by default.
        first: what the first argument should be, if it need not be an option.
        more: for `tyro.cli`.

    Raises:
        SystemExit: after help was printed (code 0), or what is wrong with the arguments (code 2).
    """
    argv = sys.argv[1:] if argv is None else argv
    refuse_empty(argv, first)
    return tyro.cli(kind, prog=program, args=argv, **more)


def refuse_empty(argv: Sequence[str], first: str = "") -> None:
    """Return if no argument is empty, as a variable of a shell is that was not set; a path would mean `.` then.

    Settings (`--config.`) may be empty. It ends as tyro does.

    Args:
        argv: arguments after the program's name.
        first: what the first one should be, if it need not be an option.

    Raises:
        SystemExit: with code 2, after one sentence on stderr.
    """
    for before, word in pairwise(("", *argv)):
        name, equals, value = word.partition("=")
        where, given = (name + equals, value) if name.startswith("--") and equals else (before, word)
        if not given.strip() and not where.startswith("--config."):
            subject = f"the argument after {where}" if where else "the first argument"
            expected = "" if where else f": it should be {first or 'an option'}"
            print(f"error: {subject} is empty{expected}", file=sys.stderr)
            raise SystemExit(int(ExitCode.USAGE))


def check_ranges(args: Any) -> None:
    """Return if every argument is in the range that its field declares.

    Args:
        args: dataclass of the arguments.

    Raises:
        UsageError: which one is not.
    """
    with usage_errors(ValueError):
        for name, marker in ranges(type(args)).items():
            marker.check(getattr(args, name), f"--{name.replace('_', '-')}")


def list_settings(config: Any, program: str, about: str, sections: Sequence[str] = ()) -> NoReturn:
    """Print settings as options, with their ranges and values, and exit.

    Args:
        config: dataclass of sections.
        program: as for `parse`.
        about: what they are.
        sections: which ones; all by default.

    Raises:
        SystemExit: with code 0.
    """
    parts = {f.name: getattr(config, f.name) for f in dataclasses.fields(config) if not sections or f.name in sections}
    listed = dataclasses.make_dataclass("Config", [(name, type(part)) for name, part in parts.items()], frozen=True)
    kind = dataclasses.make_dataclass("Settings", [("config", listed)], frozen=True)
    default = kind(listed(**parts))
    tyro.cli(kind, prog=program, description=about, args=["--help"], default=default, registry=show_ranges())
    raise AssertionError("help has been printed")


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
