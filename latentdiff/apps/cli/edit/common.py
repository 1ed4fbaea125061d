"""Options, scores and figures of the commands that work on images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from latentdiff.apps.cli.shared.help import Texts, option
from latentdiff.apps.cli.shared.options import device_option, options_of, out_option, run_options, seed_option
from latentdiff.apps.cli.shared.outputs import IMAGE_FOLDER, Output, overwrite_option, running
from latentdiff.apps.cli.shared.prompts import prompt_options
from latentdiff.config.sampling import Sampling
from latentdiff.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from latentdiff.evaluate.images import PairScores

F = TypeVar("F", bound=Callable[..., Any])
ACROSS = 10  # images side by side in a figure


def model_options(function: F) -> F:
    """--run, --runs, --device and --seed."""
    seed = seed_option("Image k has the noise of seed + k; whatever the batch.")
    return run_options()(device_option(seed(function)))


def sampling_options(function: F) -> F:
    """The sampler's options, --label and --prompt."""
    label = option(
        "--label",
        group="Images",
        cls=Texts,
        default=None,
        help=(
            "Class by name or index; several, as 3,5,8 or by repeating the option, go to the images in turn;"
            " `own` takes the label of each image (default: no class)."
        ),
    )
    return options_of(Sampling, skip=("compile",))(label(prompt_options(function)))


def output_options(out: str) -> Callable[[F], F]:
    """--out, --files and --overwrite."""

    def decorate(function: F) -> F:
        options = [
            out_option(Output(".png"), out),
            option(
                "--files",
                group="Output",
                type=IMAGE_FOLDER,
                default=None,
                help=(
                    "Also write each result as a PNG into this folder; where there are several results of"
                    " each image, into one folder for each, as strength=0.3."
                ),
            ),
            overwrite_option,
        ]
        return _all(function, options)

    return decorate


def _all(function: F, options: Sequence[Callable[[F], F]]) -> F:
    for each in reversed(options):
        function = each(function)
    return function


def scores_of(found: Tensor, wanted: Tensor, classes: Sequence[str]) -> PairScores:
    """PSNR, SSIM, RMSE and, if installed, the perceptual distance of results from originals, by pair."""
    from latentdiff.data import to_uint8
    from latentdiff.evaluate.images import score_pairs
    from latentdiff.evaluate.interval_score import Resampling
    from latentdiff.metrics.features import default_features, perceptual_network

    try:
        perceptual = perceptual_network(default_features(wanted.shape[1:], classes))
    except InputError:
        perceptual = None
    return score_pairs(
        to_uint8(wanted), to_uint8(found), perceptual=perceptual, resampling=Resampling(count=0)
    )


def scores_dict(scores: PairScores) -> dict[str, Any]:
    """The scores for --json: without the intervals, which so few images have not."""
    parts = scores.as_dict().items()
    return {name: _known(part) if isinstance(part, dict) else part for name, part in parts}


def _known(score: dict[str, Any]) -> dict[str, Any]:
    return {key: found for key, found in score.items() if key == "value" or found is not None}


def scores_text(scores: PairScores) -> str:
    """The scores in one line."""
    from latentdiff.metrics.names import perceptual_name

    parts = [
        f"PSNR {scores.psnr.value:.2f} dB",
        f"SSIM {scores.ssim.value:.3f}",
        f"RMSE {scores.rmse.value:.3f}",
    ]
    if scores.perceptual is not None and scores.perceptual.network is not None:
        parts.append(f"{perceptual_name(scores.perceptual.network)} {scores.perceptual.value:.4f}")
    return ", ".join(parts)


def save_rows(
    rows: Sequence[tuple[str, Tensor]], values: dict[str, Any], results: Tensor | Mapping[str, Tensor]
) -> list[str]:
    """The figure with the first images of each row side by side, and the results as files; what was written.

    ``results``: images [n, C, H, W], or several of each image by variant
    (:func:`latentdiff.viz.image_folder.variant`).
    """
    from latentdiff.viz.figures import save_figure
    from latentdiff.viz.image_folder import save_images
    from latentdiff.viz.rows import draw_rows, folded

    named = [(name if "\n" in name else folded(name), images[:ACROSS]) for name, images in rows]
    save_figure(draw_rows(named), values["out"])
    written = [str(values["out"])]
    if values["files"] is not None:
        by_variant = results if isinstance(results, Mapping) else {"": results}
        images = by_variant if len(by_variant) > 1 else {"": next(iter(by_variant.values()))}
        save_images(values["files"], images, command=running())
        written.append(str(values["files"]))
    return written
