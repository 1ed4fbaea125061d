"""Trainings in real processes: killed, interrupted and resumed; fine-tuned from other runs."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from latentdiff.apps.cli.root import run as cli
from latentdiff.pipeline.checkpoint.folder import TEMPORARY, open_checkpoint
from latentdiff.pipeline.checkpoint.runs import Run, locate
from latentdiff.pipeline.components import load_network
from latentdiff.train import loop
from latentdiff.train.denoiser import DenoiserTask
from latentdiff.train.state import load_train_state
from latentdiff.train.vae import VAETask

KILLS, STEPS = 6, 260
TINY = [
    "--width",
    "8",
    "--batch",
    "4",
    "--threads",
    "1",
    "--validate-every",
    "7",
    "--log-every",
    "4",
    "--warmup",
    "5",
]
COMMANDS = {
    "vae": ["train-vae", "--latent", "2", "--depth", "0", *TINY],
    "denoiser": ["train-denoiser", "--depth", "1", "--T", "4", *TINY],
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An .npz file of 22 training images; an epoch is five and a half steps."""
    generator = np.random.Generator(np.random.PCG64(5))
    arrays = {}
    for part, n in (("train", 22), ("val", 4), ("test", 3)):
        arrays[f"x_{part}"] = generator.integers(0, 256, (n, 8, 8), dtype=np.uint8)
        arrays[f"y_{part}"] = np.arange(n) % 2
    path = tmp_path_factory.mktemp("data") / "tiny.npz"
    np.savez(path, **arrays)
    return str(path)


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures take longer than these trainings."""
    monkeypatch.setattr(loop, "save_loss_curve", lambda entries, path: None)
    for task in (VAETask, DenoiserTask):
        monkeypatch.setattr(task, "save_samples", lambda self, network, path: None)


def train(*arguments: str) -> None:
    """Train in this process."""
    assert cli(list(arguments)) == 0


def launch(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "latentdiff", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "MPLBACKEND": "agg"},
    )


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Poll until the condition holds; fails if the process ends before."""
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.001)


def content(folder: Path) -> dict[str, Any]:
    """Everything a run ends with except times: the bytes of its checkpoint's files and the lines of its
    log.
    """
    checkpoint = locate(folder)
    checkpoint.verify()
    files = {
        name: (checkpoint.folder / name).read_bytes() for name in checkpoint.files if "state.json" not in name
    }
    state, log = checkpoint.json("training/state.json"), Run(folder).log.read_text().splitlines()
    entries = [json.loads(line) for line in log]
    for values in (state, *entries):
        values.pop("elapsed", None)
        values.pop("seconds", None)
    return {**files, "state": state, "log": entries}


def newest_step(folder: Path) -> int:
    checkpoints = Run(folder).checkpoints()
    return int(checkpoints[-1].name.removeprefix("checkpoint-")) if checkpoints else 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["vae", "denoiser"])
def test_kills_change_no_bit(tmp_path: Path, data: str, kind: str) -> None:
    """SIGKILL six times, half of them while a checkpoint is being written, half at random moments; always
    resumed.
    """
    common = ["--data", data, "--runs", str(tmp_path), "--steps", str(STEPS), "--save-every", "3"]
    common += ["--checkpoints-total-limit", "2"]
    if kind == "denoiser":
        train(*COMMANDS["vae"], "--data", data, "--runs", str(tmp_path), "--steps", "2", "--name", "first")
        common += ["--vae", str(tmp_path / "first")]
    train(*COMMANDS[kind], *common, "--name", "whole")
    expected = content(tmp_path / "whole")

    run, dice, in_saves, steps = tmp_path / "killed", random.Random(0), 0, [0]
    start = [*COMMANDS[kind], *common, "--name", "killed"]
    for kill in range(KILLS):
        process = launch(*start)
        wait_for(
            lambda: newest_step(run) > steps[-1], process
        )  # some progress, so that six kills are six places
        if kill % 2:
            time.sleep(0.1 * dice.random())
        else:
            wait_for(lambda: bool(list(run.glob(TEMPORARY + "*"))), process)
        process.kill()
        assert process.wait() == -signal.SIGKILL, (
            "the training ended before it could be killed: give it more steps"
        )
        process.communicate()
        in_saves += bool(list(run.glob(TEMPORARY + "*")))
        assert 1 <= len(Run(run).checkpoints()) <= 3  # the limit, and one that was not yet pruned
        open_checkpoint(Run(run).checkpoints()[-1]).verify()
        steps.append(newest_step(run))
        start = [COMMANDS[kind][0], "--resume", str(run)]
    assert in_saves > 0
    assert sorted(set(steps)) == steps and steps[-1] < STEPS
    train(*start)
    found = content(run)
    assert [name for name in expected if found[name] != expected[name]] == []
    assert found.keys() == expected.keys()
    assert not list(run.glob(TEMPORARY + "*")) and len(Run(run).checkpoints()) == 2


