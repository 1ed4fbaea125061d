"""The options that all training commands share: the images, the budget and the optimizer, where a run is
written.
"""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from latentdiff.config.base import Config, device_name, option


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

    seed: int = Field(0, ge=0, lt=2**31, description="seed of the weights, the data order and the noise")
    steps: int | None = Field(
        None,
        ge=1,
        le=10**9,
        description="budget in optimizer steps (default: VAE 3000, MLP 6000, others 3000)",
    )
    epochs: float | None = Field(
        None, gt=0, le=10**6, description="budget in passes over the training set; instead of --steps"
    )
    minutes: float | None = Field(
        None,
        gt=0,
        le=10**6,
        description="budget in wall time; instead of --steps, the learning rate decays to its end",
    )
    batch: int | None = Field(
        None,
        ge=1,
        le=65536,
        description="images of an optimizer step (default: VAE 128, MLP 512, others 128)",
    )
    accumulate: int = Field(
        1,
        ge=1,
        le=1024,
        description="gradient accumulation: split each batch into this many parts to save memory",
        json_schema_extra=option(advanced=True),
    )
    lr: float | None = Field(
        None,
        gt=0,
        le=1,
        description=(
            "peak learning rate of AdamW (default: VAE and MLP 0.002, others by preset 0.002, 0.001 "
            "or 0.0005)"
        ),
    )
    warmup: int = Field(
        100,
        ge=0,
        le=10**6,
        description="steps of linear learning rate warm-up",
        json_schema_extra=option(advanced=True),
    )
    decay: Literal["cosine", "linear", "constant"] = Field(
        "cosine",
        description="learning rate schedule after the warm-up",
        json_schema_extra=option(advanced=True),
    )
    weight_decay: float = Field(
        0.01,
        ge=0,
        le=10,
        description="decoupled weight decay of AdamW",
        json_schema_extra=option(advanced=True),
    )
    clip_grad: float = Field(
        1.0, gt=0, le=10**6, description="maximum gradient norm", json_schema_extra=option(advanced=True)
    )
    ema: float = Field(
        0.999,
        ge=0,
        lt=1,
        description=(
            "decay of the exponential moving average of the weights; samples are drawn from it (0: off)"
        ),
        json_schema_extra=option(advanced=True),
    )
    bf16: Literal["auto", "on", "off"] = Field(
        "auto",
        description="bfloat16 autocast; auto: where the processor computes in it",
        json_schema_extra=option("Compute", advanced=True),
    )
    channels_last: bool = Field(
        True,
        description="channels-last memory layout for convolutions",
        json_schema_extra=option("Compute", advanced=True),
    )
    fused: bool = Field(True, description="fused AdamW", json_schema_extra=option("Compute", advanced=True))
    device: Annotated[str, AfterValidator(device_name)] = Field(
        "auto", description="device: auto, cpu, cuda, cuda:N or mps", json_schema_extra=option("General")
    )
    threads: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="CPU threads (default: torch's choice)",
        json_schema_extra=option("Compute", advanced=True),
    )
    workers: int | None = Field(
        None,
        ge=1,
        le=1024,
        description=(
            "parts of a batch that are computed at the same time; each has a share of the threads "
            "(default: on a CPU one for every 32 images, at most one for each thread; else, and in "
            "each of several processes, 1)"
        ),
        json_schema_extra=option("Compute", advanced=True),
    )
    log_every: int = Field(
        20,
        ge=1,
        description="steps between lines of log.jsonl",
        json_schema_extra=option("Run", advanced=True),
    )
    validate_every: int = Field(
        200, ge=1, description="steps between validations", json_schema_extra=option("Run", advanced=True)
    )
    sample_every: int = Field(
        1000,
        ge=1,
        description="steps between sample grids and loss curves; also at the end",
        json_schema_extra=option("Run", advanced=True),
    )
    save_every: int = Field(
        1000, ge=1, description="steps between checkpoints", json_schema_extra=option("Run", advanced=True)
    )
    checkpoints_total_limit: int = Field(
        2,
        ge=1,
        le=10**6,
        description="checkpoints kept; older ones are deleted",
        json_schema_extra=option("Run", advanced=True),
    )
    tensorboard: bool = Field(
        False,
        description="also write TensorBoard events (needs the tensorboard extra)",
        json_schema_extra=option("Run", advanced=True),
    )

    @model_validator(mode="after")
    def _one_budget(self) -> Self:
        given = [name for name in BUDGETS if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"give one budget, got {' and '.join('--' + name for name in given)}")
        if self.batch is not None and self.batch % self.accumulate:
            raise ValueError(
                f"batch must be a multiple of accumulate, got {self.batch} and {self.accumulate}"
            )
        return self


class RunOptions(Config):
    """Where a training writes and what it starts from; not part of what defines it."""

    option_group: ClassVar[str] = "Run"

    runs: str = Field(
        "runs", min_length=1, description="folder of all runs", json_schema_extra=option(advanced=True)
    )
    name: Annotated[str, AfterValidator(_run_name)] | None = Field(
        None, description="name of the run (default: date and kind)"
    )
    init_from: str | None = Field(
        None,
        description="start from the weights of this run or checkpoint (fine-tuning)",
        json_schema_extra=option(advanced=True),
    )
    resume: str | None = Field(None, description="continue this run from its newest checkpoint")
