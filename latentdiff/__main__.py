"""`python -m latentdiff` is the `latentdiff` command."""

from latentdiff.cli import main

main()
