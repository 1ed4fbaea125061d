"""The training loop: deterministic in (seed, step), resumable to the bit, no update that is not finite."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from latentdiff.config.loop import LoopOptions
from latentdiff.data import Unreadable, batch_indices
from latentdiff.errors import InputError
from latentdiff.parallel.processes import ALONE, Ranks
from latentdiff.pipeline.checkpoint.folder import Checkpoint, writing
from latentdiff.pipeline.checkpoint.runs import Run
from latentdiff.train.backward import backward, check_batch, workers_of
from latentdiff.train.distributed import (
    DataParallelLoss,
    DDPLoss,
    FSDPLoss,
    SyncState,
    all_reduce_state,
    in_full,
    is_comm_error,
    peer_lost,
)
from latentdiff.train.graceful_stop import GracefulStop
from latentdiff.train.log import TrainLog
from latentdiff.train.optimizer import EMA, make_optimizer
from latentdiff.train.progress import Budget, Reporter, Stopwatch, TrainResult, learning_rate
from latentdiff.train.quick_evaluation import GridSamples
from latentdiff.train.state import (
    TrainState,
    check_perceptual,
    load_state,
    load_train_state,
    save_state,
    state_tensors,
)
from latentdiff.train.task import Task
from latentdiff.viz.figures import save_loss_curve


def other_data(checkpoint: Checkpoint) -> str:
    """The error of a checkpoint that is resumed with other images."""
    return (
        f"{checkpoint.folder}: was trained on other images than the data given now; `resume` needs the same,"
        " `data` names where they are"
    )


class Diverged(InputError):
    """The loss or the gradient is not finite; the weights were not updated with it."""


class Trainer:
    """Trains a task in a run folder. ``options`` is the whole configuration of the task, kept for
    resuming.

    ``data``: fingerprint of the training images. ``about``: the text of the run's config.yaml. Each of
    several processes holds the network in full or, with ``shard``, a shard of it; then nothing can be saved
    when one of them is lost. Shards have no channels-last layout.
    """

    def __init__(
        self,
        task: Task,
        options: LoopOptions,
        run: Run,
        *,
        data: str,
        device: torch.device,
        reporter: Reporter,
        resume: Checkpoint | None = None,
        ranks: Ranks = ALONE,
        shard: bool = False,
        about: str | None = None,
    ) -> None:
        self.task, self.options, self.run, self.device, self.reporter = task, options, run, device, reporter
        self._data, self._about, self.ranks = data, about, ranks
        check_batch(task, options, ranks)
        if resume is not None:
            run.damaged_after(resume)  # InputError unless it is the newest that is whole
        if not shard:
            task.network.to(device)
            if options.channels_last:
                task.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.ema = EMA(task.network, options.ema)
        self._fsdp = FSDPLoss(task, self.ema.module, ranks, device) if shard else None
        self.optimizer = make_optimizer(
            task.network, betas=task.betas, weight_decay=options.weight_decay, fused=options.fused
        )
        self.step, self._first, self._elapsed_before = 0, 0, 0.0
        self._saved_at = 0.0  # seconds of training at the newest checkpoint
        self._window: dict[str, float] = {}  # sums over the steps since the last line of the log
        self._window_steps = 0
        self._resumed_from, self._finished = resume, False
        if resume is not None:
            self._restore(resume)
        self.budget = Budget.of(options, size=task.size, batch=task.batch, default_steps=task.default_steps)
        self.workers = workers_of(task, options, device, ranks)
        self._parallel: DataParallelLoss | None = self._fsdp or (DDPLoss(task) if ranks.count > 1 else None)

    def _restore(self, checkpoint: Checkpoint) -> None:
        """Load the state of a checkpoint; InputError if it was trained on other images."""
        progress = load_train_state(checkpoint)
        if progress.data != self._data:
            raise InputError(other_data(checkpoint))
        check_perceptual(progress, self.task.perceptual_fingerprint, checkpoint)
        load_state(checkpoint, self.task.network, self.ema, self.optimizer)
        self.step = self._first = progress.step
        self._window, self._window_steps = dict(progress.window), progress.window_steps
        self._elapsed_before = self._saved_at = progress.elapsed
        self._finished = progress.finished

    @property
    def finished(self) -> bool:
        """Whether the resumed checkpoint ended its training and the budget is spent."""
        return self._finished and self.budget.progress(self.step, self._elapsed_before) >= 1

    def train(self) -> TrainResult:
        """Train until the budget is spent or a signal comes; both leave a checkpoint, the log and the
        loss curve.

        After a signal no samples are drawn. InputError where another process trains in the run, or has
        trained in it since the checkpoint to resume was opened.
        """
        with ExitStack() as held:
            claim = self.run.training_from(self._resumed_from, self.reporter.note)
            self.ranks.text_of_first(lambda: str(held.enter_context(claim)))
            if self.ranks.first and self._about is not None:
                self.run.config.write_text(self._about, encoding="utf-8")
            return self._train()

    def _train(self) -> TrainResult:
        task = self.task
        log = self._open_log()
        watch = Stopwatch(self._elapsed_before)
        self.reporter.start(self.budget, self.step)
        try:
            with GracefulStop(patient=self.ranks.count > 1) as stop:
                state = SyncState(self._elapsed_before, None)
                while state.signum is None and self.budget.progress(self.step, state.elapsed) < 1:
                    state = self._update(log, watch, stop, state)
                    self._periodic(log, watch, state)
                    if self.ranks.count == 1:  # a single process need not wait for the next exchange
                        state = SyncState(watch.elapsed, stop.signum)
                seconds = watch.elapsed - self._elapsed_before
                signum = state.signum
                with self._saving_on_failure(watch):
                    average = self._average()
                    metrics = {} if signum is not None else self._final_metrics(log, average)
                    checkpoint = self._save(watch, finished=signum is None)
                if signum is None:
                    metrics |= self._save_samples(log, average, watch, last=True)
                elif self.ranks.first:
                    save_loss_curve(log.entries, self.run.folder / "loss.png")
        finally:
            self.reporter.stop()
            self.workers.close()
            log.close()
        rate = (self.step - self._first) * task.batch / max(seconds, 1e-9)
        return TrainResult(self.run.folder, checkpoint, self.step, watch.elapsed, rate, signum, metrics)

    def _open_log(self) -> TrainLog:
        """The log of the run; only the first process writes it."""
        if not self.ranks.first:
            return TrainLog(None)
        keep_to = self.step if self._resumed_from else None
        return TrainLog(self.run.log, keep_to=keep_to, tensorboard=self.options.tensorboard)

    def _periodic(self, log: TrainLog, watch: Stopwatch, state: SyncState) -> None:
        """Validate, save and draw samples at the steps of the options, and save after some minutes without;
        only the first process does.
        """
        options = self.options
        with self._saving_on_failure(watch):
            if self.step % options.validate_every == 0:
                average = self._average()
                if self.ranks.first:
                    log.write(self.step, self.task.validate(average))
            late = state.elapsed - self._saved_at >= 60 * options.save_minutes > 0
            if late or self.step % options.save_every == 0:
                self._save(watch)  # before the samples, which may fail
                self._saved_at = state.elapsed
            if self.step % options.sample_every == 0:
                self._save_samples(log, self._average(), watch)

    def _average(self) -> nn.Module:
        """The averaged network, in full in the first process. A collective operation."""
        return self.ema.module if self._fsdp is None else self._fsdp.unsharded(self.ema.module)

    def _update(self, log: TrainLog, watch: Stopwatch, stop: GracefulStop, state: SyncState) -> SyncState:
        """One optimizer step on the batch of (seed, step); returns the state that processes share."""
        task, options = self.task, self.options
        progress = self.budget.progress(self.step, state.elapsed)
        rate = learning_rate(options, task.peak_lr, self.step, progress)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        with self._saving_on_failure(watch):
            goes_on = self.budget.progress(self.step + 1, state.elapsed) < 1
            values, state = all_reduce_state(
                self.ranks, self._backward(goes_on=goes_on), SyncState(watch.elapsed, stop.signum)
            )
            norm = nn.utils.clip_grad_norm_(task.network.parameters(), options.clip_grad)
            values["grad_norm"] = float(in_full(norm))
        for name, value in values.items():
            if not math.isfinite(value):
                raise Diverged(self._divergence(name, value))
        self.optimizer.step()
        self.ema.update(task.network)
        self.step += 1
        self._record(log, values, rate, watch)
        self.reporter.step(self.step, self.budget.progress(self.step, state.elapsed), values)
        return state

    @contextmanager
    def _saving_on_failure(self, watch: Stopwatch) -> Iterator[None]:
        """Save the last common step where a process is lost or an image cannot be read inside."""
        try:
            yield
        except Unreadable as error:
            if not self.ranks.first or self.step == self._first or self._fsdp is not None:
                raise
            raise Unreadable(
                f"{error}; stopped after step {self.step}, `resume` goes on from {self._save(watch)}"
            ) from error
        except RuntimeError as error:
            if self.ranks.count == 1 or not is_comm_error(error):
                raise
            if self.ranks.first and self.step > self._first and self._fsdp is None:
                self._save(watch)
            raise peer_lost(error, self.ranks, self.run, self.step) from error

    def _backward(self, *, goes_on: bool) -> dict[str, float]:
        """Gradients of the batch, micro-batch by micro-batch; returns the mean of every logged value.

        ``goes_on``: another step follows this one.
        """
        task, parts = self.task, self.options.accumulate
        positions, indices = self._batch(self.step)
        if self.step == self._first:
            task.prefetch(*self._share(positions, indices))
        if goes_on:
            task.prefetch(*self._share(*self._batch(self.step + 1)))

        sums: dict[str, float] = {}
        for k, part in enumerate(zip(positions.chunk(parts), indices.chunk(parts), strict=True)):
            if self._parallel is None:
                loss = partial(task.loss, self.step)
            else:
                loss = partial(self._parallel, self.step, last=k == parts - 1)
            mine = self.ranks.share(len(part[0]))
            own = part[0][mine], part[1][mine]
            for name, value in backward(task.network, loss, *own, self.workers, share=1 / parts).items():
                sums[name] = sums.get(name, 0.0) + value / parts
        return sums

    def _batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Data positions and image indices of a step, int64 [batch] each."""
        positions = torch.arange(step * self.task.batch, (step + 1) * self.task.batch)
        size, seed = self.task.size, self.options.seed
        return positions, batch_indices(size, batch=self.task.batch, step=step, seed=seed)

    def _share(self, positions: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
        """What this process takes of a batch, micro-batch by micro-batch."""
        parts = self.options.accumulate
        mine, its = (
            torch.cat([part[self.ranks.share(len(part))] for part in whole.chunk(parts)])
            for whole in (positions, indices)
        )
        return mine, its

    def _record(self, log: TrainLog, values: Mapping[str, float], rate: float, watch: Stopwatch) -> None:
        for name, value in values.items():
            self._window[name] = self._window.get(name, 0.0) + value
        self._window_steps += 1
        if self.step % self.options.log_every == 0:
            means = {name: total / self._window_steps for name, total in self._window.items()}
            log.write(self.step, {**means, "lr": rate, "seconds": round(watch.elapsed, 3)})
            self._window, self._window_steps = {}, 0

    def _divergence(self, name: str, value: float) -> str:
        kept = self.run.checkpoints()
        where = f"the last good checkpoint is {kept[-1]}" if kept else "no checkpoint had been written yet"
        return (
            f"{name} is {value} at step {self.step + 1}, expected a finite number; stopped before the update,"
            f" {where}"
        )

    def _final_metrics(self, log: TrainLog, average: nn.Module) -> dict[str, Any]:
        """The metrics of a last validation and of the task."""
        if not self.ranks.first:
            self.task.final_metrics(average, self.ranks)
            return {}
        values = self.task.validate(average)
        if not any(entry["step"] == self.step and "val_loss" in entry for entry in log.entries):
            log.write(self.step, values)
        return {**values, **self.task.final_metrics(average, self.ranks)}

    def _save(self, watch: Stopwatch, *, finished: bool = False) -> Path:
        folder = self.run.checkpoint_folder(self.step)
        average, tensors = self._average(), state_tensors(self.task.network, self.ema, self.optimizer)
        if not self.ranks.first:
            return folder
        progress = TrainState(
            kind=self.task.kind,
            step=self.step,
            elapsed=watch.elapsed,
            ema_updates=self.ema.updates,
            window=self._window,
            window_steps=self._window_steps,
            data=self._data,
            finished=finished,
            perceptual=self.task.perceptual_fingerprint,
            options=self.options.model_dump(mode="json"),
        )
        with writing(folder) as writer:
            self.task.save(writer, average)
            save_state(writer, progress, tensors)
        self.run.prune(self.options.checkpoints_total_limit)
        return folder

    def _save_samples(
        self, log: TrainLog, average: nn.Module, watch: Stopwatch, *, last: bool = False
    ) -> dict[str, Any]:
        """Draw the sample grid and measure some samples; returns their scores. The curves come last."""
        if not self.ranks.first:
            return {}
        grid = self.task.save_samples(average, self.run.folder / f"samples-{self.step:08d}.png")
        values = {} if grid is None else self._quick_scores(log, grid, watch, last=last)
        save_loss_curve(log.entries, self.run.folder / "loss.png")
        return values

    def _quick_scores(
        self, log: TrainLog, grid: GridSamples, watch: Stopwatch, *, last: bool
    ) -> dict[str, Any]:
        """Scores of some samples, {} where they would take too long; those of this step, if it has some."""
        if self.task.quick is None:
            return {}
        earlier = [entry for entry in log.entries if "quick_seconds" in entry]
        if earlier and earlier[-1]["step"] == self.step:
            return {name: value for name, value in earlier[-1].items() if name != "step"}
        elapsed = watch.elapsed
        planned = elapsed / min(1.0, self.budget.progress(self.step, elapsed)) if not last else elapsed
        spent = sum(entry["quick_seconds"] for entry in earlier)
        scores = self.task.quick.measure(grid, planned=planned, spent=spent, last=last)
        if scores.values:
            log.write(self.step, scores.values)
        if scores.text:
            self.reporter.note(f"step {self.step}: {scores.text}")
        return dict(scores.values)
