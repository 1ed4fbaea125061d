"""What the reliability campaign shares: how often a trial is repeated, commands in processes of their own,
and what a clean end is.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import shlex
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Thread
from typing import Any

SHARE = float(os.environ.get("CAMPAIGN", "0.1"))  # of the whole number of trials
TINY = "--width 8 --batch 4 --threads 1 --warmup 0 --log-every 50"

_processes = multiprocessing.get_context(
    "forkserver"
)  # torch is imported once; a command starts in milliseconds
# all that the commands import late, so that a limit on memory meets their work and not their imports
PRELOADED = (
    "campaign_tools", "latentdiff.pipeline.diffusers", "matplotlib.backends.backend_agg", "matplotlib.figure", "numpy.random", "torch.fx.experimental.symbolic_shapes",
    "latentdiff.apps.cli.root", "latentdiff.apps.cli.shared.progress", "latentdiff.edit", "latentdiff.train.latent_dataset", "latentdiff.evaluate", "latentdiff.metrics.features",
    "latentdiff.viz.images", "latentdiff.pipeline.pipeline", "latentdiff.viz.figures", "latentdiff.train.denoiser", "latentdiff.train.vae",
)  # fmt: skip
_processes.set_forkserver_preload(list(PRELOADED))


def times(whole: int) -> int:
    """How many of ``whole`` trials this run makes; one at least."""
    return max(1, round(SHARE * whole))


def words(command: str | Sequence[str]) -> list[str]:
    """The words of a command line."""
    return shlex.split(command) if isinstance(command, str) else list(command)


@dataclass(frozen=True)
class Ended:
    """How a command ended. A negative ``code`` is the signal that killed it."""

    command: str
    code: int
    out: str
    err: str

    def check(self, *codes: int) -> Ended:
        """Fail unless the command ended with one of the codes, in one line of error where it failed, never in
        a traceback.
        """
        text = f"{self.command}\n-> {self.code}\n{self.out[-500:]}\n{self.err[-3000:]}"
        assert self.code in codes, text
        assert "Traceback" not in self.err and "Exception ignored" not in self.err, text
        errors = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert len(errors) == (self.code in (1, 2)), text
        return self


class Command:
    """A `latentdiff` command in a process of its own, forked from one that has imported torch already.

    ``limits``: what `resource.setrlimit` takes, by name, set once the process is about to run the command; an
    ``RLIMIT_AS`` counts from the memory that the process has mapped by then.
    """

    def __init__(self, command: str | Sequence[str], folder: Path, **limits: int) -> None:
        self.words = words(command)
        self._streams = [_Stream(), _Stream()]
        pipes = [stream.writer for stream in self._streams]
        self._process = _processes.Process(target=_run, args=(self.words, str(folder), pipes, limits))
        self._process.start()
        for stream in self._streams:
            stream.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.is_alive()

    def send(self, *signals: int) -> None:
        """Send signals, one right after the other."""
        for number in signals:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def wait(self, seconds: float = 120) -> Ended:
        """Wait for the end; killed and reported as a failure where it takes longer."""
        self._process.join(seconds)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
            raise AssertionError(f"{shlex.join(self.words)}: still running after {seconds} s")
        texts = [stream.text() for stream in self._streams]
        assert self._process.exitcode is not None
        return Ended(shlex.join(self.words), self._process.exitcode, *texts)


class _Stream:
    """A pipe that is read as it fills: limits on the size of files do not hold for it."""

    def __init__(self) -> None:
        self._reader, self.writer = _processes.Pipe(duplex=False)
        self._found, self._thread = bytearray(), Thread(target=self._read, daemon=True)

    def start(self) -> None:
        """Read from now on; the writing end is the child's alone."""
        self.writer.close()
        self._thread.start()

    def _read(self) -> None:
        while part := os.read(self._reader.fileno(), 2**16):
            self._found += part

    def text(self) -> str:
        """What was written, once the child has ended."""
        self._thread.join()
        self._reader.close()
        return self._found.decode("utf-8", "replace")


def _run(arguments: list[str], folder: str, pipes: list[Connection], limits: dict[str, int]) -> None:
    """The command, in the child: its streams go to the pipes, its limits are set last."""
    import torch

    from latentdiff.apps.cli import main

    signal.signal(signal.SIGINT, signal.default_int_handler)
    torch.set_num_threads(1)
    os.chdir(folder)
    for number, pipe in enumerate(pipes, 1):
        os.dup2(pipe.fileno(), number)
        pipe.close()
    sys.stdout, sys.stderr = (open(number, "w", closefd=False, buffering=1) for number in (1, 2))  # noqa: SIM115
    sys.argv = ["latentdiff", *arguments]
    for name, value in limits.items():
        limit = value + (_mapped() if name == "RLIMIT_AS" else 0)
        resource.setrlimit(getattr(resource, name), (limit, limit))
    main()


def _mapped() -> int:
    """Bytes of address space that this process has mapped."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def latentdiff(command: str | Sequence[str], folder: Path, *, seconds: float = 120, **limits: int) -> Ended:
    """Run a command to its end."""
    return Command(command, folder, **limits).wait(seconds)


def until(condition: Callable[[], Any], command: Command, seconds: float = 120) -> bool:
    """Wait until the condition holds; False where the command ended before."""
    deadline = time.monotonic() + seconds
    while not condition():
        if not command.running:
            return False
        assert time.monotonic() < deadline, "the condition was never met"
        time.sleep(0.001)
    return True
