"""The models of the page: the newest checkpoint of each run with a denoiser, and those in the package."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from threading import Lock

import torch

from latentdiff.apps.ui.limits import MODELS
from latentdiff.config.restoration import Solver
from latentdiff.errors import InputError
from latentdiff.parallel.device import network_dtype
from latentdiff.pipeline.checkpoint.folder import INDEX, Checkpoint, open_checkpoint
from latentdiff.pipeline.checkpoint.pretrained import FOLDER, about
from latentdiff.pipeline.checkpoint.runs import all_checkpoints, locate, with_fingerprint
from latentdiff.pipeline.codec import IdentityCodec
from latentdiff.pipeline.pipeline import Pipeline, from_checkpoint
from latentdiff.pipeline.text.encoder import TOKENIZER


@dataclass(frozen=True, eq=False)
class ListedModel:
    """A model with the checkpoint that it came from."""

    name: str
    checkpoint: Checkpoint
    pipeline: Pipeline

    @cached_property
    def drawing(self) -> Pipeline:
        """The model for samples, in the type of `latentdiff sample`; edits take the float32 one."""
        device = self.pipeline.device
        return self.pipeline.to(device, dtype=network_dtype("auto", device))

    @property
    def shape(self) -> tuple[int, ...]:
        """[C, H, W] of its images."""
        return self.pipeline.codec.image_shape

    @property
    def takes_text(self) -> bool:
        """Whether the model is conditioned on text."""
        return self.pipeline.tokenizer is not None

    @property
    def prompts(self) -> tuple[str, ...]:
        """Prompts like those of its training data, where some are known; the first is the example."""
        return tuple(map(str, about(self.checkpoint.folder).get("prompts", ())))

    @property
    def calls(self) -> int | None:
        """The calls by which a student draws; None: any other model."""
        return None if self.pipeline.student is None else self.pipeline.student.calls

    @property
    def about(self) -> str:
        """What it draws, in a line."""
        height, width = self.shape[1:]
        usual = f"{self.pipeline.data or 'images'}, {height} x {width}"
        text = str(about(self.checkpoint.folder).get("title", usual))
        said = self.calls is None or re.search(r"\bcalls?\b", text)
        return text if said else f"{text}, in {self.calls} calls"

    @property
    def solvers(self) -> tuple[Solver, ...]:
        """The inpainting solvers that suit the model, the best one first."""
        if isinstance(self.pipeline.codec, IdentityCodec):
            return ("repaint", "replacement", "diffpir", "dps")
        if len(self.pipeline.codec.latent_shape) == 3:
            return ("diffpir", "replacement", "repaint", "psld")
        return ("diffpir", "psld", "dps")


class ModelList:
    """Models by name, the last used ones in memory; ``run``: a run or checkpoint to list first."""

    def __init__(self, runs: Path, *, run: str | None = None, device: torch.device) -> None:
        self._runs, self._device, self._lock = runs, device, Lock()
        self._known: dict[str, Path] = {}
        self._loaded = lru_cache(MODELS)(self._opened)
        self._first = [] if run is None else [self._register(locate(Path(run), runs).folder)]
        for name in self._first:  # the --run of the command is refused at once, not on the page
            self.load(name)

    def names(self, *, also: str | None = None) -> list[str]:
        """The names of all models on the disk, the newest first; ``also``: one to add."""
        newest: dict[Path, Path] = {}
        for folder in all_checkpoints(self._runs):
            newest.setdefault(folder if folder.parent == FOLDER else folder.parent, folder)
        found = [self._register(folder) for folder in newest.values() if _has_denoiser(folder)]
        return list(dict.fromkeys([*self._first, *found, *([] if also is None else [also])]))

    def choices(self, *, also: str | None = None) -> list[tuple[str, str]]:
        """What the page shows for each of :meth:`names`, and the name: which take texts, which are fast."""
        return [(f"{name}{self._kind(name)}", name) for name in self.names(also=also)]

    def _kind(self, name: str) -> str:
        """What is said of a model behind its name: students are fast."""
        with suppress(InputError):
            checkpoint = open_checkpoint(self._known[name])
            said = ["texts"] * (TOKENIZER in checkpoint) + ["fast"] * ("student" in checkpoint.json(INDEX))
            return f" ({', '.join(said)})" if said else ""
        return ""

    def first(self) -> ListedModel:
        """The first model that is not damaged; InputError about the first one where none is whole."""
        for name in self.names():
            with suppress(InputError):
                return self.load(name)
        return self.load(next(iter(self.names()), ""))

    def load(self, name: str) -> ListedModel:
        """The model of that name; InputError where there is none."""
        if not isinstance(name, str) or name not in self._known:
            raise InputError(f"model {name!r:.80}: expected one of {', '.join(self.names()) or 'none'}")
        with self._lock:  # one that is wanted twice is read once
            return self._loaded(name)

    def _opened(self, name: str) -> ListedModel:
        folder = self._known[name]
        if not folder.exists():
            raise InputError(
                f"model {name!r:.80}: its training has deleted it; reload the page for newer ones"
            )
        checkpoint = locate(folder)
        return ListedModel(name, checkpoint, from_checkpoint(checkpoint).to(self._device))

    def of_weights(self, weights: str) -> str | None:
        """The name of the model with that fingerprint, maybe an older checkpoint of a run; or None."""
        for name, folder in self._known.items():
            with suppress(InputError):  # a training has deleted it
                if locate(folder).fingerprint == weights:
                    return name
        checkpoint = with_fingerprint(self._runs, weights)
        return None if checkpoint is None else self._register(checkpoint.folder)

    def _register(self, folder: Path) -> str:
        """Register a folder under a readable name."""
        run, last = folder.absolute().parts[-2:]
        step = re.fullmatch(r"checkpoint-0*(\d+)", last)
        name = f"{run}, step {step[1]}" if step else last
        if self._known.setdefault(name, folder) != folder:  # two folders of one name
            name = str(folder)
            self._known[name] = folder
        return name


def _has_denoiser(folder: Path) -> bool:
    """Whether a folder has a denoiser, and files of the right sizes; their content is checked on loading."""
    try:
        checkpoint = open_checkpoint(folder)
        return "denoiser" in checkpoint.json(INDEX) and checkpoint.whole()
    except InputError:  # a damaged one
        return False
