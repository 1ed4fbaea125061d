"""The instruction sets that the kernels of networks have on this processor."""

from collections.abc import Iterator
from contextlib import contextmanager

from latentdiff import ops

MODULE = ops.NATIVE.module
SETS = () if MODULE is None else tuple(MODULE.cpu_capabilities())


@contextmanager
def using(name: str) -> Iterator[None]:
    """The kernels of an instruction set."""
    assert MODULE is not None
    before = MODULE.cpu_capability()
    MODULE.set_cpu_capability(name)
    try:
        yield
    finally:
        MODULE.set_cpu_capability(before)
