"""Workers: pieces of a batch at the same time give what the batch gives at once."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Barrier, Thread, current_thread
from typing import Any

import pytest
import torch
from resumed_training import trainer
from torch import Tensor, nn
from vae_training import Reporter, make_task, make_trainer, weights

from latentdiff.config.diffusion import DiffusionConfig
from latentdiff.config.sampling import Sampling
from latentdiff.edit import sdedit
from latentdiff.errors import InputError
from latentdiff.nn import build
from latentdiff.nn.networks import MLPConfig
from latentdiff.ops.random import Key
from latentdiff.parallel.threads import LEAST, Workers
from latentdiff.pipeline.batching import map_microbatches
from latentdiff.pipeline.codec import IdentityCodec
from latentdiff.pipeline.pipeline import Pipeline
from latentdiff.train.backward import backward
from latentdiff.train.loop import Diverged

CPU = torch.device("cpu")


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_results_come_in_the_order_of_the_items(count: int) -> None:
    with Workers(count) as workers:
        assert workers.map(lambda x: x * x, range(20)) == [x * x for x in range(20)]
        assert workers.map(str, []) == []


def test_one_worker_is_the_caller_and_several_work_at_the_same_time() -> None:
    assert Workers(1).map(lambda _: current_thread(), [0]) == [current_thread()]
    met = Barrier(3, timeout=60)  # broken unless three wait for it at once
    with Workers(3) as workers:
        assert sorted(workers.map(lambda _: met.wait(), range(3))) == [0, 1, 2]


def test_an_exception_of_a_worker_is_raised_in_the_caller() -> None:
    def half(x: int) -> float:
        return 1 / x

    with Workers(2) as workers:
        with pytest.raises(ZeroDivisionError):
            workers.map(half, [1, 0, 2])
        assert workers.map(half, [1, 2]) == [1, 0.5]


@pytest.mark.usefixtures("two_threads")
def test_workers_share_the_threads_and_leave_those_of_others_alone() -> None:
    torch.set_num_threads(4)
    with Workers(2) as workers:
        assert workers.map(lambda _: torch.get_num_threads(), range(6)) == [2] * 6
        assert torch.get_num_threads() == 4
        later: list[int] = []
        thread = Thread(target=lambda: later.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert later == [4]
    with Workers(9) as workers:
        assert workers.map(lambda _: torch.get_num_threads(), range(9)) == [1] * 9


@pytest.mark.usefixtures("two_threads")
def test_a_kernel_leaves_a_worker_the_threads_that_it_has() -> None:
    """A large one: torch's own loop would reset them at its first call in a library, and the workers' own
    operations be computed by all threads, several times as slowly.
    """

    def drawn(_: int) -> int:
        Key.of(0, 256).normal((1024,))
        return torch.get_num_threads()

    with Workers(2) as workers:
        assert workers.map(drawn, range(6)) == [1] * 6
    assert torch.get_num_threads() == 2


def test_a_worker_has_no_workers_of_its_own() -> None:
    with Workers(2) as workers:
        assert workers.map(lambda _: Workers.suited(10**6, CPU).count, range(4)) == [1] * 4


def test_a_thread_that_cannot_be_started_is_an_error_and_no_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    started, begin = [], Thread.start

    def start(thread: Thread) -> None:
        if len(started) == 2:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        begin(thread)

    monkeypatch.setattr(Thread, "start", start)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        Workers(3).map(str, range(3))
    for thread in started:
        thread.join(timeout=60)
        assert not thread.is_alive()


def test_parts_stop_at_the_next_step_when_one_is_interrupted(two_threads: None) -> None:
    """As by Ctrl-C: the caller is interrupted while the parts run."""
    steps, both = [0, 0], Barrier(2, timeout=60)

    def part(rows: slice, tell: Any) -> int:
        k = int(rows.start > 0)
        both.wait()
        while steps[k] < 10**6:
            steps[k] += 1
            if k == 0 and steps[k] == 5:
                os.kill(os.getpid(), signal.SIGINT)  # runs in the main thread, which waits for the parts
            time.sleep(0.001)
            tell(steps[k], 10**6)
        return k

    with pytest.raises(KeyboardInterrupt):
        map_microbatches(2 * LEAST, 2 * LEAST, part, device=CPU)
    assert max(steps) < 10**5


def test_workers_compute_gradients_where_the_caller_does() -> None:
    with Workers(2) as workers:
        assert workers.map(lambda _: torch.is_grad_enabled(), range(4)) == [True] * 4
        with torch.no_grad():
            assert workers.map(lambda _: torch.is_grad_enabled(), range(4)) == [False] * 4


@pytest.mark.usefixtures("two_threads")
def test_a_worker_is_worth_it_for_many_images_on_a_cpu() -> None:
    assert [Workers.suited(n, CPU).count for n in (1, LEAST, 2 * LEAST - 1, 2 * LEAST, 100 * LEAST)] == [
        1,
        1,
        1,
        2,
        2,
    ]
    assert Workers.suited(1000, torch.device("cuda")).count == 1


def test_no_workers_are_refused() -> None:
    with pytest.raises(ValueError, match="expected 1 worker or more, got 0"):
        Workers(0)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.unused, self.frozen = nn.Linear(3, 4), nn.Linear(2, 2), nn.Parameter(torch.ones(4))
        self.frozen.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = (torch.tanh(self.first(x)) * self.frozen).sum(1)
        return out


def gradients(count: int, n: int = 7) -> tuple[dict[str, float], dict[str, Tensor | None]]:
    """Of two parts of a batch, one after the other."""
    net, x = Net(), torch.randn(2 * n, 3, generator=torch.Generator().manual_seed(1))

    def loss(positions: Tensor, indices: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        assert torch.equal(positions, indices + 100)
        error = (net(x[indices]) - 1).square()
        return error.mean(), {"size": error.abs().mean()}

    means: dict[str, float] = {}
    with Workers(count) as workers:
        for indices in torch.arange(2 * n).chunk(2):
            for name, value in backward(net, loss, indices + 100, indices, workers, share=0.5).items():
                means[name] = means.get(name, 0.0) + value / 2
    return means, {name: parameter.grad for name, parameter in net.named_parameters()}


@pytest.mark.parametrize("count", [2, 3, 7])
def test_workers_find_the_gradient_of_the_whole_batch(count: int) -> None:
    """7 images in pieces of unequal size: a mean of their means would be wrong."""
    (means, found), (expected_means, expected) = gradients(count), gradients(1)
    assert means == pytest.approx(expected_means, rel=1e-6)
    assert expected["first.weight"] is not None and float(expected["first.weight"].abs().max()) > 0.1
    for name, gradient in expected.items():
        if gradient is None:
            assert found[name] is None
        else:
            torch.testing.assert_close(found[name], gradient, rtol=1e-5, atol=1e-7)


def test_workers_find_the_same_bits_every_time() -> None:
    first = gradients(3)[1]
    for _ in range(20):
        for name, gradient in gradients(3)[1].items():
            assert gradient is None or torch.equal(gradient, first[name])  # type: ignore[arg-type]


def flat(network: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


@pytest.mark.parametrize("kind", ["vae", "vector", "spatial", "pixel", "cnn"])
def test_a_training_by_workers_is_that_of_the_whole_batch(tmp_path: Path, kind: str) -> None:
    found = {}
    for count in (1, 3):
        training = trainer(kind, tmp_path / str(count), {"workers": count, "bf16": "off", "steps": 4})
        before = flat(training.task.network)
        training.train()
        found[count] = flat(training.task.network) - before
    # Adam divides by the size of a gradient, also of one that is all rounding: single weights may differ
    apart = float((found[3] - found[1]).norm() / found[1].norm())
    assert 0 < apart < 0.02


def test_a_training_by_workers_is_repeated_to_the_bit(tmp_path: Path) -> None:
    found = []
    for k in range(2):
        task = make_task(steps=6, workers=3)
        make_trainer(task, tmp_path / str(k)).train()
        found.append(weights(task))
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_a_gradient_that_is_not_finite_is_refused_by_workers_too(tmp_path: Path) -> None:
    task = make_task(steps=3, workers=2)
    with torch.no_grad():
        next(iter(task.network.parameters())).fill_(float("nan"))
    with pytest.raises(Diverged, match="expected a finite number"):
        make_trainer(task, tmp_path).train()


@pytest.mark.usefixtures("two_threads")
def test_the_default_workers_fit_the_batch(tmp_path: Path) -> None:
    assert make_trainer(make_task(batch=8), tmp_path).workers.count == 1
    assert make_trainer(make_task(batch=16 * LEAST), tmp_path).workers.count == 2
    assert make_trainer(make_task(batch=16 * LEAST, accumulate=16), tmp_path).workers.count == 1
    assert make_trainer(make_task(batch=16 * LEAST, workers=1), tmp_path).workers.count == 1


def test_more_workers_than_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match="`workers` must be at most the 4 images that are computed at once, got 5"
    ):
        make_trainer(make_task(batch=8, accumulate=2, workers=5), tmp_path, Reporter())


def model() -> Pipeline:
    torch.manual_seed(0)
    network = build(MLPConfig(shape=(3, 4, 4), width=16, depth=1), seed=0)
    for parameter in network.parameters():
        parameter.data.normal_(std=0.3)
    return Pipeline(network, DiffusionConfig(), IdentityCodec((3, 4, 4)))


def both_ways(draw: Any) -> tuple[Tensor, Tensor, list[tuple[int, int]]]:
    """What one and two threads draw, and the progress that two of them tell."""
    before, told = torch.get_num_threads(), []
    try:
        torch.set_num_threads(1)
        alone = draw(None)
        torch.set_num_threads(2)
        shared = draw(lambda done, total: told.append((done, total)))
    finally:
        torch.set_num_threads(before)
    return alone, shared, told


def test_samples_drawn_by_workers_are_the_same_and_their_progress_adds_up() -> None:
    pipeline, n = model(), 2 * LEAST + 1
    alone, shared, told = both_ways(lambda tell: pipeline.sample(n, steps=6, eta=1.0, seed=3, progress=tell))
    torch.testing.assert_close(shared, alone, rtol=0, atol=1e-5)
    assert float(alone.std()) > 0.1
    assert told == [(k + 1, 12) for k in range(12)]


def test_edits_drawn_by_workers_are_the_same() -> None:
    pipeline = model()
    images = pipeline.sample(2 * LEAST, steps=4, seed=9)
    alone, shared, _ = both_ways(
        lambda _: sdedit(pipeline, images, 500, settings=Sampling(steps=10), seed=1).images
    )
    torch.testing.assert_close(shared, alone, rtol=0, atol=1e-5)
    assert float((alone - images).abs().max()) > 0.1


@pytest.mark.usefixtures("two_threads")
def test_microbatches_are_never_larger_than_the_limit() -> None:
    def sizes(n: int, most: int, each: int = 1) -> list[int]:
        return map_microbatches(n, most, lambda rows, _: len(range(n)[rows]), device=CPU, each=each)

    assert sizes(10, 100) == [10]
    assert sizes(200, 3 * LEAST) == [48, 48, 48, 48, 8]  # two workers: never more than 96 at once
    assert sizes(20, 100, each=4) == [10, 10]
    assert sizes(5, 2) == [2, 2, 1]
    with pytest.raises(InputError, match="expected a batch of 1 or more, got 0"):
        sizes(5, 0)
