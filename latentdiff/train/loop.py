"""The training loop: deterministic in (seed, step), resumable to the bit, and it never updates with a bad
gradient.
"""

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
from latentdiff.train.backward import DistributedLoss, Part, backward
from latentdiff.train.budget import Budget, Stopwatch, learning_rate
from latentdiff.train.ema import EMA
from latentdiff.train.fsdp import Shards, in_full
from latentdiff.train.log import TrainLog
from latentdiff.train.microbatch import check_batch, workers_of
from latentdiff.train.optimizer import make_optimizer
from latentdiff.train.result import Outcome, Reporter
from latentdiff.train.signals import Interrupt
from latentdiff.train.state import (
    TrainState,
    check_perceptual,
    load_state,
    load_train_state,
    save_state,
    state_tensors,
)
from latentdiff.train.sync import SyncState, all_reduce_state, is_comm_error, peer_lost
from latentdiff.train.task import Task
from latentdiff.viz.figures import save_loss_curve


class Diverged(InputError):
    """The loss or the gradient is not finite; the weights were not updated with it."""


class Trainer:
    """Trains a task in a run folder. ``options`` is the whole configuration of the task, kept for resuming.

    Several processes hold the network each in full, or a ``shard`` of it each; the first then has no copy of
    it to save when another is lost. Shards are in rows, without the channels-last layout. ``about`` is
    written to config.yaml of the run.
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
        self._shards = Shards(task.network, self.ema.module, self._losses, ranks, device) if shard else None
        self.optimizer = make_optimizer(
            task.network, betas=task.betas, weight_decay=options.weight_decay, fused=options.fused
        )
        self.step, self._first, self._elapsed_before = 0, 0, 0.0
        self._window: dict[str, float] = {}  # sums over the steps since the last line of the log
        self._window_steps = 0
        self._resumed_from, self._finished = resume, False
        if resume is not None:
            self._restore(resume)
        self.budget = Budget.of(options, size=task.size, batch=task.batch, default_steps=task.default_steps)
        self.workers = workers_of(task, options, device, ranks)
        self._together = self._shards or (
            DistributedLoss(task.network, self._losses) if ranks.count > 1 else None
        )

    def _restore(self, checkpoint: Checkpoint) -> None:
        """Go back to where a checkpoint was written; InputError if it saw other images."""
        progress = load_train_state(checkpoint)
        if progress.data != self._data:
            raise InputError(
                f"{checkpoint.folder}: was trained on other images than the data given now; resume needs the"
                " same, --data names where they are"
            )
        check_perceptual(progress, self.task.judge, checkpoint)
        load_state(checkpoint, self.task.network, self.ema, self.optimizer)
        self.step = self._first = progress.step
        self._window, self._window_steps = dict(progress.window), progress.window_steps
        self._elapsed_before = progress.elapsed
        self._finished = progress.finished

    @property
    def finished(self) -> bool:
        """Whether the checkpoint resumed from ended its training and the budget asks for no more."""
        return self._finished and self.budget.progress(self.step, self._elapsed_before) >= 1

    def train(self) -> Outcome:
        """Run until the budget is spent or a signal comes; leaves a checkpoint, the log and the loss curve in
        any case.

        A signal leaves no time for samples: only a training that ends by its budget draws them last.
        InputError where another process trains in the run, or has trained in it since the checkpoint to
        resume was opened.
        """
        with ExitStack() as held:
            claim = self.run.training_from(self._resumed_from, self.reporter.note)
            self.ranks.text_of_first(lambda: str(held.enter_context(claim)))
            if self.ranks.first and self._about is not None:
                self.run.config.write_text(self._about, encoding="utf-8")
            return self._train()

    def _train(self) -> Outcome:
        task = self.task
        journal = self._journal()
        watch = Stopwatch(self._elapsed_before)
        self.reporter.start(self.budget, self.step)
        try:
            with Interrupt(patient=self.ranks.count > 1) as interrupt:
                agreed = SyncState(self._elapsed_before, None)
                while agreed.signum is None and self.budget.progress(self.step, agreed.elapsed) < 1:
                    agreed = self._update(journal, watch, interrupt, agreed)
                    self._regular(journal, watch)
                    if self.ranks.count == 1:  # one alone need not wait for the next step to know
                        agreed = SyncState(watch.elapsed, interrupt.signum)
                seconds = watch.elapsed - self._elapsed_before
                signum = agreed.signum
                with self._exchanging(watch):
                    average = self._average()
                    diagnosis = {} if signum is not None else self._finish(journal, average)
                    checkpoint = self._save(watch, finished=signum is None)
                if signum is None:
                    self._pictures(journal, average)
                elif self.ranks.first:
                    save_loss_curve(journal.entries, self.run.folder / "loss.png")
        finally:
            self.reporter.stop()
            self.workers.close()
            journal.close()
        rate = (self.step - self._first) * task.batch / max(seconds, 1e-9)
        return Outcome(self.run.folder, checkpoint, self.step, watch.elapsed, rate, signum, diagnosis)

    def _journal(self) -> TrainLog:
        """The log; processes other than the first keep theirs to themselves."""
        if not self.ranks.first:
            return TrainLog(None)
        keep_to = self.step if self._resumed_from else None
        return TrainLog(self.run.log, keep_to=keep_to, tensorboard=self.options.tensorboard)

    def _regular(self, journal: TrainLog, watch: Stopwatch) -> None:
        """What is due every so many steps; the first process does it, the others wait for it at the next
        step.
        """
        options = self.options
        with self._exchanging(watch):
            if self.step % options.validate_every == 0:
                average = self._average()
                if self.ranks.first:
                    journal.write(self.step, self.task.validate(average))
            if self.step % options.save_every == 0:
                self._save(watch)  # before the pictures: whoever dies drawing has lost nothing
            if self.step % options.sample_every == 0:
                self._pictures(journal, self._average())

    def _average(self) -> nn.Module:
        """The averaged network, in full in the first process; all have to ask for it."""
        return self.ema.module if self._shards is None else self._shards.whole(self.ema.module)

    def _update(
        self, journal: TrainLog, watch: Stopwatch, interrupt: Interrupt, agreed: SyncState
    ) -> SyncState:
        """One optimizer step on the batch that (seed, step) names; returns what all processes hold for true
        after it.
        """
        task, options = self.task, self.options
        progress = self.budget.progress(self.step, agreed.elapsed)
        rate = learning_rate(options, task.peak_lr, self.step, progress)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        with self._exchanging(watch):
            values, agreed = all_reduce_state(
                self.ranks, self._backward(), SyncState(watch.elapsed, interrupt.signum)
            )
            norm = nn.utils.clip_grad_norm_(task.network.parameters(), options.clip_grad)
            values["grad_norm"] = float(in_full(norm))
        for name, value in values.items():
            if not math.isfinite(value):
                raise Diverged(self._divergence(name, value))
        self.optimizer.step()
        self.ema.update(task.network)
        self.step += 1
        self._log(journal, values, rate, watch)
        self.reporter.step(self.step, self.budget.progress(self.step, agreed.elapsed), values)
        return agreed

    @contextmanager
    def _exchanging(self, watch: Stopwatch) -> Iterator[None]:
        """What the processes do together: where one is gone, or an image cannot be read, the first saves the
        last step that all have made, if it has all of it.
        """
        try:
            yield
        except Unreadable as error:
            if not self.ranks.first or self.step == self._first or self._shards is not None:
                raise
            raise Unreadable(
                f"{error}; stopped after step {self.step}, --resume goes on from {self._save(watch)}"
            ) from error
        except RuntimeError as error:
            if self.ranks.count == 1 or not is_comm_error(error):
                raise
            if self.ranks.first and self.step > self._first and self._shards is None:
                self._save(watch)
            raise peer_lost(error, self.ranks, self.run, self.step) from error

    def _backward(self) -> dict[str, float]:
        """Gradients of the batch, part by part; returns the mean of every logged value."""
        task = self.task
        positions = torch.arange(self.step * task.batch, (self.step + 1) * task.batch)
        indices = self._indices(self.step)
        self._announce(self.step + 1)

        parts, sums = self.options.accumulate, dict[str, float]()
        for k, part in enumerate(zip(positions.chunk(parts), indices.chunk(parts), strict=True)):
            mine = self.ranks.share(len(part[0]))
            loss = partial(self._loss, last=k == parts - 1)
            own = part[0][mine], part[1][mine]
            for name, value in backward(task.network, loss, own, self.workers, share=1 / parts).items():
                sums[name] = sums.get(name, 0.0) + value / parts
        return sums

    def _indices(self, step: int) -> Tensor:
        return batch_indices(self.task.size, batch=self.task.batch, step=step, seed=self.options.seed)

    def _announce(self, step: int) -> None:
        """What this process will need next may be read meanwhile."""
        parts = self._indices(step).chunk(self.options.accumulate)
        self.task.prefetch(torch.cat([part[self.ranks.share(len(part))] for part in parts]))

    def _loss(self, part: Part, *, last: bool) -> Mapping[str, Tensor]:
        """The loss of a part of this process's batch; with the ``last`` one the gradients of all processes
        are averaged.
        """
        return (
            self._losses(self.step, *part)
            if self._together is None
            else self._together(self.step, part, last=last)
        )

    def _losses(self, step: int, positions: Tensor, indices: Tensor) -> Mapping[str, Tensor]:
        mean, extra = self.task.loss(step, positions, indices)
        return {"loss": mean, **extra}

    def _log(self, journal: TrainLog, values: Mapping[str, float], rate: float, watch: Stopwatch) -> None:
        for name, value in values.items():
            self._window[name] = self._window.get(name, 0.0) + value
        self._window_steps += 1
        if self.step % self.options.log_every == 0:
            means = {name: total / self._window_steps for name, total in self._window.items()}
            journal.write(self.step, {**means, "lr": rate, "seconds": round(watch.elapsed, 3)})
            self._window, self._window_steps = {}, 0

    def _divergence(self, name: str, value: float) -> str:
        kept = self.run.checkpoints()
        where = f"the last good checkpoint is {kept[-1]}" if kept else "no checkpoint had been written yet"
        return (
            f"{name} is {value} at step {self.step + 1}, expected a finite number; stopped before the update,"
            f" {where}"
        )

    def _finish(self, journal: TrainLog, average: nn.Module) -> dict[str, Any]:
        """Close with a validation and the task's diagnosis."""
        if not self.ranks.first:
            self.task.finish(average, self.ranks)
            return {}
        values = self.task.validate(average)
        if not any(entry["step"] == self.step and "val_loss" in entry for entry in journal.entries):
            journal.write(self.step, values)
        return {**values, **self.task.finish(average, self.ranks)}

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
            perceptual=self.task.judge,
            options=self.options.model_dump(mode="json"),
        )
        with writing(folder) as writer:
            self.task.save(writer, average)
            save_state(writer, progress, tensors)
        self.run.prune(self.options.checkpoints_total_limit)
        return folder

    def _pictures(self, journal: TrainLog, average: nn.Module) -> None:
        if not self.ranks.first:
            return
        save_loss_curve(journal.entries, self.run.folder / "loss.png")
        self.task.picture(average, self.run.folder / f"samples-{self.step:08d}.png")
