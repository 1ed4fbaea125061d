"""The processes of a command that torchrun started."""

from __future__ import annotations

import click
import torch

from latentdiff.apps.cli.shared.progress import note
from latentdiff.parallel.processes import Ranks, joined


def together(device: torch.device, what: str) -> tuple[Ranks, torch.device]:
    """The processes of this command, until it ends, and this one's device; ``what`` they share is noted."""
    ranks = click.get_current_context().with_resource(joined(device))
    if ranks.count > 1:
        note(f"{ranks.count} processes share {what}")
    return ranks, device if ranks.count == 1 else ranks.device
