"""The command group: commands are imported when they run, so that `latentdiff --help` answers at once."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module

import click

from latentdiff._version import __version__
from latentdiff.apps.cli.shared import signals
from latentdiff.apps.cli.shared.help import nearest, with_flags
from latentdiff.errors import InputError, is_out_of_memory

# title: name: (module in latentdiff.apps.cli, first line of its help, as a test checks)
GROUPS: dict[str, dict[str, tuple[str, str]]] = {
    "Train": {
        "train": ("train.train", "Train a VAE, and a denoiser on its latents."),
        "train-vae": ("train.vae", "Train a VAE that maps images to a small latent space."),
        "train-denoiser": ("train.denoiser", "Train a denoiser in a VAE's latent space, or on pixels."),
        "distill": ("train.distill", "Train a student that draws in a few calls of its network."),
        "encode": ("train.encode", "Encode a data set once, to train denoisers on its latents."),
        "train-cold": ("train.cold", "Train a model that undoes blur instead of noise."),
    },
    "Sample": {
        "sample": ("sample.sample", "Draw images from a trained model."),
        "sample-cold": ("sample.cold", "Generate or restore images with a cold diffusion model."),
        "anagram": ("edit.anagram", "Draw images that show another class when turned."),
        "hybrid": ("edit.hybrid", "Draw hybrid images: one class from afar, another close up."),
        "ui": ("info.ui", "Draw, watch, compare and edit on a page in the browser."),
    },
    "Edit and restore": {
        "edit": ("edit.sdedit", "Edit images by noising and denoising them (SDEdit)."),
        "inpaint": ("edit.inpaint", "Fill in missing parts of images."),
        "restore": ("edit.restore", "Restore degraded images: deblur, fill in, enlarge, denoise."),
        "denoise": ("edit.denoise", "Add noise to images and take it away again."),
        "invert": ("edit.invert", "Find the noise that DDIM would draw images from."),
        "p2p": ("edit.p2p", "Edit pictures by editing their text (prompt-to-prompt)."),
    },
    "Measure": {
        "evaluate": ("measure.evaluate", "Measure the quality of a model or of a set of images."),
        "reconstruct": ("measure.reconstruct", "Pass images through a trained VAE and show both sides."),
        "reproduce": ("measure.reproduce", "Regenerate a study: figures, numbers and a page to read."),
        "plot-schedule": ("info.plot_schedule", "Draw noise schedules as a figure."),
        "bench": ("measure.bench", "Measure the fused operations against plain PyTorch."),
    },
    "Look up": {
        "models": ("info.models", "List the trained models that ship with the package."),
        "datasets": ("info.datasets", "List the data sets and where to put them."),
        "inspect": ("info.inspect", "Describe a run, a checkpoint or a picture's settings."),
        "export": ("info.export", "Write a model as a folder that diffusers loads."),
        "info": ("info.info", "Show versions, devices and which kernels are in use."),
    },
}
COMMANDS = {name: row for rows in GROUPS.values() for name, row in rows.items()}

# among processes of torchrun
SHARED = ("train", "train-vae", "train-denoiser", "train-cold", "sample", "evaluate")
NO_MEMORY = "out of memory; a smaller batch, network or number of images needs less"
RUST = "pyo3_runtime"  # its panics are no Exceptions


class Root(click.Group):
    """Finds commands in a fixed table."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        if os.environ.get("WORLD_SIZE", "1") != "1" and cmd_name not in SHARED:
            shared = ", ".join(SHARED)
            raise click.UsageError(f"{cmd_name} runs in one process, torchrun is for {shared}")
        command = import_module(f"latentdiff.apps.cli.{COMMANDS[cmd_name][0]}").command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command of the first word; a usage error that names the nearest for one that there is not."""
        name = args[0]
        if name in COMMANDS or name.startswith("-"):
            return super().resolve_command(ctx, args)
        raise click.UsageError(f"no such command {name!r:.60}; {nearest(name, COMMANDS)}", ctx)

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:  # click would print an empty line
            raise click.Abort from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, COMMANDS))
        for title, rows in GROUPS.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), text) for name, (_, text) in rows.items()])


@click.group(cls=Root, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, message="latentdiff %(version)s")
def root() -> None:
    """Latent diffusion: train a VAE, train a denoiser in its latent space, sample.

    \b
    latentdiff train-vae --latent 32       # then
    latentdiff train-denoiser --v-pred     # then
    latentdiff sample --sampler ddim

    Most commands work without options; `latentdiff COMMAND --help` shows the common
    ones, --help-all all of them.
    """


def run(arguments: Sequence[str]) -> int:
    """Run a command line; returns the exit code: 0, 1 for a failure, 2 for a usage error, 130 and 143 for
    signals.

    Bad input becomes one line on stderr.
    """
    try:
        _check_place()
        code = root.main(args=list(arguments) or ["--help"], prog_name="latentdiff", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except BaseException as error:
        code = _explained(error, arguments[0] if arguments else "")
        if code is None:
            raise
        return code


def _check_place() -> None:
    """InputError where the working folder was deleted, on which libraries end the process silently."""
    try:
        os.getcwd()
    except OSError as error:
        raise InputError(f"the working folder: {error.strerror}; change to a folder that exists") from None


def _explained(error: BaseException, command: str) -> int | None:
    """Print the error of a command in one line; its exit code, None for a fault of the program."""
    if (signum := signals.cause(error)) is not None:
        return _fail(signals.NAMES[signum], 128 + signum)
    match error:
        case click.Abort():
            return _fail(signals.NAMES[signal.SIGINT], 128 + signal.SIGINT)
        case click.UsageError():
            where = error.ctx.command_path if error.ctx is not None else "latentdiff"
            return _fail(f"{_named(error.format_message(), command)} (see `{where} --help`)", 2)
        case click.ClickException():
            return _fail(error.format_message(), error.exit_code)
        case InputError():
            return _fail(_named(str(error), command), 1)
        case BrokenPipeError():  # the reader of our output is gone, as in `latentdiff datasets | head -1`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        case OSError():  # a full disk, a folder that cannot be made
            return _fail(f"{error.filename or 'file system'}: {error.strerror or error}", 1)
        case UnicodeEncodeError():  # a name for files that the system's encoding lacks
            return _fail(f"{error.object!a:.60}: cannot be written in the encoding {error.encoding}", 1)
        case _ if is_out_of_memory(error):
            return _fail(NO_MEMORY, 1)
        case _ if type(error).__module__ == RUST:
            return _fail(f"safetensors failed ({error}), as it does when memory runs out", 1)
    return None


def _named(message: str, command: str) -> str:
    """An error with the options of the command in place of the arguments that it names."""
    if command not in COMMANDS:
        return message
    return with_flags(message, import_module(f"latentdiff.apps.cli.{COMMANDS[command][0]}").command)


def _fail(message: str, code: int) -> int:
    click.echo(f"error: {' '.join(message.split())}", err=True)
    return code
