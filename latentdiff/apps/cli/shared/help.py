"""Options in titled groups, and the two help texts of a command: --help for most uses, --help-all for all."""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial, reduce
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from latentdiff.apps.cli.shared.completion import data_sets, runs, studies
from latentdiff.apps.cli.shared.progress import ReadingBar, note
from latentdiff.data.progress import observing

F = TypeVar("F", bound=Callable[..., Any])

OWN = "Options"  # of options that name no group
GENERAL = "General"
GROUPS = (  # in the order of the help texts
    *("Model", "Data", "Images", OWN, "Network", "Diffusion", "Training", "Sampling", "Compute"),
    *("Metrics", "Run", "Output", GENERAL),
)
WIDEST = 26  # characters of an option and its values in --help
RUN, IMAGES = "a run or a model", "a data set, or a file or folder of images"
EXPECTED = {  # what a text names that may be a path, by its option or argument
    **dict.fromkeys(("--run", "--run-colour", "--vae", "--init-from", "--resume"), RUN),
    **dict.fromkeys(("--data", "--data-colour", "--input", "--images", "--reference", "data"), IMAGES),
    **dict.fromkeys(("--runs", "--data-root", "--trajectories-folder"), "a folder"),
    **dict.fromkeys(("--feature-weights", "--perceptual-weights"), "a file"),
    "--image-cache": "a folder or off",
    "--config": "a file or the name of a recipe",
    "--mask": "box, half, random or an image file",
    "--text-encoder": "own, minilm or a folder",
    "path": "a run, a checkpoint or a picture",
    "study": "a study",
}
PROPOSED = {RUN: runs, IMAGES: data_sets, "a run, a checkpoint or a picture": runs, "a study": studies}
DEFAULT = re.compile(r" \(default: ([^()]*(?:\([^()]*\)[^()]*)*)\)")


class _PathParameter(click.Parameter):
    """A parameter that refuses the empty text where it names a file, a folder or a model: as a path it would
    be the current folder.
    """

    def type_cast_value(self, ctx: click.Context, value: Any) -> Any:
        """The value; UsageError for the empty text where a path is expected."""
        expected = EXPECTED.get(self.opts[0], "a path" if isinstance(self.type, click.Path) else None)
        if value == "" and expected is not None:
            name = self.opts[0] if isinstance(self, click.Option) else self.human_readable_name
            raise click.UsageError(f"{name}: expected {expected}, got ''", ctx)
        return super().type_cast_value(ctx, value)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Names of runs, models, data sets or studies, beside paths: bash forgets what comes before them."""
        proposed = PROPOSED.get(EXPECTED.get(self.opts[0], ""))
        if proposed is None:
            return super().shell_complete(ctx, incomplete)
        names = [CompletionItem(name) for name in proposed(ctx) if name.startswith(incomplete)]
        return [*([] if proposed is studies else [CompletionItem(incomplete, type="file")]), *names]


class Argument(_PathParameter, click.Argument):
    """An argument that refuses the empty text where it names a file."""


class Option(_PathParameter, click.Option):
    """An option in a ``group`` of the help texts; an ``advanced`` one is in that of --help-all only.

    A default that is given is shown.

    ``argument``: the name in errors of the library of what it sets, where it is not the option's own.
    ``bounds``: the range in words, which ends the text of --help-all.
    ``was``: its flags of the version before, by those that they are now (or one, as a text). An old flag
    works as the new one does and is in no help text; one line on stderr says that it was renamed.
    ``moved``: values of the version before that are now those of another flag, as (flag, value); likewise.
    """

    def __init__(
        self,
        *args: Any,
        group: str = OWN,
        advanced: bool = False,
        argument: str = "",
        bounds: str = "",
        was: str | Mapping[str, str] | None = None,
        moved: Mapping[str, tuple[str, str]] | None = None,
        **attributes: Any,
    ) -> None:
        if not {"is_flag", "multiple", "required"} & attributes.keys():
            attributes.setdefault("default", None)  # in place of click's mark for "not given"
        attributes.setdefault("show_default", attributes.get("default") is not None)
        super().__init__(*args, **attributes)
        self.group, self.advanced, self.argument = group, advanced, argument
        self.brief = DEFAULT.sub("", self.help or "").partition(";")[0].rstrip(".")
        if bounds:
            self.help = f"{(self.help or '').removesuffix('.')} ({bounds})."
        self.was = {was: self.opts[0]} if isinstance(was, str) else dict(was or {})
        self.moved = dict(moved or {})

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        """Old flags are stored as the new ones are, with a note."""
        super().add_to_parser(parser, ctx)
        for old, new in self.was.items():
            parser._long_opt[old] = renamed = copy.copy(parser._long_opt[new])
            renamed.process = partial(_process_renamed, parser._long_opt[new], f"{old} is now {new}", ctx)
        if self.moved:
            flag = self.opts[0]
            parser._long_opt[flag] = own = copy.copy(plain := parser._long_opt[flag])
            own.process = partial(_process_moved, plain, self.moved, parser, ctx)


def _process_renamed(option: Any, message: str, ctx: click.Context, value: Any, state: Any) -> None:
    if not ctx.resilient_parsing:
        note(message)
    option.process(value, state)


def _process_moved(
    plain: Any, moved: Mapping[str, tuple[str, str]], parser: Any, ctx: click.Context, value: Any, state: Any
) -> None:
    """Store a value, or one of the version before at the option that has it now."""
    if value not in moved:
        plain.process(value, state)
        return
    flag, new = moved[value]
    if not ctx.resilient_parsing:
        note(f"{plain._long_opts[0]} {value} is now {flag} {new}")
    parser._long_opt[flag].process(new, state)


option = partial(click.option, cls=Option)


def combined(*options: Callable[[F], F]) -> Callable[[F], F]:
    """Several options, in this order, as one decorator."""
    return lambda function: reduce(lambda made, each: each(made), reversed(options), function)


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
    """As :class:`Several`, for texts that may hold commas: its parameter is a tuple of them, or None."""

    def type_cast_value(self, ctx: click.Context, value: Any) -> tuple[str, ...] | None:  # type: ignore[override]
        """The texts, each as it was given."""
        texts = click.Option.type_cast_value(self, ctx, [value] if isinstance(value, str) else value)
        return tuple(texts) or None


ARGUMENT = re.compile(r"(?<![\w'\"`])`([A-Za-z]\w*)`")


def with_flags(message: str, command: click.Command) -> str:
    """An error with the options of ``command`` in place of the arguments in backticks that they set; names
    of other things stay as they are.
    """
    typed: dict[str, str] = {}  # the flag by each way to write it
    set_by: dict[str, str] = {}  # and by the argument that it sets
    for param in command.params:
        flag = param.opts[0] if isinstance(param, click.Option) else param.human_readable_name
        typed |= {opt.lstrip("-").replace("-", "_"): flag for opt in param.opts}
        set_by |= {str(param.name): flag, getattr(param, "argument", ""): flag}
    return ARGUMENT.sub(lambda found: (typed | set_by).get(found[1], found[0]), message)


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of an error for an unknown name: the nearest known one, or all of them."""
    known = tuple(known)
    close = difflib.get_close_matches(name, known, 1) or [each for each in known if name in each.split("-")]
    return f"did you mean {close[0]!r}?" if close else f"expected one of {', '.join(known)}"


