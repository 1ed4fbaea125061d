"""The benchmarks: timing on a clock of our own, implementations that compute the same, and reports that say
what was left out.
"""

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from helpers import ROOT
from torch import Tensor

from benchmarks import kernels
from latentdiff.apps.bench import baselines
from latentdiff.apps.bench.baselines import IMPLEMENTATIONS, eager_reference, prepare
from latentdiff.apps.bench.figure import save_kernels_figure
from latentdiff.apps.bench.measure import NO_TIME, BenchmarkGrid, Row, gaps, measure
from latentdiff.apps.bench.report import document, machine, table, verdicts
from latentdiff.apps.bench.timing import (
    Call,
    Calls,
    Timing,
    host_stopwatch,
    interleaved,
    repeats_for,
)
from latentdiff.apps.bench.workload import (
    OPERATIONS,
    Operation,
    Workload,
    least_bytes,
    make_workload,
    sets_for,
)
from latentdiff.parallel.threads import cpu_threads

CPU = torch.device("cpu")
SHAPE = (5, 3, 4, 6)
UNCOMPILED = tuple(name for name in IMPLEMENTATIONS if name != "compile")


class Clock:
    """Time that passes only where a call says so."""

    def __init__(self) -> None:
        self.now = 0.0
        self.log: list[str] = []

    def call(self, name: str, *seconds: float) -> Call:
        """A call that takes these seconds in turn, over and over."""
        made = 0

        def run() -> None:
            nonlocal made
            self.now += seconds[made % len(seconds)]
            self.log.append(name)
            made += 1

        return run

    def stopwatch(self, calls: Calls, repeats: int) -> float:
        start = self.now
        for i in range(repeats):
            calls[i % len(calls)]()
        return self.now - start


def test_implementations_take_turns_and_every_second_round_goes_backwards() -> None:
    clock = Clock()
    interleaved(
        {name: [clock.call(name, 1.0)] for name in "abc"},
        stopwatch=clock.stopwatch,
        rounds=3,
        slice_seconds=1.0,
    )
    found_repeats, measured = clock.log[:3], "".join(clock.log[3:])
    assert found_repeats == ["a", "b", "c"]
    assert measured == "abc" + "cba" + "abc"


def test_a_timing_holds_median_quartiles_and_the_fastest_round() -> None:
    clock = Clock()
    seconds = (9.0, 4.0, 1.0, 3.0, 2.0, 5.0)  # the first finds the repeats
    (timing,) = interleaved(
        {"a": [clock.call("a", *seconds)]}, stopwatch=clock.stopwatch, rounds=5, slice_seconds=1.0
    ).values()
    assert timing == Timing(median=3.0, low=2.0, high=4.0, fastest=1.0, rounds=5, repeats=1)
    assert timing.spread == pytest.approx(1 / 3)
    assert Timing.of([2.0], 4) == Timing(2.0, 2.0, 2.0, 2.0, 1, 4)


def test_short_calls_are_repeated_until_a_slice_is_filled() -> None:
    clock = Clock()
    assert repeats_for([clock.call("a", 0.001)], clock.stopwatch, 0.1) == 100
    assert repeats_for([clock.call("b", 3.0)], clock.stopwatch, 0.1) == 1
    assert repeats_for([clock.call("c", 0.0)], clock.stopwatch, 0.1) > 1000  # and it ends
    (timing,) = interleaved(
        {"a": [clock.call("a", 0.5)]}, stopwatch=clock.stopwatch, rounds=2, slice_seconds=4.0
    ).values()
    assert timing.repeats == 8 and timing.median == 0.5


@pytest.mark.parametrize("sets", [1, 3])
def test_the_host_stopwatch_uses_the_input_sets_in_turn(sets: int) -> None:
    log: list[int] = []
    calls = [(lambda i=i: log.append(i)) for i in range(sets)]
    assert host_stopwatch(calls, 6) > 0
    assert log == [i % sets for i in range(6)]


def test_no_rounds_are_refused() -> None:
    with pytest.raises(ValueError, match="rounds >= 1, got 0"):
        interleaved({}, stopwatch=host_stopwatch, rounds=0, slice_seconds=1.0)


