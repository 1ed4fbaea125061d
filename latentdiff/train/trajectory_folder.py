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
    """Write them into a new folder; InputError where it holds something else."""
    with writing(folder) as writer:
        for name, made in zip(SPLITS, (train, val), strict=True):
            tensors = {"states": made.states, "guidance": made.scales}
            if made.conditioning is not None:
                tensors["conditioning"] = made.conditioning
            writer.tensors(f"{name}.safetensors", tensors)
        writer.json(INDEX, {"_class_name": KIND, "levels": list(train.levels), "origin": dict(origin)})


def load_trajectories(
    folder: Path, calls: int, origin: Mapping[str, Any], shape: Sequence[int]
) -> tuple[Trajectories, Trajectories]:
    """Those of a folder for training and for validation, of latents ``shape``, at the levels of a student of
    so many ``calls``.

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
    level = Annotated[int, Strict(), Field(ge=0, lt=10**6)]
    levels = checked(
        Annotated[list[level], Field(min_length=2, max_length=1001)],
        index.get("levels"),
        where,
        "levels as two or more numbers",
    )
    many = len(levels) - 1
    if many % calls:
        raise InputError(
            f"{folder}: has trajectories at the levels of {many} calls, of which {calls} are no part; name a"
            " new folder"
        )
    every = many // calls
    train, val = (_split(checkpoint, name, tuple(levels), every, shape) for name in SPLITS)
    return train, val


def _split(
    checkpoint: Checkpoint, name: str, levels: tuple[int, ...], every: int, shape: Sequence[int]
) -> Trajectories:
    file = f"{name}.safetensors"
    tensors, where = checkpoint.tensors(file), f"{checkpoint.folder}/{file}"
    states, scales, known = (tensors.get(key) for key in ("states", "guidance", "conditioning"))
    n = 0 if scales is None else len(scales)
    _check(states, (n, len(levels), *shape), f"{where}: states")
    _check(scales, (n,), f"{where}: guidance")
    if known is not None and (len(known) != n or not (known.dtype == torch.int64 or known.dim() == 3)):
        raise InputError(f"{where}: conditioning: expected labels or texts of {n}, found {list(known.shape)}")
    assert states is not None and scales is not None
    return Trajectories(levels[::every], states[:, ::every].contiguous(), known, scales)


def _check(tensor: Tensor | None, shape: tuple[int, ...], where: str) -> None:
    if tensor is None or tensor.dtype != torch.float32 or tensor.shape != shape or not shape[0]:
        found = "none" if tensor is None else f"{tensor.dtype} {list(tensor.shape)}"
        raise InputError(f"{where}: expected float32 of shape {list(shape)}, found {found}")
    if not bool(torch.isfinite(tensor).all()):
        raise InputError(f"{where}: expected finite numbers")
