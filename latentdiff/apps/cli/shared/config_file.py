"""--config: the options of a command from a YAML file, or from a recipe of the package by its name."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import yaml
from click.shell_completion import CompletionItem

from latentdiff.apps.cli.shared.help import GENERAL, option
from latentdiff.apps.cli.shared.progress import note

MAX_BYTES = 2**20
FOLDER = Path(__file__).parents[3] / "assets" / "recipes"  # in the repository a link to configs/


def recipes() -> tuple[str, ...]:
    """The names of all of them."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))


class ConfigFile(click.Path):
    """The path of a file, or the name of a recipe, which wins over a file called so (write ``./scenes``)."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: str | Path, param: click.Parameter | None, ctx: click.Context | None) -> Path:  # type: ignore[override]
        """The path to read, which need not exist."""
        found = super().convert(FOLDER / f"{value}.yaml" if str(value) in recipes() else value, param, ctx)
        assert isinstance(found, Path)
        return found

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Recipes beside what the shell finds: bash forgets what comes before that."""
        named = [CompletionItem(name) for name in recipes() if name.startswith(incomplete)]
        return super().shell_complete(ctx, param, incomplete) + named


def named(path: Path) -> str:
    """The value of --config for this file: the name of a recipe, or the path."""
    return path.stem if path.parent == FOLDER else str(path)


def hint(path: Path) -> str:
    """The end of an error for a missing file whose name could be that of a recipe; else empty."""
    if path.stem in recipes():
        return f"; --config {path.stem} is the recipe of that name"
    bare = path.parent == Path() and not path.suffix
    return f"; the recipes are {', '.join(recipes())}" if bare else ""


def _read_config(ctx: click.Context, parameter: click.Parameter, path: Path | None) -> None:
    if path is None or ctx.resilient_parsing:
        return
    try:
        content = _content(path)
        if isinstance(content, dict):
            ctx.meta["sections"] = (named(path), tuple(content))
        section = _renamed(_section(content, ctx.command.name or ""), ctx.command, path)
        values = _values(section, ctx.command)
    except ValueError as error:
        raise click.UsageError(f"--config {path}: {error}") from None
    ctx.default_map = {**values, **(ctx.default_map or {})}  # below those of --like


def _content(path: Path) -> Any:
    """What the file holds; ValueError unless it is YAML that can be read."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror}){hint(path)}") from None
    if len(text) > MAX_BYTES:
        raise ValueError(f"expected at most {MAX_BYTES} bytes, found more")
    try:
        content = yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # bad encodings, explicitly typed values
        raise ValueError(f"not valid YAML ({' '.join(str(error).split())[:160]})") from None
    return {} if content is None else content


config_option = option(
    "--config",
    group=GENERAL,
    type=ConfigFile(),
    callback=_read_config,
    is_eager=True,
    expose_value=False,
    help=(
        "YAML file with options, or the name of a recipe; `option: value` lines, or one section for each"
        " command. Recipes are demo, scenes, ... The command line wins."
    ),
)
"""Values for the options of a command, below those of the command line."""


class _Loader(yaml.SafeLoader):
    """Reads scalars as the text that stands there, as a command line (`bf16: off` is "off"), except null."""

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
    """The parameters by key of a config file: an option without its dashes, or the parameter's name."""
    named = [param for param in command.params if param.name and param.name != "config"]
    flags = {flag.lstrip("-").replace("-", "_"): str(param.name) for param in named for flag in param.opts}
    return flags | {str(param.name): str(param.name) for param in named}


def _renamed(section: Mapping[Any, Any], command: click.Command, path: Path) -> dict[Any, Any]:
    """The section by the names and values that options have now, with a note for each that was renamed."""
    flags = {old[2:]: new[2:] for param in command.params for old, new in getattr(param, "was", {}).items()}
    values = {}
    for key, value in section.items():
        if (name := flags.get(str(key).replace("_", "-"))) is not None:
            note(f"--config {path}: {key} is now {name}")
        values[name or key] = value
    for param in command.params:
        for old, (flag, new) in getattr(param, "moved", {}).items():
            if values.get(key := param.opts[0][2:].replace("-", "_")) == old:
                note(f"--config {path}: {key} {old} is now {flag[2:]} {new}")
                del values[key]
                values.setdefault(flag[2:], new)
    return values


def _section(content: Any, command: str) -> dict[str, Any]:
    """The part meant for this command: its own section, or the whole file where it has no sections."""
    from latentdiff.apps.cli.root import COMMANDS

    if isinstance(content, dict) and content.keys() & COMMANDS.keys():
        if beside := sorted(str(key) for key in content.keys() - COMMANDS.keys()):
            raise ValueError(f"{beside[0]!r} stands beside sections, which are named after commands")
        if command not in content:
            raise ValueError(f"has no section {command!r}, found {', '.join(content)}")
        content = {} if content[command] is None else content[command]
    if not isinstance(content, dict):
        raise ValueError(f"expected `option: value` lines, found {type(content).__name__}")
    return content


def _values(section: Mapping[Any, Any], command: click.Command) -> dict[str, str | tuple[str, ...]]:
    """The values of a section by parameter; tuples of texts for options that take several."""
    known = _names(command)
    several = {str(param.name) for param in command.params if getattr(param, "multiple", False)}
    values: dict[str, str | tuple[str, ...]] = {}
    for key, value in section.items():
        name = str(key).replace("-", "_")
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {close[0]!r}?" if close else ", expected the options of this command"
            raise ValueError(f"unknown option {str(key)!r}{hint}")
        if value is None:
            continue
        entries = value if isinstance(value, list) else [value]
        if known[name] in several and all(isinstance(entry, str) for entry in entries):
            values[known[name]] = tuple(entries)
        elif isinstance(value, str):
            values[known[name]] = _plain_text(value, str(key))
        else:
            found = type(value).__name__
            raise ValueError(f"{key}: expected a single value, found a {found} (write several as 10,25)")
    return values


def _plain_text(value: str, key: str) -> str:
    """``value``, if a command line could hold it: escapes in a file make NUL and lone surrogates."""
    try:
        value.encode(errors="surrogateescape")
    except UnicodeEncodeError as error:
        found = value[error.start]
    else:
        found = "\0" if "\0" in value else ""
    if found:
        raise ValueError(f"{key}: expected text, found the character {found!a}")
    return value
