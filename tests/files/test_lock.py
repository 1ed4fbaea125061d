"""Locks between processes: one at a time, free as soon as its holder is gone, however it went."""

import errno
import fcntl
import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from latentdiff.errors import InputError
from latentdiff.files.lock import check_unlocked, locked

HOLD = """
import sys, time
from pathlib import Path
from latentdiff.files.lock import locked
with locked(Path(sys.argv[1]), str):
    print("held", flush=True)
    time.sleep(60)
"""
COUNT = """
import sys
from pathlib import Path
from latentdiff.files.lock import locked
for _ in range(100):
    with locked(Path(sys.argv[1]), str, patience=60):
        number = Path(sys.argv[2])
        number.write_text(str(int(number.read_text()) + 1))
"""


def busy(holder: str) -> str:
    return f"held by {holder}"


def test_another_process_is_named_and_a_killed_one_is_no_obstacle(tmp_path: Path) -> None:
    lock = tmp_path / "new" / ".lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(lock)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        named = f"^held by process {process.pid} on {platform.node()}$"
        with pytest.raises(InputError, match=named), locked(lock, busy, patience=0.1):
            pass
        with pytest.raises(InputError, match=named):
            check_unlocked(lock, busy)
        process.send_signal(signal.SIGKILL)
    assert lock.exists()
    check_unlocked(lock, busy)
    with locked(lock, busy) as note:
        assert note is None
    assert not lock.exists()


def test_processes_that_take_turns_never_meet(tmp_path: Path) -> None:
    """Each removes the lock file, while others wait for it: an increment is lost if two of them hold one at a
    time.
    """
    number = tmp_path / "number"
    number.write_text("0")
    command = [sys.executable, "-c", COUNT, str(tmp_path / ".lock"), str(number)]
    processes = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert number.read_text() == "300"


def test_a_file_that_its_holder_has_removed_is_not_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = fcntl.flock, list[int]()

    def flock(handle: int, operation: int) -> None:
        if not calls:
            (tmp_path / ".lock").unlink()  # between the opening and the locking
        calls.append(handle)
        real(handle, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    with locked(tmp_path / ".lock", busy):
        assert len(calls) == 2 and (tmp_path / ".lock").exists()


def test_a_check_does_not_keep_who_wants_the_lock_from_it(tmp_path: Path) -> None:
    (tmp_path / ".lock").touch()
    handle = os.open(tmp_path / ".lock", os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_SH)  # as another check
    check_unlocked(tmp_path / ".lock", busy)
    with pytest.raises(InputError, match="another process"), locked(tmp_path / ".lock", busy, patience=0.05):
        pass
    os.close(handle)
    with locked(tmp_path / ".lock", busy):
        pass


def test_where_there_are_no_locks_a_note_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(handle: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with locked(tmp_path / ".lock", busy) as note:
        assert note is not None and "its file system has no locks" in note
        check_unlocked(tmp_path / ".lock", busy)


def test_a_name_that_leads_elsewhere_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("years of work")
    (tmp_path / "link").symlink_to("mine")
    with pytest.raises(OSError, match=r"link|symbolic"), locked(tmp_path / "link", busy):
        pass
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(InputError, match="expected a lock file"), locked(tmp_path / "fifo", busy):
        pass
    assert (tmp_path / "mine").read_text() == "years of work"
