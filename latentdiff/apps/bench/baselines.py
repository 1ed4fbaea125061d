"""Who competes: the fused operations, their PyTorch fallback, the textbook lines eager and compiled, and
diffusers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from latentdiff import ops
from latentdiff.apps.bench import eager
from latentdiff.apps.bench.timing import Call, Calls
from latentdiff.apps.bench.workload import DDIM_STEPS, GUIDANCE, LEVEL, Operation, Problem, T
from latentdiff.ops import fallback

CONTENDERS = ("fused", "fused out=", "fallback", "eager", "compile", "diffusers", "copy")
"""In this order; "fused out=" writes into tensors that are there, "copy" is ``copy_`` of one tensor into
another.
"""


@dataclass(frozen=True)
class Entry:
    """Contenders that can run, and the reasons of those that cannot."""

    calls: dict[str, Calls] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)


def enter(
    operation: Operation, problems: list[Problem], names: Sequence[str], *, dynamic: bool = False
) -> Entry:
    """The contenders ``names`` on the same inputs, not yet warm.

    ``dynamic``: torch.compile makes one kernel for all sizes, which takes less time to compile and a little
    more to call, instead of one for this size. ValueError for an unknown name.
    """
    if unknown := set(names) - set(CONTENDERS):
        raise ValueError(
            f"expected contenders out of {', '.join(CONTENDERS)}, got {', '.join(sorted(unknown))}"
        )
    entry = Entry()
    for name in CONTENDERS:
        if name not in names:
            continue
        if name == "compile":
            made = _compiled(operation, problems, dynamic=dynamic)
        else:
            made = _MAKERS[name](operation, problems)
        if isinstance(made, str):
            entry.skipped[name] = made
        else:
            entry.calls[name] = made
    return entry


def _fused(operation: Operation, problems: list[Problem]) -> Calls:
    return [_fused_call(operation, problem) for problem in problems]


def _fused_call(operation: Operation, p: Problem) -> Call:
    x, outs, coef, seeds, stream = p.x, p.outs, p.coef, p.key.seeds, p.stream
    if operation == "normal":
        shape, dtype = x.shape[1:], x.dtype
        return lambda: ops.normal(seeds, stream, shape, dtype=dtype)
    if operation == "add_noise":
        return lambda: ops.add_noise(x, coef, seeds=seeds, stream=stream)
    if operation == "ddpm":
        return lambda: ops.step(x, outs, coef, seeds=seeds, stream=stream)
    return lambda: ops.step(x, outs, coef)


def _into(operation: Operation, problems: list[Problem]) -> Calls:
    return [_into_call(operation, problem) for problem in problems]


def _into_call(operation: Operation, p: Problem) -> Call:
    x, outs, coef, seeds, stream = p.x, p.outs, p.coef, p.key.seeds, p.stream
    out = torch.empty_like(x)
    if operation == "normal":
        shape, dtype = x.shape[1:], x.dtype
        return lambda: ops.normal(seeds, stream, shape, dtype=dtype, out=out)
    if operation == "add_noise":
        both = (out, torch.empty_like(x))
        return lambda: ops.add_noise(x, coef, seeds=seeds, stream=stream, out=both)
    if operation == "ddpm":
        return lambda: ops.step(x, outs, coef, seeds=seeds, stream=stream, out=out)
    return lambda: ops.step(x, outs, coef, out=out)


def served_by_fallback(device: torch.device) -> bool:
    """Whether PyTorch serves the operations on this device, because no native kernels were built or they are
    off.
    """
    named = ops.implementation()  # of all devices, or "cpu ..., cuda ..."
    parts = [
        part.removeprefix(f"{device.type} ") for part in named.split(", ") if part.startswith(device.type)
    ]
    return (parts or [named])[0].startswith("fallback")


def _fallback(operation: Operation, problems: list[Problem]) -> Calls | str:
    if served_by_fallback(problems[0].x.device):
        return "it serves the fused operations here"
    return [_fallback_call(operation, problem) for problem in problems]


def _fallback_call(operation: Operation, p: Problem) -> Call:
    x, outs, coef, seeds, stream = p.x, p.outs, p.coef, p.key.seeds, p.stream
    if operation == "normal":
        shape, dtype = x.shape[1:], x.dtype
        return lambda: fallback.normal(seeds, stream, shape, dtype)
    if operation == "add_noise":
        return lambda: fallback.add_noise(x, coef, None, seeds, stream)
    if operation == "ddpm":
        return lambda: fallback.step(x, outs, coef, None, None, seeds, stream)
    return lambda: fallback.step(x, outs, coef, None, None, None, None)


def textbook_lines(
    operation: Operation, p: Problem, draw: eager.Draw = torch.randn_like
) -> tuple[Callable[..., Tensor | tuple[Tensor, Tensor]], tuple[Any, ...]]:
    """The textbook's function for an operation, and its arguments."""
    n = p.numbers
    if operation == "normal":
        return eager.normal, (p.x, draw)
    if operation == "add_noise":
        return eager.add_noise, (p.x, *p.alpha_sigma, draw)
    if operation == "ddpm":
        k, m, c, *_ = n.ddpm
        return eager.ddpm, (p.x, *p.outs, n.alpha_t, n.sigma_t, k, m, c, draw)
    levels = (n.alpha_t, n.sigma_t, n.alpha_s, n.sigma_s)
    if operation == "guided":
        return eager.guided_ddim, (p.x, *p.outs, GUIDANCE, *levels)
    return eager.ddim, (p.x, *p.outs, *levels)


def _bound(function: Callable[..., object], arguments: tuple[Any, ...]) -> Call:
    return lambda: function(*arguments)


def _eager(operation: Operation, problems: list[Problem]) -> Calls:
    return [_bound(*textbook_lines(operation, problem)) for problem in problems]


def _compiled(operation: Operation, problems: list[Problem], *, dynamic: bool) -> Calls | str:
    """The textbook lines through torch.compile, for the sizes at hand or once for all sizes."""
    if not dynamic:
        torch.compiler.reset()  # else the limit of recompilations is reached after a few sizes
    flat = [_flat(problem) for problem in problems] if dynamic else problems
    function, _ = textbook_lines(operation, flat[0])
    compiled = torch.compile(function, fullgraph=True, dynamic=dynamic)
    calls = [_bound(compiled, textbook_lines(operation, problem)[1]) for problem in flat]
    try:
        calls[0]()
    except RuntimeError as error:  # no C++ compiler, no Triton: all of torch.compile's errors derive from it
        return f"torch.compile: {' '.join(str(error).split())[:120]}"
    return calls


def _flat(p: Problem) -> Problem:
    """The same problem as [B, N], so that one compilation serves every number of dimensions."""
    return replace(p, x=p.x.flatten(1), outs=tuple(out.flatten(1) for out in p.outs))


def _diffusers(operation: Operation, problems: list[Problem]) -> Calls | str:
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
    return [_diffusers_call(operation, problem, scheduler) for problem in problems]


def _diffusers_call(
    operation: Operation, p: Problem, scheduler: Any, draw: eager.Draw = torch.randn_like
) -> Call:
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


def _copy(operation: Operation, problems: list[Problem]) -> Calls:
    return [_bound(torch.empty_like(problem.x).copy_, (problem.x,)) for problem in problems]


_MAKERS: dict[str, Callable[[Operation, list[Problem]], Calls | str]] = {
    "fused": _fused,
    "fused out=": _into,
    "fallback": _fallback,
    "eager": _eager,
    "diffusers": _diffusers,
    "copy": _copy,
}
