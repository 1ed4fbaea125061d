"""Signals at any moment, imports included: the exit code of the signal, one line at most, whole
checkpoints.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from campaign_tools import TINY, times

import latentdiff
from latentdiff.pipeline.checkpoint.folder import open_checkpoint
from latentdiff.pipeline.checkpoint.runs import Run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
PACKAGE = f"{Path(latentdiff.__file__).parent}{os.sep}"  # in the frames of a traceback that is ours
SIGNALS = {
    "SIGINT": [signal.SIGINT],
    "SIGTERM": [signal.SIGTERM],
    "both": [signal.SIGTERM, signal.SIGINT],
    "twice": [signal.SIGINT] * 2,
}
COMMANDS = ("sample --run {run} -n 400 --steps 20 --out a.png", f"train-vae --data {{data}} --latent 2 --depth 0 {TINY} --steps 100000 --save-every 50", "evaluate --images {data} --reference {data} --out ev", "--help")  # fmt: skip


def test_signals(tiny_folder: Path, tiny_class_run: Path, tmp_path: Path, record_property: Callable) -> None:
    """In processes of their own, from the first import on."""
    dice, trials, answered = random.Random(0), max(8, times(120)), 0
    for trial in range(trials):
        name, numbers = list(SIGNALS.items())[trial % len(SIGNALS)]
        words = (
            COMMANDS[trial // len(SIGNALS) % len(COMMANDS)]
            .format(run=tiny_class_run, data=tiny_folder / "tiny.npz")
            .split()
        )
        if words[0].startswith("train"):
            words += ["--name", f"run-{trial}"]
        process = subprocess.Popen(
            [sys.executable, "-m", "latentdiff", *words], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        time.sleep(dice.choice([0.3, 6.0]) * dice.random())
        for number in numbers:
            process.send_signal(number)
        err = process.communicate(timeout=120)[1]
        where = f"{name} after a moment: {' '.join(words)} -> {process.returncode}\n{err[-2000:]}"
        codes = {128 + number for number in numbers}
        before_us = {-number for number in numbers}  # the interpreter itself is still starting
        if process.returncode in before_us or (process.returncode == 1 and PACKAGE not in err):
            continue
        assert process.returncode in codes | {0}, where
        assert "Traceback" not in err, where
        assert err.count("error: ") <= 1, where
        answered += process.returncode != 0
    for run in (tmp_path / "runs").glob("*"):
        for checkpoint in Run(run).checkpoints():
            open_checkpoint(checkpoint).verify()
    record_property("count:signals", trials)
    record_property("count:signals that were answered with their exit code", answered)
