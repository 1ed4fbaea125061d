"""The implementations that are timed: the fused operations and their baselines, which are the PyTorch
fallback, the eager reference, the same compiled, and diffusers.

The eager reference is the lines of plain PyTorch that the operations replace. Coefficients are Python numbers
for the steps (one level for the batch) and tensors [B, 1, ...] for the noising (a level for each sample).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from latentdiff import ops
from latentdiff.apps.bench.timing import Call, Calls
from latentdiff.apps.bench.workload import DDIM_STEPS, GUIDANCE, LEVEL, Operation, T, Workload
from latentdiff.ops import fallback

IMPLEMENTATIONS = ("fused", "fused out=", "fallback", "eager", "compile", "diffusers", "copy")
"""In this order; "fused out=" writes into tensors that are there, "copy" is ``copy_`` of one tensor into
another.
"""

Draw = Callable[[Tensor], Tensor]
"""Makes noise like a tensor; users write ``torch.randn_like``."""


@dataclass(frozen=True)
class Prepared:
    """The calls of the implementations that can run, and the reasons of those that cannot."""

    calls: dict[str, Calls] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)


def prepare(
    operation: Operation, workloads: list[Workload], names: Sequence[str], *, dynamic: bool = False
) -> Prepared:
    """The implementations ``names`` on the same inputs, not yet warm.

    ``dynamic``: torch.compile makes one kernel for all sizes, which takes less time to compile and a little
    more to call, instead of one for this size. ValueError for an unknown name.
    """
    if unknown := set(names) - set(IMPLEMENTATIONS):
        raise ValueError(
            f"expected names out of {', '.join(IMPLEMENTATIONS)}, got {', '.join(sorted(unknown))}"
        )
    prepared = Prepared()
    for name in IMPLEMENTATIONS:
        if name in names:
            made = _calls(name, operation, workloads, dynamic=dynamic)
            if isinstance(made, str):
                prepared.skipped[name] = made
            else:
                prepared.calls[name] = made
    return prepared


def _calls(name: str, operation: Operation, workloads: list[Workload], *, dynamic: bool) -> Calls | str:
    """One call for each workload, or the reason why there is none."""
    if name == "compile":
        return _compiled(operation, workloads, dynamic=dynamic)
    calls: list[Call] = []
    for workload in workloads:
        made = _MAKERS[name](operation, workload)
        if isinstance(made, str):
            return made
        calls.append(made)
    return calls


def _fused(operation: Operation, p: Workload, *, into: bool = False) -> Call:
    """The fused operation; ``into``: with tensors for ``out``."""
    out = torch.empty_like(p.x) if into else None
    drawn: dict[str, Any] = {"seeds": p.key.seeds, "stream": p.stream}
    if operation == "normal":
        return partial(ops.normal, shape=p.x.shape[1:], dtype=p.x.dtype, out=out, **drawn)
    if operation == "add_noise":
        both = None if out is None else (out, torch.empty_like(p.x))
        return partial(ops.add_noise, p.x, p.coef, out=both, **drawn)
    return partial(ops.step, p.x, p.outs, p.coef, out=out, **(drawn if operation == "ddpm" else {}))


def served_by_fallback(device: torch.device) -> bool:
    """Test that the PyTorch fallback serves the operations on this device: no kernels, or they are off."""
    named = ops.implementation()  # of all devices, or "cpu ..., cuda ..."
    parts = [
        part.removeprefix(f"{device.type} ") for part in named.split(", ") if part.startswith(device.type)
    ]
    return (parts or [named])[0].startswith("fallback")


def _fallback(operation: Operation, p: Workload) -> Call | str:
    if served_by_fallback(p.x.device):
        return "it serves the fused operations here"
    seeds, stream = p.key.seeds, p.stream
    if operation == "normal":
        return partial(fallback.normal, seeds, stream, p.x.shape[1:], p.x.dtype)
    if operation == "add_noise":
        return partial(fallback.add_noise, p.x, p.coef, None, seeds, stream)
    drawn = (seeds, stream) if operation == "ddpm" else (None, None)
    return partial(fallback.step, p.x, p.outs, p.coef, None, None, *drawn)


def ddim(x: Tensor, eps: Tensor, alpha_t: float, sigma_t: float, alpha_s: float, sigma_s: float) -> Tensor:
    """One DDIM step with eta = 0 (Song et al. 2021, eq. 12)."""
    x0 = (x - sigma_t * eps) / alpha_t
    return alpha_s * x0 + sigma_s * eps


def guided_ddim(
    x: Tensor,
    cond: Tensor,
    uncond: Tensor,
    w: float,
    alpha_t: float,
    sigma_t: float,
    alpha_s: float,
    sigma_s: float,
) -> Tensor:
    """The same with classifier-free guidance (Ho & Salimans 2022, eq. 6 with w there = w - 1)."""
    eps = uncond + w * (cond - uncond)
    x0 = (x - sigma_t * eps) / alpha_t
    return alpha_s * x0 + sigma_s * eps


def ddpm(
    x: Tensor, eps: Tensor, alpha_t: float, sigma_t: float, k: float, m: float, c: float, draw: Draw
) -> Tensor:
    """One DDPM step (Ho et al. 2020, eq. 6 and 7): the posterior mean of the estimate, and noise."""
    x0 = (x - sigma_t * eps) / alpha_t
    mean = k * x + m * x0
    return mean + c * draw(x)


def add_noise(x0: Tensor, alpha: Tensor, sigma: Tensor, draw: Draw) -> tuple[Tensor, Tensor]:
    """x_t and the training target v = alpha eps - sigma x_0 (Salimans & Ho 2022, section 4)."""
    noise = draw(x0)
    x_t = alpha * x0 + sigma * noise
    v = alpha * noise - sigma * x0
    return x_t, v


def normal(like: Tensor, draw: Draw) -> Tensor:
    """Noise alone."""
    return draw(like)


def eager_reference(
    operation: Operation, p: Workload, draw: Draw = torch.randn_like
) -> tuple[Callable[..., Tensor | tuple[Tensor, Tensor]], tuple[Any, ...]]:
    """The function of the eager reference for an operation, and its arguments."""
    n = p.numbers
    if operation == "normal":
        return normal, (p.x, draw)
    if operation == "add_noise":
        return add_noise, (p.x, *p.alpha_sigma, draw)
    if operation == "ddpm":
        k, m, c, *_ = n.ddpm
        return ddpm, (p.x, *p.outs, n.alpha_t, n.sigma_t, k, m, c, draw)
    levels = (n.alpha_t, n.sigma_t, n.alpha_s, n.sigma_s)
    if operation == "guided":
        return guided_ddim, (p.x, *p.outs, GUIDANCE, *levels)
    return ddim, (p.x, *p.outs, *levels)


def _eager(operation: Operation, p: Workload) -> Call:
    function, arguments = eager_reference(operation, p)
    return partial(function, *arguments)


def _compiled(operation: Operation, workloads: list[Workload], *, dynamic: bool) -> Calls | str:
    """The eager reference through torch.compile, for the sizes at hand or once for all sizes."""
    if not dynamic:
        torch.compiler.reset()  # else the limit of recompilations is reached after a few sizes
    flat = [_flat(workload) for workload in workloads] if dynamic else workloads
    function, _ = eager_reference(operation, flat[0])
    compiled = torch.compile(function, fullgraph=True, dynamic=dynamic)
    calls = [partial(compiled, *eager_reference(operation, workload)[1]) for workload in flat]
    try:
        calls[0]()
    except RuntimeError as error:  # no C++ compiler, no Triton: all of torch.compile's errors derive from it
        return f"torch.compile: {' '.join(str(error).split())[:120]}"
    return calls


def _flat(p: Workload) -> Workload:
    """The same workload as [B, N], so that one compilation serves every number of dimensions."""
    return replace(p, x=p.x.flatten(1), outs=tuple(out.flatten(1) for out in p.outs))


def _diffusers(operation: Operation, p: Workload) -> Call | str:
    if operation == "normal":
        return "diffusers draws its noise with torch.randn: the eager line"
    try:
        from diffusers import DDIMScheduler, DDPMScheduler
    except ImportError:
        return "diffusers is not installed"
    far = operation in ("ddim", "guided")
    kind: Any = DDIMScheduler if far else DDPMScheduler
    scheduler = kind(
        num_train_timesteps=T, beta_schedule="linear", clip_sample=False, prediction_type="epsilon"
    )
    scheduler.set_timesteps(DDIM_STEPS if far else T)
    return _diffusers_call(operation, p, scheduler)


def _diffusers_call(operation: Operation, p: Workload, scheduler: Any, draw: Draw = torch.randn_like) -> Call:
    x, outs, t = p.x, p.outs, LEVEL - 1  # their timestep is our level - 1
    if operation == "add_noise":
        timesteps = p.levels - 1

        def noised() -> object:
            noise = draw(x)
            return scheduler.add_noise(x, noise, timesteps), scheduler.get_velocity(x, noise, timesteps)

        return noised
    if operation == "guided":
        cond, uncond = outs
        return lambda: scheduler.step(uncond + GUIDANCE * (cond - uncond), t, x, return_dict=False)
    return lambda: scheduler.step(outs[0], t, x, return_dict=False)


def _copy(operation: Operation, p: Workload) -> Call:
    return partial(torch.empty_like(p.x).copy_, p.x)


_MAKERS: dict[str, Callable[[Operation, Workload], Call | str]] = {
    "fused": _fused,
    "fused out=": partial(_fused, into=True),
    "fallback": _fallback,
    "eager": _eager,
    "diffusers": _diffusers,
    "copy": _copy,
}
