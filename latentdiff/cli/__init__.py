"""The command line: parse, build, call. The only part of the package that prints."""

from __future__ import annotations

import sys

from latentdiff.cli.root import run


def main() -> None:
    """Entry point of the `latentdiff` command."""
    sys.exit(run(sys.argv[1:]))
