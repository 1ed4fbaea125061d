"""The compiled loop: static buffers, refusals and what stays alive, on a recorder without CUDA; and
torch.compile.
"""

import gc
import sysconfig
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import latentdiff as ld
from latentdiff.diffusion import compile as compiled
from latentdiff.diffusion.compile import CUDAGraphLoop, compiled_network
from latentdiff.diffusion.denoiser import Denoiser, denoiser
from latentdiff.diffusion.estimate import Estimate
from latentdiff.diffusion.guidance import Condition
from latentdiff.diffusion.loop import run, start
from latentdiff.diffusion.samplers import SamplerStep, ddim, ddpm, dpmpp2m, heun
from latentdiff.diffusion.schedule import make_schedule
from latentdiff.errors import InputError
from latentdiff.ops import constants
from latentdiff.ops.random import Key
from latentdiff.pipeline import pipeline
from latentdiff.pipeline.batching import even_size

SHAPE = (3, 2)
SCHEDULE = make_schedule("cosine", T=20)
LEVELS = SCHEDULE.levels(6)


class Rerun:
    """A recorder without CUDA: a replay does the work again and leaves the result where the first one lay."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def warm(self, work: Callable[[], Tensor]) -> None:
        self.done.append("warm")
        work()

    def capture(self, work: Callable[[], Tensor]) -> Tensor:
        self.done.append("capture")
        self._work, self._out = work, work()
        return self._out

    def replay(self) -> None:
        self.done.append("replay")
        self._out.copy_(self._work())


def network(x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
    """Depends on everything that it is given."""
    shift = 0 if labels is None else labels.view(-1, 1, 1)
    return torch.cat([(x + 0.01 * t.view(-1, 1, 1) + 0.1 * shift).sin(), x.cos()], 1)[:, : x.shape[1]]


def learned(x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
    return torch.cat([network(x, t, labels), x.sin()], 1)


def denoise(labels: Tensor | None = None, *, w: float = 1.0, spread: bool = False) -> Denoiser:
    condition = None if labels is None else Condition(labels, null=4, w=w)
    net = learned if spread else network
    return denoiser(net, SCHEDULE, prediction="v", condition=condition, clip=3.0, learned_variance=spread)


def averaged(step: SamplerStep) -> SamplerStep:
    """A wrapper of a step, as restoration methods are."""

    def wrapped(
        denoise: Denoiser, x: Tensor, t: int, s: int, key: Key, previous: Estimate | None
    ) -> tuple[Tensor, Estimate]:
        moved, estimate = step(denoise, x, t, s, key, previous)
        return 0.9 * moved + 0.1 * key.at("known", s).normal(x.shape[1:]), estimate

    return wrapped


STEPS = {
    "ddim": ddim(SCHEDULE),
    "ddim eta 1": ddim(SCHEDULE, eta=1.0),
    "ddpm large": ddpm(SCHEDULE, variance="large"),
    "ddpm learned": ddpm(SCHEDULE, variance="learned"),
    "dpm++": dpmpp2m(SCHEDULE),
    "heun": heun(SCHEDULE),
    "wrapped": averaged(ddpm(SCHEDULE)),
}


def inputs(seed: int, n: int = 3) -> tuple[Tensor, Key]:
    key = Key.of(seed, n)
    return start(key, SHAPE), key


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("w", [None, 0.0, 1.0, 2.5], ids=["plain", "null", "labels", "guided"])
def test_a_replay_gives_the_bits_of_the_eager_loop_of_its_own_key(name: str, w: float | None) -> None:
    step, spread = STEPS[name], name == "ddpm learned"
    make = partial(denoise, w=1.0 if w is None else w, spread=spread)
    own = None if w is None else torch.zeros(3, dtype=torch.int64)
    loop = CUDAGraphLoop(make(own), LEVELS, step, *inputs(100), labels=own, backend=Rerun())
    for seed in (0, 40, 0):
        labels = None if w is None else torch.tensor([seed % 3, 1, 3])
        x, key = inputs(seed)
        assert torch.equal(loop(x, key, labels=labels), run(make(labels), x, LEVELS, step, key))
    assert w in (None, 0.0) or not torch.equal(
        loop(x, key, labels=torch.tensor([0, 1, 3])), loop(x, key, labels=torch.tensor([2, 1, 3]))
    )


def test_results_and_inputs_belong_to_the_caller() -> None:
    x, key = inputs(0)
    loop = CUDAGraphLoop(denoise(), LEVELS, STEPS["ddim eta 1"], x, key, backend=Rerun())
    before = x.clone()
    first = loop(x, key)
    kept = first.clone()
    other = loop(*inputs(9))
    assert torch.equal(first, kept) and not torch.equal(first, other) and torch.equal(x, before)
    again, same = inputs(0)
    x.zero_(), key.seeds.zero_()  # the loop has buffers of its own
    assert torch.equal(loop(again, same), first)


def test_it_warms_up_captures_and_then_only_replays() -> None:
    recorder = Rerun()
    loop = CUDAGraphLoop(denoise(), LEVELS, STEPS["ddim"], *inputs(0), backend=recorder)
    assert recorder.done == ["warm", "capture"]
    loop(*inputs(1)), loop(*inputs(2))
    assert recorder.done == ["warm", "capture", "replay", "replay"]


class Seen:
    """A step that notes every stream it is given, as a weak reference, pass by pass."""

    def __init__(self) -> None:
        self.passes: list[list[weakref.ref[Tensor]]] = []

    def step(
        self, denoise: Denoiser, x: Tensor, t: int, s: int, key: Key, previous: Estimate | None
    ) -> tuple[Tensor, Estimate]:
        if t == LEVELS[0]:
            self.passes.append([])
        self.passes[-1].append(weakref.ref(key.stream_tensor()))
        return ddpm(SCHEDULE)(denoise, x, t, s, key, previous)


def test_a_capture_makes_no_constant_and_keeps_those_it_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, rows = Seen(), []
    original = constants._row
    monkeypatch.setattr(constants, "_row", lambda *args: rows.append(args) or original(*args))
    made: list[int] = []

    class Counting(Rerun):
        def capture(self, work: Callable[[], Tensor]) -> Tensor:
            made.append(len(rows))
            out = super().capture(work)
            made.append(len(rows))
            return out

    loop = CUDAGraphLoop(
        denoiser(network, SCHEDULE, prediction="v"), LEVELS, seen.step, *inputs(0), backend=Counting()
    )
    moves = len(LEVELS) - 1
    assert made == [moves, moves]  # rows of coefficients: all in the warm-up
    warm, captured = seen.passes
    assert len(warm) == moves and all(a() is b() for a, b in zip(warm, captured, strict=True))
    for kept in (constants._kept_row, constants._kept_filled):
        kept.cache_clear()
    gc.collect()
    assert all(ref() is not None for ref in captured)
    del loop
    gc.collect()
    assert all(ref() is None for ref in captured)


def test_it_may_be_made_in_inference_mode_and_used_outside() -> None:
    with torch.inference_mode():
        loop = CUDAGraphLoop(denoise(), LEVELS, STEPS["dpm++"], *inputs(0), backend=Rerun())
        inside = loop(*inputs(5))
    outside = loop(*inputs(5))
    assert torch.equal(inside, outside) and not outside.is_inference()


X, KEY = inputs(0)
LABELS = torch.zeros(3, dtype=torch.int64)
MISFITS: list[tuple[str, dict[str, Any], str]] = [
    ("shape", {"x": X[:, :2]}, r"captured for x float32 \[3, 3, 2\] on cpu, got float32 \[3, 2, 2\] on cpu"),
    ("batch", {"x": X[:2]}, r"got float32 \[2, 3, 2\]"),
    ("dtype", {"x": X.double()}, r"got float64 \[3, 3, 2\]"),
    ("device", {"x": X.to("meta")}, r"got float32 \[3, 3, 2\] on meta"),
    ("seeds", {"key": KEY[:2]}, r"captured for seeds int64 \[3\] on cpu, got int64 \[2\]"),
    ("seeds' device", {"key": KEY.to("meta")}, r"got int64 \[3\] on meta"),
    ("stream", {"key": replace(KEY, stream=3)}, "captured for stream 0, got 3"),
    ("labels", {"labels": LABELS[:2]}, r"captured for labels int64 \[3\] on cpu, got int64 \[2\]"),
    ("labels' dtype", {"labels": LABELS.int()}, r"got int32 \[3\]"),
    ("no labels", {"labels": None}, "captured with labels, got none"),
]


@pytest.mark.parametrize(("change", "message"), [pytest.param(c, m, id=name) for name, c, m in MISFITS])
def test_what_does_not_fit_the_capture_is_refused(change: dict[str, Any], message: str) -> None:
    own = LABELS.clone()
    recorder = Rerun()
    loop = CUDAGraphLoop(denoise(own), LEVELS, STEPS["ddim"], X, KEY, labels=own, backend=recorder)
    given = {"x": X, "key": KEY, "labels": LABELS} | change
    with pytest.raises(ValueError, match=message):
        loop(given["x"], given["key"], labels=given["labels"])
    assert recorder.done == ["warm", "capture"]


def test_labels_for_a_loop_without_are_refused() -> None:
    loop = CUDAGraphLoop(denoise(), LEVELS, STEPS["ddim"], X, KEY, backend=Rerun())
    with pytest.raises(ValueError, match="captured without labels, got some"):
        loop(X, KEY, labels=LABELS)


def test_examples_that_do_not_go_together_are_refused() -> None:
    for key in (KEY[:2], KEY.to("meta")):
        with pytest.raises(ValueError, match="expected 3 seeds on cpu, as x has samples, got"):
            CUDAGraphLoop(denoise(), LEVELS, STEPS["ddim"], X, key, backend=Rerun())


def test_capture_itself_needs_cuda() -> None:
    with pytest.raises(ValueError, match="capturing a loop needs CUDA tensors, got x on cpu"):
        CUDAGraphLoop(denoise(), LEVELS, STEPS["ddim"], X, KEY)


def eagerly(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Let torch.compile trace and not generate code; the options that it is given."""
    original, asked = torch.compile, []

    def compile(model: Callable[..., Tensor], **options: Any) -> Callable[..., Tensor]:
        asked.append(options)
        return original(model, backend="eager", **options)

    monkeypatch.setattr(torch, "compile", compile)
    return asked


