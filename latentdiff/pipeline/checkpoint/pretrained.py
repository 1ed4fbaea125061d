"""Trained models in the package: checkpoint folders, each with a JSON file beside it that describes it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latentdiff.pipeline.checkpoint.folder import MANIFEST

FOLDER = Path(__file__).parents[2] / "assets" / "models"


@dataclass(frozen=True)
class Shipped:
    """``about``: title, conditioning (key condition: classes or text) with prompts to try, works_on
    (latents or pixels), images to try it on, and the data, commands, hardware and figures of its training.
    """

    name: str
    folder: Path
    about: dict[str, Any]

    @property
    def bytes(self) -> int:
        """The size of its files."""
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())


def shipped_models() -> tuple[Shipped, ...]:
    """All shipped models, by name."""
    files = sorted(FOLDER.glob("*.json"), key=lambda file: file.stem)
    return tuple(
        Shipped(file.stem, file.with_suffix(""), json.loads(file.read_text(encoding="utf-8")))
        for file in files
    )


def shipped_for(
    conditioning: str, *, pixels: bool = False, fits: Callable[[Shipped], bool] | None = None
) -> Shipped | None:
    """The first model that is conditioned on classes or text, of those that work on ``pixels`` and ``fits``
    takes; without ``fits`` those whose images are at hand come first. Students are taken by name alone.
    """
    found = [model for model in shipped_models() if model.about["condition"] == conditioning]
    found = [model for model in found if "teacher" not in model.about]
    found = [model for model in found if not pixels or model.about["works_on"] == "pixels"]
    if fits is None:
        return min(found, key=lambda model: model.about["images"] is None, default=None)
    return next((model for model in found if fits(model)), None)


def about(folder: Path) -> dict[str, Any]:
    """The description of the model in ``folder``; {} of one that does not ship with the package."""
    return next((model.about for model in shipped_models() if model.folder == folder), {})


def shipped_folder(name: str) -> Path | None:
    """The checkpoint folder of the model of that name; None where no such model ships with the package."""
    folder = FOLDER / name
    return folder if folder.parent == FOLDER and (folder / MANIFEST).is_file() else None
