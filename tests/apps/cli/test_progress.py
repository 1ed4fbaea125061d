"""What a command shows on a terminal while it works."""

import os
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from latentdiff.apps.cli.shared.progress import _rich_bar


def on_a_terminal(line: str, cwd: Path) -> str:
    """What a command in a process of its own writes to a terminal as its stderr."""
    controller, terminal = os.openpty()
    words = [sys.executable, "-m", "latentdiff", *line.split()]
    done = subprocess.run(words, cwd=cwd, stderr=terminal, stdout=subprocess.DEVNULL, timeout=60, check=False)
    os.close(terminal)
    assert done.returncode == 1
    return os.read(controller, 4096).decode().replace("\r", "")


def test_a_terminal_shows_that_a_training_has_started(tmp_path: Path) -> None:
    """Importing torch takes a second or two; in a pipe an error stays the only line."""
    first, *_ = on_a_terminal("train-denoiser", tmp_path).splitlines()
    assert first == "loading PyTorch"
    piped = subprocess.run(
        [sys.executable, "-m", "latentdiff", "train-denoiser"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert piped.returncode == 1 and len(piped.stderr.splitlines()) == 1


@pytest.mark.parametrize("width", [40, 60, 100, 160])
def test_a_bar_keeps_percent_and_time_in_one_line(width: int) -> None:
    console = Console(file=StringIO(), width=width, force_terminal=True, color_system=None)
    bar = _rich_bar("training", "{task.fields[values]}", console=console)
    bar.update(bar.task_ids[0], completed=0.32, values="step 1234  loss 0.1234  412 images/s  lr 0.001")
    bar.stop()
    with console.capture() as shown:
        console.print(bar.get_renderable())
    (line,) = [line for line in shown.get().splitlines() if line.strip()]
    assert len(line) <= width and " 32% " in line and "-:--:--" in line
    assert ("images/s" in line) is (width >= 100)
