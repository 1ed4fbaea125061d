"""click options made from the configuration models: one source for names, defaults, ranges and help."""

from __future__ import annotations

import copy
import difflib
import types
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import annotated_types
import click
import yaml
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from latentdiff.apps.cli.shared.config_file import ConfigFile, hint, named
from latentdiff.apps.cli.shared.progress import note
from latentdiff.config.base import Config, former_name
from latentdiff.errors import explain

F = TypeVar("F", bound=Callable[..., Any])
C = TypeVar("C", bound=Config)


MAX_CONFIG_BYTES = 2**20
ENDLESS = 1e5  # bounds from here on only guard against nonsense and are not worth a word of help


def options_of(*models: type[Config], skip: tuple[str, ...] = (), of_run: bool = False) -> Callable[[F], F]:
    """A decorator that adds an option for each field of the models; a model's own fields come before
    inherited ones.

    ``of_run``: options that are by default those of a run, and None here; :func:`build` fills in the model's
    defaults.
    """

    def decorate(function: F) -> F:
        fields: dict[str, FieldInfo] = {}
        for model in models:
            for base in (part for part in model.__mro__ if issubclass(part, Config)):
                fields |= {
                    name: model.model_fields[name]
                    for name in base.__annotations__
                    if name in model.model_fields
                }
        for name in reversed([name for name in fields if name not in skip]):
            function = _option(name, fields[name], of_run=of_run)(function)
        return function

    return decorate


def _option(name: str, field: FieldInfo, *, of_run: bool) -> Callable[[F], F]:
    flag, old = _flag(name), former_name(field)
    was = {} if old is None else {_flag(old): flag}
    kind = _plain(field.annotation)
    text, default = f"{field.description or name}{_range(field)}.", field.default
    if of_run:
        text, default = _of_run(text, f"no-{flag[2:]}" if default is False else default), None
    text = text[0].upper() + text[1:]
    show: Any = default is not None
    if kind is bool:
        was |= {f"--no-{before[2:]}": f"--no-{now[2:]}" for before, now in was.items()}
        return option(f"{flag}/--no-{flag[2:]}", name, default=default, help=text, show_default=show, was=was)
    return option(flag, name, type=_click_type(kind), default=default, help=text, show_default=show, was=was)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _of_run(text: str, default: Any) -> str:
    """The help of an option that takes the value of the run, and its ``default``, or that in the text,
    without a run.
    """
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
    bounds = ", ".join(part for part in (low, high, multiple) if part)
    return f" ({bounds})" if bounds else ""


