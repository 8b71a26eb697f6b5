from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest

from roam_jax.interrupts import StopRequest, deaf_children, leave_at_once, raised_again

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT that a test can send")


def interrupt(*arguments: str, after: str = "ready", **options) -> tuple[int, list[str], str]:
    """Send SIGINT to a Python program once a line of its stderr has a word; exit code, lines after that, and stdout."""
    process = subprocess.Popen(
        [sys.executable, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )
    assert process.stderr
    for line in process.stderr:
        if after in line:
            break
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    return process.returncode, [line for line in err.splitlines() if not line.startswith("import time")], out


@pytest.mark.parametrize("command", ["track", "train", "evaluate"])
@pytest.mark.parametrize("module", ["dataclasses", "roam_jax.typed", "tyro"])
def test_a_command_that_is_still_importing_leaves_with_one_line(command, module):
    words = ("-X", "importtime", "-m", f"roam_jax.{command}", "--help")
    code, lines, out = interrupt(*words, after=f" {module}\n")
    assert (code, out) == (130, "")
    assert lines == ["interrupted"]


LEAVING = """
import sys, time
from roam_jax.interrupts import leave_at_once
leave_at_once()
print("kept")
"""


def test_leaving_needs_nobody_to_pass_an_exception_on():
    code, lines, out = interrupt(
        "-c",
        LEAVING
        + """
class Callback:
    def __del__(self):
        print("ready", file=sys.stderr)
        time.sleep(60)
try:
    Callback()
    time.sleep(60)
except BaseException:
    pass
""",
    )
    assert (code, lines, out) == (130, ["interrupted"], "kept\n")


def test_the_line_stands_alone_where_a_bar_was():
    program = """
from tqdm import tqdm
for _ in tqdm(range(9), desc="bar"):
    print("ready", file=sys.stderr)
    time.sleep(60)
"""
    code, lines, out = interrupt("-c", LEAVING + program)
    assert (code, lines[-1], out) == (130, "interrupted", "kept\n")
    assert not "".join(lines[:-1]).strip(), "blanks over the bar"


def test_a_process_that_ignores_ctrl_c_goes_on_to():
    program = "import signal; from roam_jax.interrupts import leave_at_once; leave_at_once();"
    program += "print(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)"
    ignoring = f"import os, signal; signal.signal(signal.SIGINT, signal.SIG_IGN); os.execv({sys.executable!r}, "
    ignoring += f"[{sys.executable!r}, '-c', {program!r}])"
    done = subprocess.run([sys.executable, "-c", ignoring], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_ctrl_c_can_be_an_exception_again_for_a_while():
    before = signal.getsignal(signal.SIGINT)
    try:
        leave_at_once()
        leaving = signal.getsignal(signal.SIGINT)
        assert leaving is not before
        with pytest.raises(KeyboardInterrupt), raised_again():
            send(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is leaving
    finally:
        signal.signal(signal.SIGINT, before)
    with raised_again():
        assert signal.getsignal(signal.SIGINT) is before, "in a program of somebody else it stays what it was"


def test_children_that_do_not_hear_are_not_disturbed():
    with deaf_children():
        child = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(0.3,))
        child.start()
    for _ in range(5):
        os.kill(child.pid, signal.SIGINT)
        time.sleep(0.05)
    child.join(60)
    assert child.exitcode == 0
    with pytest.raises(KeyboardInterrupt):
        send(signal.SIGINT)


def send(number):
    os.kill(os.getpid(), number)
    time.sleep(0.01)  # the handler runs between two instructions of Python


def test_the_first_signal_is_remembered_and_the_second_is_not_held_up():
    before = signal.getsignal(signal.SIGTERM)
    with StopRequest() as stop:
        assert not stop.requested
        send(signal.SIGTERM)
        assert stop.requested
        assert signal.getsignal(signal.SIGTERM) is before
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)


def test_handlers_are_put_back():
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with StopRequest():
        assert signal.getsignal(signal.SIGTERM) is not before[0]
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
