"""How many sequences are tracked at once on this machine, and in which way."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as ListOf
from functools import partial

from roam_jax.evaluation import runner
from roam_jax.evaluation.trackers import TrackerChoice, TrackerLike

LANES = 16
"""sequences in lockstep on an accelerator"""


def choose_track(
    choice: TrackerChoice,
    run: Callable[[TrackerLike, runner.S], runner.T],
    *,
    workers: int = 0,
    batch: int = 0,
    lockstep: bool = True,
) -> Callable[[ListOf[runner.S]], runner.Outcomes[runner.T]]:
    """Function that tracks sequences in lockstep, in several processes, or here one after the other.

    Args:
        choice: the tracker; what an accelerator changes holds for `roam` alone.
        run: what is done with the tracker and each sequence, unless they are tracked in lockstep.
        workers: number of processes; 0: as many as are best.
        batch: sequences in one program; 0: as many as are best.
        lockstep: whether several sequences in one program are a choice where none was made.

    Raises:
        UsageError: JAX has no device of the kind that it is told to use.
    """
    if choice.name == "roam":
        from roam_jax.devices import choose_backend

        accelerated = choose_backend() != "cpu"
        batch = batch or (LANES if accelerated and not workers and lockstep else 1)
        workers = workers or (1 if accelerated else runner.count_cores())
        if batch > 1:
            from roam_jax.evaluation.lockstep import track_in_lockstep

            return partial(track_in_lockstep, make_tracker=choice, batch=batch)  # type: ignore[arg-type]
    workers = workers or runner.count_cores()
    if workers == 1:
        return partial(runner.track_here, make_tracker=choice, run=run)
    return partial(runner.track_in_processes, make_tracker=choice, workers=workers, run=run)
