"""The folder of a training run: what it was started with, its checkpoints, and the tracker that it made.

config.json  run.json        configuration; command, version, data, seed
log.jsonl  time.jsonl        see `writer`
checkpoints/000500/          everything that training goes on from: the newest ones, and the best by validation
best.json                    which one that is
tracker/                     what `python -m roam_jax.track --checkpoint` loads: the best so far
refused_000123_0.npz         the batch whose meta-gradient was not finite once too often
skipped_0.json               sequences that a process (here 0) could not read, which the run does without
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np

from roam_jax.checkpoints import Checkpoint, CheckpointError, load_tree, save_checkpoint, save_tree
from roam_jax.config import Config
from roam_jax.data.skipped import Entry
from roam_jax.errors import OutputError
from roam_jax.training.state import TrainState

CONFIG, ABOUT, BEST = "config.json", "run.json", "best.json"
CHECKPOINTS, TRACKER, SKIPPED = "checkpoints", "tracker", "skipped_{}.json"


class RunError(OutputError):
    """A run folder that cannot be used; the message is one sentence."""


class Run:
    """A run folder; one process writes, others may read.

    Checkpoints are written in the background, one at a time and in their order. An error of the last one is raised by
    the next call that writes, or by `close`.
    """

    def __init__(self, folder: Path | str, *, keep: int, writes: bool = True) -> None:
        """A folder that was made by `create_run`.

        Args:
            folder: of the run.
            keep: newest checkpoints that stay.
            writes: False in all processes but one: saving then does nothing.
        """
        self.folder, self.keep, self.writes = Path(folder), keep, writes
        if writes:
            _tidy(self.folder)
            _tidy(self.folder / CHECKPOINTS)
        self._pool = ThreadPoolExecutor(1)
        self._job: Future[None] | None = None
        best = read_json(self.folder / BEST) if (self.folder / BEST).is_file() else {}
        self.best_score: float | None = best.get("score")
        self._best_step: int | None = best.get("step")

    def save(
        self,
        state: TrainState,
        tracker: Checkpoint,
        *,
        metadata: dict[str, Any],
        score: float | None = None,
        trunk_source: str = "",
    ) -> None:
        """Begin to write a checkpoint, after the one before is complete.

        Args:
            state: in the host's memory, and no one else's to change.
            tracker: written to the folder `tracker` if it is the best so far, or if nothing was ever validated.
            metadata: anything that JSON can hold.
            score: of a validation, the higher the better; None: there was none at this step.
            trunk_source: see `save_checkpoint`.

        Raises:
            CheckpointError, OSError: of the checkpoint before.
        """
        if not self.writes:
            return
        self.wait()
        better = score is not None and (self.best_score is None or score > self.best_score)
        if better:
            self.best_score = score
        keep = better or self.best_score is None
        metadata = {**metadata, "score": score}
        self._job = self._pool.submit(
            self._write, state, metadata, tracker if keep else None, trunk_source, is_best=better
        )

    def wait(self) -> None:
        """Return when everything is on disk.

        Raises:
            CheckpointError, OSError: it could not be written.
        """
        job, self._job = self._job, None
        if job is not None:
            job.result()

    def close(self) -> None:
        """`wait`, and no more."""
        try:
            self.wait()
        finally:
            self._pool.shutdown()

    def load_latest(self, first: TrainState, *, report: Callable[[str], None]) -> TrainState:
        """The newest checkpoint that is whole; a damaged one is reported in a sentence and put out of the way.

        Args:
            first: the state before the first step, which is returned if the run ended before its first checkpoint.
            report: called with what is wrong with a newer checkpoint.

        Raises:
            CheckpointError: there are checkpoints, and none is whole.
        """
        steps = sorted(self._steps(), reverse=True)
        for step in steps:
            path = self._path(step)
            try:
                return load_tree(path, like=first)[0]
            except CheckpointError as error:
                report(f"the checkpoint of step {step} is left out: {error}")
                if self.writes:
                    os.replace(path, _free_name(path.with_name(f"{path.name}.damaged")))
        if steps:
            raise CheckpointError(f"{self.folder / CHECKPOINTS} has no checkpoint that is whole")
        return first

    def _write(
        self,
        state: TrainState,
        metadata: dict[str, Any],
        tracker: Checkpoint | None,
        trunk_source: str,
        *,
        is_best: bool,
    ) -> None:
        # The checkpoint comes last: whoever goes on from it must find what the validation before it has led to.
        step = int(state.step)
        if tracker is not None:
            _run_alone(save_checkpoint, self.folder / TRACKER, tracker, trunk_source=trunk_source)
        if is_best:
            write_json(self.folder / BEST, {"step": step, **metadata})
            self._best_step = step
        _run_alone(save_tree, self._path(step), state, metadata=metadata)
        for old in sorted(self._steps())[: -self.keep]:
            if old != self._best_step:
                shutil.rmtree(self._path(old))

    def _steps(self) -> list[int]:
        return [int(p.name) for p in (self.folder / CHECKPOINTS).glob("[0-9]*") if p.name.isdigit() and p.is_dir()]

    def _path(self, step: int) -> Path:
        return self.folder / CHECKPOINTS / f"{step:06d}"


def create_run(folder: Path | str, config: Config, about: dict[str, Any]) -> None:
    """Make the folder of a new run with its `config.json` and `run.json`.

    Raises:
        RunError: the folder is not empty.
        OSError: it cannot be made.
    """
    check_free(folder)
    Path(folder).mkdir(parents=True, exist_ok=True)
    write_json(Path(folder) / CONFIG, config.to_dict())
    write_json(Path(folder) / ABOUT, about)


def check_free(folder: Path | str) -> None:
    """Raise a `RunError` if a new run cannot be made in the folder, because something is in it."""
    folder = Path(folder)
    if (folder / ABOUT).exists():
        raise RunError(f"{folder} holds a run already: go on with it by --resume {folder}, or name another --output")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RunError(f"{folder} is not empty and no run: name another --output")


def open_run(folder: Path | str) -> tuple[Config, dict[str, Any]]:
    """Configuration of a run, and what else it was started with.

    Raises:
        RunError: the folder is none of a run, or of another version.
    """
    folder = Path(folder)
    if not (folder / ABOUT).is_file():
        raise RunError(f"{folder} is no run to resume: it has no {ABOUT}")
    try:
        values, about = read_json(folder / CONFIG), read_json(folder / ABOUT)
        if "train" in values or "final_rate" in values.get("meta", {}):
            raise RunError(
                f"{folder} is of an older version: python -m roam_jax.checkpoints.convert {folder} NEW_FOLDER"
            )  # fmt: skip
        return Config.from_dict(values), about
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise RunError(f"{folder} cannot be resumed: its {CONFIG} or {ABOUT} is damaged: {error}") from error


def read_skipped(folder: Path) -> list[Entry]:
    """Sequences that the processes of a run have left out.

    Raises:
        RunError: a file that says which is damaged.
    """
    entries = []
    for path in sorted(folder.glob(SKIPPED.format("[0-9]*"))):
        try:
            entries += [Entry(**values) for values in read_json(path)]
        except (OSError, ValueError, TypeError) as error:
            raise RunError(f"{folder} cannot be resumed: its {path.name} is damaged: {error}") from error
    return entries


def read_json(path: Path) -> Any:
    """What is in a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Replace a file at once by a JSON one."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    os.replace(partial, path)


