"""Tiny models of diffusers with random weights, as their own save_pretrained writes them: what stands in for
the hub.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderTiny, DDIMPipeline, DDIMScheduler, DDPMPipeline, UNet2DModel

SIDE, T = 8, 20


def seeded(cls: Any, **options: Any) -> Any:
    """A network whose weights depend on nothing but its class, and are larger than at the start of a
    training.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = cls(**options).eval()
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
    return network


def unet(*, classes: int | None = None, **options: Any) -> UNet2DModel:
    shape = {"sample_size": SIDE, "in_channels": 1, "out_channels": 1, "block_out_channels": (8, 16)}
    blocks = {
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "attention_head_dim": 4,
    }
    return seeded(UNet2DModel, **{**shape, **blocks, "num_class_embeds": classes, **options})


def autoencoder(*, channels: int = 1, **options: Any) -> AutoencoderKL:
    blocks = {
        "block_out_channels": (8, 8),
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "norm_num_groups": 4,
    }
    sizes = {"in_channels": channels, "out_channels": channels, "latent_channels": 2, "sample_size": SIDE}
    return seeded(AutoencoderKL, **{**blocks, **sizes, "shift_factor": 0.3, **options})


def tiny_autoencoder(**options: Any) -> AutoencoderTiny:
    counts = {"num_encoder_blocks": (1, 1), "num_decoder_blocks": (1, 1)}
    widths = {
        "encoder_block_out_channels": (8, 8),
        "decoder_block_out_channels": (8, 8),
        "latent_channels": 2,
    }
    return seeded(AutoencoderTiny, **{"in_channels": 1, "out_channels": 1, **counts, **widths, **options})


def saved(folder: Path, scheduler: Any = None, *, network: UNet2DModel | None = None) -> Path:
    """The folder of a pipeline.

    A scheduler's options come by name: diffusers forgets those given by position.
    """
    scheduler = scheduler or DDIMScheduler(num_train_timesteps=T)
    kind = DDIMPipeline if isinstance(scheduler, DDIMScheduler) else DDPMPipeline
    kind(network or unet(), scheduler).save_pretrained(folder)
    return folder


def quiet(pipeline: Any) -> Any:
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def given_noise(monkeypatch: pytest.MonkeyPatch, noises: Iterator[torch.Tensor]) -> None:
    """Let diffusers' pipelines and schedulers draw these noises, one after the other."""
    for place in ("pipelines.ddpm.pipeline_ddpm", "pipelines.ddim.pipeline_ddim"):
        monkeypatch.setattr(f"diffusers.{place}.randn_tensor", lambda *_, **__: next(noises).clone())
    for place in ("schedulers.scheduling_ddpm", "schedulers.scheduling_ddim"):
        monkeypatch.setattr(f"diffusers.{place}.randn_tensor", lambda *_, **__: next(noises).clone())
