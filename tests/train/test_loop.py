"""The training loop: budgets, learning rate, data order, divergence, signals and what a run leaves behind."""

import itertools
import json
import math
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from vae_training import BATCH, CPU, SIZE, Reporter, equal, make_task, make_trainer, weights

from latentdiff.config.loop import LoopOptions
from latentdiff.errors import InputError
from latentdiff.pipeline.checkpoint.folder import open_checkpoint
from latentdiff.pipeline.checkpoint.runs import Run, locate
from latentdiff.pipeline.components import load_vae
from latentdiff.train import graceful_stop, loop
from latentdiff.train import progress as progress_module
from latentdiff.train.log import TrainLog, read_log
from latentdiff.train.loop import Diverged, Trainer
from latentdiff.train.progress import Budget, Stopwatch, learning_rate
from latentdiff.train.state import load_train_state
from latentdiff.train.vae import VAETask


@pytest.fixture(autouse=True)
def _quick_pictures(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Figures take longer than these trainings: only the test that is about them draws them."""
    if request.function is not test_a_run_leaves_log_pictures_and_the_newest_checkpoints:
        monkeypatch.setattr(loop, "save_loss_curve", lambda entries, path: None)


# budgets


@pytest.mark.parametrize(
    ("options", "size", "batch", "steps"),
    [
        ({"steps": 7}, 100, 10, 7),
        ({}, 100, 10, 55),
        ({"epochs": 3}, 100, 10, 30),
        ({"epochs": 1}, 101, 10, 11),
        ({"epochs": 0.5}, 101, 10, 6),
        ({"epochs": 1e-4}, 100, 10, 1),
        ({"epochs": 0.07}, 100, 1, 7),  # 0.07 * 100 is 7.000000000000001
    ],
)
def test_a_budget_in_steps_or_epochs(options: dict[str, Any], size: int, batch: int, steps: int) -> None:
    budget = Budget.of(LoopOptions(**options), size=size, batch=batch, default_steps=55)
    assert budget == Budget(steps, None)
    assert budget.progress(steps - 1, math.inf) < 1 == budget.progress(steps, 0.0)


def test_a_budget_in_minutes_is_spent_by_the_clock() -> None:
    budget = Budget.of(LoopOptions(minutes=2), size=100, batch=10, default_steps=55)
    assert budget == Budget(None, 120.0)
    assert [budget.progress(step, seconds) for step, seconds in ((0, 0), (10**6, 30), (0, 120))] == [
        0,
        0.25,
        1,
    ]


def test_two_budgets_are_refused() -> None:
    with pytest.raises(ValueError, match="give one budget, got `steps` and `minutes`"):
        LoopOptions(steps=1, minutes=1)


@pytest.mark.parametrize("decay", ["cosine", "linear", "constant"])
def test_the_learning_rate_warms_up_and_decays(decay: Any) -> None:
    steps, options = 200, LoopOptions(decay=decay, warmup=20)
    rates = [learning_rate(options, 3.0, step, step / steps) for step in range(steps + 1)]
    shape = {
        "cosine": lambda u: math.cos(math.pi * u / 2) ** 2,
        "linear": lambda u: 1 - u,
        "constant": lambda u: 1.0,
    }[decay]
    expected = [3.0 * min(1, (step + 1) / 20) * shape(step / steps) for step in range(steps + 1)]
    assert rates == pytest.approx(expected, abs=1e-12)
    assert all(rate > 0 for rate in rates[:steps])
    assert learning_rate(options, 3.0, 500, 1.7) == pytest.approx(
        rates[-1], abs=1e-12
    )  # late never means negative
    assert learning_rate(LoopOptions(decay=decay, warmup=0), 3.0, 0, 0.0) == 3.0


def test_a_time_budget_ends_by_the_clock_and_decays_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(progress_module, "time", SimpleNamespace(monotonic=lambda: clock.now))

    def tick(step: int) -> None:
        clock.now += 10

    task = make_task(minutes=1, warmup=0, log_every=1, lr=0.01)
    outcome = make_trainer(task, tmp_path, Reporter(tick)).train()
    assert (outcome.step, outcome.seconds) == (6, 60.0)
    rates = [entry["lr"] for entry in read_log(tmp_path / "log.jsonl") if "lr" in entry]
    assert rates == pytest.approx([0.01 * math.cos(math.pi * i / 12) ** 2 for i in range(6)])
    # What was used up before counts after a resume: nothing is left.
    task = make_task(minutes=1)
    resumed = Trainer(
        task,
        task.options,
        Run(tmp_path),
        data="tiny",
        device=CPU,
        reporter=Reporter(),
        resume=locate(tmp_path),
    )
    assert resumed.train().step == 6


# data order and accumulation


@pytest.mark.parametrize("accumulate", [1, 2, 4])
def test_every_epoch_visits_every_image_once(tmp_path: Path, accumulate: int) -> None:
    seen: list[tuple[int, int]] = []

    class Spy(VAETask):
        def loss(self, step: int, positions: Tensor, indices: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
            assert len(positions) == BATCH // accumulate
            seen.extend(zip(positions.tolist(), indices.tolist(), strict=True))
            return super().loss(step, positions, indices)

    make_trainer(make_task(Spy, epochs=4, accumulate=accumulate), tmp_path).train()
    positions, indices = zip(*seen, strict=True)
    assert positions == tuple(range(4 * SIZE))
    epochs = [indices[first : first + SIZE] for first in range(0, 4 * SIZE, SIZE)]
    assert all(sorted(epoch) == list(range(SIZE)) for epoch in epochs)
    assert len(set(epochs)) == 4  # each in another order


def test_accumulated_gradients_equal_those_of_the_whole_batch(tmp_path: Path) -> None:
    gradients = []
    for accumulate in (1, 4):
        task = make_task(steps=1, accumulate=accumulate, clip_grad=1e6)
        make_trainer(task, tmp_path / str(accumulate)).train()
        gradients.append([p.grad for p in task.network.parameters()])
    assert any(float(gradient.norm()) > 1e-3 for gradient in gradients[0])
    for whole, parts in zip(*gradients, strict=True):
        torch.testing.assert_close(parts, whole, rtol=1e-5, atol=1e-6)


def test_a_default_batch_that_accumulate_does_not_divide_is_refused(tmp_path: Path) -> None:
    task = make_task(batch=None, accumulate=3)
    with pytest.raises(InputError, match="`batch` must be a multiple of `accumulate`, got 128 and 3"):
        make_trainer(task, tmp_path)


def test_the_gradient_is_clipped(tmp_path: Path) -> None:
    task, norms = make_task(steps=3, clip_grad=1e-3, log_every=1), list[float]()
    trainer = make_trainer(task, tmp_path)

    def before_the_update(*_: object) -> None:
        norms.append(
            float(
                torch.stack([p.grad.norm() for p in task.network.parameters() if p.grad is not None]).norm()
            )
        )

    trainer.optimizer.register_step_pre_hook(before_the_update)
    trainer.train()
    assert norms == pytest.approx([1e-3] * 3, rel=1e-3)
    assert read_log(tmp_path / "log.jsonl")[0]["grad_norm"] > 1e-2  # the log shows it as it was


# divergence


def _nan_loss(loss: Tensor, task: VAETask) -> Tensor:
    return loss * math.nan


def _infinite_loss(loss: Tensor, task: VAETask) -> Tensor:
    return loss + math.inf


def _nan_gradient(loss: Tensor, task: VAETask) -> Tensor:
    parameter = next(task.network.parameters())
    return loss + (0 * parameter.sum()).sqrt()  # its value is 0, its derivative 0 * inf


@pytest.mark.parametrize(
    ("spoil", "named"),
    [(_nan_loss, "loss is nan"), (_infinite_loss, "loss is inf"), (_nan_gradient, "grad_norm is nan")],
)
def test_a_non_finite_value_stops_before_the_update(
    tmp_path: Path, spoil: Callable[[Tensor, VAETask], Tensor], named: str
) -> None:
    bad, parts = 6, 2

    class Spoiled(VAETask):
        def loss(self, step: int, positions: Tensor, indices: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
            loss, extra = super().loss(step, positions, indices)
            last = positions[-1] == bad * BATCH - 1  # only the last part of the batch of the sixth step
            return (spoil(loss, self) if last else loss), extra

    task = make_task(Spoiled, steps=9, save_every=2, accumulate=parts)
    before: dict[int, dict[str, Tensor]] = {}

    def remember(step: int) -> None:
        before[step] = weights(task)

    reporter = Reporter(remember)
    trainer = make_trainer(task, tmp_path, reporter)
    with pytest.raises(Diverged, match=named) as error:
        trainer.train()
    kept = Run(tmp_path).checkpoints()[-1]
    assert kept == Run(tmp_path).checkpoint_folder(4)
    assert f"at step {bad}" in str(error.value) and str(kept) in str(error.value)
    assert trainer.step == bad - 1 == max(before)
    assert equal(weights(task), before[bad - 1]) and not equal(before[bad - 1], before[bad - 2])
    checkpoint = open_checkpoint(kept)
    checkpoint.verify()
    load_vae(checkpoint)
    saved = checkpoint.tensors("training/state.safetensors")
    assert equal(
        {name.removeprefix("network."): v for name, v in saved.items() if name.startswith("network.")},
        before[4],
    )
    assert reporter.stopped and not list(tmp_path.glob(".tmp-*"))


def test_a_huge_learning_rate_stops_before_the_weights_are_lost(tmp_path: Path) -> None:
    task = make_task(steps=50, warmup=0, save_every=1)
    task.peak_lr = 1e30  # beyond what the options allow
    with pytest.raises(Diverged, match="stopped before the update, the last good checkpoint is"):
        make_trainer(task, tmp_path).train()
    assert all(bool(torch.isfinite(p).all()) for p in task.network.parameters())
    load_vae(locate(tmp_path))


def test_divergence_before_the_first_checkpoint_says_so(tmp_path: Path) -> None:
    class Spoiled(VAETask):
        def loss(self, step: int, positions: Tensor, indices: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
            loss, extra = super().loss(step, positions, indices)
            return loss * math.nan, extra

    with pytest.raises(Diverged, match=r"at step 1, .* no checkpoint had been written yet"):
        make_trainer(make_task(Spoiled), tmp_path).train()


# signals


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_after_the_step_and_handlers_are_put_back(tmp_path: Path, signum: int) -> None:
    handlers = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]

    def interrupt(step: int) -> None:
        if step == 3:
            signal.raise_signal(signum)

    outcome = make_trainer(make_task(steps=1000), tmp_path, Reporter(interrupt)).train()
    assert (outcome.signum, outcome.step, outcome.metrics) == (signum, 3, {})
    progress = load_train_state(open_checkpoint(outcome.checkpoint))
    assert (progress.step, progress.finished) == (3, False)
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_a_second_interrupt_acts_at_once(tmp_path: Path) -> None:
    def interrupt(step: int) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        make_trainer(make_task(steps=1000), tmp_path, Reporter(interrupt)).train()


@pytest.mark.parametrize("signums", [(signal.SIGINT, signal.SIGTERM), (signal.SIGTERM, signal.SIGINT)])
def test_both_signals_at_one_instant_are_one_request(
    tmp_path: Path, signums: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    unraisable: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)

    def interrupt(step: int) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signums)
        for signum in signums:
            os.kill(os.getpid(), signum)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signums)

    outcome = make_trainer(make_task(steps=1000), tmp_path, Reporter(interrupt)).train()
    assert outcome.signum in signums and (outcome.step, unraisable) == (1, [])  # whichever came first
    assert load_train_state(open_checkpoint(outcome.checkpoint)).step == 1


def test_the_other_signal_later_acts_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(step: int) -> None:
        signal.raise_signal(signal.SIGTERM)
        monkeypatch.setattr(graceful_stop, "GRACE", 0.0)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        make_trainer(make_task(steps=1000), tmp_path, Reporter(interrupt)).train()


# what a run leaves behind


def test_a_run_leaves_log_pictures_and_the_newest_checkpoints(tmp_path: Path) -> None:
    task = make_task(
        steps=10, save_every=2, log_every=3, validate_every=4, sample_every=5, checkpoints_total_limit=3
    )
    outcome = make_trainer(task, tmp_path).train()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *(f"checkpoint-{step:08d}" for step in (6, 8, 10)),
        "log.jsonl",
        "loss.png",
        "samples-00000005.png",
        "samples-00000010.png",
    ]
    assert outcome.checkpoint == tmp_path / "checkpoint-00000010"
    log = read_log(tmp_path / "log.jsonl")
    assert [entry["step"] for entry in log if "loss" in entry] == [3, 6, 9]
    assert [entry["step"] for entry in log if "val_loss" in entry] == [4, 8, 10]
    assert all(math.isfinite(value) for entry in log for value in entry.values())


@pytest.mark.parametrize(("minutes", "saved"), [(5.0, [4, 6, 8, 10]), (0.0, [10])])
def test_slow_steps_are_saved_by_the_clock(
    minutes: float, saved: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = itertools.count(
        step=60
    )  # at each look at the clock, of which a step has two and a checkpoint more
    monkeypatch.setattr(Stopwatch, "elapsed", property(lambda _: float(next(seconds))))
    found = make_trainer(
        make_task(steps=10, save_minutes=minutes, checkpoints_total_limit=9), tmp_path
    ).train()
    written = [int(path.name[-8:]) for path in sorted(tmp_path.glob("checkpoint-*"))]
    assert found.step == 10 and written == saved


def test_a_logged_loss_is_the_mean_of_its_window(tmp_path: Path) -> None:
    losses = {}
    for every in (1, 5):
        make_trainer(make_task(steps=10, log_every=every), tmp_path / str(every)).train()
        losses[every] = [
            entry["loss"] for entry in read_log(tmp_path / str(every) / "log.jsonl") if "loss" in entry
        ]
    assert losses[5] == pytest.approx([sum(losses[1][:5]) / 5, sum(losses[1][5:]) / 5])


@pytest.mark.parametrize("tail", ['{"step": 6, "lo', "[6]", '{"loss": 1}', '{"step": "6"}', "\udcff"])
def test_a_journal_is_cut_at_the_checkpoint_and_at_damage(tmp_path: Path, tail: str) -> None:
    path = tmp_path / "log.jsonl"
    lines = [json.dumps({"step": step, "loss": step / 3}) for step in (2, 4, 5)]
    path.write_bytes("\n".join([*lines, tail]).encode(errors="surrogateescape"))
    assert [entry["step"] for entry in read_log(path)] == [2, 4, 5]
    journal = TrainLog(path, keep_to=4)
    journal.write(7, {"loss": 0.1})
    journal.close()
    assert (
        read_log(path)
        == journal.entries
        == [{"step": s, "loss": v} for s, v in ((2, 2 / 3), (4, 4 / 3), (7, 0.1))]
    )


def test_tensorboard_gets_the_same_figures(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    make_trainer(make_task(steps=4, log_every=2, tensorboard=True), tmp_path).train()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    log = [entry for entry in read_log(tmp_path / "log.jsonl") if "loss" in entry]
    found = [(event.step, event.value) for event in events.Scalars("loss")]
    assert found == [(entry["step"], pytest.approx(entry["loss"], rel=1e-6)) for entry in log]
    assert len(events.Scalars("val_loss")) == 1


def test_tensorboard_without_its_package_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(
        InputError, match=r"`tensorboard` needs the package tensorboard: pip install"
    ) as error:
        make_trainer(make_task(tensorboard=True), tmp_path).train()
    assert "\n" not in str(error.value)
    assert not (tmp_path / "log.jsonl").exists()
