"""What a command shows on a terminal while it works."""

import os
import subprocess
import sys
from pathlib import Path


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
