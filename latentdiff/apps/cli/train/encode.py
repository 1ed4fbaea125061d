"""`latentdiff encode`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from latentdiff.apps.cli.shared.help import option
from latentdiff.apps.cli.shared.options import (
    build,
    cli_command,
    device_option,
    options_of,
    out_option,
    run_options,
)
from latentdiff.apps.cli.shared.outputs import Output, overwrite_option
from latentdiff.config.data import DataOptions, StreamOptions
from latentdiff.errors import InputError


def _check_encoded(folder: Path) -> None:
    from latentdiff.train.latent_dataset import check_replaceable, is_encoded

    if not is_encoded(folder):
        raise InputError(f"{folder}: holds something else than an encoded data set; choose another folder")
    check_replaceable(folder)


@cli_command(
    "encode",
    "latentdiff encode",
    "latentdiff encode --run runs/VAE --data shards/ --size 64 --out latents",
    "latentdiff train-denoiser --data latents",
)
@run_options("Run or checkpoint with a VAE (default: the newest VAE run).")
@options_of(DataOptions, StreamOptions, skip=("flip", "random_shift"), of_run=True)
@option(
    "--fp16", was="--half", is_flag=True, group="Output", help="Store latents as float16, in half the space."
)
@device_option
@out_option(Output(check=_check_encoded), "latents", "Folder of the encoded data set.")
@overwrite_option
def command(*, as_json: bool, **values: Any) -> int:
    """Encode a data set once, to train denoisers on its latents.

    Writes the posteriors of the training and validation images as shards of safetensors, with labels,
    captions and the VAE: all that `latentdiff train-denoiser --data FOLDER` needs. The images are those that
    the VAE was trained on unless --data names others.
    """
    from latentdiff.apps.cli.shared import outputs
    from latentdiff.apps.cli.shared.find import find_vae, trained_on
    from latentdiff.apps.cli.shared.progress import SamplingBar, print_report, result
    from latentdiff.apps.cli.train.common import read_training_images
    from latentdiff.parallel.device import resolve_device
    from latentdiff.pipeline.checkpoint.folder import INDEX
    from latentdiff.pipeline.codec import VAECodec
    from latentdiff.pipeline.components import load_codec
    from latentdiff.train.latent_dataset import write_encoded

    device = resolve_device(values["device"])
    outputs.settle(values)
    out = values["out"]
    checkpoint = find_vae(values["run"], values["runs"])
    chosen = values | trained_on(checkpoint)
    data = read_training_images(build(DataOptions, chosen), stream=bool(chosen["stream"]))
    codec = load_codec(checkpoint, checkpoint.json(INDEX), image=data.shape)
    if not isinstance(codec, VAECodec):
        raise InputError(f"{checkpoint.folder}: expected a VAE, found a model of pixels")
    known = data.notes
    with SamplingBar("encoding") as bar:
        write_encoded(out, data, codec, device=device, half=values["fp16"], progress=bar.update)
    print_report(data.report, since=known)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    answer = {
        "run": str(checkpoint.folder),
        "wrote": str(out),
        "bytes": size,
        "latent": list(codec.latent_shape),
    }
    answer |= {name: data.sizes[name] for name in ("train", "val")}
    text = (
        f"{out}: latents {list(codec.latent_shape)} of {answer['train']} training and {answer['val']}"
        f" validation images, {size / 2**20:.1f} MiB"
    )
    result(answer, as_json=as_json, text=f"{text}\n  next: latentdiff train-denoiser --data {out}")
    return 0
