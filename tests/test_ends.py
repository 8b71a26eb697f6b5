"""Whatever goes wrong, a command leaves no thread and no process behind that could keep it from ending."""

from __future__ import annotations

import errno
import gc
import multiprocessing
import shutil
import threading
import time

import numpy as np
import pytest

import roam_jax.training.loop
import roam_jax.training.parallel
from roam_jax import track, train
from roam_jax.cli import ExitCode
from roam_jax.data.sequences import DataError
from roam_jax.training.loop import make_checkpoint
from roam_jax.training.validate import Validation
from roam_jax.training.writer import Writer
from roam_jax.video import session
from roam_jax.video.source import prefetch


@pytest.fixture
def leftovers():
    """Function that waits a moment for the threads and processes that came since, and names those that stay."""
    before = set(threading.enumerate())

    def find() -> list[str]:
        deadline = time.monotonic() + 20
        while True:
            gc.collect()
            threads = [t.name for t in set(threading.enumerate()) - before if not t.name.startswith("tqdm_monitor")]
            actual = [*threads, *map(str, multiprocessing.active_children())]
            if not actual or time.monotonic() > deadline:
                return actual
            time.sleep(0.05)

    return find


def outcome(function, *args):
    """What it returns, or the kind of what it raises."""
    try:
        return function(*args)
    except Exception as error:
        return type(error)


def full_disk(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DataError("a frame is gone"), ExitCode.INPUT),
        (ZeroDivisionError("a fault"), ZeroDivisionError),
        ("a checkpoint cannot be written", ExitCode.OUTPUT),
    ],
    ids=str,
)
def test_training_ends_while_data_are_read_and_a_checkpoint_is_written(error, code, tmp_path, monkeypatch, leftovers):
    folder = tmp_path / "run"

    def go_wrong(job, state, batches, writer, stop):
        next(batches)
        writer.log(0, {"loss": 1.0})
        if error == "a checkpoint cannot be written":
            shutil.rmtree(folder / "checkpoints", ignore_errors=True)
            (folder / "checkpoints").touch()
        job.run.save(state, make_checkpoint(job, state, Validation()), metadata={})
        if isinstance(error, BaseException):
            raise error
        return state, True

    monkeypatch.setattr(roam_jax.training.loop, "train", go_wrong)
    monkeypatch.setattr(roam_jax.training.parallel, "start_devices", lambda *_, **__: None)  # JAX runs already
    argv = ["--preset", "tiny", "--data", "synthetic", "--output", str(folder)]
    assert outcome(train.main, argv) == code
    if isinstance(error, BaseException):
        error.__traceback__ = None  # the program would be gone by now, and the batches with it
    assert not leftovers()


def test_events_that_cannot_be_written_are_an_error_at_once(tmp_path, monkeypatch):
    """And never wait for a thread that is gone."""
    writer = Writer(tmp_path)
    monkeypatch.setattr("tensorboardX.event_file_writer.EventsWriter.write_event", full_disk)
    caught = []

    def write():
        try:
            for step in range(100):
                writer.log(step, {"loss": 0.5})
        except OSError as error:
            caught.append(error)

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    assert caught[0].errno == errno.ENOSPC
    writer.close()


class Broken:
    """Tracker that breaks in the third frame, while others are decoded and written."""

    box, score, lost = np.zeros(4, np.float32), 1.0, False

    def __init__(self, error):
        self.error, self.frames = error, 0

    def init(self, image, box_xywh):
        pass

    def update(self, image):
        self.frames += 1
        if self.frames == 2:
            raise self.error
        return np.array([1, 2, 30, 40], np.float32)


@pytest.mark.parametrize("error", [RuntimeError("a fault"), KeyboardInterrupt()], ids=str)
def test_tracking_ends(error, tmp_path, monkeypatch, leftovers):
    monkeypatch.setattr(session, "watch", lambda source: prefetch(source.timed()))
    argv = ["--demo", "--output", str(tmp_path / "out")]
    code = ExitCode.INTERRUPTED if isinstance(error, KeyboardInterrupt) else RuntimeError
    assert outcome(track.main, argv, lambda *_: [Broken(error)]) == code
    assert not leftovers()