def save_batch(path: Path, batch: Any) -> None:
    """Write the arrays of a batch to an .npz file, by field."""
    arrays = batch._asdict()
    levels = arrays.pop("levels", ())
    np.savez(path, **arrays, **{f"level{index}": level for index, level in enumerate(levels)})


def _run_alone(function: Callable[..., None], *args: Any, **kwargs: Any) -> None:
    """Call a function that uses orbax, which waits for all processes: where there are several, in one of its own."""
    if jax.process_count() == 1:
        function(*args, **kwargs)
        return
    process = multiprocessing.get_context("spawn").Process(target=_on_cpu, args=(function, args, kwargs))
    process.start()
    process.join()
    if process.exitcode:
        raise CheckpointError(f"{args[0]} could not be written, see above")


def _on_cpu(function: Callable[..., None], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    jax.config.update("jax_platforms", "cpu")
    function(*args, **kwargs)


def _tidy(folder: Path) -> None:
    """Take away what a killed process has left of unfinished writing; a directory that it was replacing comes back."""
    for leftover in (*folder.glob(".*.old"), *folder.glob(".*.new")):
        replaced = folder / leftover.name[1:].rsplit(".", 2)[0]
        if leftover.suffix == ".old" and not replaced.exists():
            os.replace(leftover, replaced)
        else:
            shutil.rmtree(leftover)


def _free_name(path: Path) -> Path:
    names = (path, *(path.with_name(f"{path.name}{n}") for n in range(2, 1000)))
    return next(name for name in names if not name.exists())