def test_threads_are_set_and_put_back_even_after_an_error() -> None:
    before = torch.get_num_threads()
    with pytest.raises(KeyError), cpu_threads(before + 1):
        assert torch.get_num_threads() == before + 1
        raise KeyError
    assert torch.get_num_threads() == before


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Implementations that take the fake time of a model: seconds an element."""
    clock = Clock()
    an_element = {"fused": 1e-6, "copy": 1e-7, "eager": 1e-5, "diffusers": 1e-3}

    def prepare_fake(
        operation: Operation, workloads: list[Workload], names: list[str], *, dynamic: bool
    ) -> object:
        count = workloads[0].x.numel()
        return baselines.Prepared({name: [clock.call(name, an_element[name] * count)] for name in names})

    monkeypatch.setattr("latentdiff.apps.bench.measure.prepare", prepare_fake)
    return clock


def slow_rows(clock: Clock, seconds: float) -> list[Row]:
    names = ("fused", "eager", "diffusers", "copy")
    shapes = ((4, 1000), (4, 10), (4, 100))
    grid = BenchmarkGrid(
        CPU, ("ddim",), (torch.float32,), shapes=shapes, implementations=names, seconds=seconds
    )
    return measure(grid, clock=lambda: clock.now, stopwatch=clock.stopwatch, on_row=lambda row: None)


def test_without_a_budget_nothing_is_left_out_and_sizes_grow(slow: Clock) -> None:
    rows = slow_rows(slow, math.inf)
    assert [row.elements for row in rows] == [40, 400, 4000]
    assert not any(row.skipped for row in rows)
    assert {timing.rounds for row in rows for timing in row.timings.values()} == {9}
    assert rows[0].ns_per_element("fused") == pytest.approx(1000)
    assert rows[0].faster("fused", "eager") == pytest.approx(10)


def test_a_budget_leaves_out_slow_baselines_at_large_sizes_and_is_kept(slow: Clock) -> None:
    rows = slow_rows(slow, 6.0)
    assert slow.now < 6.0
    assert rows[0].skipped == {} and rows[-1].skipped == {"diffusers": NO_TIME}
    assert set(rows[-1].timings) == {"fused", "eager", "copy"}
    assert min(timing.rounds for row in rows for timing in row.timings.values()) >= 3


def test_a_budget_cuts_rounds_before_it_leaves_out_more(slow: Clock) -> None:
    rows = slow_rows(slow, 0.6)
    assert 3 <= rows[-1].timings["eager"].rounds < 9
    assert slow.now < 0.6


def test_a_budget_far_too_small_still_measures_what_matters(slow: Clock) -> None:
    assert all({"fused", "eager", "copy"} <= row.timings.keys() for row in slow_rows(slow, 0.01))


def test_the_grid_keeps_to_its_sizes() -> None:
    grid = BenchmarkGrid(CPU, OPERATIONS, (torch.float32, torch.float16), min_bytes=4096, max_bytes=8192)
    assert {(dtype, shape) for _, dtype, shape in grid.cells()} == {
        (torch.float32, (64, 32)),
        (torch.float16, (64, 32)),
    }
    everything = BenchmarkGrid(CPU, ("ddim",), (torch.float32,)).cells()
    assert [4 * math.prod(shape) for *_, shape in everything][:: len(everything) - 1] == [2 << 10, 256 << 20]


# What the implementations compute


def results(value: object) -> list[Tensor]:
    """The tensors of x_s, (x_s,), (x_s, x_0) or (x_t, target) that every implementation makes: x_s, or x_t
    and target.
    """
    if isinstance(value, Tensor):
        return [value]
    assert isinstance(value, tuple)
    return list(value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("operation", ["ddim", "guided"])
def test_implementations_agree_without_noise(operation: Operation, dtype: torch.dtype) -> None:
    workload = make_workload(operation, SHAPE, dtype=dtype, device=CPU)
    entry = prepare(operation, [workload], UNCOMPILED)
    made = {name: results(calls[0]())[0] for name, calls in entry.calls.items()}
    assert {"fused", "fused out=", "eager", "diffusers"} <= made.keys()
    assert torch.equal(made["fused"], made["fused out="])
    assert not torch.allclose(made["fused"], workload.x, atol=0.05)
    assert torch.equal(made.pop("copy"), workload.x)
    # diffusers' tables are float32; its and the eager lines' roundings in bfloat16 pile up
    near = {torch.float32: 1e-5, torch.float64: 1e-6, torch.bfloat16: 0.15}[dtype]
    for name, x_s in made.items():
        torch.testing.assert_close(
            x_s, made["fused"], atol=near, rtol=near, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("operation", ["ddpm", "add_noise", "normal"])
def test_the_eager_reference_and_the_fused_operation_agree_on_the_same_noise(operation: Operation) -> None:
    workload = make_workload(operation, SHAPE, dtype=torch.float32, device=CPU)
    z = workload.key.normal(SHAPE[1:])
    function, arguments = eager_reference(operation, workload, lambda x: z)
    fused = prepare(operation, [workload], ("fused", "fused out=")).calls
    expected = results(function(*arguments))
    for calls in fused.values():
        for one, other in zip(results(calls[0]()), expected, strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_diffusers_noises_and_aims_as_we_do() -> None:
    from diffusers import DDPMScheduler

    workload = make_workload("add_noise", SHAPE, dtype=torch.float32, device=CPU)
    z = workload.key.normal(SHAPE[1:])
    call = baselines._diffusers_call(
        "add_noise", workload, DDPMScheduler(beta_schedule="linear"), lambda x: z
    )
    for one, other in zip(
        results(call()),
        results(prepare("add_noise", [workload], ("fused",)).calls["fused"][0]()),
        strict=True,
    ):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("operation", ["ddpm", "add_noise", "normal"])
def test_implementations_that_draw_their_own_noise_agree_in_moments(operation: Operation) -> None:
    workload = make_workload(operation, (4, 50_000), dtype=torch.float32, device=CPU)
    with torch.random.fork_rng():
        made = {
            name: results(calls[0]())
            for name, calls in prepare(operation, [workload], UNCOMPILED).calls.items()
            if name != "copy"
        }
    assert {"fused", "eager"} <= made.keys() and ("diffusers" in made) == (operation != "normal")
    for name, tensors in made.items():
        for one, other in zip(tensors[: len(made["fused"])], made["fused"], strict=True):
            by_sample = torch.stack([one.mean(1) - other.mean(1), one.std(1) / other.std(1) - 1])
            assert by_sample.abs().max() < 0.03, name  # 6 deviations of a mean of 50,000


@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_fallback_has_the_bits_of_the_fused_operation(
    operation: Operation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(baselines, "served_by_fallback", lambda device: False)
    workload = make_workload(operation, SHAPE, dtype=torch.float32, device=CPU)
    calls = prepare(operation, [workload], ("fused", "fallback")).calls
    for one, other in zip(results(calls["fused"][0]()), results(calls["fallback"][0]()), strict=True):
        assert torch.equal(one, other)


def test_input_sets_differ_and_come_again() -> None:
    one, two, again = (
        make_workload("ddim", SHAPE, dtype=torch.float32, device=CPU, seed=seed) for seed in (0, 1, 0)
    )
    assert torch.equal(one.x, again.x) and not torch.equal(one.x, two.x)
    assert not torch.equal(one.x, one.outs[0])


def test_a_gpu_gets_more_sets_than_its_cache_holds() -> None:
    cuda, shape = torch.device("cuda"), (64, 4, 64, 64)
    assert sets_for("ddim", shape, torch.float32, CPU) == 1
    assert (
        sets_for("ddim", shape, torch.float32, cuda) * least_bytes("ddim", shape, torch.float32) > 200 << 20
    )
    assert sets_for("ddim", (64, 8), torch.float32, cuda) == 64
    assert sets_for("ddim", (64, 16, 256, 256), torch.float32, cuda) == 1


def test_the_least_bytes_count_each_tensor_once() -> None:
    tensors = {op: least_bytes(op, (8, 16), torch.bfloat16) // (8 * 16 * 2) for op in OPERATIONS}
    for operation in OPERATIONS:
        workload = make_workload(operation, (8, 16), dtype=torch.bfloat16, device=CPU)
        made = len(results(prepare(operation, [workload], ("fused",)).calls["fused"][0]()))
        read = 0 if operation == "normal" else 1 + len(workload.outs)
        assert tensors[operation] == made + read, operation


@pytest.mark.parametrize(
    ("named", "on_cpu", "on_cuda"),
    [
        ("fallback", True, True),
        ("native", False, False),
        ("cpu native, cuda fallback", False, True),
        ("cpu fallback, cuda native", True, False),
    ],
)
def test_who_serves_is_read_from_the_name(
    named: str, on_cpu: bool, on_cuda: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("latentdiff.ops.implementation", lambda: named)
    assert baselines.served_by_fallback(CPU) is on_cpu
    assert baselines.served_by_fallback(torch.device("cuda", 0)) is on_cuda


def test_missing_diffusers_gives_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    workload = make_workload("ddim", SHAPE, dtype=torch.float32, device=CPU)
    entry = prepare("ddim", [workload], ("eager", "diffusers"))
    assert set(entry.calls) == {"eager"} and entry.skipped == {"diffusers": "diffusers is not installed"}


def test_what_cannot_compile_is_left_out_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(function: object, **options: object) -> Callable[..., object]:
        def call(*arguments: object) -> object:
            raise RuntimeError("no compiler\nfound")

        return call

    monkeypatch.setattr(torch, "compile", broken)
    workload = make_workload("ddim", SHAPE, dtype=torch.float32, device=CPU)
    assert prepare("ddim", [workload], ("compile",)).skipped == {
        "compile": "torch.compile: no compiler found"
    }


def test_compiling_for_all_sizes_sees_flat_tensors_and_the_options(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[object, int]] = []

    def kept(function: Callable[..., object], *, fullgraph: bool, dynamic: bool) -> Callable[..., object]:
        assert fullgraph

        def call(x: Tensor, *rest: object) -> object:
            seen.append((dynamic, x.dim()))
            return function(x, *rest)

        return call

    monkeypatch.setattr(torch, "compile", kept)
    workload = make_workload("add_noise", SHAPE, dtype=torch.float32, device=CPU)
    with torch.random.fork_rng():
        for dynamic in (False, True):
            assert "compile" in prepare("add_noise", [workload], ("compile",), dynamic=dynamic).calls
    assert seen == [(False, 4), (True, 2)]


def test_an_unknown_implementation_is_refused() -> None:
    with pytest.raises(ValueError, match=r"names out of fused.*got fastest"):
        prepare("ddim", [], ("fastest",))


# Reports


@pytest.fixture(scope="module")
def measured() -> tuple[BenchmarkGrid, list[Row]]:
    grid = BenchmarkGrid(
        CPU,
        OPERATIONS,
        (torch.float32,),
        shapes=((4, 8), (4, 32)),
        implementations=UNCOMPILED,
        rounds=3,
        slice_seconds=1e-5,
    )
    return grid, measure(grid, on_row=lambda row: None)


def test_measuring_leaves_the_global_generator_as_it_was() -> None:
    before = torch.random.get_rng_state()
    grid = BenchmarkGrid(
        CPU,
        ("ddpm",),
        (torch.float32,),
        shapes=((4, 8),),
        implementations=("eager",),
        rounds=1,
        slice_seconds=1e-6,
    )
    measure(grid, on_row=lambda row: None)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_document_holds_every_row_and_what_was_left_out(
    measured: tuple[BenchmarkGrid, list[Row]],
) -> None:
    grid, rows = measured
    values = json.loads(json.dumps(document(grid, rows, machine(CPU, cpu="a processor"))))
    assert {"schema", "kind", "machine", "settings", "rows", "skipped", "verdicts"} == values.keys()
    assert values["schema"] == 1 and values["machine"]["cpu"] == "a processor"
    assert values["machine"]["implementation"] and values["machine"]["threads"] >= 1
    assert len(values["rows"]) + len(values["skipped"]) == len(OPERATIONS) * 2 * len(UNCOMPILED)
    for row in values["rows"]:
        assert row["fastest_s"] <= row["low_s"] <= row["median_s"] <= row["high_s"]
        assert row["ns_per_element"] == pytest.approx(row["median_s"] / math.prod(row["shape"]) * 1e9)
        moved = 2 * row["tensor_bytes"] if row["contender"] == "copy" else row["least_bytes"]
        assert row["gb_per_s"] == pytest.approx(moved / row["median_s"] / 1e9)
        assert set(row["times_faster_than"]) == {"fallback", "eager", "compile", "diffusers"} - {
            row["contender"]
        }
        assert row["times_faster_than"].get("compile") is None
    assert {s["reason"] for s in values["skipped"] if s["contender"] == "diffusers"} == {
        "diffusers draws its noise with torch.randn: the eager line"
    }


def test_the_table_has_a_line_for_each_row_and_names_no_absent_implementation(
    measured: tuple[BenchmarkGrid, list[Row]],
) -> None:
    _, rows = measured
    made = table(rows)
    headings = [column.header for column in made.columns]
    assert made.row_count == len(rows) == len(OPERATIONS) * 2
    assert "eager" in headings and "compile" not in headings
    assert len(list(gaps(rows))) == len(set(gaps(rows)))


def test_the_figure_is_a_picture(measured: tuple[BenchmarkGrid, list[Row]], tmp_path: Path) -> None:
    save_kernels_figure(measured[1], tmp_path / "f.png", title="a processor")
    assert (tmp_path / "f.png").read_bytes().startswith(b"\x89PNG")


def row_of(operation: Operation, shape: tuple[int, ...], **seconds: float) -> Row:
    timings = {name.replace("_out", " out="): Timing.of([value], 1) for name, value in seconds.items()}
    return Row(operation, torch.float32, shape, 1, timings)


def test_verdicts_compare_with_what_is_promised() -> None:
    shape = (64, 4, 64, 64)
    count = math.prod(shape)
    rows = [
        row_of("ddpm", shape, fused=2e-9 * count, eager=11e-9 * count, compile=1.95e-9 * count),
        row_of("add_noise", shape, fused=3e-9 * count, eager=12e-9 * count),
        row_of("ddim", (64, 32), fused=9e-6, eager=8e-6),
        row_of("ddim", (64, 4, 256, 256), fused_out=0.08, copy=0.06),
    ]
    found = [(verdict.found, verdict.met) for verdict in verdicts(rows, CPU)]
    assert found == [
        ("2.00 ns per element", True),
        ("5.5 times as fast as eager", True),
        ("4.0 times as fast as eager", False),
        ("9.0 µs a call", False),
        ("112% of the copy bandwidth", True),
        ("0.89 times as fast at the worst (ddim, float32, (64, 32))", False),
        ("0.97 times as fast at the worst (ddpm, float32, (64, 4, 64, 64))", True),
    ]


def test_verdicts_for_a_gpu_ask_for_the_bandwidth_of_large_tensors() -> None:
    large = (64, 16, 256, 256)
    rows = [
        row_of("ddim", large, fused_out=0.09, copy=0.06 * 0.85),
        row_of("ddpm", large, fused_out=0.09, copy=0.06 * 0.85),
        row_of("ddpm", (64, 32), fused=1e-6, eager=4e-6),
    ]
    assert [(v.found.split()[0], v.met) for v in verdicts(rows, torch.device("cuda"))] == [
        ("85%", False),
        ("85%", True),
        ("4.0", False),
        ("4.00", True),
    ]


# Commands


def test_the_command_measures_and_says_by_which_kernels(cli: Callable, tmp_path: Path) -> None:
    code, out, err = cli("bench --seconds 1 --max-mib 0.01", cwd=tmp_path)
    assert code == 0 and err == ""
    assert "operations: " in out and "add_noise" in out and "against eager" in out
    assert ("served by the PyTorch fallback" in out) == baselines.served_by_fallback(CPU)


def test_the_command_prints_one_json_object(cli: Callable, tmp_path: Path) -> None:
    code, out, _ = cli("bench --json --seconds 1 --max-mib 0.005", cwd=tmp_path)
    values = json.loads(out)
    assert code == 0 and values["settings"]["device"] == "cpu" and values["machine"]["threads"] == 1
    assert {(tuple(row["shape"]), row["dtype"]) for row in values["rows"]} == {((64, 32), "bfloat16")}


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        ("bench --device mps", 1, "mps"),
        ("bench --device toaster", 1, "expected a device auto, cpu, cuda"),
        ("bench --threads 0", 2, "--threads"),
    ],
)
def test_bad_options_get_one_line(
    cli: Callable, tmp_path: Path, command: str, code: int, message: str
) -> None:
    result = cli(command, cwd=tmp_path)
    assert result.code == code and message in result.err and len(result.err.splitlines()) == 1


def script(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", f"benchmarks.{module}", "--device", "cpu", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_grid_of_kernels_runs_and_keeps_json_and_figure(tmp_path: Path) -> None:
    files = ("--json", str(tmp_path / "new" / "k.json"), "--figure", str(tmp_path / "k.png"))
    small = (
        "--operations",
        "ddim,normal",
        "--dtypes",
        "float32,float64",
        "--max-mib",
        "0.01",
        "--rounds",
        "3",
    )
    done = script("kernels", *small, "--contenders", "fused,eager,copy", *files)
    assert done.returncode == 0, done.stderr
    values = json.loads((tmp_path / "new" / "k.json").read_text())
    assert {row["dtype"] for row in values["rows"]} == {"float32", "float64"}
    assert {row["contender"] for row in values["rows"]} == {"fused", "eager", "copy"}
    assert (tmp_path / "k.png").read_bytes().startswith(b"\x89PNG")


def test_profiles_are_written_with_labels_for_both_sides(tmp_path: Path) -> None:
    done = script("kernels", "--profile", str(tmp_path), "--operations", "ddim", "--dtypes", "float32")
    assert done.returncode == 0, done.stderr
    (trace,) = tmp_path.glob("*.json")
    names = {event.get("name") for event in json.loads(trace.read_text())["traceEvents"]}
    assert {"fused ddim", "eager ddim", "latentdiff::step"} <= names


@pytest.mark.slow
def test_whole_loops_run_and_keep_json_and_figure(tmp_path: Path) -> None:
    files = ("--json", "-", "--figure", str(tmp_path / "s.png"))
    small = ("--batch", "2", "--unet-shape", "1x8x8", "--ddpm-steps", "7", "--rounds", "1", "--seconds", "1")
    done = script("sampling", *small, "--no-compile", *files)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["rows"]
    assert [(row["network"], row["sampler"], row["planned_moves"]) for row in rows] == [
        ("MLP", "DDIM", 50),
        ("MLP", "DDPM", 7),
        ("UNet", "DDIM", 50),
        ("UNet", "DDPM", 7),
    ]
    for row in rows:
        assert {"latentdiff", "diffusers", "network alone", "latentdiff without network"} <= row[
            "seconds_a_loop"
        ].keys()
        assert 0 < row["network_of_matrix_product_peak"] < 2
        assert (
            row["outside_network_of_network"]["latentdiff"] > 0 and 5 <= row["moves"] <= row["planned_moves"]
        )
        assert row["skipped"] == {
            "latentdiff compiled": "switched off",
            "network alone, graph": "switched off",
        }
    assert (tmp_path / "s.png").read_bytes().startswith(b"\x89PNG")


def test_our_loop_and_that_of_diffusers_end_at_the_same_picture() -> None:
    from benchmarks.loops import Task, ours, theirs

    def network(x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        return 0.5 * x / (1 + x * x) + 0.1 * t.view(-1, 1) / 1000

    workload = make_workload("ddim", (3, 8), dtype=torch.float32, device=CPU)
    task = Task("MLP", "DDIM", network, workload.x, workload.key, planned=50, moves=50)
    end, other = ours(task, network)(), theirs(task, network)
    assert not isinstance(other, str)
    torch.testing.assert_close(end, other(), atol=1e-4, rtol=1e-4)
    assert task.levels[-1] == 0 and len(task.levels) == 51
    cut = Task("MLP", "DDIM", network, workload.x, workload.key, planned=50, moves=20)
    begun, other = ours(cut, network)(), theirs(cut, network)
    assert not isinstance(other, str) and cut.levels == task.levels[:21]
    torch.testing.assert_close(begun, other(), atol=1e-4, rtol=1e-4)


def test_the_gpu_script_names_every_prerequisite_that_is_missing(tmp_path: Path) -> None:
    environment = {"PATH": "/usr/bin:/bin", "PYTHON": str(tmp_path / "no-python")}
    done = subprocess.run(
        ["bash", str(ROOT / "benchmarks" / "gpu.sh"), str(tmp_path / "out")],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1 and not (tmp_path / "out").exists()
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert any("Python interpreter" in line for line in lines) and any(
        "CUDA device" in line for line in lines
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--max-mib", "nan"], "'nan' is not a number"),
        (["--seconds", "nan"], "'nan' is not a number"),
        (["--json", "/proc/nope/a.json"], "'/proc/nope': "),
        (["--profile", "/proc/nope"], "'/proc/nope': "),
        (["--figure", "a.txt"], "expected a name that ends in .png"),
        (["--min-mib", "5", "--max-mib", "1"], "expected at most --max-mib, 1, got 5"),
    ],
)
def test_what_would_fail_after_minutes_fails_at_once(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(kernels.main, arguments)
    assert result.exit_code == 2, result.output
    assert message in result.output


@pytest.mark.slow
def test_whole_drawings_are_the_same_images_by_every_loop(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "benchmarks.end_to_end", "-n", "12,3,3", "--rounds", "1", "--threads", "1"]
    done = subprocess.run(
        [*line, "--json", str(tmp_path / "e.json")], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "e.json").read_text())["results"]
    for name in ("digits", "scenes", "clothes"):
        rounds = results[name]["rounds"]
        ours = torch.tensor(rounds["latentdiff, float32"][0]["means"])
        assert rounds["latentdiff, float32"][0]["to_file"] > 0
        for other, rows in rounds.items():
            if other.startswith("student"):
                continue
            near = 1e-4 if other == "diffusers' loop" else 0.01
            assert (torch.tensor(rows[0]["means"]) - ours).abs().max() < near, other
        assert f"images by `{name}`" in done.stdout
