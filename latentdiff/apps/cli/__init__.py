"""The command line: parse, build, call. The only part of the package that prints."""

from __future__ import annotations

import codecs
import sys
from io import TextIOWrapper


def main() -> None:
    """Entry point of the `latentdiff` command."""
    from latentdiff.apps.cli.shared import signals

    signals.install()  # before anything that takes long to import
    from latentdiff.apps.cli.root import run

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            _never_fail(stream)
    sys.exit(run(sys.argv[1:]))


def _never_fail(stream: TextIOWrapper) -> None:
    """Escape what the encoding of a stream lacks; ASCII becomes UTF-8: click takes it for no locale."""
    unset = codecs.lookup(stream.encoding).name == "ascii"
    stream.reconfigure(encoding="utf-8" if unset else None, errors="backslashreplace")
