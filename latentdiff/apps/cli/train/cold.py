"""`latentdiff train-cold`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

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
@click.pass_context
def command(ctx: click.Context, /, dry_run: bool, as_json: bool, **values: Any) -> int:
    """Train a model that undoes blur instead of noise.

    Or pixelation, or fading: cold diffusion. The network (a UNet of ConvNeXt blocks) learns to restore images
    from every level of the degradation. The result is a run folder (runs/DATE-cold) that `latentdiff
    sample-cold` restores and generates with.
    """
    command_line_wins(ctx, values, BUDGETS)
    options, place = build(TrainCold, values), build(RunOptions, values)
    if place.resume is None:
        blurring = {name: f"--{name}" for name in ("kernel", "variance", "growth")}
        only_with("degradation", "blur", [options.degradation], blurring)

    from latentdiff.apps.cli.shared.processes import together
    from latentdiff.apps.cli.shared.progress import result
    from latentdiff.apps.cli.train import common
    from latentdiff.errors import InputError
    from latentdiff.nn import build as build_network
    from latentdiff.parallel.device import resolve_device
    from latentdiff.pipeline.checkpoint.runs import locate
    from latentdiff.pipeline.cold import cold_from
    from latentdiff.pipeline.components import config_of
    from latentdiff.train.build import cold_config_of
    from latentdiff.train.cold import ColdTask

    options, resume, data_place = common.resumed("cold", options, place, common.given_options(ctx, options))
    common.prepare(options)
    ranks, device = together(resolve_device(options.device), "every batch")
    data = common.read_data(options, data_place)
    config = cold_config_of(options, data)
    network = build_network(config, seed=options.seed)
    if place.init_from is not None:
        first = cold_from(locate(Path(place.init_from), Path(place.runs))).network
        if config_of(first) != config:
            raise InputError(
                f"--init-from {place.init_from}: its network is {config_of(first)}, expected {config}"
            )
        network.load_state_dict(first.state_dict())
    task = ColdTask(options, data, network, device)
    if dry_run:
        plan = common.describe(task, options, data, device, ranks)
        result(plan, as_json=as_json, text=json.dumps(plan, indent=2))
        return 0
    run = common.new_run("cold", place, resume, ranks)
    outcome = common.train(task, options, run, data, device, resume, ranks)
    lines = {"validation": f"{options.loss} {outcome.metrics['val_loss']:.4f}"} if outcome.metrics else {}
    lines["pictures"] = f"{outcome.run}/samples-{outcome.step:08d}.png, loss.png"
    lines["next"] = f"latentdiff sample-cold --run {outcome.run}"
    return common.close(outcome, lines, as_json=as_json)
