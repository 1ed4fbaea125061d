"""Disks that are full and memory that runs out: one line, exit code 1, and what was there before is whole."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from campaign_tools import TINY, latentdiff, times

from latentdiff.pipeline.checkpoint.folder import TEMPORARY, open_checkpoint
from latentdiff.pipeline.checkpoint.runs import Run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
SIZES = [0, 1, 100, 512, 1000, 2000, 4096, 8000, 16384, 30000, 65536, 120000, 2**18, 2**20]  # bytes


def spread(values: list[int], whole: int) -> list[int]:
    """About SHARE of ``whole`` values, evenly from the list."""
    n = min(times(whole), len(values))
    return [values[(k * len(values)) // n] for k in range(n)]


COMMANDS = {
    "train-vae": f"train-vae --data tiny.npz --latent 2 --depth 0 {TINY} --steps 8 --save-every 4 --name new",
    "train-denoiser": f"train-denoiser --data tiny.npz --pixel --network cnn {TINY} --steps 4 --name new",
    "resume": "train-vae --resume runs/old --steps 60 --save-every 5",
    "encode": "encode --run runs/old --data tiny.npz --out latents",
    "sample": "sample --run runs/classes -n 4 --steps 2 --out a.png --files pictures --trajectory t.gif",
    "sample npz": "sample --run runs/classes -n 400 --steps 1 --out a.npz",
    "export": "export --run runs/classes --part scheduler --out exported",
    "reconstruct": "reconstruct --run runs/old --data tiny.npz --out r.png",
    "plot-schedule": "plot-schedule --out s.png",
    "evaluate": "evaluate --images tiny.npz --reference tiny.npz --resamples 0 --out ev",
}


@pytest.mark.parametrize("name", COMMANDS)
def test_full_disks(
    name: str,
    tiny_folder: Path,
    tiny_vae_run: Path,
    tiny_class_run: Path,
    tmp_path: Path,
    record_property: Callable,
) -> None:
    """A limit on the size of files stands for the full disk: writes fail half way, in Python and in
    safetensors.
    """
    sizes, failed = spread(SIZES, 14), 0
    for size in sizes:
        folder = tmp_path / str(size)
        folder.mkdir()
        shutil.copy(tiny_folder / "tiny.npz", folder)
        shutil.copytree(tiny_vae_run, folder / "runs" / "old")
        shutil.copytree(tiny_class_run, folder / "runs" / "classes")
        before = {path: path.read_bytes() for path in folder.rglob("checkpoint-*/**/*") if path.is_file()}
        ended = latentdiff(COMMANDS[name], folder, RLIMIT_FSIZE=size).check(0, 1)
        failed += ended.code
        assert all(path.read_bytes() == content for path, content in before.items())
        for run in (folder / "runs").iterdir():
            for checkpoint in Run(run).checkpoints():
                open_checkpoint(checkpoint).verify()
        assert not list(folder.rglob(TEMPORARY + "*"))
        again = (
            COMMANDS[name]
            .replace("--name new", "--name again")
            .replace("--out ", "--out again-")
            .replace("--files ", "--files again-")
        )
        latentdiff(again.replace("--trajectory ", "--trajectory again-"), folder).check(0)
    record_property("count:commands on a disk that fills up", len(sizes))
    record_property("count:of these, failed in one line", failed)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_file_system_without_space(tiny_folder: Path, tmp_path: Path, record_property: Callable) -> None:
    """The true ENOSPC: on a small tmpfs, the checkpoint of before stays."""
    mounted = ["unshare", "-m", "bash", "-c"]
    if subprocess.run(
        [*mounted, f"mount -t tmpfs -o size=64k none {tmp_path}"], capture_output=True
    ).returncode:
        pytest.skip("no mounts here")
    train = (
        f"{sys.executable} -m latentdiff train-denoiser --data {tiny_folder}/tiny.npz --pixel --network cnn"
        " --batch 8 --steps 200 --save-every 1"
    )
    trials = max(2, times(6))
    for trial in range(trials):
        script = f"""mount -t tmpfs -o size={4500 + 700 * trial}k none {tmp_path}
        {train} --checkpoints-total-limit 100 --runs {tmp_path} --name b --threads 1; echo rc=$?
        {sys.executable} -m latentdiff inspect {tmp_path}/b > /dev/null; echo inspect=$?"""
        found = subprocess.run([*mounted, script], capture_output=True, text=True)
        assert "rc=1" in found.stdout and "inspect=0" in found.stdout, found
        assert "Traceback" not in found.stderr and found.stderr.count("error: ") == 1, found.stderr
    record_property("count:trainings on a full file system", trials)


MEMORY = [2**20 * n for n in (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)]


@pytest.mark.parametrize(
    "name", ["train-denoiser", "encode", "sample", "sample npz", "reconstruct", "evaluate"]
)
def test_little_memory(
    name: str,
    tiny_folder: Path,
    tiny_vae_run: Path,
    tiny_class_run: Path,
    tmp_path: Path,
    record_property: Callable,
) -> None:
    """From a few MiB above what the libraries take to more than enough.

    The backward pass of torch may die of a failed allocation inside its own kernels (SIGSEGV), which nothing
    can turn into a line; the checkpoints that were there have to be whole then, too.
    """
    codes = (0, 1, -signal.SIGSEGV) if name == "train-denoiser" else (0, 1)
    limits, failed, died = spread(MEMORY, 16), 0, 0
    for limit in limits:
        folder = tmp_path / str(limit)
        folder.mkdir()
        shutil.copy(tiny_folder / "tiny.npz", folder)
        shutil.copytree(tiny_vae_run, folder / "runs" / "old")
        shutil.copytree(tiny_class_run, folder / "runs" / "classes")
        ended = latentdiff(COMMANDS[name], folder, RLIMIT_AS=limit).check(*codes)
        failed += ended.code == 1
        died += ended.code < 0
        for run in (folder / "runs").iterdir():
            for checkpoint in Run(run).checkpoints():
                open_checkpoint(checkpoint).verify()
    record_property("count:commands in little memory", len(limits))
    record_property("count:of these, out of memory in one line", failed)
    record_property("count:of these, killed inside torch's backward pass", died)
