"""Tiny trained runs and the command line in process, shared by all tests."""

import contextlib
import hashlib
import io
import json
import os
import shlex
import signal
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from latentdiff import ops
from latentdiff.cli.root import run
from latentdiff.ops import fallback
from latentdiff.pipeline import Pipeline, load

torch.set_num_threads(1)
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # in a background job; tests send it to themselves
    signal.signal(signal.SIGINT, signal.default_int_handler)

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


@pytest.fixture(params=[*CPU_SETS, "cuda"])
def device(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    """The device to put tensors on, so that the native kernels under test serve them."""
    with served_by(request.param) as found:
        yield found


class Implementation(NamedTuple):
    """The operations as one implementation has them, for tensors on a device; arguments by position, as in the schema."""

    device: torch.device
    normal: Callable[..., torch.Tensor]
    add_noise: Callable[..., tuple[torch.Tensor, torch.Tensor]]
    step_x0: Callable[..., tuple[torch.Tensor, torch.Tensor]]


@pytest.fixture(params=["fallback", "fallback on cuda", *CPU_SETS, "cuda"])
def implementation(request: pytest.FixtureRequest) -> Iterator[Implementation]:
    """Each implementation of the operations that can run here."""
    if request.param.startswith("fallback"):
        if request.param.endswith("cuda") and not torch.cuda.is_available():
            pytest.skip("no CUDA device")
        device = torch.device("cuda" if request.param.endswith("cuda") else "cpu")
        yield Implementation(device, fallback.normal, fallback.add_noise, fallback.step_x0)
        return
    op = torch.ops.latentdiff
    with served_by(request.param) as device:
        yield Implementation(device, op.normal, op.add_noise, op.step_x0)


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


@pytest.fixture(scope="session")
def cli() -> Cli:
    """`cli("sample -n 4", cwd=folder)` -> (code, out, err)."""
    return run_cli


def make_endless(path: Path) -> None:
    """A device that never ends, in the place of ``path``. For root it is a node of its own: a fault could replace it."""
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


@pytest.fixture(scope="session")
def reseal_run() -> Callable[[Path], None]:
    """`reseal` as a fixture."""
    return reseal


def _write_tiny(path: Path) -> None:
    """Noisy discs, 8x8 grey, whose place tells the class: 48 for training, 12 for testing."""
    rng = np.random.default_rng(0)
    labels = np.arange(60) % len(CLASSES)
    y, x = np.mgrid[:SIDE, :SIDE]
    discs = [np.hypot(y - 3.5, x - 1.5 - 2 * label) < 1.5 + rng.random() for label in labels]
    images = (200 * np.stack(discs) + rng.integers(0, 40, (60, SIDE, SIDE))).astype(np.uint8)
    names = np.array(CLASSES)[labels]
    np.savez(path, x_train=images[:48], y_train=names[:48], x_test=images[48:], y_test=names[48:])


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny.npz; the tiny runs are made in its runs/. Only to read: tests copy what they change."""
    folder = tmp_path_factory.mktemp("tiny")
    _write_tiny(folder / "tiny.npz")
    return folder


def _trained(command: str, folder: Path, name: str) -> Path:
    options = "--data tiny.npz --batch 16 --warmup 0 --ema 0 --bf16 off --log-every 1"
    result = run_cli(f"{command} --name {name} {options}", cwd=folder)
    assert result.code == 0, result.err
    return folder / "runs" / name


@pytest.fixture(scope="session")
def tiny_vae_run(tiny_folder: Path) -> Path:
    """A finished VAE run with a vector latent of 4."""
    return _trained("train-vae --latent 4 --width 8 --depth 0 --lr 5e-3 --beta 0.01 --steps 40", tiny_folder, "vae")


@pytest.fixture(scope="session")
def tiny_denoiser_run(tiny_folder: Path, tiny_vae_run: Path) -> Path:
    """A finished class-conditional v-prediction MLP on the latents of the tiny VAE, T = 20."""
    options = f"--vae {tiny_vae_run} --width 16 --depth 1 --T 20 --lr 1e-2 --steps 40"
    return _trained(f"train-denoiser {options}", tiny_folder, "denoiser")


@pytest.fixture(scope="session")
def tiny_pixel_run(tiny_folder: Path) -> Path:
    """A finished unconditional eps-prediction UNet on pixels, T = 20."""
    options = "--pixel --no-labels --prediction eps --width 16 --depth 1 --T 20 --steps 4"
    return _trained(f"train-denoiser {options}", tiny_folder, "pixel")


@pytest.fixture(scope="session")
def tiny_class_run(tiny_folder: Path) -> Path:
    """A finished class-conditional v-prediction UNet on pixels, T = 20."""
    return _trained("train-denoiser --pixel --width 16 --depth 1 --T 20 --steps 8", tiny_folder, "classes")


@pytest.fixture(scope="session")
def pixels(tiny_class_run: Path) -> Pipeline:
    """The model of that run, of pixels and with classes."""
    return load(tiny_class_run)


@pytest.fixture(scope="session")
def vector(tiny_denoiser_run: Path) -> Pipeline:
    """A model of vector latents with classes."""
    return load(tiny_denoiser_run)


@pytest.fixture(scope="session")
def tiny_spatial_run(tiny_folder: Path) -> Path:
    """A finished class-conditional v-prediction UNet on the latents 2x4x4 of a VAE, T = 20."""
    vae = _trained("train-vae --latent 2x4x4 --width 8 --beta 0.01 --steps 30", tiny_folder, "spatial-vae")
    options = f"--vae {vae} --width 16 --depth 1 --T 20 --steps 8"
    return _trained(f"train-denoiser {options}", tiny_folder, "spatial")


@pytest.fixture(scope="session")
def tiny_cold_run(tiny_folder: Path) -> Path:
    """A finished cold diffusion model that undoes blur, T = 6."""
    return _trained("train-cold --width 16 --T 6 --kernel 5 --steps 30", tiny_folder, "cold")


@pytest.fixture(scope="session")
def text_folder(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with captioned.npz (the tiny discs) and a finished text-conditional UNet on pixels, T = 20, in runs/text."""
    folder = tmp_path_factory.mktemp("text")
    with np.load(tiny_folder / "tiny.npz") as tiny:
        arrays = {name: tiny[name] for name in ("x_train", "x_test")}
    for part, n in (("train", 48), ("test", 12)):
        arrays[f"caption_{part}"] = np.array([f"a disc on the {('left', 'middle', 'right')[k % 3]}" for k in range(n)])
    np.savez(folder / "captioned.npz", **arrays)
    options = "--batch 16 --warmup 0 --ema 0 --bf16 off --log-every 1 --steps 8 --name text"
    model = "--pixel --text --width 16 --depth 1 --T 20 --text-length 12"
    result = run_cli(f"train-denoiser --data captioned.npz {model} {options}", cwd=folder)
    assert result.code == 0, result.err
    return folder


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what the tests counted with `record_property("count:WHAT", n)`, as the reliability campaign does."""
    counts: Counter[str] = Counter()
    for report in (each for found in terminalreporter.stats.values() for each in found):
        for name, value in getattr(report, "user_properties", ()):
            if name.startswith("count:") and getattr(report, "when", "") == "call":
                counts[name.removeprefix("count:")] += value
    if counts:
        terminalreporter.section("counts")
        for name, count in sorted(counts.items()):
            terminalreporter.write_line(f"{count:6d} {name}")
