"""The options that all training commands share: the images, budget, optimizer, and where a run is written."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, model_validator

from latentdiff.config.base import Config, device_name, setting


def _run_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", text):
        raise ValueError(
            f"expected up to 100 of A-Z a-z 0-9 . _ - that start with a letter or digit, got {text!r:.80}"
        )
    return text


BUDGETS = ("steps", "epochs", "minutes")  # of these at most one is given


class LoopOptions(Config):
    """The budget, the optimizer and what is written when."""

    option_group: ClassVar[str] = "Training"

    seed: int = setting(0, "seed of the weights, the data order and the noise", ge=0, lt=2**31)
    steps: int | None = setting(
        None, "budget in optimizer steps (default: VAE 3000, MLP 6000, others 3000)", ge=1, le=10**9
    )
    epochs: float | None = setting(
        None, "budget in passes over the training set; instead of --steps", gt=0, le=10**6
    )
    minutes: float | None = setting(
        None, "budget in wall time; instead of --steps, the learning rate decays to its end", gt=0, le=10**6
    )
    batch: int | None = setting(
        None,
        "images of an optimizer step (default: VAE of a vector 128, of a grid 32; MLP 512, others 128; on"
        " grids by --network auto)",
        ge=1,
        le=65536,
    )
    accumulate: int = setting(
        1,
        "gradient accumulation: split each batch into this many parts to save memory",
        ge=1,
        le=1024,
        advanced=True,
    )
    lr: float | None = setting(
        None,
        "peak learning rate of AdamW (default: VAE and MLP 0.002, others by preset 0.002, 0.001 or 0.0005)",
        gt=0,
        le=1,
    )
    warmup: int = setting(100, "steps of linear learning rate warm-up", ge=0, le=10**6, advanced=True)
    decay: Literal["cosine", "linear", "constant"] = setting(
        "cosine", "learning rate schedule after the warm-up", advanced=True
    )
    weight_decay: float = setting(0.01, "decoupled weight decay of AdamW", ge=0, le=10, advanced=True)
    clip_grad: float = setting(1.0, "maximum gradient norm", gt=0, le=10**6, advanced=True)
    ema: float = setting(
        0.999,
        "decay of the exponential moving average of the weights; samples are drawn from it (0: off)",
        ge=0,
        lt=1,
        advanced=True,
    )
    bf16: Literal["auto", "on", "off"] = setting(
        "auto", "bfloat16 autocast; auto: where the processor computes in it", group="Compute", advanced=True
    )
    channels_last: bool = setting(
        True, "channels-last memory layout for convolutions", group="Compute", advanced=True
    )
    fused: bool = setting(True, "fused AdamW", group="Compute", advanced=True)
    device: Annotated[str, AfterValidator(device_name)] = setting(
        "auto", "device: auto, cpu, cuda, cuda:N or mps", group="General"
    )
    threads: int | None = setting(
        None, "CPU threads (default: torch's choice)", ge=1, le=1024, group="Compute", advanced=True
    )
    workers: int | None = setting(
        None,
        "parts of a batch that are computed at the same time; each has a share of the threads (default: on a"
        " CPU one for every 32 images, at most one for each thread; else, and in each of several processes,"
        " 1)",
        ge=1,
        le=1024,
        group="Compute",
        advanced=True,
    )
    log_every: int = setting(20, "steps between lines of log.jsonl", ge=1, group="Run", advanced=True)
    validate_every: int = setting(200, "steps between validations", ge=1, group="Run", advanced=True)
    sample_every: int = setting(
        1000, "steps between sample grids and loss curves; also at the end", ge=1, group="Run", advanced=True
    )
    save_every: int = setting(1000, "steps between checkpoints", ge=1, group="Run", advanced=True)
    save_minutes: float = setting(
        5.0,
        "most minutes between checkpoints, where --save-every steps take longer (0: no limit)",
        ge=0,
        le=10**6,
        group="Run",
        advanced=True,
    )
    checkpoints_total_limit: int = setting(
        2, "checkpoints kept; older ones are deleted", ge=1, le=10**6, group="Run", advanced=True
    )
    tensorboard: bool = setting(
        False, "also write TensorBoard events (needs the tensorboard extra)", group="Run", advanced=True
    )

    @model_validator(mode="after")
    def _one_budget(self) -> Self:
        given = [name for name in BUDGETS if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"give one budget, got {' and '.join(f'`{name}`' for name in given)}")
        if self.batch is not None and self.batch % self.accumulate:
            raise ValueError(
                f"`batch` must be a multiple of `accumulate`, got {self.batch} and {self.accumulate}"
            )
        return self


class RunOptions(Config):
    """Where a training writes and what it starts from; not part of what defines it."""

    option_group: ClassVar[str] = "Run"

    runs: str = setting("runs", "folder of all runs", min_length=1, advanced=True)
    name: Annotated[str, AfterValidator(_run_name)] | None = setting(
        None, "name of the run (default: date and kind)"
    )
    init_from: str | None = setting(
        None,
        "start from the weights of this run or checkpoint (fine-tuning); train-vae also from a folder of"
        " diffusers' AutoencoderKL or AutoencoderTiny, train-denoiser from one of its UNet2DModel",
        advanced=True,
    )
    resume: str | None = setting(None, "continue this run from its newest checkpoint")
