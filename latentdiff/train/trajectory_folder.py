"""Trajectories that were drawn once, in a folder: for students of other calls, and for a resumed training."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field, Strict
from torch import Tensor

from latentdiff.errors import InputError
from latentdiff.files.untrusted import checked
from latentdiff.pipeline.checkpoint.folder import INDEX, MANIFEST, Checkpoint, open_checkpoint, writing
from latentdiff.pipeline.pipeline import Pipeline
from latentdiff.train.trajectories import Trajectories

KIND = "Trajectories"  # the class name in the index of such a folder
SPLITS = ("train", "val")


def origin_of(
    teacher: Pipeline,
    n: int,
    *,
    steps: int,
    scales: tuple[float, float],
    seed: int,
    prompts: Sequence[str] = (),
) -> dict[str, Any]:
    """What trajectories follow from, as values of JSON; those of equal origin differ in their last digits
    alone, by the processor.
    """
    weights, texts = hashlib.sha256(), hashlib.sha256("\0".join(prompts).encode())
    for name, tensor in sorted(teacher.network.state_dict().items()):
        weights.update(name.encode())
        weights.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return {
        "teacher": weights.hexdigest(),
        "diffusion": teacher.diffusion.model_dump(mode="json"),
        "class_counts": list(teacher.class_counts or ()),
        "prompts": texts.hexdigest(),
        "trajectories": n,
        "teacher_steps": steps,
        "guidance": list(scales),
        "seed": seed,
    }


def has_trajectories(folder: Path) -> bool:
    """Whether it is a checkpoint folder of any kind; InputError where it is not that, new or empty."""
    if (folder / MANIFEST).is_file():
        return True
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise InputError(f"{folder}: expected a new folder or one of trajectories, found something else")
    return False


def save_trajectories(
    folder: Path, train: Trajectories, val: Trajectories, origin: Mapping[str, Any]
) -> None:
    """Write their states into a new folder; InputError where it holds something else."""
    with writing(folder) as writer:
        for name, made in zip(SPLITS, (train, val), strict=True):
            writer.tensors(f"{name}.safetensors", {"states": made.states})
        calls = len(train.levels) - 1
        writer.json(INDEX, {"_class_name": KIND, "calls": calls, "origin": dict(origin)})


def load_states(
    folder: Path, calls: int, origin: Mapping[str, Any], shape: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """States float32 [n, calls + 1, *shape] of a folder, for training and for validation, at the levels of a
    student of so many ``calls``.

    InputError where it is damaged, has others than those of ``origin``, or none at these levels.
    """
    checkpoint = open_checkpoint(folder)
    index, where = checkpoint.json(INDEX), f"{folder}/{INDEX}"
    if index.get("_class_name") != KIND:
        raise InputError(f"{folder}: expected trajectories of `latentdiff distill`, found another checkpoint")
    found = checked(dict[str, Any], index.get("origin"), where, "origin as an object")
    for name, value in origin.items():
        if found.get(name) != value:
            raise InputError(
                f"{folder}: has trajectories of another {name.replace('_', ' ')}; name a new folder to draw"
                " those for this training"
            )
    number = Annotated[int, Strict(), Field(ge=1, le=1000)]
    many = checked(number, index.get("calls"), where, "calls as a number from 1 to 1000")
    if many % calls:
        raise InputError(
            f"{folder}: has trajectories at the levels of {many} calls, of which {calls} are no part; name a"
            " new folder"
        )
    train, val = (_states(checkpoint, name, (many + 1, *shape)) for name in SPLITS)
    return train[:, :: many // calls].contiguous(), val[:, :: many // calls].contiguous()


def _states(checkpoint: Checkpoint, name: str, shape: tuple[int, ...]) -> Tensor:
    file = f"{name}.safetensors"
    where, states = f"{checkpoint.folder}/{file}: states", checkpoint.tensors(file).get("states")
    if states is None or states.dtype != torch.float32 or states.shape[1:] != shape:
        found = "none" if states is None else f"{states.dtype} {list(states.shape)}"
        raise InputError(f"{where}: expected float32 of shape {['n', *shape]}, found {found}")
    if not bool(torch.isfinite(states).all()):
        raise InputError(f"{where}: expected finite numbers")
    return states
