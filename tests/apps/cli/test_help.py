"""Help texts: quick, complete, and true to the commands."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from latentdiff.apps.cli.root import COMMANDS, root
from latentdiff.apps.cli.shared.help import Command, Option

LIST = Path(__file__).with_name("options.txt")

OFF_UNLESS_GIVEN = {  # options without a default, because nothing happens without them
    "--config",
    "--files",
    "--init-from",
    "--interpolate",
    "--preview",
    "--resume",
    "--trajectory",
    "sample --prediction",
}
BUDGETS = {"--epochs", "--minutes"}  # "budget instead of --steps"
RANGE = re.compile(r"<=x|x<=|or more|at least|above|between|below")


def command_of(name: str) -> click.Command:
    command = root.get_command(click.Context(root), name)
    assert command is not None
    return command


def options() -> Iterator[tuple[str, click.Option]]:
    for name in COMMANDS:
        for parameter in command_of(name).params:
            if isinstance(parameter, click.Option):
                yield name, parameter


def joined(text: str) -> str:
    """Text without the spaces and line breaks of its layout."""
    return "".join(text.split())


def record(name: str, option: click.Option) -> tuple[str, str]:
    found = option.get_help_record(click.Context(command_of(name), info_name=name))
    assert found is not None
    return found


def explained(name: str, option: click.Option) -> bool:
    """Whether a help text is a sentence that says the default and the range of its option."""
    text = record(name, option)[1]
    if not (option.help and option.help.endswith(".") and option.help[0] == option.help[0].upper()):
        return False
    if isinstance(option.type, click.types.IntParamType | click.types.FloatParamType) and not RANGE.search(
        text
    ):
        return False
    is_plain_flag = option.is_flag and not option.secondary_opts
    if option.required:
        return "required" in text
    if is_plain_flag or OFF_UNLESS_GIVEN & {option.opts[0], f"{name} {option.opts[0]}"}:
        return "[default" not in text
    if option.default is None or option.multiple:
        return "default" in text or option.opts[0] in BUDGETS
    default = (
        option.default if not option.is_flag else f"{'' if option.default else 'no-'}{option.opts[0][2:]}"
    )
    return f"default: {default}" in text


def test_help_shows_every_option_with_its_default_and_range(cli: Callable, tmp_path: Path) -> None:
    shown = {name: joined(cli(f"{name} --help-all", cwd=tmp_path).out) for name in COMMANDS}
    every = [(name, option) for name, option in options()]
    assert len(every) > 300
    hidden = [(n, o.opts[0]) for n, o in every if not all(joined(part) in shown[n] for part in record(n, o))]
    unexplained = [(n, o.opts[0]) for n, o in every if not explained(n, o)]
    assert (hidden, unexplained) == ([], [])


TEXTS = {  # options that take texts and no paths
    *(
        "--allow-host",
        "--background",
        "--blend",
        "--box",
        "--class-weights",
        "--device",
        "--edit",
        "--host",
        "--label",
    ),
    *(
        "--latent",
        "--level",
        "--name",
        "--negative-prompt",
        "--network",
        "--operator",
        "--prompt",
        "--schedule",
        "--show",
    ),
    *("--sigma", "--size", "--start-index", "--steps", "--strength", "--to", "--what", "--word-weight"),
}


def test_the_empty_text_is_no_path() -> None:
    """It would be the current folder."""
    for name, option in options():
        flag = option.opts[0]
        if not isinstance(option.type, click.types.StringParamType | click.Path) or flag in TEXTS:
            continue
        with pytest.raises(click.UsageError, match=rf"^{flag}: expected .*, got ''$"):
            command_of(name).make_context(name, [flag, ""])
    with pytest.raises(click.UsageError, match=r"^--run: expected a run or a model, got ''$"):
        command_of("sample").make_context("sample", ["--run="])
    for name in ("inspect", "datasets"):
        with pytest.raises(click.UsageError, match=r"expected .*, got ''$"):
            command_of(name).make_context(name, [""])


def test_a_short_option_with_two_hyphens_is_suggested(cli: Callable, tmp_path: Path) -> None:
    error = cli("sample --n 4", cwd=tmp_path).err
    assert "did you mean -n or --number?" in error, error


def lines(name: str) -> list[str]:
    """The help text of a command on a terminal of 80 characters."""
    return (
        command_of(name)
        .get_help(click.Context(command_of(name), info_name=name, terminal_width=80))
        .splitlines()
    )


def test_help_fits_one_screen() -> None:
    """The two trainings and `sample` in 50 lines; wherever options fill more, each still has a line of its
    own.
    """
    for name in ("train-vae", "train-denoiser", "sample"):
        text = lines(name)
        options = text[text.index(next(line for line in text if re.match("[A-Z][a-z]+:$", line))) :]
        assert len(text) <= 50, name
        assert not [line for line in options if line.startswith(" " * 5)], f"{name}: a line is wrapped"
        assert {"General:", "Examples:"} <= set(text)


def test_help_hides_advanced_options_and_errors_still_suggest_them(cli: Callable, tmp_path: Path) -> None:
    assert "--clip-grad" not in "".join(lines("train-denoiser"))
    error = cli("train-denoiser --clip-gradd 1", cwd=tmp_path)
    assert (error.code, error.err.count("\n")) == (2, 1) and "--clip-grad'" in error.err


def test_examples_of_the_help_are_command_lines() -> None:
    for name in COMMANDS:
        command = command_of(name)
        assert isinstance(command, Command) and 1 <= len(command.examples) <= 3, name
        for example in command.examples:
            program, called, *words = shlex.split(example)
            assert program == "latentdiff" and called in COMMANDS and len(example) < 78
            known = command_of(called)
            parser = known.make_parser(click.Context(known, resilient_parsing=True))
            parser.parse_args(words)


def test_an_option_takes_one_kind_of_value_in_all_commands() -> None:
    """As a sign that it means one thing; several values of one kind are texts."""
    kinds: dict[str, set[str]] = {}
    for _, option in options():
        number = option.type.name.startswith(("integer", "float"))
        kind = "flag" if option.is_flag else "number" if number else "text"
        if not option.multiple:
            kinds.setdefault(option.opts[0], set()).add(kind)
    assert {name: found for name, found in kinds.items() if len(found) > 1} == {}


def test_options_are_those_of_the_list() -> None:
    """A new option is a decision: each is one more thing to read, to document and to keep."""
    found = [
        f"{name} {option.opts[0]} {'advanced' if option.advanced else option.group}"
        for name, option in options()
        if isinstance(option, Option)
    ]
    if os.environ.get("RENEW"):
        LIST.write_text("\n".join(found) + "\n", encoding="utf-8")
    known = LIST.read_text(encoding="utf-8").splitlines()
    added, gone = (sorted({*a} - {*b}) for a, b in ((found, known), (known, found)))
    assert (added, gone) == ([], []), (
        "options changed: say in the commit why each new one is worth it, then renew the list with"
        f" `RENEW=1 pytest tests/apps/cli/{Path(__file__).name}`"
    )
    assert len(found) == len(list(options())), "an option is made by click.option, not by help.option"


def test_table_of_commands_says_what_the_commands_say(cli: Callable, tmp_path: Path) -> None:
    shown = cli("--help", cwd=tmp_path).out
    for name, (_, text) in COMMANDS.items():
        assert text == (command_of(name).help or "").splitlines()[0]
        assert re.search(rf"^  {name} +{re.escape(text)}$", shown, re.MULTILINE)


def test_no_arguments_show_the_help(cli: Callable, tmp_path: Path) -> None:
    assert cli("", cwd=tmp_path) == cli("--help", cwd=tmp_path)
    assert cli("", cwd=tmp_path).code == 0


def test_every_command_has_json_and_config(cli: Callable) -> None:
    for name in COMMANDS:
        flags = {flag for parameter in command_of(name).params for flag in parameter.opts}
        assert {"--json", "--config"} <= flags


def test_help_imports_neither_torch_nor_numpy() -> None:
    program = (
        "import sys; from latentdiff.apps.cli.root import COMMANDS, run\n"
        "assert run(['--help']) == 0 and 'latentdiff.nn' not in sys.modules\n"
        "assert all(run([name, '--help']) == 0 for name in COMMANDS)\n"
        "heavy = [name for name in ('torch', 'numpy', 'matplotlib', 'PIL', 'rich') if name in sys.modules]\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, result.stderr


def test_version_is_printed(cli: Callable, tmp_path: Path) -> None:
    from latentdiff import __version__

    assert cli("--version", cwd=tmp_path) == (0, f"latentdiff {__version__}\n", "")


def test_required_options_are_missed(cli: Callable, tmp_path: Path) -> None:
    """click takes an explicit `default=None` for a value, so that an option with it is never required."""
    required = [(name, option) for name, option in options() if option.required]
    assert ("p2p", "--prompt") in [(name, option.opts[0]) for name, option in required]
    for name, option in required:
        result = cli(name, cwd=tmp_path)
        assert result.code == 2 and f"Missing option '{option.opts[0]}'" in result.err, (name, option.opts)


def test_no_group_of_options_is_without_a_subject(cli: Callable, tmp_path: Path) -> None:
    shown = {name: cli(f"{name} --help-all", cwd=tmp_path).out for name in COMMANDS}
    assert [name for name, text in shown.items() if "\nOptions:" in text] == []
