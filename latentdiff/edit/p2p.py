"""Prompt-to-prompt: the picture of an edited text with the composition of the original (Hertz et al. 2023)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from latentdiff.config.sampling import Sampling
from latentdiff.denoise import Denoiser, Estimate
from latentdiff.edit.attention import Attending, Change, blend_mask
from latentdiff.edit.drawing import encoded, key_of
from latentdiff.edit.words import align, positions, weights
from latentdiff.errors import InputError
from latentdiff.frames import Progress
from latentdiff.nn import Attend
from latentdiff.pipeline import Pipeline
from latentdiff.random import Key
from latentdiff.sample import sample, start
from latentdiff.solve import inversion
from latentdiff.tokenizer import Listener


@dataclass(frozen=True)
class Edit:
    """An edited ``text``, and how it holds on to the source.

    cross, self_share: shares of the way (from noise) on which the source's attention to the words that stay, and among pixels, is taken
    over; factors: of the attention to words of ``text``, negative ones drive a word out; blend: words (of either text) outside
    whose place nothing changes, () to let everything change; threshold: how much of a word's largest attention still belongs to
    its place.
    """

    text: str
    cross: float = 0.8
    self_share: float = 0.4
    factors: Mapping[str, float] | None = None
    blend: tuple[str, ...] = ()
    threshold: float = 0.3


class Edited(NamedTuple):
    """Images [n, C, H, W] in [-1, 1]: of the source text, and of each edit; ``maps`` [n, L, H, W]: the source's mean attention."""

    source: Tensor
    edits: tuple[Tensor, ...]
    maps: Tensor


class _Text(NamedTuple):
    """Where an edit may change the picture: positions in the source and in the edited text."""

    source: tuple[int, ...]
    edited: tuple[int, ...]


def prompt_to_prompt(
    pipeline: Pipeline,
    source: str,
    edits: Sequence[Edit],
    n: int = 4,
    *,
    images: Tensor | None = None,
    settings: Sampling | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Edited:
    """Pictures of ``source`` and of its ``edits``, all from the same noise in one batch; image k draws from seed + k.

    With ``images`` [n, C, H, W] in [-1, 1] these are the source, whatever it says of them: DDIM finds the latents on their way to noise,
    and the source keeps to them exactly (Ju et al. 2024, "Direct Inversion"), so that it is what the codec makes of the images.
    InputError for models that do not listen to texts, words that are not there, and samplers that draw noise on the way of an image.
    """
    tokenizer, chosen = _tokenizer(pipeline), settings or Sampling(guidance=3.0)
    step, levels = pipeline.plan(chosen)
    n = n if images is None else len(images)
    key = key_of(pipeline, seed, n)
    way = None if images is None else _way(pipeline, source, images, chosen, levels)
    x = start(key, pipeline.codec.latent_shape) if way is None else way[levels[0]]
    texts = [text for text in (source, *(edit.text for edit in edits)) for _ in range(n)]
    labels = pipeline.labels(texts, len(texts))

    def denoise_with(attend: Attend) -> Denoiser:
        return pipeline.guided(chosen, labels, network=partial(pipeline.network, attend=attend))

    changes = [
        Change(
            align(tokenizer, source, edit.text),
            weights(tokenizer, edit.text, edit.factors or {}),
            edit.cross,
            edit.self_share,
        )
        for edit in edits
    ]
    places = [_places(tokenizer, source, edit) for edit in edits]
    maps: list[Tensor] = []

    def move(_: Denoiser, x: Tensor, t: int, s: int, key: Key, previous: Estimate | None) -> tuple[Tensor, Estimate]:
        attending = Attending(changes, n, 1 - t / levels[0])
        moved, estimate = step(denoise_with(attending), x, t, s, key, previous)
        if way is not None:
            moved = torch.cat([way[s], moved[n:]])
        heard = attending.heard.map(moved.shape[2:])  # type: ignore[arg-type]
        maps.append(heard[:n])
        return _blended(moved, heard, places, edits, n), estimate

    group = 1 + len(edits)
    states = sample(denoise_with(_as_it_is), x.repeat(group, 1, 1, 1), levels, move, key.repeat(group))
    for k, state in enumerate(states, 1):
        x = state.x
        if progress is not None:
            progress(k, len(levels) - 1)
    first, *others = pipeline.decode(x).split(n)
    return Edited(first, tuple(others), torch.stack(maps).mean(0).cpu())


def _as_it_is(probabilities: Tensor, place: object) -> Tensor:
    return probabilities


def _tokenizer(pipeline: Pipeline) -> Listener:
    if pipeline.tokenizer is None:
        raise InputError("prompt-to-prompt: expected a model that listens to texts, got one of classes or of none")
    return pipeline.tokenizer


def _places(tokenizer: Listener, source: str, edit: Edit) -> _Text | None:
    """Where the words of --blend stand in either text; each has to be in one of them."""
    if not edit.blend:
        return None
    found: list[tuple[int, ...]] = []
    for text in (source, edit.text):
        here = [word for word in edit.blend if word.lower() in dict(tokenizer.places(text))]
        found.append(positions(tokenizer, text, here))
    known = dict(tokenizer.places(source)) | dict(tokenizer.places(edit.text))
    for word in edit.blend:
        if word.lower() not in known:
            raise InputError(f"word {word!r:.40}: expected a word of {source!r:.80} or of {edit.text!r:.80}")
    return _Text(*found)


def _blended(x: Tensor, heard: Tensor, places: Sequence[_Text | None], edits: Sequence[Edit], n: int) -> Tensor:
    """The latents of each edit where its words are, the source's elsewhere."""
    source, *others = x.split(n)
    maps, *theirs = heard.split(n)
    out = [source]
    for own, mine, place, edit in zip(others, theirs, places, edits, strict=True):
        if place is None:
            out.append(own)
            continue
        seen = [each[:, list(at)].sum(1) for each, at in ((maps, place.source), (mine, place.edited)) if at]
        out.append(source + blend_mask(seen, threshold=edit.threshold) * (own - source))
    return torch.cat(out)


def _way(
    pipeline: Pipeline, source: str, images: Tensor, settings: Sampling, levels: Sequence[int]
) -> dict[int, Tensor]:
    """The latents of images at each level, by DDIM inversion under the source text without guidance."""
    if settings.sampler != "ddim" or settings.eta:
        raise InputError(f"edits of images need a sampler without noise: ddim with eta 0, got {settings.sampler}")
    x0 = encoded(pipeline, images)
    plain = Sampling(steps=settings.steps, spacing=settings.spacing)  # guided inversions drift
    denoise = pipeline.guided(plain, pipeline.labels(source, len(x0)))
    found = {levels[-1]: x0}
    for state in sample(denoise, x0, levels[::-1], inversion(pipeline.schedule), key_of(pipeline, 0, len(x0))):
        found[state.t] = state.x
    return found
