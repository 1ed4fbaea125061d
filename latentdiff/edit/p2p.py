"""Prompt-to-prompt: images of an edited prompt with the composition of the source (Hertz et al. 2023)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from latentdiff.config.sampling import Sampling
from latentdiff.diffusion.denoiser import Denoiser
from latentdiff.diffusion.estimate import Estimate
from latentdiff.diffusion.loop import noised, sample, start
from latentdiff.diffusion.samplers import inverse_ddim_step
from latentdiff.diffusion.trajectory import ProgressCallback, Recorder
from latentdiff.edit.attention import AttentionEdit, AttentionEditor, blend_mask
from latentdiff.edit.inversion import drawing_levels, first_level
from latentdiff.edit.words import align, exchanges_a_thing, positions, weights
from latentdiff.errors import InputError
from latentdiff.nn import Attend
from latentdiff.ops.random import Key
from latentdiff.pipeline.batching import batch_that_fits, map_microbatches
from latentdiff.pipeline.pipeline import Pipeline
from latentdiff.pipeline.text.tokenizer import TextTokenizer

SHARES, THING_SHARES = (0.8, 0.4), (0.2, 0.1)  # cross, self_share: measured, docs/text.md
EXPLICIT = 4  # times the memory of a plain call: a guided pair, with explicit attention probabilities


@dataclass(frozen=True)
class Edit:
    """An edited prompt ``text``, and the parts of the source's attention that it keeps.

    cross, self_share: shares of the sampling process, from noise on, in which the source's attention to kept
    words, and its self-attention, is used (None: :data:`SHARES`, or :data:`THING_SHARES` where a word other
    than a colour is exchanged); factors: of the attention to words of ``text``, negative ones
    suppress a word; blend: words (of either text) outside whose area nothing changes, () for no mask;
    threshold: of the range of a word's attention, above which a pixel belongs to its area.
    """

    text: str
    cross: float | None = None
    self_share: float | None = None
    factors: Mapping[str, float] | None = None
    blend: tuple[str, ...] = ()
    threshold: float = 0.5


def shares_of(source: str, edit: Edit) -> tuple[float, float]:
    """``cross`` and ``self_share`` of an edit of the text ``source``, by its kind where they are None."""
    cross, self_share = THING_SHARES if exchanges_a_thing(source, edit.text) else SHARES
    return (
        cross if edit.cross is None else edit.cross,
        self_share if edit.self_share is None else edit.self_share,
    )


_Places = tuple[tuple[int, ...], ...]
"""The positions of the words that bound an edit, in the source and in the edited text."""


class Edited(NamedTuple):
    """Images [n, C, H, W] in [-1, 1] of the source and each edit; ``maps`` [n, L, H, W]: mean attention."""

    source: Tensor
    edits: tuple[Tensor, ...]
    maps: Tensor


def prompt_to_prompt(
    pipeline: Pipeline,
    source: str,
    edits: Sequence[Edit],
    n: int = 4,
    *,
    images: Tensor | None = None,
    settings: Sampling | None = None,
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> Edited:
    """Pictures of ``source`` and of its ``edits``, all from the same noise; image k draws from seed + k.

    With ``images`` [n, C, H, W] in [-1, 1] these are the source: DDIM inversion gives their latents at each
    level, and the source keeps to them exactly (Ju et al. 2024, "Direct Inversion"), so that it ends as the
    reconstruction of the codec. InputError for models without cross-attention to texts, unknown words, and
    samplers that draw noise on the way of an image.
    """
    pipeline.check_levels()
    n, chosen = n if images is None else len(images), settings or Sampling(guidance=3.0)
    plan = _EditPlan.of(pipeline, source, edits)
    group = 1 + len(edits)
    first = 0
    if images is not None:
        first = first_level(pipeline, images, settings=_inversion_settings(chosen), label=source, seed=seed)
    most = max(1, batch_that_fits(pipeline.network, pipeline.device) // (EXPLICIT * group))
    key = pipeline.key(seed, n)

    def part(rows: slice, progress: ProgressCallback) -> Edited:
        given = None if images is None else images[rows]
        return _draw(pipeline, plan, key[rows], given, chosen, first, progress)

    made = map_microbatches(n, most, part, device=pipeline.device, progress=progress, each=group)
    every = [torch.cat([part.edits[k] for part in made]) for k in range(len(edits))]
    return Edited(
        torch.cat([part.source for part in made]), tuple(every), torch.cat([part.maps for part in made])
    )


@dataclass(frozen=True, eq=False)
class _EditPlan:
    """The texts, the edit of attention of each, and the words that bound it (None: none)."""

    source: str
    edits: tuple[Edit, ...]
    changes: tuple[AttentionEdit, ...]
    places: tuple[_Places | None, ...]

    @classmethod
    def of(cls, pipeline: Pipeline, source: str, edits: Sequence[Edit]) -> _EditPlan:
        tokenizer = pipeline.tokenizer
        if tokenizer is None:
            raise InputError("prompt-to-prompt: expected a model conditioned on text, got another")
        if not getattr(pipeline.network.config, "words", False):
            raise InputError(
                "prompt-to-prompt: expected a network with attention to words, got one that takes the text as"
                " a whole"
            )
        changes = tuple(
            AttentionEdit(
                align(tokenizer, source, edit.text),
                weights(tokenizer, edit.text, edit.factors or {}),
                *shares_of(source, edit),
            )
            for edit in edits
        )
        return cls(source, tuple(edits), changes, tuple(_places(tokenizer, source, edit) for edit in edits))


def _draw(
    pipeline: Pipeline,
    plan: _EditPlan,
    key: Key,
    images: Tensor | None,
    settings: Sampling,
    first: int,
    progress: ProgressCallback,
) -> Edited:
    """One batch: the sources, then each edit of them."""
    step, levels = pipeline.plan(settings)
    n, group = len(key), 1 + len(plan.edits)
    inverted = (
        None if images is None else _inverted_latents(pipeline, plan.source, images, settings, key, first)
    )
    x = start(key, pipeline.codec.latent_shape) if inverted is None else inverted[levels[0]]
    levels = drawing_levels(levels, first)
    texts = [text for text in (plan.source, *(edit.text for edit in plan.edits)) for _ in range(n)]
    labels = pipeline.conditioner.encode(texts, len(texts))
    maps: list[Tensor] = []

    def denoise_with(attend: Attend) -> Denoiser:
        return pipeline.denoiser(labels, settings, network=partial(pipeline.network, attend=attend))

    def move(
        _: Denoiser, x: Tensor, t: int, s: int, key: Key, previous: Estimate | None
    ) -> tuple[Tensor, Estimate]:
        editor = AttentionEditor(plan.changes, n, 1 - t / levels[0])
        moved, estimate = step(denoise_with(editor), x, t, s, key, previous)
        if inverted is not None:
            moved = torch.cat([inverted[s], moved[n:]])
        attention = editor.map((moved.shape[2], moved.shape[3]))
        maps.append(attention[:n])
        return _blended(moved, attention, plan, n), estimate

    denoise, x = pipeline.denoiser(labels, settings), x.repeat(group, 1, 1, 1)
    drawn = pipeline.draw(denoise, x, levels, move, key.repeat(group), Recorder(progress=progress))
    kept, *others = drawn.images.split(n)
    return Edited(kept, tuple(others), torch.stack(maps).mean(0).cpu())


def _places(tokenizer: TextTokenizer, source: str, edit: Edit) -> _Places | None:
    """The positions of the words of a blend in either text; InputError for one that is in neither."""
    if not edit.blend:
        return None
    texts = (source, edit.text)
    known = [{word for word, _ in tokenizer.places(text)} for text in texts]
    for word in edit.blend:
        if not any(word.lower() in each for each in known):
            raise InputError(
                f"`blend` {word!r:.40}: expected a word of {source!r:.80} or of {edit.text!r:.80}"
            )
    return tuple(
        positions(tokenizer, text, [word for word in edit.blend if word.lower() in each], "blend")
        for text, each in zip(texts, known, strict=True)
    )


def _blended(x: Tensor, attention: Tensor, plan: _EditPlan, n: int) -> Tensor:
    """The latents of each edit within the area of its words, the source's elsewhere."""
    source, *others = x.split(n)
    source_maps, *edited_maps = attention.split(n)
    out = [source]
    for edited, maps, place, edit in zip(others, edited_maps, plan.places, plan.edits, strict=True):
        if place is None:
            out.append(edited)
            continue
        areas = [each[:, list(at)].sum(1) for each, at in zip((source_maps, maps), place, strict=True) if at]
        out.append(source + blend_mask(areas, threshold=edit.threshold) * (edited - source))
    return torch.cat(out)


def _inverted_latents(
    pipeline: Pipeline, source: str, images: Tensor, settings: Sampling, key: Key, first: int
) -> dict[int, Tensor]:
    """The latents of images at each level, by DDIM inversion from level ``first`` without guidance."""
    x0 = pipeline.encode(images)
    denoise = pipeline.denoiser(pipeline.conditioner.encode(source, len(x0)), _inversion_settings(settings))
    levels = drawing_levels(pipeline.plan(settings)[1], first)[::-1]
    levels = levels[1:] if first else levels
    x = noised(x0, first, pipeline.schedule, key)
    found = {0: x0, first: x}
    for state in sample(denoise, x, levels, inverse_ddim_step(pipeline.schedule), key):
        found[state.t] = state.x
    return found


def _inversion_settings(settings: Sampling) -> Sampling:
    """The settings of an inversion: the same levels, and no guidance, with which it drifts.

    InputError for samplers that draw noise.
    """
    if settings.sampler != "ddim" or settings.eta:
        raise InputError(
            "edits of images need a sampler without noise: `sampler` ddim with `eta` 0, got"
            f" {settings.sampler} and {settings.eta or 0:g}"
        )
    return Sampling(steps=settings.steps, spacing=settings.spacing)
