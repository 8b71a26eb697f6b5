from __future__ import annotations

import os
import signal
import time

import pytest

from roam_jax.training.preemption import StopRequest


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
