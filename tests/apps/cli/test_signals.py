"""Signals, streams and panics as a process meets them: one line on stderr and the right exit code."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from latentdiff.apps.cli.shared import signals

PROGRAM = """
import os, signal, sys, types
import click
from latentdiff.apps.cli import main, root

def both():
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    for signum in (signal.SIGTERM, signal.SIGINT):
        os.kill(os.getpid(), signum)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))

def into_another(signum):
    try:
        os.kill(os.getpid(), signum)
    except BaseException:
        raise RuntimeError("a library's own") from None

def slow_to_clean_up(signum):
    try:
        os.kill(os.getpid(), signum)
    finally:
        os.kill(os.getpid(), signum)
        print("never")

@click.command()
def command():
    INT, TERM = signal.SIGINT, signal.SIGTERM
    {body}

sys.modules["latentdiff.apps.cli.probe"] = types.SimpleNamespace(command=command)
root.COMMANDS["probe"] = ("probe", "")
sys.argv = ["latentdiff", "probe"]
main()
"""


def probed(body: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The process of a command with that body."""
    return subprocess.run(
        [sys.executable, "-c", PROGRAM.replace("{body}", body)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), *sys.path])} | environment,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("os.kill(os.getpid(), INT)", 130),
        ("os.kill(os.getpid(), TERM)", 143),
        ("both()", 130),  # Python runs handlers by number
        ("into_another(INT)", 130),
        ("into_another(TERM)", 143),
        ("slow_to_clean_up(INT)", 130),
        ("slow_to_clean_up(TERM)", 143),
        ("import half_int", 130),
        ("import half_term", 143),
    ],
)
def test_a_signal_at_any_moment_is_one_line(body: str, code: int, tmp_path: Path) -> None:
    for name, signum in (("int", "SIGINT"), ("term", "SIGTERM")):  # as extension modules do
        (tmp_path / f"half_{name}.py").write_text(
            f"import os, signal\ntry:\n    os.kill(os.getpid(), signal.{signum})\n"
            "except BaseException:\n    os.abort()\n"
        )
    done = probed(body, tmp_path)
    line = signals.NAMES[code - 128]
    assert (done.returncode, done.stdout, done.stderr) == (code, "", f"error: {line}\n")


def test_an_ignored_signal_stays_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    set_to: list[int] = []
    monkeypatch.setattr(
        signal, "getsignal", lambda signum: signal.SIG_IGN if signum == signal.SIGINT else None
    )
    monkeypatch.setattr(signal, "signal", lambda signum, handler: set_to.append(signum))
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    signals.install()
    assert set_to == [signal.SIGTERM]


@pytest.mark.parametrize(
    ("encoding", "shown"), [("ascii", "\u8d64"), ("utf-8", "\u8d64"), ("latin-1", r"\u8d64")]
)
def test_what_an_encoding_lacks_is_escaped(encoding: str, shown: str, tmp_path: Path) -> None:
    body = (
        "from rich.table import Table; from latentdiff.apps.cli.shared.progress import result, show_tables; "
        r"result({}, as_json=False, text='\u8d64 \udce9'); "
        r"show_tables([Table('a' * 30, title='\u8d64 [/b] \udce9 :cat:')], width=40)"
    )
    done = probed(body, tmp_path, PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, "")
    assert rf"{shown} \udce9" in done.stdout and rf"{shown} [/b] \udce9 :cat:" in done.stdout


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ("open('\\ud800')", "'\\ud800': cannot be written in the encoding utf-8"),
        (
            "raise type('PanicException', (BaseException,), {'__module__': 'pyo3_runtime'})('a')",
            "safetensors failed (a)",
        ),
        ("raise MemoryError", "out of memory; a smaller batch, network or number of images needs less"),
        (
            "raise ValueError('quantization error')",
            "out of memory; a smaller batch, network or number of images needs less",
        ),
        (
            "raise RuntimeError('could not create a primitive')",
            "out of memory; a smaller batch, network or number of images needs less",
        ),
    ],
)
def test_what_is_no_exception_of_ours_is_one_line_too(body: str, line: str, tmp_path: Path) -> None:
    done = probed(body, tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: {line}") and done.stderr.count("\n") == 1, done.stderr


def test_a_working_folder_that_is_gone_is_named(tmp_path: Path) -> None:
    body = "pass"
    program = "import os, tempfile; gone = tempfile.mkdtemp(); os.chdir(gone); os.rmdir(gone)\n" + PROGRAM
    done = subprocess.run(
        [sys.executable, "-c", program.replace("{body}", body)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 1
    assert (
        done.stderr
        == "error: the working folder: No such file or directory; change to a folder that exists\n"
    )
