"""Fixtures of all tests: tiny trained runs, the command line in process, each implementation of the
operations.
"""

import gc
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import CPU_SETS, Cli, Implementation, reseal, run_cli, served_by, write_tiny

from latentdiff.ops import fallback
from latentdiff.pipeline.pipeline import Pipeline, load

torch.set_num_threads(1)
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # in a background job; tests send it to themselves
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(params=[*CPU_SETS, "cuda"])
def device(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    """The device to put tensors on, so that the native kernels under test serve them."""
    with served_by(request.param) as found:
        yield found


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


@pytest.fixture(scope="session")
def cli() -> Cli:
    """`cli("sample -n 4", cwd=folder)` -> (code, out, err)."""
    return run_cli


@pytest.fixture(scope="session")
def reseal_run() -> Callable[[Path], None]:
    """`reseal` as a fixture."""
    return reseal


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny.npz; the tiny runs are made in its runs/.

    Only to read: tests copy what they change.
    """
    folder = tmp_path_factory.mktemp("tiny")
    write_tiny(folder / "tiny.npz")
    return folder


def _trained(command: str, folder: Path, name: str) -> Path:
    options = "--data tiny.npz --batch 16 --warmup 0 --ema 0 --bf16 off --log-every 1"
    result = run_cli(f"{command} --name {name} {options}", cwd=folder)
    assert result.code == 0, result.err
    return folder / "runs" / name


@pytest.fixture(scope="session")
def tiny_vae_run(tiny_folder: Path) -> Path:
    """A finished VAE run with a vector latent of 4."""
    return _trained(
        "train-vae --latent 4 --width 8 --depth 0 --lr 5e-3 --beta 0.01 --steps 40", tiny_folder, "vae"
    )


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
    vae = _trained(
        "train-vae --latent 2x4x4 --width 8 --beta 0.01 --batch 128 --steps 80", tiny_folder, "spatial-vae"
    )
    options = f"--vae {vae} --network unet --prediction v --width 16 --depth 1 --T 20 --steps 8"
    return _trained(f"train-denoiser {options}", tiny_folder, "spatial")


@pytest.fixture(scope="session")
def tiny_cold_run(tiny_folder: Path) -> Path:
    """A finished cold diffusion model that undoes blur, T = 6."""
    return _trained("train-cold --width 16 --T 6 --kernel 5 --steps 30", tiny_folder, "cold")


@pytest.fixture(scope="session")
def text_folder(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with captioned.npz (the tiny discs) and a finished text-conditional UNet on pixels, T = 20, in
    runs/text.
    """
    folder = tmp_path_factory.mktemp("text")
    with np.load(tiny_folder / "tiny.npz") as tiny:
        arrays = {name: tiny[name] for name in ("x_train", "x_test")}
    for part, n in (("train", 48), ("test", 12)):
        arrays[f"caption_{part}"] = np.array(
            [f"a disc on the {('left', 'middle', 'right')[k % 3]}" for k in range(n)]
        )
    np.savez(folder / "captioned.npz", **arrays)
    options = "--batch 16 --warmup 0 --ema 0 --bf16 off --log-every 1 --steps 8 --name text"
    model = "--pixel --text --width 16 --depth 1 --T 20 --text-length 12"
    result = run_cli(f"train-denoiser --data captioned.npz {model} {options}", cwd=folder)
    assert result.code == 0, result.err
    return folder


def pytest_collection_finish() -> None:
    """Leave what the imports made out of garbage collection, which every figure asks for."""
    gc.collect()
    gc.freeze()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what the tests counted with `record_property("count:WHAT", n)`, as the reliability campaign
    does.
    """
    counts: Counter[str] = Counter()
    for report in (each for found in terminalreporter.stats.values() for each in found):
        for name, value in getattr(report, "user_properties", ()):
            if name.startswith("count:") and getattr(report, "when", "") == "call":
                counts[name.removeprefix("count:")] += value
    if counts:
        terminalreporter.section("counts")
        for name, count in sorted(counts.items()):
            terminalreporter.write_line(f"{count:6d} {name}")
