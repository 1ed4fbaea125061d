"""`python -m latentdiff` is the `latentdiff` command."""

from latentdiff.apps.cli import main

main()
