"""The loop of meta-training (Algorithm 1): batch, meta-gradient, step, log; validate and save now and then."""

from __future__ import annotations

import time
from collections.abc import Iterator
from collections.abc import Sequence as ListOf
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from tqdm.auto import tqdm

from roam_jax.checkpoints import Checkpoint
from roam_jax.config import Config
from roam_jax.data.pipeline import ClipBatch
from roam_jax.errors import DivergedError
from roam_jax.interrupts import StopRequest
from roam_jax.method import make_method
from roam_jax.tracking.params import Params, params_to_dict
from roam_jax.training.parallel import Batch, StepReport, Trainer
from roam_jax.training.report import write_card
from roam_jax.training.runs import Run, save_batch
from roam_jax.training.state import TrainState
from roam_jax.training.validate import Judge, Validation, mean_losses
from roam_jax.training.writer import Writer


class Diverged(DivergedError):
    """Too many meta-gradients in a row that were not finite."""


@dataclass(frozen=True)
class Job:
    """What the loop works with."""

    config: Config
    trainer: Trainer
    trunk: Any
    """parameters of the trunk, for the tracker that is written"""
    run: Run
    about: dict[str, Any]
    """what the run was started with, for the model card"""
    held_out: ListOf[ClipBatch]
    judge: Judge | None
    """measures the tracker, in the first process; None: it is not measured"""
    trunk_source: str = ""
    """if not empty, trackers are written without the trunk"""


def train(
    job: Job, state: TrainState, batches: Iterator[Batch], writer: Writer | None, stop: StopRequest
) -> tuple[TrainState, bool]:
    """Go on from a state to the last step, or until some process is asked to stop; what was reached is saved.

    Args:
        job: programs, run and validation.
        state: in the host's memory.
        batches: from its step on, this process's rows.
        writer: of the log; None in all processes but the first.
        stop: whether to leave after the present step.

    Returns:
        The last state, in the host's memory, and whether training is complete.

    Raises:
        Diverged: `run.max_refused` meta-gradients in a row were not finite; the last batch is in the run's folder.
        DataError: a batch cannot be read; the state before it is saved.
        CheckpointError, OSError: something cannot be written.
    """
    t, run, trainer = job.config.meta, job.config.run, job.trainer
    start, saved = int(state.step), int(state.step)
    replicated, validation = trainer.replicate(state), Validation()
    bar = tqdm(initial=start, total=t.total_steps, unit="step", disable=writer is None)
    step, stopped = start, False
    with bar:
        while step < t.total_steps and not stopped:
            began = time.perf_counter()
            try:
                batch = next(batches)
            except Exception:
                if step > saved:
                    _save(job, trainer.fetch(replicated), Validation())
                    job.run.wait()
                raise
            waited = time.perf_counter() - began
            replicated, reported = trainer.step(replicated, step, batch, stop.requested)
            report = trainer.fetch(reported)
            seconds = time.perf_counter() - began
            if writer:
                shown = step % run.histogram_every == 0 or step + 1 == t.total_steps
                histograms = trainer.fetch(replicated.learned) if shown else None
                log_step(writer, step, report, histograms, job.config)
                writer.log_time(step, {"step": seconds, "data": waited, "clips_per_second": t.batch / seconds})
            bar.set_postfix(_postfix(report, validation, t.batch / seconds), refresh=False)
            bar.update()
            if report.refused_in_a_row >= run.max_refused:
                save_batch(job.run.folder / f"refused_{step:06d}_{jax.process_index()}.npz", batch)
                raise Diverged(
                    f"the meta-gradient was not finite {run.max_refused} times in a row up to step {step}; the last "
                    f"batch is in {job.run.folder}"
                )
            step, stopped = step + 1, bool(report.stop)
            last = step == t.total_steps
            due = run.validate_every and (last or step % run.validate_every == 0) and not stopped
            if due or last or stopped or step % run.save_every == 0:
                host = trainer.fetch(replicated)
                measured = validate(job, replicated.learned, host) if due else Validation()
                if due:
                    validation = measured
                    if writer and measured.summary():
                        writer.log(step - 1, measured.summary())
                        bar.write(f"step {step}: {measured}")
                _save(job, host, measured)
                saved = step
    job.run.wait()
    return trainer.fetch(replicated), step == t.total_steps


def validate(job: Job, learned: Params, host: TrainState) -> Validation:
    """Meta loss on the held-out clips, by all processes; success AUC of the tracker, by the one that can judge."""
    losses = mean_losses(job.trainer, learned, job.held_out)
    return Validation(losses, job.judge(make_checkpoint(job, host, Validation(losses))) if job.judge else {})


def make_checkpoint(job: Job, host: TrainState, validation: Validation) -> Checkpoint:
    """What the tracker loads."""
    params = params_to_dict(host.learned._replace(trunk=job.trunk))
    card = write_card(job.config, job.about, int(host.step), validation.summary())
    return Checkpoint(job.config, jax.tree.map(np.asarray, params), card)


def log_step(writer: Writer, step: int, report: StepReport, learned: Params | None, config: Config) -> None:
    """Losses by update, norms by part and counts; with `learned` the distributions of Fig. 2 and 8 too."""
    losses = report.losses
    scalars = {
        "train/loss": losses.total,
        **{f"gradient/{part}": norm for part, norm in report.norms.items()},
        "train/refused": report.refused,
    }
    series = {"train/update": losses.update, "train/meta": losses.meta, "train/rate": losses.rates}
    series |= {f"train/{name}": values for name, values in losses.terms.items()}
    histograms = {}
    if learned is not None:
        initial = make_method(config).first_rates(learned.lambda0)
        for name, tree in (("theta", learned.theta0), ("initial_rates", initial)):
            for branch in ("cf", "reg"):
                leaves = jax.tree.leaves(getattr(tree, branch))
                histograms[f"{name}/{branch}"] = np.concatenate([np.ravel(leaf) for leaf in leaves])
        # Quantiles, averaged over the clips, have the distribution of the rates themselves.
        histograms |= {f"rates/{update}": spread for update, spread in enumerate(losses.spread)}
    writer.log(step, scalars, series, histograms)


def _save(job: Job, host: TrainState, validation: Validation) -> None:
    if not job.run.writes:
        return
    job.run.save(
        host,
        make_checkpoint(job, host, validation),
        metadata={"step": int(host.step), "validation": validation.summary()},
        score=validation.score,
        trunk_source=job.trunk_source,
    )


def _postfix(report: StepReport, validation: Validation, clips_per_second: float) -> dict[str, str]:
    shown = {"loss": f"{float(report.losses.total):.4f}", "clips/s": f"{clips_per_second:.2f}"}
    if validation.losses is not None:
        shown["held out"] = f"{float(validation.losses.total):.4f}"
    if validation.auc is not None:
        shown["AUC"] = f"{validation.auc:.3f}"
    if report.refused:
        shown["refused"] = str(int(report.refused))
    return shown
