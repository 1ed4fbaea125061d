"""`latentdiff p2p`."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from latentdiff.apps.cli.edit import driver
from latentdiff.apps.cli.shared.help import OWN, option
from latentdiff.apps.cli.shared.inputs import image_options
from latentdiff.apps.cli.shared.options import build, options_of
from latentdiff.apps.cli.shared.outputs import Output
from latentdiff.apps.cli.shared.pair_scores import scores_of
from latentdiff.apps.cli.shared.prompts import check_texts
from latentdiff.config.base import Config, setting
from latentdiff.config.sampling import Sampling

if TYPE_CHECKING:
    from torch import Tensor

    from latentdiff.pipeline.pipeline import Pipeline

SLUG = 40  # characters of a prompt in a file name


class KeptAttention(Config):
    """The attention of the original that its edits keep."""

    cross: float | None = setting(
        None,
        "share of the steps, from noise, that keep the original's attention to the unchanged words (default:"
        " 0.8; 0.2 where a word other than a colour is exchanged)",
        ge=0,
        le=1,
    )
    self_share: float | None = setting(
        None,
        "share of the steps, from noise, that keep the original's attention among pixels: more keeps more of"
        " its shape (default: 0.4; 0.1 where a word other than a colour is exchanged)",
        flag="self",
        ge=0,
        le=1,
    )
    threshold: float = setting(
        0.5,
        "with --blend: the attention at which a word's region begins, as a share of its range",
        ge=0,
        le=1,
    )


class TextSampling(Sampling):
    """A sampler that follows texts."""

    guidance: float = setting(
        3.0,
        "classifier-free guidance: 1 is plain conditional, more follows the prompts more closely",
        group=OWN,
        ge=0,
        le=100,
    )


@driver.edit_command(
    "p2p",
    "latentdiff p2p --prompt 'a red seven' --edit 'a green seven'",
    title="Prompts and attention",
    out="p2p.png",
    inputs=(image_options,),
    sampling=TextSampling,
)
@option("--prompt", required=True, help="The prompt of the original.")
@option(
    "--edit",
    "edits",
    multiple=True,
    help=(
        "The edited prompt: words exchanged or added; several make one column each (default: the prompt"
        " itself, for --word-weight)."
    ),
)
@option(
    "--word-weight",
    "factors",
    multiple=True,
    help=(
        "Multiply the attention to a word of the edited text, as green=2 or background=-1, from -100 to 100"
        " (default: none)."
    ),
)
@option(
    "--blend",
    multiple=True,
    help="Words of either prompt: nothing changes outside the region of their attention (default: all may).",
)
@options_of(KeptAttention)
@option(
    "--maps",
    type=Output(".png"),
    default=None,
    help=(
        "Also write the attention of the pictures to each word of --prompt, the mean over the steps, as a"
        " .png (default: not written)."
    ),
)
def command(values: driver.Values) -> driver.EditFunction:
    """Edit pictures by editing their text (prompt-to-prompt).

    The original and its edits are drawn from the same noise, the edits with the original's attention: words
    may be exchanged, added or weighted, the composition stays. With --input images of your own are edited;
    --prompt then describes them.
    """
    how, factors = build(KeptAttention, values), _factors(values["factors"])
    if how.threshold != 0.5 and not values["blend"]:
        raise click.UsageError("--threshold bounds the place of the words of --blend, got none")
    if values["negate"] and values["source"] is None:
        raise click.UsageError("--negate is for images of --input, got none")
    if not values["edits"] and not factors:
        raise click.UsageError("expected --edit TEXT or --word-weight WORD=FACTOR, got neither")
    return partial(_p2p, how=how, factors=factors)


def _p2p(values: driver.Values, how: KeptAttention, factors: dict[str, float]) -> driver.EditResult:
    from latentdiff.apps.cli.shared.progress import SamplingBar
    from latentdiff.edit import Edit, prompt_to_prompt
    from latentdiff.errors import counted
    from latentdiff.pipeline.capabilities import Need
    from latentdiff.viz.image_folder import aligned, variant

    prompt = values["prompt"]
    texts = values["edits"] or (prompt,)
    check_texts([prompt, *texts])
    flag = f"--prompt {prompt!r:.60}"
    needs = [Need("text", flag, None), Need("words", flag, "`latentdiff sample --prompt`")]
    model = driver.load_model(values | {"prompts": (prompt, *texts)}, needs=needs)
    images = None
    if values["source"] is not None:
        model = inputs = driver.load_inputs(values, model)
        images = inputs.images
    edits = [Edit(text, factors=factors, blend=values["blend"], **how.model_dump()) for text in texts]
    with SamplingBar("prompt-to-prompt") as bar:
        made = prompt_to_prompt(
            model.pipeline,
            prompt,
            edits,
            values["n"],
            images=images,
            settings=model.settings,
            seed=model.seed,
            progress=bar.update,
        )
    stages = [] if images is None else [("input", images)]
    stages.append((prompt, made.source))
    stages += zip(texts, made.edits, strict=True)
    n, numbers = len(made.source), aligned(range(1, len(texts) + 1))
    results = {
        variant(edit=k + _slug(text)): edited
        for k, text, edited in zip(numbers, texts, made.edits, strict=True)
    }
    wrote = []
    if values["maps"] is not None:
        _save_maps(model.pipeline, prompt, made.source, made.maps, values["maps"])
        wrote = [str(values["maps"])]
    scores = [scores_of(edited, made.source, model.pipeline.classes).as_dict() for edited in made.edits]
    return driver.EditResult(
        model=model,
        stages=stages,
        images=results,
        labels=[prompt] * n,
        facts={
            "prompt": prompt,
            "edits": [
                {"text": text, "beside_the_original": score}
                for text, score in zip(texts, scores, strict=True)
            ],
            "word_weights": factors,
        },
        title=f"{counted(n, 'picture')} and {'its' if n == 1 else 'their'} edits",
        wrote=wrote,
    )


def _slug(text: str) -> str:
    """The words of a text for a file name, after a hyphen."""
    words = "-".join(re.findall(r"\w+", text))[:SLUG].rstrip("-")
    return f"-{words}" if words else ""


def _factors(texts: tuple[str, ...]) -> dict[str, float]:
    found = {}
    for text in texts:
        word, equals, factor = text.rpartition("=")
        if not (word and equals and re.fullmatch(r"-?[0-9]*\.?[0-9]+", factor) and abs(float(factor)) <= 100):
            raise click.UsageError(
                f"--word-weight: expected WORD=FACTOR with a factor from -100 to 100, got {text!r}"
            )
        found[word] = float(factor)
    return found


def _save_maps(pipeline: Pipeline, prompt: str, images: Tensor, maps: Tensor, path: Path) -> None:
    """A column for each word: bright where the pictures attend to it."""
    from torch.nn import functional as F

    from latentdiff.viz.figures import save_figure
    from latentdiff.viz.table import Column, draw_table

    assert pipeline.tokenizer is not None
    stages = [("picture", images)]
    for word, places in pipeline.tokenizer.places(prompt):
        if places:
            seen = maps[:, list(places)].sum(1, keepdim=True)
            bright = 2 * seen / seen.amax((2, 3), keepdim=True).clamp_min(1e-12) - 1
            large = F.interpolate(bright, size=images.shape[2:], mode="bilinear", align_corners=False)
            stages.append((word, large.expand_as(images)))
    save_figure(draw_table([[Column(name, each) for name, each in stages]]), path)