class Command(click.Command):
    """A command whose options stand in titled groups, with examples at the end.

    ``title``: of the group of its own options, those that name no group.
    --help has a line for each option that most people use: the help text up to its first semicolon and, where
    there is room, the default in brackets. --help-all has all options with their whole text.
    """

    def __init__(self, *args: Any, examples: Iterable[str] = (), title: str = OWN, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.examples, self.title = tuple(examples), title

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """The rest; of the unknown option --n the error suggests -n."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            for param in self.get_params(ctx):
                if error.option_name[1:] in param.opts:
                    meant = " or ".join(param.opts)
                    raise click.UsageError(
                        f"no such option {error.option_name}; did you mean {meant}?", ctx
                    ) from None
            raise

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; images that it reads one by one are shown on a terminal."""
        bar = ReadingBar()
        try:
            with observing(bar.update):
                return super().invoke(ctx)
        finally:
            bar.stop()

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Its own and both help options."""
        *params, help_ = super().get_params(ctx)
        every = Option(
            ["--help-all"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_print_everything,
            group=GENERAL,
            help="Show all options, their ranges and defaults.",
        )
        return [*params, every, help_]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The options by group; those and the texts of --help, or all."""
        whole = ctx.meta.get(__name__, False)
        groups: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            if not isinstance(param, Option):  # click's own --help
                left, text = param.get_help_record(ctx) or ("", "")
                groups.setdefault(GENERAL, []).append((left, text.rstrip(".")))
            elif whole and (record := param.get_help_record(ctx)) is not None:
                groups.setdefault(param.group, []).append(record)
            elif not whole and not param.advanced:
                groups.setdefault(param.group, []).append(_short(param, ctx, formatter.width))
        widest = max(len(left) for records in groups.values() for left, _ in records)
        for name in sorted(groups, key=GROUPS.index):
            with formatter.section(self.title if name == OWN else name):
                records = [(f"{left:{min(widest, WIDEST)}}", text) for left, text in groups[name]]
                formatter.write_dl(records, col_max=WIDEST + 2)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The examples."""
        if self.examples:
            with formatter.section("Examples"):
                for example in self.examples:
                    formatter.write(f"{'':{formatter.current_indent}}{example}\n")


def _print_everything(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        ctx.meta[__name__] = True
        click.echo(ctx.get_help(), color=ctx.color)
        ctx.exit()


def _short(option: Option, ctx: click.Context, width: int) -> tuple[str, str]:
    """An option and what it does in one line: ``--size TEXT``, ``Resize images to this many pixels``."""
    flag = ", ".join(option.opts)
    if option.secondary_opts and option.default:
        flag = f"{flag}/{option.secondary_opts[0]}"
    values = "" if option.is_flag else option.make_metavar(ctx).removesuffix(" RANGE")
    left = f"{flag} {values}".strip()
    if len(left) > WIDEST:
        left = f"{flag} NAME" if isinstance(option.type, click.Choice) else flag
    found = DEFAULT.search(option.help or "")
    shown = found[1] if found and found[1] != "none" else ""
    if option.show_default and not option.is_flag:
        several = option.default if isinstance(option.default, list | tuple) else [option.default]
        shown = ",".join(f"{each:g}" if isinstance(each, float) else str(each) for each in several)
    whole = f"{option.brief}  [{shown}]"
    return left, whole if shown and len(whole) <= width - WIDEST - 4 else option.brief
