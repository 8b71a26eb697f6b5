from __future__ import annotations

import importlib
import pkgutil

import pytest

import roam_jax
from roam_jax.cli import CODES, ExitCode, code_of, list_codes, refuse_empty, run_command
from roam_jax.data.mix import SourceError
from roam_jax.data.sequences import DataError
from roam_jax.errors import ExplainedError, UsageError, usage_errors
from roam_jax.extras import MissingExtra


def kinds_of(kind: type) -> set[type]:
    return {kind}.union(*map(kinds_of, kind.__subclasses__()))


def test_every_error_of_the_package_has_an_exit_code():
    modules = [m.name for m in pkgutil.walk_packages(roam_jax.__path__, "roam_jax.") if not m.name.endswith("__main__")]
    actual = [value for name in modules for value in vars(importlib.import_module(name)).values()]
    errors = {value for value in actual if isinstance(value, type) and issubclass(value, Exception)}
    ours = {kind for kind in errors if kind.__module__.startswith("roam_jax.") and kind is not ExplainedError}
    assert {"CheckpointError", "DataError", "Diverged", "WeightsError", "LogError"} <= {kind.__name__ for kind in ours}
    assert ours <= kinds_of(ExplainedError)
    for kind in ours:
        assert code_of(kind("a sentence")) != ExitCode.FAILURE, kind


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DataError("a frame is gone"), ExitCode.INPUT),
        (SourceError("no such layout"), ExitCode.USAGE),
        (MissingExtra("install it"), ExitCode.USAGE),
        (PermissionError(13, "not yours"), ExitCode.OUTPUT),
        *((kind("why"), code) for kind, code in CODES.items()),
    ],
    ids=repr,
)
def test_an_error_becomes_one_sentence_and_a_code(error, code, capsys):
    def command():
        raise error

    assert run_command(command) == code
    assert capsys.readouterr().err == f"error: {error}\n"


def test_a_fault_of_the_program_is_not_hidden():
    def command():
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        run_command(command)


@pytest.mark.parametrize(("stop", "line"), [(KeyboardInterrupt(), "interrupted"), (KeyboardInterrupt("kept"), "kept")])
def test_ctrl_c_is_one_line(stop, line, capsys):
    def command():
        raise stop

    assert run_command(command) == ExitCode.INTERRUPTED
    assert capsys.readouterr().err == f"{line}\n"


def test_the_code_of_a_command_is_passed_on():
    assert run_command(lambda: None) == 0
    assert run_command(lambda: ExitCode.STOPPED) == 75


def test_errors_become_usage_errors_unless_they_explain_themselves():
    with pytest.raises(UsageError, match="too small"), usage_errors(ValueError):
        raise ValueError("too small")
    with pytest.raises(DataError), usage_errors(Exception):
        raise DataError("a frame is gone")


def test_codes_are_listed_for_help():
    assert list_codes({ExitCode.SUCCESS: "fine", ExitCode.STOPPED: "on"}) == "    0  fine\n   75  on"


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        ([""], "the first argument is empty: it should be the folder"),
        (["--box", " "], "the argument after --box is empty"),
        (["--box="], "the argument after --box= is empty"),
        (["a", ""], "the argument after a is empty"),
    ],
)
def test_an_empty_argument_is_refused(argv, sentence, capsys):
    with pytest.raises(SystemExit, match="2"):
        refuse_empty(argv, "the folder")
    assert capsys.readouterr().err == f"error: {sentence}\n"


def test_other_arguments_are_not_refused():
    refuse_empty(["a", "--config.backbone.weights", "", "--config.backbone.weights="])
