"""Killed at any moment, a command leaves whole files or none, and a training goes on to the same bits."""

import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from campaign_tools import TINY, Command, latentdiff, times, until

from latentdiff.data.decode import Decoded, decode_file
from latentdiff.pipeline.checkpoint.folder import TEMPORARY, open_checkpoint
from latentdiff.pipeline.checkpoint.runs import Run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
TRAININGS = {
    "train-vae": f"--latent 2 --depth 0 {TINY}",
    "train-denoiser": f"--vae {{vae}} --T 4 --depth 1 {TINY}",
    "train-cold": f"--T 3 --blur-kernel 3 --depth 1 {TINY}",
}


@pytest.mark.parametrize("training", TRAININGS)
def test_kills_of_a_training(
    training: str, tiny_folder: Path, tiny_vae_run: Path, tmp_path: Path, record_property: Callable
) -> None:
    """At moments of two kinds: any, and while a checkpoint is being written."""
    dice, run = random.Random(training), tmp_path / "runs" / "run"
    options = TRAININGS[training].format(vae=tiny_vae_run)
    start = f"{training} {options} --data {tiny_folder}/tiny.npz --steps 100000 --save-every 2 --name run"
    kills, command, in_saves = times(60), start, 0
    for kill in range(kills):
        process, before = Command(command, tmp_path), _step(run)
        assert until(lambda: _step(run) > before, process), process.wait()  # noqa: B023
        if kill % 2:
            time.sleep(0.3 * dice.random())
        else:
            until(lambda: bool(list(run.glob(TEMPORARY + "*"))), process)
        process.send(signal.SIGKILL)
        assert process.wait().code == -signal.SIGKILL
        in_saves += bool(list(run.glob(TEMPORARY + "*")))
        for checkpoint in Run(run).checkpoints():
            open_checkpoint(checkpoint).verify()
        command = f"{training} --resume runs/run"
    latentdiff(f"{command} --steps {_step(run) + 3}", tmp_path).check(0)
    assert not list(run.glob(TEMPORARY + "*"))
    record_property("count:kills of trainings", kills)
    record_property("count:kills while a checkpoint was being written", in_saves)


def _step(run: Path) -> int:
    return max((int(path.name.removeprefix("checkpoint-")) for path in run.glob("checkpoint-*")), default=0)


def test_kills_of_commands_that_write(
    tiny_folder: Path, tiny_vae_run: Path, tiny_class_run: Path, tmp_path: Path, record_property: Callable
) -> None:
    """Pictures, encoded latents and exports are whole, or not there."""
    dice, kills = random.Random(0), times(60)
    commands = (
        f"sample --run {tiny_class_run} -n 12 --steps 2 --files pictures{{k}} --out grid{{k}}.png",
        f"encode --run {tiny_vae_run} --data {tiny_folder}/tiny.npz --out latents{{k}}",
        f"export --run {tiny_class_run} --part scheduler --out export{{k}}",
    )
    for kill in range(kills):
        process = Command(commands[kill % 3].format(k=kill), tmp_path)
        until(lambda: any(tmp_path.glob(f"*{kill}*")), process, 30)  # noqa: B023
        time.sleep(0.02 * dice.random())
        process.send(signal.SIGKILL)
        process.wait()
        for picture in [*tmp_path.glob(f"pictures{kill}/*.png"), *tmp_path.glob(f"grid{kill}.png")]:
            assert isinstance(decode_file(picture), Decoded), picture
        encoded = tmp_path / f"latents{kill}"
        if encoded.exists() and any(encoded.iterdir()):  # an empty folder only shows that it can be written
            open_checkpoint(encoded).verify()
    record_property("count:kills of commands that write", kills)
