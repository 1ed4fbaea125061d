"""Several processes train one model: the same data, the same losses and weights as one process, and a clear
end when one is lost.
"""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import run_cli
from safetensors.torch import load_file
from torchrun import finished, log, losses, torchrun, torchrun_script

from latentdiff import load
from latentdiff.errors import InputError
from latentdiff.nn import Posterior
from latentdiff.parallel import processes as ranks
from latentdiff.parallel.processes import ALONE, Ranks
from latentdiff.pipeline.checkpoint.runs import Run, locate
from latentdiff.pipeline.codec import StatisticsAccumulator
from latentdiff.train.distributed import peer_lost
from latentdiff.train.graceful_stop import GracefulStop

COMMON = "--data tiny.npz --batch 16 --bf16 off --threads 1 --log-every 1 --runs runs"
VAE = f"train-vae --latent 4 --width 8 --depth 0 --warmup 2 {COMMON}"
DENOISER = f"train-denoiser --vae runs/vae --width 16 --depth 1 --T 20 --warmup 2 {COMMON}"
PIXELS = f"train-denoiser --pixel --width 16 --depth 1 --T 20 --warmup 2 {COMMON}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Path:
    """A folder with tiny.npz and the trainings of one process."""
    path = tmp_path_factory.mktemp("ranks")
    (path / "tiny.npz").write_bytes((tiny_folder / "tiny.npz").read_bytes())
    for command, name in ((VAE, "vae"), (DENOISER, "denoiser"), (PIXELS, "pixels")):
        code, _, err = run_cli(f"{command} --steps 10 --name {name}", cwd=path)
        assert code == 0, err
    return path


@pytest.mark.parametrize(
    ("command", "name", "more"),
    [
        (VAE, "vae", ""),
        pytest.param(DENOISER, "denoiser", "--accumulate 2", marks=pytest.mark.slow),
        pytest.param(PIXELS, "pixels", "", marks=pytest.mark.slow),
    ],
)
def test_two_processes_learn_what_one_learns(folder: Path, command: str, name: str, more: str) -> None:
    code, out, err = finished(torchrun(f"{command} {more} --steps 10 --name {name}-two --json", folder))
    assert code == 0, err
    answer = json.loads(out)  # one process speaks
    assert answer["run"] == f"runs/{name}-two" and answer["steps"] == 10
    assert "2 processes share every batch" in err and err.count("training for 10 steps") == 1
    one, two = losses(folder / "runs" / name), losses(folder / "runs" / f"{name}-two")
    assert len(one) == len(two) == 10
    assert two == pytest.approx(one, rel=1e-6, abs=1e-6)
    entries = [entry for entry in log(folder / "runs" / f"{name}-two") if "grad_norm" in entry]
    assert [entry["grad_norm"] for entry in entries] == pytest.approx(
        [entry["grad_norm"] for entry in log(folder / "runs" / name) if "grad_norm" in entry], rel=1e-3
    )
    locate(folder / "runs" / f"{name}-two").verify()
    code, _, err = run_cli(f"inspect runs/{name}-two", cwd=folder)
    assert code == 0, err


@pytest.mark.slow
def test_two_processes_and_two_parts_are_the_same_bits_after_200_steps(folder: Path) -> None:
    """The same sums in the same order; a batch in one piece adds up in another one, and stays close."""
    network = "train-denoiser --pixel --network mlp --width 24 --depth 1 --T 20 --warmup 2 --steps 200"
    trainings = {"piece": "", "parts": "--accumulate 2"}
    for name, more in trainings.items():
        code, _, err = run_cli(f"{network} {COMMON} {more} --name long-{name}", cwd=folder)
        assert code == 0, err
    code, _, err = finished(torchrun(f"{network} {COMMON} --name long-two", folder))
    assert code == 0, err
    runs = {name: folder / "runs" / f"long-{name}" for name in ("piece", "parts", "two")}
    assert losses(runs["two"]) == losses(runs["parts"]) and len(losses(runs["two"])) == 200
    assert losses(runs["two"]) == pytest.approx(losses(runs["piece"]), rel=0, abs=1e-4)
    state = {name: load_file(locate(run).folder / "training/state.safetensors") for name, run in runs.items()}
    assert state["two"].keys() == state["parts"].keys()
    assert all(torch.equal(value, state["parts"][name]) for name, value in state["two"].items())
    images = {name: load(run).sample(8, steps=10, seed=3) for name, run in runs.items()}
    assert torch.equal(images["two"], images["parts"])
    torch.testing.assert_close(images["two"], images["piece"], rtol=0, atol=1e-5)


