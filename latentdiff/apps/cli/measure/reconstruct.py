"""`latentdiff reconstruct`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from latentdiff.apps.cli.shared.options import (
    build,
    cli_command,
    number_option,
    options_of,
    out_option,
    run_options,
    split_option,
)
from latentdiff.apps.cli.shared.outputs import Output, overwrite_option
from latentdiff.config.data import DataOptions
from latentdiff.errors import InputError


@cli_command(
    "reconstruct",
    "latentdiff reconstruct",
    "latentdiff reconstruct --data photos/ --size 64 --channels 3 -n 16",
)
@run_options("Run or checkpoint with a VAE (default: the newest VAE run).")
@options_of(DataOptions, skip=("flip", "random_shift"), of_run=True)
@split_option("Split of the data set.")
@number_option(1, 1024, 32, "Images in the figure; the PSNR is over the whole split.")
@out_option(Output(".png"), "reconstructions.png")
@overwrite_option
def command(*, as_json: bool, **values: Any) -> int:
    """Pass images through a trained VAE and show both sides.

    Rows alternate: originals, and below them their reconstructions (from the mode of the posterior). Prints
    the mean PSNR.
    """
    import torch

    from latentdiff.apps.cli.shared import outputs
    from latentdiff.apps.cli.shared.find import find_vae, trained_on
    from latentdiff.apps.cli.shared.progress import result
    from latentdiff.apps.cli.train.common import read_data
    from latentdiff.data import to_float
    from latentdiff.data.classes import representative
    from latentdiff.pipeline.checkpoint.folder import INDEX
    from latentdiff.pipeline.components import load_autoencoder
    from latentdiff.viz.images import pair_grid, save_image

    outputs.settle(values)
    out: Path = values["out"]
    checkpoint = find_vae(values["run"], values["runs"])
    options = build(DataOptions, values | trained_on(checkpoint))
    data = read_data(options)
    vae, _ = load_autoencoder(checkpoint, checkpoint.json(INDEX), data.shape)
    if vae.config.image != data.shape:
        raise InputError(
            f"{checkpoint.folder}: its VAE is for images {list(vae.config.image)}, the data has"
            f" {list(data.shape)} (channels, height, width)"
        )
    split = {"train": data.train, "val": data.val, "test": data.test}[values["split"]]
    images = to_float(split.images)
    if len(images) == 0:
        raise InputError(f"{options.data}: the {values['split']} split is empty")
    with torch.no_grad():
        copies = torch.cat([vae.decode(vae.encode(part).mode()) for part in images.split(250)])
    mse = ((copies - images) / 2).double().square().flatten(1).mean(1)
    psnr = float((-10 * torch.log10(mse.clamp_min(1e-10))).mean())
    shown = representative(split.labels, len(images), values["n"])
    save_image(pair_grid(images[shown], copies[shown]), out)
    answer = {
        "run": str(checkpoint.folder),
        "split": values["split"],
        "images": len(images),
        "psnr_db": psnr,
        "wrote": str(out),
    }
    result(
        answer, as_json=as_json, text=f"{out}: PSNR {psnr:.2f} dB over {len(images)} {values['split']} images"
    )
    return 0