@pytest.mark.parametrize("run", ["tiny_denoiser_run", "tiny_pixel_run"])
def test_the_networks_are_whole_graphs(
    run: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = ld.load(request.getfixturevalue(run))
    asked = eagerly(monkeypatch)
    fast = compiled_network(pipe.network)
    assert asked == [{"fullgraph": True, "dynamic": False}]
    torch._dynamo.reset()
    with torch.no_grad():
        for n in (2, 4):
            x, t = Key.of(0, n).normal(pipe.codec.latent_shape), torch.full((n,), 3.0)
            for labels in (None, torch.arange(n) % 3) if pipe.classes else (None,):
                assert torch.equal(fast(x, t, labels), pipe.network(x, t, labels))


def test_shapes_beyond_the_limit_of_torch_run_uncompiled(
    tiny_denoiser_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = ld.load(tiny_denoiser_run)
    eagerly(monkeypatch)
    fast = compiled_network(pipe.network)
    torch._dynamo.reset()
    with torch.no_grad(), torch._dynamo.config.patch(recompile_limit=2):
        for n in (1, 2, 3, 4, 1):
            x, t = Key.of(0, n).normal(pipe.codec.latent_shape), torch.full((n,), 3.0)
            assert torch.equal(fast(x, t, None), pipe.network(x, t, None))
    torch._dynamo.reset()


def test_no_compiler_is_one_clear_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from torch._inductor import config

    with config.patch({"cpp.cxx": (None, "no-such-compiler")}), pytest.raises(InputError) as refused:
        compiled_network(network)
    assert str(refused.value) == "compiling needs a C++ compiler (g++, or what CXX names), found none"
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    with pytest.raises(InputError, match=f"needs the headers of Python .*, found no {tmp_path}/Python.h"):
        compiled_network(network)


@pytest.mark.parametrize(
    ("n", "most", "size"), [(1, 5, 1), (5, 5, 5), (6, 5, 3), (5, 2, 2), (7, 3, 3), (9, 4, 3), (4, 3, 2)]
)
def test_microbatches_of_one_size(n: int, most: int, size: int) -> None:
    assert even_size(n, most) == size


def progress(calls: list[tuple[int, int]]) -> Callable[[int, int], None]:
    return lambda done, total: calls.append((done, total))


def test_a_compiled_pipeline_compiles_once_and_always_draws_one_batch_size(
    tiny_denoiser_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = ld.load(tiny_denoiser_run)
    made: list[object] = []
    shapes: set[Sequence[int]] = set()

    def compiling(network: Callable[..., Tensor]) -> Callable[..., Tensor]:
        made.append(network)

        def call(x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
            shapes.add(tuple(x.shape))
            return network(x, t, labels)

        return call

    monkeypatch.setattr(pipeline, "compiled_network", compiling)
    ask = partial(pipe.sample, 7, steps=4, label=[0, 1, 2, 0, 1, 2, 0], guidance=2.0, sampler="ddpm")
    plain, told, heard = ask(), [], []
    assert not made
    for batch, calls in ((3, told), (3, heard)):
        images = ask(batch=batch, compile=True, progress=progress(calls))
        assert images.shape == plain.shape and float((images - plain).abs().max()) <= 1e-5
    assert made == [pipe.network] and shapes == {(6, 4)}  # guided pairs of 3
    assert told == heard == [(i + 1, 12) for i in range(12)]


@pytest.fixture
def capturing(tiny_denoiser_run: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[ld.Pipeline, list[Rerun]]:
    """A pipeline that behaves as on CUDA with a recorder in place of graphs, and the recorders that it
    made.
    """
    pipe, recorders = ld.load(tiny_denoiser_run), []

    def captured(*args: Any, **options: Any) -> CUDAGraphLoop:
        recorders.append(Rerun())
        return CUDAGraphLoop(*args, **options, backend=recorders[-1])

    monkeypatch.setattr(pipeline, "CUDAGraphLoop", captured)
    pipe.__dict__["_captures"] = True
    return pipe, recorders


@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "dpm++"])
def test_captured_loops_draw_the_images_of_the_eager_loop(
    sampler: str, capturing: tuple[ld.Pipeline, list[Rerun]]
) -> None:
    pipe, recorders = capturing
    ask = partial(pipe.sample, 5, steps=4, sampler=sampler)
    for options in (
        {},
        {"label": [0, 1, 2, 0, 1], "guidance": 2.0},
        {"label": [2, 0, 0, 1, 1], "guidance": 2.0},
    ):
        for seed in (0, 11):
            calls: list[tuple[int, int]] = []
            images = ask(seed=seed, compile=True, batch=2, progress=progress(calls), **options)
            assert float((images - ask(seed=seed, **options)).abs().max()) <= 1e-5
            assert calls == [(4, 12), (8, 12), (12, 12)]
    assert [recorder.done.count("capture") for recorder in recorders] == [1, 1]  # with labels and without
    assert [recorder.done.count("replay") for recorder in recorders] == [6, 12]


def test_a_pipeline_keeps_a_few_captured_loops(capturing: tuple[ld.Pipeline, list[Rerun]]) -> None:
    pipe, recorders = capturing
    for n in (1, 2, 3, 4, 5, 5, 2, 1):
        pipe.sample(n, steps=2, compile=True)
    assert len(recorders) == pipeline.LOOPS + 2  # of the first one nothing was left


def test_the_batch_of_a_compiled_pipeline_stays(
    capturing: tuple[ld.Pipeline, list[Rerun]], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe, recorders = capturing
    room = iter((4, 3, 2))  # as graphs take memory
    monkeypatch.setattr(pipeline, "batch_that_fits", lambda *args: next(room))
    for _ in range(3):
        pipe.sample(8, steps=2, compile=True)
    assert len(recorders) == 1


def test_compiling_is_refused_where_nothing_is_compiled(tiny_denoiser_run: Path) -> None:
    pipe = replace(ld.load(tiny_denoiser_run), device=torch.device("mps"))
    with pytest.raises(InputError, match="compiling is for cpu and cuda devices, got mps"):
        _ = pipe._compiled


def test_the_command_line_compiles_where_asked(
    tiny_denoiser_run: Path, cli: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[object] = []
    monkeypatch.setattr(pipeline, "compiled_network", lambda network: made.append(network) or network)
    for flag, count in (("", 0), ("--no-compile", 0), ("--compile", 1)):
        result = cli(f"sample --run {tiny_denoiser_run} -n 3 --steps 2,3 {flag}", cwd=tmp_path)
        assert result.code == 0 and len(made) == count
        assert ("compiling" in result.err) == bool(count)
    monkeypatch.setattr(pipeline, "compiled_network", compiled_network)
    monkeypatch.setattr(
        compiled, "_check_compiler", lambda: (_ for _ in ()).throw(InputError("no compiler here"))
    )
    result = cli(f"sample --run {tiny_denoiser_run} -n 3 --steps 2 --compile", cwd=tmp_path)
    assert result.code == 1 and result.err.splitlines()[-1] == "error: no compiler here"


@pytest.mark.slow
@pytest.mark.parametrize("run", ["tiny_denoiser_run", "tiny_pixel_run"])
def test_compiled_images_are_the_eager_ones_to_the_stated_tolerance(
    run: str, request: pytest.FixtureRequest
) -> None:
    pipe = ld.load(request.getfixturevalue(run))
    options: dict[str, Any] = {"label": [0, 1, 2, 0, 1], "guidance": 2.0} if pipe.classes else {}
    for sampler in ("ddim", "ddpm"):
        ask = partial(pipe.sample, 5, sampler=sampler, steps=10, **options)
        fast, plain = ask(compile=True), ask()
        assert float((fast - plain).abs().max()) <= 1e-4
