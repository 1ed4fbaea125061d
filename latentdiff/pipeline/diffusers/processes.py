"""The process of a diffusers scheduler as a configuration of this package, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import diffusers

from latentdiff.config.base import parse
from latentdiff.config.diffusion import DiffusionConfig
from latentdiff.diffusion.schedule import BETAS, betas_of
from latentdiff.errors import InputError
from latentdiff.pipeline.checkpoint.diffusers_configs import DDIMFacts, DDPMFacts, SchedulerFacts
from latentdiff.pipeline.checkpoint.diffusers_folder import SCHEDULER_CONFIG, SCHEDULERS
from latentdiff.pipeline.checkpoint.folder import Checkpoint
from latentdiff.pipeline.diffusers.fused import PREDICTIONS
from latentdiff.pipeline.diffusers.networks import attempted

KINDS = {"linear": "linear", "scaled_linear": "scaled_linear", "squaredcos_cap_v2": "cosine"}
Sampler = Literal["ddim", "ddpm"]


def read_process(checkpoint: Checkpoint) -> DiffusionConfig:
    """The process of the scheduler of a pipeline; InputError names what has no counterpart here."""
    name = f"scheduler/{SCHEDULER_CONFIG}"
    values, where = checkpoint.json(name), str(checkpoint.path(name))
    scheduler = values.get("_class_name")
    if scheduler not in SCHEDULERS:
        raise InputError(f"{where}: expected class {' or '.join(SCHEDULERS[:2])}, found {scheduler!r:.60}")
    facts = parse(DDPMFacts if "DDPM" in scheduler else DDIMFacts, values, where)
    process = {
        "schedule": _schedule(facts, where),
        "prediction": PREDICTIONS[facts.prediction_type],
        "clip": facts.clip_sample_range if facts.clip_sample else None,
        "noise": (
            "large" if isinstance(facts, DDPMFacts) and facts.variance_type == "fixed_large" else "small"
        ),
        "rules": "diffusers",
    }
    return parse(DiffusionConfig, process, where)


def _schedule(facts: SchedulerFacts, where: str) -> dict[str, Any]:
    """The table of a scheduler by the name that it has here, or as it is."""
    about: dict[str, Any] = {
        "T": facts.num_train_timesteps,
        "zero_terminal_snr": facts.rescale_betas_zero_snr,
    }
    if facts.trained_betas is not None:
        return about | {"kind": "betas", "betas": facts.trained_betas}
    if facts.beta_schedule not in KINDS:
        options = {name: getattr(facts, name) for name in ("beta_start", "beta_end", "beta_schedule")}
        made: Any = diffusers.DDPMScheduler
        scheduler = attempted(lambda: made(facts.num_train_timesteps, **options), where)
        return about | {"kind": "betas", "betas": scheduler.betas.double().tolist()}
    about["kind"] = KINDS[facts.beta_schedule]
    return (
        about
        if about["kind"] == "cosine"
        else about | {"beta_start": facts.beta_start, "beta_end": facts.beta_end}
    )


def scheduler_values(process: DiffusionConfig, sampler: Sampler) -> dict[str, Any]:
    """The configuration of the DDIMScheduler or DDPMScheduler of a process; InputError if there is none."""
    if process.prediction not in PREDICTIONS.values():
        raise InputError(
            f"the process cannot be exported: it predicts {process.prediction}, the schedulers of diffusers"
            f" read {', '.join(PREDICTIONS.values())}"
        )
    if process.schedule.kind not in BETAS:
        raise InputError(
            f"the process cannot be exported: its schedule is {process.schedule.kind}, the schedulers of"
            " diffusers that this package writes (DDIM, DDPM) have variance-preserving ones"
        )
    if process.sigma_data:
        raise InputError(
            "the process cannot be exported: its network is preconditioned (sigma_data"
            f" {process.sigma_data:g}), the schedulers of diffusers read x_0 itself; train with --sigma-data"
            " 0, or with --prediction v, to export"
        )
    values: dict[str, Any] = {
        "num_train_timesteps": process.schedule.T,
        "prediction_type": next(name for name, ours in PREDICTIONS.items() if ours == process.prediction),
        "clip_sample": process.clip is not None,
        "clip_sample_range": process.clip or 1.0,
        "rescale_betas_zero_snr": process.schedule.zero_terminal_snr,
        "timestep_spacing": "trailing",
    }
    betas = betas_of(process.schedule)
    name = next((name for name, kind in KINDS.items() if kind == process.schedule.kind), None)
    if name is None:
        values["trained_betas"] = betas.tolist()
    else:
        values["beta_schedule"] = name
    if name in ("linear", "scaled_linear"):
        values |= {"beta_start": float(betas[0]), "beta_end": float(betas[-1])}
    if sampler == "ddpm":
        learned = process.variance == "learned"
        values["variance_type"] = "learned_range" if learned else f"fixed_{process.noise}"
    return values


def scheduler_file(process: DiffusionConfig, sampler: Sampler) -> Mapping[str, Any]:
    """What scheduler_config.json holds, with the options that are not ours at diffusers' defaults."""
    cls: Any = diffusers.DDIMScheduler if sampler == "ddim" else diffusers.DDPMScheduler
    made = cls(**scheduler_values(process, sampler))
    return {"_class_name": cls.__name__, "_diffusers_version": diffusers.__version__, **made.config}
