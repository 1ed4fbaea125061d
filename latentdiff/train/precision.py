"""Mixed precision of a training."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch

from latentdiff.config.loop import LoopOptions
from latentdiff.parallel.device import bf16_native


def autocast(options: LoopOptions, device: torch.device) -> AbstractContextManager[object]:
    """bfloat16 autocast as --bf16 says."""
    enabled = options.bf16 == "on" or (options.bf16 == "auto" and bf16_native(device))
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)
