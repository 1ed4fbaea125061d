"""Runs that several processes use at once: readers while checkpoints are replaced, two trainings of one
name.
"""

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from campaign_tools import TINY, Command, latentdiff, times, until

from latentdiff.pipeline.checkpoint.runs import Run, locate
from latentdiff.pipeline.pipeline import load

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
FOREVER = f"train-denoiser --pixel --network cnn {TINY} --steps 1000000 --validate-every 1000000"


def test_readers_while_checkpoints_are_replaced(
    tiny_folder: Path, tmp_path: Path, record_property: Callable
) -> None:
    """Each step writes a checkpoint and removes an older one; every reader gets a whole model."""
    train = f"{FOREVER} --data {tiny_folder}/tiny.npz --save-every 1 --checkpoints-total-limit 1 --name run"
    training, run = Command(train, tmp_path), tmp_path / "runs" / "run"
    reads, seen = times(400), set()
    try:
        assert until(lambda: Run(run).checkpoints(), training), training.wait()
        for _ in range(reads):
            load(run)
            seen.add(locate(run).folder.name)
        for _ in range(times(20)):
            latentdiff("sample --run runs/run -n 1 --steps 1 --out a.png", tmp_path).check(0)
            latentdiff("inspect runs/run", tmp_path).check(0)
        assert training.running and len(seen) > 1
    finally:
        training.send(signal.SIGKILL)
        training.wait()
    record_property("count:reads while checkpoints were replaced", reads + 2 * times(20))


def test_two_trainings_of_one_name(tiny_folder: Path, tmp_path: Path, record_property: Callable) -> None:
    """Started at once, one trains and the other says so; a run that trains is not resumed; after a kill it
    is.
    """
    rounds = max(2, times(20))
    for number in range(rounds):
        name = f"twins-{number}"
        start = f"{FOREVER} --data {tiny_folder}/tiny.npz --name {name}"
        twins = [Command(start, tmp_path) for _ in range(2)]
        log = Run(tmp_path / "runs" / name).log
        try:
            assert until(lambda: not twins[0].running or not twins[1].running, _Any(twins))  # noqa: B023
            loser, winner = sorted(twins, key=lambda twin: twin.running)
            ended = loser.wait().check(1)
            assert name in ended.err
            assert until(log.is_file, winner), winner.wait()
            latentdiff(f"train-denoiser --resume runs/{name}", tmp_path).check(1)
        finally:
            for twin in twins:
                twin.send(signal.SIGTERM if number % 2 else signal.SIGKILL)
        winner.wait()
        steps = _steps(log)
        assert steps == sorted(set(steps))
        if number % 2:
            step = int(locate(tmp_path / "runs" / name).folder.name.removeprefix("checkpoint-"))
            latentdiff(f"train-denoiser --resume runs/{name} --steps {step + 2}", tmp_path).check(0)
    record_property("count:pairs of trainings of one name", rounds)


class _Any:
    """Runs while one of two commands does."""

    def __init__(self, commands: list[Command]) -> None:
        self._commands = commands

    @property
    def running(self) -> bool:
        return any(command.running for command in self._commands)


def _steps(log: Path) -> list[int]:
    import json

    return [json.loads(line)["step"] for line in log.read_text().splitlines() if "step" in json.loads(line)]


def test_one_cache_for_many(tiny_folder: Path, tmp_path: Path, record_property: Callable) -> None:
    """Several processes fill one cache of features at once, some are killed; all that end agree."""
    rounds, answers = max(1, times(5)), set()
    for number in range(rounds):
        out = [
            f"evaluate --images {tiny_folder}/tiny.npz --reference {tiny_folder}/tiny.npz --resamples 0"
            f" --json --out ev{k}-{number}"
            for k in range(3)
        ]
        commands = [Command(each, tmp_path) for each in out]
        time.sleep(0.2)
        if number % 2:
            commands[0].send(signal.SIGKILL)
            commands.pop(0).wait()
        for command in commands:
            answers.add(command.wait().check(0).out.split('"fd"')[-1][:40])
    assert len(answers) == 1
    record_property("count:evaluations that share a cache", 3 * rounds)
