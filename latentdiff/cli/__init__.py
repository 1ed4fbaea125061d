"""The command line: parse, build, call. The only part of the package that prints."""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point of the `latentdiff` command."""
    from latentdiff.cli import signals

    signals.install()  # before anything that takes long to import
    from latentdiff.cli.root import run

    if sys.stdout is not None:  # what its encoding lacks is escaped, as on stderr
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    sys.exit(run(sys.argv[1:]))