@pytest.mark.slow
def test_one_process_goes_on_where_two_stopped(folder: Path) -> None:
    code, _, err = finished(torchrun(f"{DENOISER} --steps 6 --decay constant --name half", folder))
    assert code == 0, err
    code, _, err = run_cli("train-denoiser --resume runs/half --steps 10", cwd=folder)
    assert code == 0, err
    code, _, err = run_cli(f"{DENOISER} --steps 10 --decay constant --name whole", cwd=folder)
    assert code == 0, err
    assert losses(folder / "runs" / "half") == pytest.approx(
        losses(folder / "runs" / "whole"), rel=1e-5, abs=1e-6
    )


@pytest.mark.slow
def test_a_batch_that_does_not_divide_is_refused(folder: Path) -> None:
    code, _, err = finished(
        torchrun(f"{VAE.replace('--batch 16', '--batch 15')} --steps 2 --name odd", folder)
    )
    assert code != 0 and "--batch 15: 2 processes share it evenly, expected a multiple of 2" in err


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_losing_a_process_ends_the_others_with_a_message_and_a_checkpoint(folder: Path, killed: int) -> None:
    name = f"lost-{killed}"
    process = torchrun(f"{VAE} --steps 1000000 --save-every 5 --name {name}", folder)
    run, deadline = folder / "runs" / name, time.monotonic() + 120
    while not list(run.glob("checkpoint-*")) and time.monotonic() < deadline:
        time.sleep(0.1)
    pids = [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    victim = next(pid for pid in pids if f"RANK={killed}\0" in Path(f"/proc/{pid}/environ").read_text())
    os.kill(victim, signal.SIGKILL)
    code, _, err = finished(process)
    assert code != 0
    assert (
        "lost another process of 2 after step" in err
        and f"--resume runs/{name} goes on from checkpoint-" in err
    )
    assert "Traceback (most recent call last)" not in err.split("error: lost")[0].split("training for")[1]
    locate(run).verify()
    step = int(locate(run).folder.name.split("-")[1])
    code, _, err = run_cli(f"train-vae --resume runs/{name} --steps {step + 3}", cwd=folder)
    assert code == 0, err


@pytest.mark.slow
def test_a_signal_to_all_saves_and_ends(folder: Path) -> None:
    process = torchrun(f"{VAE} --steps 1000000 --save-every 1000000 --name stopped", folder)
    run, deadline = folder / "runs" / "stopped", time.monotonic() + 120
    while not ((run / "log.jsonl").is_file() and log(run)) and time.monotonic() < deadline:
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGTERM)
    code, _, _ = finished(process)
    assert code != 0
    locate(run).verify()


