"""`latentdiff train-cold`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from latentdiff.apps.cli.shared.options import (
    build,
    cli_command,
    command_line_wins,
    dry_run_option,
    only_with,
    options_of,
)
from latentdiff.config.loop import BUDGETS, RunOptions
from latentdiff.config.training import TrainCold


@cli_command(
    "train-cold",
    "latentdiff train-cold",
    "latentdiff train-cold --degradation pixelate --T 28 --data mnist",
)
@options_of(TrainCold, RunOptions)
@dry_run_option
def command(*, dry_run: bool, as_json: bool, **values: Any) -> int:
    """Train a model that undoes blur instead of noise.

    Or pixelation, or fading: cold diffusion. The network (a UNet of ConvNeXt blocks) learns to restore images
    from every level of the degradation. The result is a run folder (runs/DATE-cold) that `latentdiff
    sample-cold` restores and generates with.
    """
    command_line_wins(values, BUDGETS)
    options, place = build(TrainCold, values), build(RunOptions, values)
    if place.resume is None:
        blurring = {name: f"--{name}" for name in ("kernel", "variance", "growth")}
        only_with("degradation", "blur", [options.degradation], blurring)

    from latentdiff.apps.cli.shared.progress import note_loading

    note_loading()

    from latentdiff.apps.cli.train import common
    from latentdiff.errors import InputError
    from latentdiff.nn import build as build_network
    from latentdiff.pipeline.cold import cold_from
    from latentdiff.pipeline.components import config_of
    from latentdiff.train.build import cold_config_of
    from latentdiff.train.cold import ColdTask

    training = common.begin("cold", options, place)
    options = training.options
    data = common.read_data(options, training.data)
    config = cold_config_of(options, data)
    network = build_network(config, seed=options.seed)
    if training.first is not None:
        first = cold_from(training.first).network
        if config_of(first) != config:
            raise InputError(
                f"--init-from {place.init_from}: its network is {config_of(first)}, expected {config}"
            )
        network.load_state_dict(first.state_dict())
    task = ColdTask(options, data, network, training.device)

    def measured(found: Mapping[str, float]) -> dict[str, str]:
        return {"validation": f"{options.loss} {found['val_loss']:.4f}"}

    following = "latentdiff sample-cold --run"
    return common.finish(training, task, data, measured, following, dry_run=dry_run, as_json=as_json)
