"""What version 0.1 saved still loads, samples the same, resumes and repeats (old_version.py says what that
is).
"""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from old_version import FOLDER, RUNS, unpack

import latentdiff as ld

EXPECTED = json.loads((FOLDER / "expected.json").read_text())


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder as version 0.1 left it."""
    return unpack(tmp_path_factory.mktemp("old"))


@pytest.mark.parametrize("name", RUNS)
def test_old_runs_sample_what_they_sampled(old: Path, name: str) -> None:
    pipe = ld.load(old / "runs" / name)
    label = "a disc on the left" if name == "text" else 1
    x = pipe.sample(n=2, steps=5, sampler="ddim", seed=3, label=label, guidance=1.0)
    torch.testing.assert_close(x[0].flatten()[::3], torch.tensor(EXPECTED[name]), atol=2e-4, rtol=0)


@pytest.mark.parametrize(
    "command",
    [
        "train-denoiser --resume runs/mlp --steps 9",
        "train-denoiser --resume runs/unet --steps 9",
        "train-vae --resume runs/vae --steps 41",
        "train-cold --resume runs/cold --steps 31",
        "train-denoiser --data latents --steps 2 --batch 8 --width 16 --depth 1 --name again",
        "sample --like mlp.png --run runs/mlp --out again.png",
        "sample-cold --run runs/cold -n 2 --out cold.png",
        "inspect runs/text",
        "reconstruct --run runs/grid-vae --out reconstructed.png",
    ],
)
def test_old_files_serve_every_command(old: Path, command: str, cli: Callable) -> None:
    code, _, err = cli(command, cwd=old)
    assert code == 0, err