class Option(click.Option):
    """An option; ``was``: its flags of the version before, by those that they are now (or one, as a text).

    An old flag works as the new one does and is in no help text; one line on stderr says that it was renamed.
    """

    def __init__(self, *args: Any, was: str | Mapping[str, str] | None = None, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.was = {was: self.opts[0]} if isinstance(was, str) else dict(was or {})

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        """Old flags are stored as the new ones are, with a note."""
        super().add_to_parser(parser, ctx)
        for old, new in self.was.items():
            parser._long_opt[old] = renamed = copy.copy(parser._long_opt[new])
            renamed.process = partial(_process_renamed, parser._long_opt[new], f"{old} is now {new}", ctx)


def _process_renamed(option: Any, message: str, ctx: click.Context, value: Any, state: Any) -> None:
    if not ctx.resilient_parsing:
        note(message)
    option.process(value, state)


option = partial(click.option, cls=Option)


class Several(Option):
    """An option of values that commas separate; those of a repeated option are joined: ``--label 3 --label
    5`` is ``--label 3,5``.

    Its parameter is one text, or None where it is not given.
    """

    def __init__(self, *args: Any, default: str | None = None, **attributes: Any) -> None:
        attributes.setdefault("metavar", "TEXT")
        values = None if default is None else [default]
        super().__init__(*args, **{**attributes, "multiple": True, "default": values})

    def type_cast_value(self, ctx: click.Context, value: Any) -> str | None:
        """The texts as one; ``--like`` brings a single one."""
        texts = super().type_cast_value(ctx, [value] if isinstance(value, str) else value)
        return ",".join(texts) if texts else None


class Texts(Several):
    """As :class:`Several` for texts that may hold commas themselves: its parameter is a tuple of them, or
    None.
    """

    def type_cast_value(self, ctx: click.Context, value: Any) -> tuple[str, ...] | None:  # type: ignore[override]
        """The texts, each as it was given."""
        return (
            tuple(click.Option.type_cast_value(self, ctx, [value] if isinstance(value, str) else value))
            or None
        )


def given(names: Iterable[str]) -> list[str]:
    """Those of the options that the user gave, on the command line or in a file."""
    context = click.get_current_context()
    default = click.core.ParameterSource.DEFAULT
    return [name for name in names if context.get_parameter_source(name) not in (default, None)]


def only_with(name: str, value: str, chosen: Iterable[str], flags: Mapping[str, str]) -> None:
    """A usage error for options (parameter -> flag) that are given although ``--name`` does not hold
    ``value``.
    """
    if value in chosen:
        return
    for flag in (flags[option] for option in given(flags)):
        raise click.UsageError(f"{flag} is for --{name} {value}, got --{name} {','.join(chosen)}")


def build(model: type[C], values: Mapping[str, Any]) -> C:
    """The configuration of the given option values; a value out of range is a usage error that names the
    option.
    """
    fields = model.model_fields
    chosen = {name: value for name, value in values.items() if name in fields}
    chosen = {
        name: value for name, value in chosen.items() if value is not None or fields[name].default is None
    }
    for name, value in chosen.items():
        if get_origin(_plain(fields[name].annotation)) is Literal and isinstance(
            get_args(_plain(fields[name].annotation))[0], int
        ):
            chosen[name] = None if value is None else int(value)
    try:
        return model.model_validate(chosen)
    except ValidationError as error:
        message = explain(error)
        name = str(next(iter(error.errors()[0]["loc"]), message.split(" ")[0]))
        raise click.UsageError(
            f"--{message.replace(name, name.replace('_', '-'), 1)}" if name in fields else message
        ) from None


def command_line_wins(ctx: click.Context, values: dict[str, Any], names: tuple[str, ...]) -> None:
    """Of options that exclude each other, drop those of the --config file where the command line gives
    another one.
    """
    sources = {name: ctx.get_parameter_source(name) for name in names}
    if click.core.ParameterSource.COMMANDLINE in sources.values():
        values.update({n: None for n, s in sources.items() if s == click.core.ParameterSource.DEFAULT_MAP})


def config_option(function: F) -> F:
    """--config FILE: values for the options of this command, below what the command line says."""
    return click.option(
        "--config",
        type=ConfigFile(),
        callback=_read_config,
        is_eager=True,
        expose_value=False,
        help=(
            "YAML file with options, either `option: value` lines or one section for each command; or the"
            " name of a recipe (demo, scenes, ...). The command line wins."
        ),
    )(function)


def _read_config(ctx: click.Context, parameter: click.Parameter, path: Path | None) -> None:
    if path is None:
        return
    try:
        with path.open("rb") as file:
            text = file.read(MAX_CONFIG_BYTES + 1)
    except OSError as error:
        raise click.UsageError(f"--config {path}: cannot be read ({error.strerror}){hint(path)}") from None
    if len(text) > MAX_CONFIG_BYTES:
        raise click.UsageError(f"--config {path}: expected at most {MAX_CONFIG_BYTES} bytes, found more")
    try:
        content = yaml.load(text, Loader=_Loader)
    except (
        yaml.YAMLError,
        ValueError,
        RecursionError,
    ) as error:  # ValueError: bad encodings and explicitly typed values
        raise click.UsageError(
            f"--config {path}: not valid YAML ({' '.join(str(error).split())[:160]})"
        ) from None
    if isinstance(content, dict):
        ctx.meta["sections"] = (named(path), tuple(content))
    section = _section({} if content is None else content, ctx.command.name or "", path)
    several = {str(param.name) for param in ctx.command.params if getattr(param, "multiple", False)}
    ctx.default_map = {
        **_values(_renamed(section, ctx.command, path), _names(ctx.command), several, path),
        **(ctx.default_map or {}),
    }  # below those of --like


class _Loader(yaml.SafeLoader):
    """Reads scalars as the text that stands there, as a command line does (`bf16: off` is "off"), except
    null.
    """

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, pattern) for tag, pattern in resolvers if tag == "tag:yaml.org,2002:null"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Aliases are refused: options need none, and nested ones grow without bound."""
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("expected plain values, found an alias")
        return super().compose_node(parent, index)


def _names(command: click.Command) -> dict[str, str]:
    """The parameter that a key of a config file means: an option without its dashes, or the parameter's own
    name.
    """
    named = [param for param in command.params if param.name and param.name != "config"]
    flags = {flag.lstrip("-").replace("-", "_"): str(param.name) for param in named for flag in param.opts}
    return flags | {str(param.name): str(param.name) for param in named}


def _renamed(section: Mapping[Any, Any], command: click.Command, path: Path) -> dict[Any, Any]:
    """The section by the names that options have now, with a note for each that was renamed."""
    flags = {old[2:]: new[2:] for param in command.params for old, new in getattr(param, "was", {}).items()}
    values = {}
    for key, value in section.items():
        if (name := flags.get(str(key).replace("_", "-"))) is not None:
            note(f"--config {path}: {key} is now {name}")
        values[name or key] = value
    return values


def _section(content: Any, command: str, path: Path) -> dict[str, Any]:
    """The part meant for this command: its own section, or the whole file where it has no sections."""
    from latentdiff.apps.cli.root import COMMANDS

    if isinstance(content, dict) and content.keys() & COMMANDS.keys():
        beside = sorted(str(key) for key in content.keys() - COMMANDS.keys())
        if beside:
            raise click.UsageError(
                f"--config {path}: {beside[0]!r} stands beside sections, which are named after commands"
            )
        if command not in content:
            raise click.UsageError(f"--config {path}: has no section {command!r}, found {', '.join(content)}")
        content = {} if content[command] is None else content[command]
    if not isinstance(content, dict):
        raise click.UsageError(
            f"--config {path}: expected `option: value` lines, found {type(content).__name__}"
        )
    return content


def _values(
    section: Mapping[Any, Any], known: Mapping[str, str], several: set[str], path: Path
) -> dict[str, str | tuple[str, ...]]:
    """The values of a section by parameter; tuples of texts for those that take ``several``."""
    values: dict[str, str | tuple[str, ...]] = {}
    for key, value in section.items():
        name = str(key).replace("-", "_")
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {close[0]!r}?" if close else ", expected the options of this command"
            raise click.UsageError(f"--config {path}: unknown option {str(key)!r}{hint}")
        if known[name] in several and value is not None:
            entries = value if isinstance(value, list) else [value]
            if all(isinstance(entry, str) for entry in entries):
                values[known[name]] = tuple(entries)
                continue
        if value is not None and not isinstance(value, str):
            raise click.UsageError(
                f"--config {path}: {key}: expected a single value, found a {type(value).__name__} (write"
                " several as 10,25)"
            )
        if value is not None:
            values[known[name]] = _plain_text(value, str(key), path)
    return values


def class_folders_option(default: str) -> Callable[[F], F]:
    """--class-folders, None where it is not given; ``default`` says what that means."""
    return click.option(
        "--class-folders",
        type=click.Choice(["auto", "only", "ignore"]),
        default=None,
        help=(
            "Labels from the class folders of an image folder: auto (where every image is in one), only"
            f" (leave out images that are in none) or ignore (default: {default})."
        ),
    )


def _plain_text(value: str, key: str, path: Path) -> str:
    """``value``, if a command line could hold it: NUL and surrogates of no byte come from escapes in the file
    alone.
    """
    try:
        value.encode(errors="surrogateescape")
    except UnicodeEncodeError as error:
        found = value[error.start]
    else:
        found = "\0" if "\0" in value else ""
    if found:
        raise click.UsageError(f"--config {path}: {key}: expected text, found the character {found!a}")
    return value


def json_option(function: F) -> F:
    """--json: machine-readable results on stdout."""
    return click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on stdout.")(
        function
    )
