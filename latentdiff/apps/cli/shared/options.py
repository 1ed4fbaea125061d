"""click options made from the configuration models: one source for names, defaults, ranges and help."""

from __future__ import annotations

import math
import re
import types
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import annotated_types
import click
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from latentdiff.apps.cli.shared.config_file import config_option
from latentdiff.apps.cli.shared.help import GENERAL, OWN, Command, combined, option
from latentdiff.config.base import Config, device_name, option_facts
from latentdiff.errors import explain

F = TypeVar("F", bound=Callable[..., Any])
C = TypeVar("C", bound=Config)

ENDLESS = 1e5  # bounds from here on only guard against nonsense and are not worth a word of help


class Finite(click.FloatRange):
    """A number within bounds; "nan" lies within all of them and is none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail(f"{value!r} is not a number.", param, ctx)
        return number


def options_of(
    *models: type[Config],
    skip: tuple[str, ...] = (),
    of_run: bool = False,
    chosen: Mapping[str, str] | None = None,
    plain: tuple[str, ...] = (),
) -> Callable[[F], F]:
    """A decorator that adds an option for each field of the models; a model's own fields come before
    inherited ones.

    ``of_run``: options that are by default those of a run, and None here; :func:`build` fills in the model's
    defaults. ``chosen``: what the command itself chooses where an option is not given, in words for its help.
    ``plain``: options that are in --help of this command, too.
    """

    fields: dict[str, tuple[FieldInfo, str]] = {}
    for model in models:
        for base in (part for part in model.__mro__ if issubclass(part, Config)):
            own = (name for name in base.__annotations__ if name in model.model_fields)
            fields |= {name: (model.model_fields[name], base.option_group) for name in own}
    return combined(
        *(
            _option(name, *fields[name], of_run=of_run, words=(chosen or {}).get(name), plain=name in plain)
            for name in fields
            if name not in skip
        )
    )


def _option(
    name: str, field: FieldInfo, group: str, *, of_run: bool, words: str | None, plain: bool
) -> Callable[[F], F]:
    facts, flag = option_facts(field), flag_of(name, field)
    was = {"--" + facts["was"].replace("_", "-"): flag} if "was" in facts else {}
    kind = _plain(field.annotation)
    text, default = f"{field.description or name}.", field.default
    if of_run:
        text, default = _of_run(text, f"no-{flag[2:]}" if default is False else default), None
    if words is not None:
        text = f"{text.removesuffix('.').partition(' (default: ')[0]} (default: {words})."
    shown: dict[str, Any] = {} if words is None else {"show_default": False}
    names = [flag, name]
    if kind is bool:
        was |= {f"--no-{before[2:]}": f"--no-{now[2:]}" for before, now in was.items()}
        names[0] += f"/--no-{flag[2:]}"
    return option(
        *names,
        type=None if kind is bool else _click_type(kind),
        default=default,
        help=text[0].upper() + text[1:],
        bounds=_range(field),
        group=facts.get("group", group),
        advanced=facts.get("advanced", False) and not plain,
        **shown,
        was=was,
        moved={old: (flag_of(name), new) for old, (name, new) in facts.get("moved", {}).items()},
        argument=facts.get("argument", ""),
    )


def flag_of(name: str, field: FieldInfo | None = None) -> str:
    """The option of a field: ``--save-every``."""
    own = {} if field is None else option_facts(field)
    return "--" + str(own.get("flag", name.replace("_", "-")))


def flags(values: Mapping[str, Any]) -> list[str]:
    """Options, by their parameters, as words of a command line."""
    words = []
    for name, value in values.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words += [f"--{flag}", str(value)]
    return words


def _of_run(text: str, default: Any) -> str:
    """The help of an option that takes the value of the run, and without one its default."""
    before, mark, own = text.removesuffix(".").partition(" (default: ")
    return f"{before} (default: that of the run, else {own.removesuffix(')') if mark else default})."


def _plain(annotation: Any) -> Any:
    """The type behind ``X | None`` and ``Annotated[X, ...]``."""
    if get_origin(annotation) in (Union, types.UnionType):
        return _plain(next(arg for arg in get_args(annotation) if arg is not type(None)))
    if hasattr(annotation, "__metadata__"):
        return _plain(get_args(annotation)[0])
    return annotation


def _click_type(kind: Any) -> Any:
    if get_origin(kind) is Literal:
        return click.Choice([str(value) for value in get_args(kind)])
    return {int: int, float: float}.get(kind, str)


def _range(field: FieldInfo) -> str:
    """The bounds in words, so that a student sees what is allowed."""
    low = high = multiple = ""
    for bound in field.metadata:
        if isinstance(bound, annotated_types.Ge):
            low = f"{bound.ge:g} or more"
        elif isinstance(bound, annotated_types.Gt):
            low = f"above {bound.gt:g}"
        elif isinstance(bound, annotated_types.Le) and float(str(bound.le)) < ENDLESS:
            high = f"at most {bound.le:g}"
        elif isinstance(bound, annotated_types.Lt) and float(str(bound.lt)) < ENDLESS:
            high = f"below {bound.lt:g}"
        elif isinstance(bound, annotated_types.MultipleOf):
            multiple = f"a multiple of {bound.multiple_of}"
    return ", ".join(part for part in (low, high, multiple) if part)


def given(names: Iterable[str]) -> list[str]:
    """Those of the options that the user gave, on the command line or in a file."""
    context = click.get_current_context()
    default = click.core.ParameterSource.DEFAULT
    return [name for name in names if context.get_parameter_source(name) not in (default, None)]


def only_with(name: str, value: str, chosen: Iterable[str], flags: Mapping[str, str]) -> None:
    """A usage error for options (parameter -> flag) given although ``--name`` does not hold ``value``."""
    if value in chosen:
        return
    for flag in (flags[name] for name in given(flags)):
        raise click.UsageError(f"{flag} is for --{name} {value}, got --{name} {','.join(chosen)}")


def build(model: type[C], values: Mapping[str, Any]) -> C:
    """The configuration of the option values; UsageError, with fields in backticks, for one out of range."""
    fields = model.model_fields
    chosen = {name: value for name, value in values.items() if name in fields}
    for name, value in list(chosen.items()):
        kind = _plain(fields[name].annotation)
        if value is None and fields[name].default is not None:
            del chosen[name]
        elif value is not None and get_origin(kind) is Literal and isinstance(get_args(kind)[0], int):
            chosen[name] = int(value)
    try:
        return model.model_validate(chosen)
    except ValidationError as error:
        raise click.UsageError(explain(error, arguments=True)) from None


def numbers_of(
    flag: str, text: str, expected: str, valid: Callable[[list[float]], bool], *, whole: bool = False
) -> list[float]:
    """The numbers of an option that commas separate; UsageError unless they are ``valid``."""
    parts = [part.strip() for part in text.split(",")]
    try:
        found = [float(part) for part in parts]
    except ValueError:
        found = []
    plain = not whole or all(re.fullmatch("[0-9]{1,6}", part) for part in parts)
    if not (found and plain and valid(found)):
        raise click.UsageError(f"{flag}: expected {expected}, got {text!r}")
    return found


def command_line_wins(values: dict[str, Any], names: tuple[str, ...]) -> None:
    """Of options that exclude each other, drop those of the --config file if the command line has another."""
    context = click.get_current_context()
    sources = {name: context.get_parameter_source(name) for name in names}
    if click.core.ParameterSource.COMMANDLINE in sources.values():
        values.update({n: None for n, s in sources.items() if s == click.core.ParameterSource.DEFAULT_MAP})


def cli_command(
    name: str, *examples: str, title: str = OWN, config: bool = True
) -> Callable[[Callable[..., Any]], Command]:
    """A decorator that makes a command of a function, with --config and --json; the examples end its help.

    ``title``: of its options that name no group.
    """

    made = click.command(name=name, cls=Command, examples=examples, title=title)
    general = combined(config_option, json_option) if config else json_option
    return lambda function: made(general(function))


def run_options(
    help: str = "Run or checkpoint folder (default: the newest run with a denoiser).",
) -> Callable[[F], F]:
    """--run and --runs."""
    runs = option("--runs", default="runs", group="Model", advanced=True, help="Folder of all runs.")
    return combined(option("--run", group="Model", help=help), runs)


def number_option(least: int, most: int, default: int, help: str) -> Callable[[F], F]:
    """-n."""
    return option(
        "-n",
        "--number",
        "n",
        type=click.IntRange(least, most),
        default=default,
        group="Images",
        help=help,
    )


def seed_option(help: str, *, most: int = 2**62) -> Callable[[F], F]:
    """--seed."""
    kind = click.IntRange(0, most)
    return option("--seed", type=kind, default=0, group="Images", help=help)


def split_option(help: str) -> Callable[[F], F]:
    """--split."""
    kind = click.Choice(["train", "val", "test"])
    return option("--split", type=kind, default="test", group="Data", help=help)


def out_option(kind: click.Path, default: str, help: str = "The figure (.png).") -> Callable[[F], F]:
    """--out."""
    return option("--out", type=kind, default=Path(default), group="Output", help=help)


def _device(ctx: click.Context, parameter: click.Parameter, value: str) -> str:
    try:
        return device_name(value)
    except ValueError as error:
        raise click.UsageError(f"--device: {error}") from None


json_option = option(
    "--json", "as_json", is_flag=True, group=GENERAL, help="Print the result as JSON on stdout."
)
dry_run_option = option(
    "--dry-run",
    is_flag=True,
    group="Run",
    help="Describe the training, write nothing; the data is read and the network built.",
)
device_option = option(
    "--device",
    default="auto",
    callback=_device,
    group=GENERAL,
    help="Device: auto, cpu, cuda, cuda:N or mps.",
)
threads_option = option(
    "--threads",
    type=click.IntRange(1, 1024),
    group="Compute",
    advanced=True,
    help="CPU threads (default: torch's choice).",
)


def class_folders_option(default: str) -> Callable[[F], F]:
    """--class-folders, None where it is not given; ``default`` in words."""
    return option(
        "--class-folders",
        group="Data",
        advanced=True,
        type=click.Choice(["auto", "only", "ignore"]),
        help=(
            "Labels from the class folders of an image folder; auto: where every image is in one, only: leave"
            f" out images that are in none, ignore: no labels (default: {default})."
        ),
    )


v_pred_option = option(
    "--v-pred",
    is_flag=True,
    group="Diffusion",
    advanced=True,
    help="Short for --prediction v (Salimans & Ho 2022).",
)
"""Its parameter ``v_pred`` is folded into ``prediction`` by :func:`merge_v_pred`."""


def merge_v_pred(values: dict[str, Any]) -> None:
    """Turn --v-pred into prediction "v"; a usage error if --prediction says something else in the same place.

    Of a command line and a --config file that disagree, the command line wins.
    """
    if not values.pop("v_pred"):
        return
    ctx = click.get_current_context()
    source, other = ctx.get_parameter_source("v_pred"), ctx.get_parameter_source("prediction")
    if values["prediction"] != "v" and other == source:
        raise click.UsageError(
            f"--v-pred means --prediction v, got --prediction {values['prediction']} as well"
        )
    if source is None or other == click.core.ParameterSource.COMMANDLINE:
        return
    values["prediction"] = "v"
    ctx.set_parameter_source("prediction", source)
