"""The state that the processes of a training exchange at every step, and the error for a lost process."""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import distributed

from latentdiff.errors import InputError
from latentdiff.parallel.processes import Ranks
from latentdiff.pipeline.checkpoint.runs import Run


class SyncState(NamedTuple):
    """The state that all processes of a training share: its seconds, and the signal that ends it."""

    elapsed: float
    signum: int | None


class PeerLost(InputError):
    """Another process of the training is lost."""


def all_reduce_state(
    ranks: Ranks, values: Mapping[str, float], own: SyncState
) -> tuple[dict[str, float], SyncState]:
    """The means over all processes, the clock of the first one, and a signal that any of them received."""
    if ranks.count == 1:
        return dict(values), own
    clock = own.elapsed if ranks.first else 0.0
    *sums, elapsed, signum = ranks.sums([*values.values(), clock, max(0, own.signum or 0)])
    means = {name: total / ranks.count for name, total in zip(values, sums, strict=True)}
    return means, SyncState(elapsed, own.signum or (signal.SIGTERM if signum else None))


COMM_WORDS = ("gloo", "nccl", "connection", "socket", "tcpstore", "distributed")  # in errors of the exchange


def is_comm_error(error: RuntimeError) -> bool:
    """Whether an error is of the exchange between processes, not of what one of them computes."""
    text = str(error).lower()
    return isinstance(error, distributed.DistError) or (
        not isinstance(error, torch.OutOfMemoryError) and any(word in text for word in COMM_WORDS)
    )


def peer_lost(error: RuntimeError, ranks: Ranks, run: Run, step: int) -> PeerLost:
    """The error of a lost process, with the checkpoint to resume from."""
    kept = run.checkpoints()
    where = (
        f"--resume {run.folder} goes on from {kept[-1].name}"
        if kept
        else "no checkpoint had been written yet"
    )
    reason = re.sub(r"\[/[^\]]*\]\s*", "", " ".join(str(error).split()))  # without the place in torch
    reason = re.split(r"\. |: This ", reason)[0][:160].rstrip(" .")
    return PeerLost(f"lost another process of {ranks.count} after step {step} ({reason}); {where}")