# before the processes meet


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        ("encode", 2, "encode runs in one process, torchrun is for train, train-vae"),
        ("models", 2, "models runs in one process"),
        (
            "sample --run digits -n 1 --steps 2",
            1,
            "2 processes share the images: expected as many or more, got -n 1",
        ),
    ],
)
def test_what_is_not_shared_is_refused_before_anyone_waits(
    command: str, code: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(
        ranks.distributed, "init_process_group", lambda *_, **__: pytest.fail("waits for the others")
    )
    bad = run_cli(command, cwd=tmp_path)
    assert bad.code == code and message in bad.err and bad.err.count("error:") == 1


def test_processes_that_do_not_meet_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise RuntimeError("Gloo connectFullMesh failed with [pair.cc:144] no error")

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(ranks.distributed, "init_process_group", unreachable)
    bad = run_cli("sample --run digits -n 4 --steps 2", cwd=tmp_path)
    assert (
        bad.code == 1 and "process 1 of 2 did not meet the others" in bad.err and bad.err.count("error:") == 1
    )


def test_the_reason_of_a_loss_is_a_whole_sentence(tmp_path: Path) -> None:
    said = (
        "[/a/pytorch/pair.cc:537] Read error [127.0.0.1]:52653: Connection reset by peer. This is typically"
        " caused by a rem"
    )
    text = str(peer_lost(RuntimeError(said), Ranks(0, 2), Run(tmp_path), 7))
    assert text.startswith(
        "lost another process of 2 after step 7 (Read error [127.0.0.1]:52653: Connection reset by peer); no"
        " checkpoint"
    )


# one process


def test_shares_are_whole_and_even() -> None:
    for n, count in ((16, 2), (7, 3), (2, 5), (0, 2)):
        parts = [list(range(n)[Ranks(rank, count).share(n)]) for rank in range(count)]
        assert sum(parts, []) == list(range(n))  # noqa: RUF017
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_one_process_agrees_with_itself() -> None:
    assert ALONE.first and ALONE.sums([1.5, 2]) == [1.5, 2] and ALONE.text_of_first(lambda: "a") == "a"
    assert ALONE.rows(torch.ones(2), 2).tolist() == [1, 1]


def test_statistics_of_parts_add_up() -> None:
    torch.manual_seed(0)
    posteriors = [Posterior(torch.randn(n, 3, 2, 2), torch.randn(n, 3, 2, 2)) for n in (4, 7)]
    every, parts = StatisticsAccumulator(3), []
    for posterior in posteriors:
        every.add(posterior)
        part = StatisticsAccumulator(3)
        part.add(posterior)
        parts.append(part.values)
    together = StatisticsAccumulator.of([sum(pair) for pair in zip(*parts, strict=True)]).result()
    assert torch.equal(together.mean, every.result().mean) and torch.equal(together.std, every.result().std)


def test_each_of_several_processes_is_one_worker() -> None:
    from vae_training import make_task

    from latentdiff.train.backward import check_batch, workers_of

    task = make_task(batch=8, workers=2)
    assert workers_of(task, task.options, torch.device("cpu"), Ranks(0, 2)).count == 1
    check_batch(task, task.options, Ranks(0, 4))
    with pytest.raises(InputError, match="`batch` 8: 3 processes share it evenly, expected a multiple of 3"):
        check_batch(task, task.options, Ranks(0, 3))


def test_only_errors_of_the_exchange_mean_that_a_process_is_lost() -> None:
    from latentdiff.train.distributed import is_comm_error

    assert is_comm_error(
        RuntimeError("[../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer")
    )
    assert not is_comm_error(torch.OutOfMemoryError("CUDA out of memory"))
    assert not is_comm_error(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


def test_a_patient_process_is_told_once() -> None:
    with GracefulStop(patient=True) as interrupt:
        for signum in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
            os.kill(os.getpid(), signum)
    assert interrupt.signum == signal.SIGTERM


@pytest.mark.slow
def test_a_name_that_is_taken_gets_one_line_from_every_process(folder: Path) -> None:
    code, _, err = finished(torchrun(f"{VAE} --steps 2 --name vae", folder))
    assert code != 0 and err.count("runs/vae: exists already") == 2 and "latentdiff/cli" not in err


@pytest.mark.slow
def test_workers_are_refused_beside_other_processes(folder: Path) -> None:
    code, _, err = finished(torchrun(f"{VAE} --steps 2 --workers 2 --name no", folder))
    assert code != 0 and "--workers is for one process, found 2" in err


@pytest.mark.slow
def test_two_processes_draw_the_images_of_one(folder: Path) -> None:
    draw = "sample --run runs/denoiser -n 11 --steps 5 --eta 1 --seed 4 --label 1"
    code, _, err = run_cli(f"{draw} --out one.npz", cwd=folder)
    assert code == 0, err
    code, out, err = finished(torchrun(f"{draw} --out two.npz --json", folder))
    assert code == 0, err
    assert json.loads(out)["n"] == 11 and "2 processes share the images" in err
    with np.load(folder / "one.npz") as one, np.load(folder / "two.npz") as two:
        assert one["images"].std() > 1
        assert np.abs(one["images"].astype(int) - two["images"].astype(int)).max() <= 1  # a rounding of 1e-5
        assert np.array_equal(one["labels"], two["labels"])
    code, _, err = finished(torchrun(f"{draw} --interpolate 9 --out no.png", folder))
    assert code != 0 and "2 processes share plain samples" in err


@pytest.mark.slow
def test_two_processes_measure_what_one_measures(folder: Path) -> None:
    shared = (
        "--run runs/denoiser --features mnist --resamples 20 --neighbors 20 --steps 3 --no-cache --threads 1"
        " --json"
    )
    code, out, err = run_cli(f"evaluate {shared} --what samples -n 310 --out one", cwd=folder)
    assert code == 0, err
    one = json.loads(out)
    code, out, err = finished(torchrun(f"evaluate {shared} --what samples,denoiser -n 310 --out two", folder))
    assert code == 0, err
    two = json.loads(out)  # one process speaks
    assert two["denoiser"] is not None and "2 processes share the samples" in err
    for part in (one, two):
        part["samples"].pop("seconds")
    assert two["samples"] == one["samples"]
    assert (folder / "two" / "samples.png").read_bytes() == (folder / "one" / "samples.png").read_bytes()
    for words, expected in (
        ("--what denoiser", "--what denoiser draws none"),
        ("-n 200", "drawn 250 at once"),
    ):
        code, _, err = finished(torchrun(f"evaluate {shared} {words} --out no", folder))
        assert code != 0 and expected in err
    code, _, err = finished(
        torchrun("evaluate --images tiny.npz --reference tiny.npz --features mnist", folder)
    )
    assert code != 0 and "--images are measured by one" in err


@pytest.mark.slow
def test_two_processes_train_both_models_of_one_command(folder: Path) -> None:
    (folder / "both.yaml").write_text(
        "train-vae: {latent: 4, width: 8, depth: 0, batch: 16, steps: 4}\ntrain-denoiser: {width: 16, depth:"
        " 1, batch: 16, steps: 6}"
    )
    code, out, err = finished(torchrun("train --config both.yaml --data tiny.npz --name both --json", folder))
    assert code == 0, err
    assert [answer["steps"] for answer in json.loads(out).values()] == [4, 6]  # one process speaks
    code, _, err = finished(torchrun("train --config both.yaml --data tiny.npz", folder))
    assert code != 0 and "give --name" in err


def test_processes_share_whole_chunks() -> None:
    from latentdiff.evaluate.sampling import shares

    for n, processes in ((1000, 1), (1000, 3), (760, 2), (1001, 5)):
        found = shares(n, (1, 8, 8), processes)
        assert [k for share in found for k in range(n)[share]] == list(range(n))
        assert all(share.start % 250 == 0 for share in found)
    with pytest.raises(
        InputError, match="3 processes share 500 samples, which are drawn 250 at once: expected at least 501"
    ):
        shares(500, (1, 8, 8), 3)


GROUP_ENDS = """
import torch
from pathlib import Path
from latentdiff.parallel.processes import joined

with joined(torch.device("cpu")):
    network = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(3, 3))
    network(torch.ones(2, 3)).sum().backward()
    network.itself = network  # as a training loop, which its parts know
    del network
names = [(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]
assert not [name for name in names if "gloo" in name], names
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="names of threads are read from /proc")
def test_threads_of_the_group_end_with_it(tmp_path: Path) -> None:
    """One that releases its last work while Python ends aborts the process (pytorch issue 190489)."""
    (tmp_path / "ends.py").write_text(GROUP_ENDS)
    code, _, err = finished(torchrun_script("ends.py", tmp_path))
    assert code == 0, err
