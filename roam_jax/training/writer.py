"""Records of a training run: `log.jsonl` and `time.jsonl` in its folder, and TensorBoard events.

A line of `log.jsonl` is an object with `step` and, where there are any, `scalars` (name: number), `series` (name:
list) and `histograms` (name: `{"edges": [...], "counts": [...]}`, with `"not_finite": n` if there are such values). A
number that is not finite is `null`. Nothing in it depends on the clock, so a run that is stopped and resumed leaves the
same bytes as one that is not; what was measured by the clock is in `time.jsonl`.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from jaxtyping import ArrayLike

from roam_jax.errors import OutputError
from roam_jax.extras import require

LOG_FILE, TIME_FILE, EVENTS_FOLDER = "log.jsonl", "time.jsonl", "tensorboard"
BINS = 48


class LogError(OutputError):
    """Records that cannot be written or read; the message is one sentence."""


class Writer:
    """Writes the records of one run; also a context manager.

    Every line is handed to the operating system at once, so that a killed process loses none.
    """

    def __init__(self, folder: Path | str, *, resume_step: int = 0, tensorboard: bool = True) -> None:
        """Open the files, without the lines of steps from `resume_step` on and without a line that was cut off.

        Args:
            folder: of the run; made if it is not there.
            resume_step: the next step of the run; 0 starts the files anew.
            tensorboard: write TensorBoard events too, in the folder `tensorboard`.

        Raises:
            MissingExtra: its events are asked for, but tensorboardX is not installed.
            LogError: what is in the files is not a log.
        """
        kinds = _import_tensorboard() if tensorboard else None
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self._log = _reopen(folder / LOG_FILE, resume_step)
        self._time = _reopen(folder / TIME_FILE, resume_step)
        self._events = Events(folder / EVENTS_FOLDER, resume_step, *kinds) if kinds else None

    def log(
        self,
        step: int,
        scalars: Mapping[str, ArrayLike],
        series: Mapping[str, ArrayLike] | None = None,
        histograms: Mapping[str, ArrayLike] | None = None,
    ) -> None:
        """Write the records of a step; a step may have several lines.

        Args:
            step: number of the step, from 0.
            scalars: one number each.
            series: a vector each, one number per model update, say.
            histograms: arrays of any shape, of whose values the distribution is kept; see `histogram_of`.
        """
        lists = {name: np.asarray(values, np.float64).ravel() for name, values in (series or {}).items()}
        counted = {name: histogram_of(np.asarray(values)) for name, values in (histograms or {}).items()}
        numbers = {name: float(np.asarray(value)) for name, value in scalars.items()}
        record = {
            "scalars": {name: _number(value) for name, value in numbers.items()},
            "series": {name: [_number(value) for value in values.tolist()] for name, values in lists.items()},
            "histograms": counted,
        }
        _write_line(self._log, {"step": int(step)} | {kind: values for kind, values in record.items() if values})
        if self._events is None:
            return
        for name, value in numbers.items():
            self._events.add_scalar(name, value, step)
        for name, values in lists.items():
            for index, value in enumerate(values.tolist()):
                self._events.add_scalar(f"{name}/{index}", value, step)
        for name, values in (histograms or {}).items():
            self._add_histogram(name, np.asarray(values, np.float64), counted[name], step)
        self._events.flush()

    def log_time(self, step: int, scalars: Mapping[str, ArrayLike]) -> None:
        """Write what was measured by the clock at a step, in seconds or per second, apart from the rest."""
        numbers = {name: float(np.asarray(value)) for name, value in scalars.items()}
        _write_line(self._time, {"step": int(step), "scalars": {n: _number(value) for n, value in numbers.items()}})
        if self._events is not None:
            for name, value in numbers.items():
                self._events.add_scalar(f"time/{name}", value, step)

    def close(self) -> None:
        """Close all files; calling it again does nothing."""
        events, self._events = self._events, None
        with self._log, self._time:
            if events is not None:
                events.close()

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _add_histogram(self, name: str, values: np.ndarray, counted: dict[str, Any], step: int) -> None:
        finite = values[np.isfinite(values)]
        if self._events is None or not finite.size:
            return
        histogram = {
            "min": finite.min(),
            "max": finite.max(),
            "num": finite.size,
            "sum": finite.sum(),
            "sum_squares": (finite**2).sum(),
            "bucket_limit": counted["edges"][1:],
            "bucket": counted["counts"],
        }
        self._events.add_value(name, step, histo=histogram)


class Events:
    """TensorBoard's file of events, written where it is called.

    tensorboardX's own writer hands events to a thread through a queue, and waits forever once that thread has met a
    full disk.
    """

    def __init__(self, folder: Path, resume_step: int, open_file: Any, event: Any) -> None:
        """Open a file of its own; TensorBoard leaves out earlier events of steps from `resume_step` on.

        Args:
            folder: made if it is not there.
            resume_step: the next step of the run.
            open_file: tensorboardX's `EventsWriter`.
            event: its `Event`.
        """
        # Event files are named by the second: without the suffix, a run that is resumed at once would replace its own.
        folder.mkdir(parents=True, exist_ok=True)
        self._file, self._event = open_file(str(folder / "events"), f".{resume_step}"), event
        if resume_step:
            self._add(resume_step, session_log={"status": "START"})

    def add_scalar(self, name: str, value: float, step: int) -> None:
        """A number at a step."""
        self.add_value(name, step, simple_value=value)

    def add_value(self, name: str, step: int, **value: Any) -> None:
        """A value of some kind, as the fields of TensorBoard's `Summary.Value`, at a step."""
        self._add(step, summary={"value": [{"tag": name, **value}]})

    def flush(self) -> None:
        """Put everything on the disk."""
        self._file.flush()

    def close(self) -> None:
        """`flush`, and close the file."""
        self._file.close()

    def _add(self, step: int, **content: Any) -> None:
        self._file.write_event(self._event(wall_time=time.time(), step=step, **content))


