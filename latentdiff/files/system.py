"""Facts of the machine that the operating system keeps in files."""

from __future__ import annotations

import platform
from pathlib import Path


def processor_name() -> str:
    """The name of the processor in /proc/cpuinfo, else the name that Python has for it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()
