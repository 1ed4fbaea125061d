"""A sampling loop without Python between its steps, as a CUDA graph; on a CPU, torch.compile's network."""

from __future__ import annotations

import sysconfig
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from latentdiff.diffusion.denoiser import Denoiser, Network
from latentdiff.diffusion.loop import run
from latentdiff.diffusion.samplers import SamplerStep
from latentdiff.errors import InputError
from latentdiff.ops.constants import Constants, constants_scope
from latentdiff.ops.random import Key

Work = Callable[[], Tensor]


def compiled_network(network: Network) -> Network:
    """The network through torch.compile for a CPU; the first call of each shape takes 10 seconds to 2
    minutes.

    Shapes beyond the number that torch keeps compiled (8 unless configured) run uncompiled. The outputs
    differ from the network's in the last digits. InputError where no C++ compiler is found.
    """
    from torch._dynamo.exc import FailOnRecompileLimitHit

    _check_compiler()
    compiled: Network = torch.compile(network, fullgraph=True, dynamic=False)

    def call(x: Tensor, t: Tensor, labels: Tensor | None, **more: Tensor) -> Tensor:
        try:
            return compiled(x, t, labels, **more)
        except FailOnRecompileLimitHit:
            return network(x, t, labels, **more)

    return call


def _check_compiler() -> None:
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        raise InputError("compiling needs a C++ compiler (g++, or what CXX names), found none") from None
    header = Path(sysconfig.get_path("include")) / "Python.h"
    if not header.is_file():
        raise InputError(f"compiling needs the headers of Python (python3-dev), found no {header}")


class GraphBackend(Protocol):
    """Records work on tensors once, and replays it on the same addresses."""

    def warm(self, work: Work) -> None:
        """Run the work until it allocates and initializes nothing new."""

    def capture(self, work: Work) -> Tensor:
        """Record the work; returns the tensor that every replay writes."""

    def replay(self) -> None:
        """Replay the work, in order with the current stream."""


class CudaGraph:
    """A CUDA graph with a memory pool of its own."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._stream, self._graph = device, torch.cuda.Stream(device), torch.cuda.CUDAGraph()

    def warm(self, work: Work) -> None:
        with torch.cuda.device(self._device):
            self._stream.wait_stream(torch.cuda.current_stream())
            # capture takes the same one: constants belong to their stream
            with torch.cuda.stream(self._stream):
                work()
            torch.cuda.current_stream().wait_stream(self._stream)

    def capture(self, work: Work) -> Tensor:
        pool = torch.cuda.graph_pool_handle()
        recording = torch.cuda.graph(
            self._graph, pool, stream=self._stream, capture_error_mode="thread_local"
        )
        with torch.cuda.device(self._device), recording:
            return work()

    def replay(self) -> None:
        with torch.cuda.device(self._device):
            self._graph.replay()


class CUDAGraphLoop:
    """A whole sampling loop with its network as one CUDA graph: (x, key) -> x at the last level, a new
    tensor.

    ``x`` [B, *shape] and ``key`` are examples of later arguments: same shape, dtype and device, other
    values; a shape costs one capture, about as long as two loops. The kernels and the noise are those of the
    eager loop. ``labels``: the tensor that ``denoise`` reads its labels from, where it has any; each call
    brings new ones, which overwrite it. Neither the denoiser nor the step may need the host (no ``.item()``,
    no tensor made from Python numbers). Weights may change in place but not move. One call at a time.
    ValueError for what does not fit.
    """

    def __init__(
        self,
        denoise: Denoiser,
        levels: Sequence[int],
        step: SamplerStep,
        x: Tensor,
        key: Key,
        *,
        labels: Tensor | None = None,
        backend: GraphBackend | None = None,
    ) -> None:
        if backend is None and x.device.type != "cuda":
            raise ValueError(f"capturing a loop needs CUDA tensors, got x on {x.device}")
        if len(key) != len(x) or key.seeds.device != x.device:
            raise ValueError(
                f"expected {len(x)} seeds on {x.device}, as x has samples, got {len(key)} on"
                f" {key.seeds.device}"
            )
        self._backend = backend or CudaGraph(x.device)
        self._labels = labels
        self._constants: Constants = {}  # the graph reads them where they lie: they live as long as it does

        def work() -> Tensor:
            return run(denoise, self._x, levels, step, self._key)

        self._work = work  # keeps the weights, for the same reason
        # Not in inference mode, whose tensors calls outside it could not write to.
        with torch.inference_mode(False), torch.no_grad(), constants_scope(self._constants):
            self._x, self._key = x.detach().clone(), Key(key.seeds.clone(), key.stream)
            self._backend.warm(work)
            self._out = self._backend.capture(work)

    def __call__(self, x: Tensor, key: Key, *, labels: Tensor | None = None) -> Tensor:
        """The end of the loop for other values of ``x``, ``key`` and ``labels``."""
        if key.stream != self._key.stream:
            raise ValueError(f"the loop was captured for stream {self._key.stream}, got {key.stream}")
        if (labels is None) != (self._labels is None):
            raise ValueError(
                f"the loop was captured {'without' if self._labels is None else 'with'} labels,"
                f" got {'none' if labels is None else 'some'}"
            )
        pairs = [("x", self._x, x), ("seeds", self._key.seeds, key.seeds)]
        if labels is not None and self._labels is not None:
            pairs.append(("labels", self._labels, labels))
        for name, held, given in pairs:
            if _kind(held) != _kind(given):
                raise ValueError(f"the loop was captured for {name} {_kind(held)}, got {_kind(given)}")
        with torch.no_grad():
            for _, held, given in pairs:
                held.copy_(given)
            self._backend.replay()
            return self._out.clone()


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)} on {tensor.device}"