@pytest.mark.parametrize(
    ("kind", "signum", "code"), [("vae", signal.SIGINT, 130), ("denoiser", signal.SIGTERM, 143)]
)
def test_a_signal_saves_exits_with_its_code_and_resumes(
    tmp_path: Path, data: str, kind: str, signum: int, code: int, no_pictures: None
) -> None:
    where = ["--data", data, "--runs", str(tmp_path)]
    if kind == "denoiser":
        train(*COMMANDS["vae"], *where, "--steps", "2", "--name", "first")
    run = tmp_path / "run"
    process = launch(*COMMANDS[kind], *where, "--name", "run", "--steps", "1000000", "--json")
    wait_for(lambda: (run / "log.jsonl").is_file() and (run / "log.jsonl").stat().st_size > 0, process)
    process.send_signal(signum)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code
    result = json.loads(out)
    last = locate(run)
    last.verify()
    assert result["interrupted"] is True and result["checkpoint"] == str(last.folder)
    progress = load_train_state(last)
    assert progress.step == result["steps"] >= 4 and not progress.finished
    logged = [json.loads(line)["step"] for line in (run / "log.jsonl").read_text().splitlines()]
    assert progress.step - 4 < max(logged) <= progress.step  # log lines come every four steps: none was lost
    assert f"stopped by a signal after step {progress.step}; continue with --resume {run}" in err
    train(COMMANDS[kind][0], "--resume", str(run), "--steps", str(progress.step + 3))
    assert newest_step(run) == progress.step + 3
    assert load_train_state(locate(run)).finished


def weights(run: Path, part: str) -> dict[str, torch.Tensor]:
    return load_network(locate(run), part, extra=("latents_mean", "latents_std"))[0].state_dict()


def far(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    return max(float((a[name] - b[name]).abs().max()) for name in a)


@pytest.mark.parametrize("kind", ["vae", "denoiser"])
def test_init_from_starts_with_the_weights_of_another_run(
    tmp_path: Path, data: str, kind: str, no_pictures: None
) -> None:
    where = ["--data", data, "--runs", str(tmp_path), "--validate-every", "1000"]
    first = tmp_path / "first"
    train(*COMMANDS["vae"], *where, "--steps", "6", "--name", "vae", "--lr", "0.01")
    train(*COMMANDS[kind], *where, "--steps", "6", "--name", "first", "--lr", "0.01")
    tune = [*COMMANDS[kind], *where, "--init-from", str(first)]
    # A learning rate of nothing shows where a training starts: at the moving average of the other, whatever
    # the seed.
    still = ["--steps", "1", "--lr", "1e-30", "--weight-decay", "0"]
    train(*tune, *still, "--name", "still", "--seed", "8")
    assert far(weights(tmp_path / "still", kind), weights(first, kind)) < 1e-20
    train(*COMMANDS[kind], *where, *still, "--name", "fresh", "--seed", "8")
    assert far(weights(tmp_path / "fresh", kind), weights(first, kind)) > 1e-2
    for seed in ("8", "9"):
        train(*tune, "--steps", "3", "--name", f"tuned-{seed}", "--seed", seed)
    tuned = [weights(tmp_path / f"tuned-{seed}", kind) for seed in ("8", "9")]
    assert min(far(tuned[0], weights(first, kind)), far(*tuned)) > 1e-5
    assert load_train_state(locate(tmp_path / "tuned-8")).step == 3  # a training of its own, from step 0


def test_init_from_refuses_another_network(
    tmp_path: Path, data: str, no_pictures: None, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--data", data, "--runs", str(tmp_path), "--steps", "1"]
    train(*COMMANDS["vae"], *where, "--name", "first")
    capsys.readouterr()
    code = cli([*COMMANDS["vae"], *where, "--width", "16", "--init-from", str(tmp_path / "first")])
    assert code == 1
    assert "its VAE is of width 8, expected 16" in capsys.readouterr().err


def test_init_from_adds_blocks_to_the_network_of_another_run(
    tmp_path: Path, data: str, no_pictures: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """The options that are not given are those of the run, and the added blocks change nothing at first."""
    where = ["--data", data, "--runs", str(tmp_path), "--steps", "1"]
    train("train-vae", *TINY, *where, "--latent", "4x4x4", "--depth", "2", "--name", "first")
    still = ["--lr", "1e-30", "--weight-decay", "0", "--init-from", str(tmp_path / "first")]
    train("train-vae", *TINY, *where, *still, "--detail", "1", "--name", "larger")
    first, larger = weights(tmp_path / "first", "vae"), weights(tmp_path / "larger", "vae")
    config = json.loads((locate(tmp_path / "larger").folder / "vae" / "config.json").read_text())
    assert (config["depth"], config["detail"], len(larger) > len(first)) == (2, 1, True)
    capsys.readouterr()
    assert cli(["train-vae", *TINY, *where, *still, "--depth", "1"]) == 1
    assert "its VAE is of depth 2, expected 1" in capsys.readouterr().err
