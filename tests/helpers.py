"""What tests share and no fixture is: the repository's root, the command line in process, kernels by name,
tiny data.
"""

import contextlib
import hashlib
import io
import json
import os
import shlex
import stat
from collections.abc import Callable, Iterator, Sequence
from importlib import util
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
import pytest
import torch

from latentdiff import ops
from latentdiff.apps.cli.root import run
from latentdiff.data.synthetic_scenes import Scene, held_out

ROOT = Path(__file__).parents[1]
MODULE = ops.NATIVE.module
CPU_SETS = () if MODULE is None else tuple(MODULE.cpu_capabilities())

CLASSES = ("ant", "bee", "cat")
SIDE = 8


@contextlib.contextmanager
def served_by(kernels: str) -> Iterator[torch.device]:
    """The device whose tensors are served by "cuda" or by an instruction set of the CPU."""
    if kernels == "cuda":
        if not torch.cuda.is_available() or not ops.implementation().endswith("native"):
            pytest.skip("no CUDA device, or no CUDA kernels")
        yield torch.device("cuda")
        return
    assert MODULE is not None
    before = MODULE.cpu_capability()
    MODULE.set_cpu_capability(kernels)
    try:
        yield torch.device("cpu")
    finally:
        MODULE.set_cpu_capability(before)


class Implementation(NamedTuple):
    """The operations as one implementation has them, for tensors on a device; arguments by position, as in
    the schema.
    """

    device: torch.device
    normal: Callable[..., torch.Tensor]
    add_noise: Callable[..., tuple[torch.Tensor, torch.Tensor]]
    step_x0: Callable[..., tuple[torch.Tensor, torch.Tensor]]


class Result(NamedTuple):
    """What a command line gave."""

    code: int
    out: str
    err: str


Cli = Callable[..., Result]


def run_cli(command: str | Sequence[str], *, cwd: Path) -> Result:
    """Run `latentdiff COMMAND` in process in the folder `cwd`."""
    out, err = io.StringIO(), io.StringIO()
    words = shlex.split(command) if isinstance(command, str) else command
    with contextlib.chdir(cwd), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(words)
    return Result(code, out.getvalue(), err.getvalue())


def load_script(path: Path) -> ModuleType:
    """The module of a script, which is in no package."""
    spec = util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def make_endless(path: Path) -> None:
    """A device that never ends, in the place of ``path``.

    For root it is a node of its own: a fault could replace it.
    """
    if os.geteuid() == 0:
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 5))
    else:
        path.symlink_to("/dev/zero")


def reseal(checkpoint: Path) -> None:
    """Make the manifest right again, as one who edits a checkpoint on purpose would."""
    path = checkpoint / "manifest.json"
    files = {
        name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name in json.loads(path.read_text())["files"]
        if (data := (checkpoint / name).read_bytes()) is not None
    }
    path.write_text(json.dumps({"files": files}))


def write_tiny(path: Path) -> None:
    """Noisy discs, 8x8 grey, whose place tells the class: 48 for training, 12 for testing."""
    rng = np.random.default_rng(0)
    labels = np.arange(60) % len(CLASSES)
    y, x = np.mgrid[:SIDE, :SIDE]
    discs = [np.hypot(y - 3.5, x - 1.5 - 2 * label) < 1.5 + rng.random() for label in labels]
    images = (200 * np.stack(discs) + rng.integers(0, 40, (60, SIDE, SIDE))).astype(np.uint8)
    names = np.array(CLASSES)[labels]
    np.savez(path, x_train=images[:48], y_train=names[:48], x_test=images[48:], y_test=names[48:])


def is_held_out(scene: Scene) -> bool:
    """Whether any thing of the scene is of a kind that training does not show."""
    return any(held_out(thing.digit, thing.colour) for thing in scene.things)
