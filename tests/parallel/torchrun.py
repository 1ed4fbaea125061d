"""Commands under torchrun, and the losses in the logs they leave."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from helpers import ROOT


def environment() -> dict[str, str]:
    """What processes of torchrun need on one machine."""
    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}


def torchrun(command: str, cwd: Path, *, processes: int = 2) -> subprocess.Popen[str]:
    """`torchrun --nproc-per-node N -m latentdiff -- COMMAND`, on a free port of this machine; torchrun has a
    --run-path of its own.
    """
    return _started(["-m", "latentdiff", "--", *command.split()], cwd, processes)


def torchrun_script(name: str, cwd: Path, *, processes: int = 2) -> subprocess.Popen[str]:
    """`torchrun --nproc-per-node N NAME`, a Python file."""
    return _started([name], cwd, processes)


def _started(command: list[str], cwd: Path, processes: int) -> subprocess.Popen[str]:
    words = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        str(processes),
        "--rdzv-backend",
        "c10d",
    ]
    words += ["--rdzv-endpoint", "localhost:0", *command]
    return subprocess.Popen(
        words,
        cwd=cwd,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finished(process: subprocess.Popen[str], seconds: float = 200) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=seconds)
    return process.returncode, out, err


def log(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def losses(run: Path) -> list[float]:
    return [entry["loss"] for entry in log(run) if "loss" in entry]