def histogram_of(values: np.ndarray, bins: int = BINS) -> dict[str, Any]:
    """`{"edges": [...], "counts": [...]}` from the smallest to the largest finite value.

    The edges are evenly spaced; in logarithm if all values are positive, as learning rates are, which spread over
    orders of magnitude. Values that are all the same are in one bin of no width; where nothing is finite there are no
    bins. `"not_finite"` counts the values that are not, if there are any.
    """
    values = np.asarray(values, np.float64).ravel()
    finite = values[np.isfinite(values)]
    rest = {"not_finite": len(values) - len(finite)} if len(finite) < len(values) else {}
    if not len(finite):
        return {"edges": [], "counts": []} | rest
    low, high = finite.min(), finite.max()
    if low == high:
        return {"edges": [low.item(), high.item()], "counts": [len(finite)]} | rest
    edges = (np.geomspace if low > 0 else np.linspace)(low, high, bins + 1)
    counts, _ = np.histogram(finite, edges)
    return {"edges": edges.tolist(), "counts": counts.tolist()} | rest


def read_log(path: Path | str) -> list[dict[str, Any]]:
    """Lines of `log.jsonl` or `time.jsonl`, in their order; a last line that was cut off is left out.

    Raises:
        LogError: no such file, or another line that is not a record.
    """
    path = Path(path)
    if not path.is_file():
        raise LogError(f"{path} should be the log of a training run, but there is no such file")
    return [record for record, _ in _records(path)]


def _records(path: Path) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Each record with its line."""
    lines = path.read_bytes().splitlines(keepends=True)
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
            complete = isinstance(record["step"], int) and line.endswith(b"\n")
        except (ValueError, KeyError, TypeError):
            complete, record = False, {}
        if complete:
            yield record, line
        elif number < len(lines):
            raise LogError(f"{path} line {number} should be a record of a step, but it is not: remove it by hand")


def _reopen(path: Path, resume_step: int) -> Any:
    """File to append to, after lines of steps from `resume_step` on are dropped, all at once or not at all."""
    if path.exists():
        kept = [line for record, line in _records(path) if record["step"] < resume_step] if resume_step else []
        partial = path.with_suffix(".partial")
        partial.write_bytes(b"".join(kept))
        os.replace(partial, path)
    return path.open("ab")


def _write_line(file: Any, record: dict[str, Any]) -> None:
    file.write(json.dumps(record, allow_nan=False, separators=(",", ":")).encode() + b"\n")
    file.flush()


def _number(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _import_tensorboard() -> tuple[Any, Any]:
    require("tensorboardX")
    from tensorboardX import event_file_writer
    from tensorboardX.proto import event_pb2

    return event_file_writer.EventsWriter, event_pb2.Event  # type: ignore[attr-defined]
