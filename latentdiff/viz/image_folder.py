"""Folders of single images: ``out/000000.png`` where there is one result of each image,
``out/strength=0.3/000000.png`` beside ``out/strength=0.9/000000.png`` where there are several variants.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from torch import Tensor

from latentdiff.config.recipe import Recipe
from latentdiff.data.written import is_written, written_by
from latentdiff.errors import InputError
from latentdiff.viz.images import pixels_of, save_image


def variant(**values: float | str) -> str:
    """The folder of a variant, as ``strength=0.3`` or, of two values, ``level=250/method=blur``."""
    return "/".join(f"{name.replace('_', '-')}={value}" for name, value in values.items())


def aligned(values: Sequence[float]) -> list[str]:
    """Numbers of 0 or more as texts that sort like the numbers: as many digits before and after the point."""
    texts = [f"{value:.10f}".rstrip("0").rstrip(".") for value in values]
    decimals = max(len(text.partition(".")[2]) for text in texts)
    width = max(len(text.partition(".")[0]) for text in texts) + (decimals + 1 if decimals else 0)
    return [f"{value:0{width}.{decimals}f}" for value in values]


def save_images(
    folder: Path,
    images: Mapping[str, Tensor],
    *,
    recipe: Callable[[int], Recipe | None] = lambda k: None,
    command: str = "",
) -> None:
    """Write images [N, C, H, W] by variant ("" for the only one) into ``folder``, in place of those of
    ``command`` there.

    ``recipe(k)``: what made image k. All of them are written before the first takes its name and an earlier
    one goes; what else is in the folder stays. InputError where they cannot be written.
    """
    temporary = folder / f".tmp-{os.getpid()}"
    try:
        for name, found in images.items():
            for k, image in enumerate(pixels_of(found)):
                single = image[..., 0] if image.shape[2] == 1 else image
                save_image(single, temporary / name / f"{k:06d}.png", recipe=recipe(k), command=command)
        remove_written(folder, lambda path: written_by(path) == command)
        for path in sorted(temporary.rglob("*.png")):
            target = folder / path.relative_to(temporary)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror or error})") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_written(
    folder: Path, written: Callable[[Path], bool] = is_written, *, keep: Sequence[Path] = ()
) -> None:
    """Delete the ``written`` files below ``folder``, but for ``keep``, and folders left empty."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir() and not path.is_symlink():
            remove_written(path, written, keep=keep)
            if not any(path.iterdir()):
                path.rmdir()
        elif path not in keep and written(path):
            path.unlink()
