"""Several processes hold one network in parts (FSDP2): they learn what one process learns, and their files
are everybody's.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import ROOT, run_cli
from safetensors.torch import load_file
from torch import nn
from torchrun import environment, finished, log, losses, torchrun

from latentdiff.nn import build, network_config
from latentdiff.pipeline.checkpoint.runs import locate
from latentdiff.train.distributed import _blocks, gathered, in_full, split_like

COMMON = (
    "--data tiny.npz --pixel --depth 1 --T 20 --warmup 2 --batch 16 --bf16 off --threads 1 --log-every 1"
    " --runs runs"
)
MLP = f"train-denoiser --network mlp --width 24 {COMMON}"
GRID = f"train-denoiser --width 16 {COMMON} --accumulate 2"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Path:
    """A folder with tiny.npz."""
    path = tmp_path_factory.mktemp("shards")
    (path / "tiny.npz").write_bytes((tiny_folder / "tiny.npz").read_bytes())
    return path


def alone(command: str, folder: Path) -> None:
    code, _, err = run_cli(command, cwd=folder)
    assert code == 0, err


def state(run: Path) -> dict[str, torch.Tensor]:
    return load_file(locate(run).folder / "training/state.safetensors")


@pytest.mark.slow
def test_shards_learn_what_one_process_learns(folder: Path) -> None:
    """Losses to 1e-6 over ten steps, everything in the checkpoint to 1e-5; validations and pictures on the
    way.
    """
    alone(f"{MLP} --steps 10 --validate-every 5 --name one", folder)
    code, _, err = finished(
        torchrun(
            f"{MLP} --steps 10 --validate-every 5 --save-every 5 --sample-every 5 --shard --name two", folder
        )
    )
    assert code == 0, err
    one, two = folder / "runs/one", folder / "runs/two"
    assert len(losses(two)) == 10
    for name in ("loss", "grad_norm", "val_loss"):
        wanted = [entry[name] for entry in log(one) if name in entry]
        assert [entry[name] for entry in log(two) if name in entry] == pytest.approx(
            wanted, rel=1e-6, abs=1e-6
        ), name
    assert (two / "samples-00000005.png").is_file()
    locate(two).verify()
    found, expected = state(two), state(one)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-5, msg=name)
    assert not torch.equal(expected["network.stem.weight"], expected["ema.stem.weight"])
    written = [
        load_file(locate(run).folder / "denoiser/diffusion_pytorch_model.safetensors") for run in (one, two)
    ]
    for name, value in written[0].items():
        torch.testing.assert_close(written[1][name], value, rtol=0, atol=1e-5, msg=name)
    alone("sample --run runs/two -n 4 --steps 2 --out four.png", folder)


@pytest.mark.slow
@pytest.mark.parametrize("network", ["unet", "dit"])
def test_a_grid_network_in_parts_and_gradients_of_parts_of_a_batch(folder: Path, network: str) -> None:
    alone(f"{GRID} --network {network} --steps 4 --name {network}", folder)
    code, _, err = finished(
        torchrun(f"{GRID} --network {network} --steps 4 --shard --name {network}-two", folder)
    )
    assert code == 0, err
    runs = folder / "runs"
    assert losses(runs / f"{network}-two") == pytest.approx(losses(runs / network), rel=1e-6, abs=1e-6)


@pytest.mark.slow
def test_trainings_in_parts_and_in_full_go_on_with_each_other(folder: Path) -> None:
    alone(f"{MLP} --steps 9 --decay constant --name whole", folder)
    code, _, err = finished(torchrun(f"{MLP} --steps 3 --decay constant --shard --name relay", folder))
    assert code == 0, err
    alone("train-denoiser --resume runs/relay --steps 6", folder)
    code, _, err = finished(torchrun("train-denoiser --resume runs/relay --steps 9 --shard", folder))
    assert code == 0, err
    runs = folder / "runs"
    assert losses(runs / "relay") == pytest.approx(losses(runs / "whole"), rel=1e-6, abs=1e-6)
    found, expected = state(runs / "relay"), state(runs / "whole")
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-5, msg=name)


HELD = """
import json, sys, torch
from pathlib import Path
from resumed_training import Hook, make_task
from latentdiff.parallel.processes import joined
from latentdiff.pipeline.checkpoint.runs import Run
from latentdiff.train.loop import Trainer
from latentdiff.train.optimizer import optimizer_tensors

def held(tensors):
    return sum(t.to_local().numel() if hasattr(t, "to_local") else t.numel() for t in tensors)

task = make_task("mlp", {"steps": 2})
total = held(task.network.parameters())
with joined(torch.device("cpu")) as ranks:
    arguments = dict(data="tiny", device=ranks.device, reporter=Hook(), ranks=ranks)
    trainer = Trainer(task, task.options, Run(Path(sys.argv[1])), shard=True, **arguments)
    trainer.train()
    moments = [v for name, v in optimizer_tensors(trainer.optimizer, task.network).items() if ".exp_avg" in name]
    gradients = [p.grad for p in task.network.parameters()]
    found = [held(task.network.parameters()), held(trainer.ema.module.parameters()), held(moments) / 2, held(gradients)]
    Path(sys.argv[1], f"held-{ranks.rank}.json").write_text(json.dumps([total, *found]))
"""


@pytest.mark.slow
def test_each_process_holds_its_share_alone(tmp_path: Path) -> None:
    """Weights, average, moments and gradients: about half of the numbers in each of two processes, all of
    them together.
    """
    (tmp_path / "held.py").write_text(HELD)
    words = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d"]
    words += ["--rdzv-endpoint", "localhost:0", "held.py", str(tmp_path / "run")]
    where = environment() | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}:{ROOT / 'tests' / 'train'}"}
    done = subprocess.run(
        words, cwd=tmp_path, env=where, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    held = [json.loads((tmp_path / f"run/held-{rank}.json").read_text()) for rank in (0, 1)]
    total = held[0][0]
    for first, second in zip(held[0][1:], held[1][1:], strict=True):
        assert first + second == total
        assert max(first, second) < 0.6 * total


# one process


def test_one_process_has_nothing_to_split(folder: Path) -> None:
    code, _, err = run_cli(f"{MLP} --shard --steps 2", cwd=folder)
    assert (
        code == 2 and "--shard splits the network among the processes of torchrun, found one process" in err
    )
    assert not (folder / "runs").exists() or not list((folder / "runs").glob("*-denoiser"))


def test_inner_blocks_come_before_those_that_hold_them() -> None:
    """fully_shard leaves to an outer block what no inner one has taken."""
    network = build(network_config("convnext", "small", (1, 16, 16), levels=10, width=32))
    blocks = list(_blocks(network))
    position = {id(block): k for k, block in enumerate(blocks)}
    nested = [
        (position[id(inner)], position[id(outer)])
        for outer in blocks
        for inner in outer.modules()
        if inner is not outer and id(inner) in position
    ]
    assert nested and all(inner < outer for inner, outer in nested)
    assert len(position) == len(blocks)


def test_what_is_whole_stays_as_it_is() -> None:
    layer = nn.Linear(2, 2)
    assert in_full(layer.weight) is layer.weight and split_like(layer.bias, layer.weight) is layer.bias
    assert gathered({"a": layer.weight})["a"] is layer.weight
