"""What pages take from elsewhere while the site is built: the options of a command from the command itself,
code from its file.

A line `<!-- options: sample -->` in a page becomes a table, `<!-- code: examples/own_sampler.py -->` the file
(below docs/) as a block of code, `<!-- section: benchmarks/README.md#Benchmarks -->` what stands under that
heading elsewhere in the repository. Where pages are read without being built, the comments are invisible.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from latentdiff.apps.cli.root import root

ROOT = Path(__file__).parents[2]
MARK = re.compile(r"^<!-- (options|code|section): (.+?) -->$", re.MULTILINE)
MEASURED = "benchmarks/results/cpu-epyc-zen3/kernels.png"
LINKS = {  # of sections, as they are in the repository and on the site
    "docs/": "",
    MEASURED: "images/kernels.png",
    "benchmarks/README.md": "#the-benchmarks",
}
BOOSTS = {"questions.md": 8.0, "reference/": 0.2, "quality.md": 0.5, "errata.md": 0.5, "licences.md": 0.5}
USUAL = 2.0
SPECIAL = "<>|*_$[]~"  # signs that Markdown would take for its own
# click's "[default: 16; x>=1]" at the end of a help text
EXTRA = re.compile(r"\s\s\[([^\[\]]*(?:\[[^\]]*\][^\[\]]*)*)\]$")


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """The hook of mkdocs: a page with its marks replaced; an unknown command or file stops the build.

    The search finds pages that explain before the functions of the reference.
    """
    page.meta.setdefault("search", {"boost": boost(page.file.src_uri)})
    return MARK.sub(
        lambda mark: {"options": options, "code": code, "section": section}[mark[1]](mark[2]), markdown
    )


def boost(place: str) -> float:
    """The weight of a page in the search, by its place below docs/."""
    return next((weight for start, weight in BOOSTS.items() if place.startswith(start)), USUAL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The hook of mkdocs: a figure that lies beside its numbers, outside docs/, becomes a file of the
    site.
    """
    files.append(File.generated(config, LINKS[MEASURED], abs_src_path=str(ROOT / MEASURED)))
    return files


def section(name: str) -> str:
    """What stands under a heading of a file (`README.md#Licence`), one level deeper; ValueError where there
    is none.
    """
    file, _, heading = name.partition("#")
    text = (ROOT / file).read_text(encoding="utf-8")
    found = re.search(
        rf"^(#+) {re.escape(heading)}$\n(.*?)(?=^#{{1,2}} (?!#)|\Z)", text, re.MULTILINE | re.DOTALL
    )
    if found is None:
        raise ValueError(f"{file}: expected a heading {heading!r}, found none")
    body = text[found.start(2) :] if found[1] == "#" else found[2]  # a file's title stands above all of it
    for old, new in LINKS.items():
        body = body.replace(f"]({old}", f"]({new}")
    return re.sub(r"^#", "##", body, flags=re.MULTILINE) if found[1] == "#" else body


def code(name: str) -> str:
    """A file below docs/ as a block of code."""
    text = (ROOT / "docs" / name).read_text(encoding="utf-8").rstrip()
    return f"```{'python' if name.endswith('.py') else 'bash'}\n{text}\n```"


def options(name: str) -> str:
    """The arguments and options of a command as a table; ValueError for a command that does not exist."""
    command = root.get_command(click.Context(root), name)
    if command is None:
        raise ValueError(f"expected the name of a command, got {name!r}")
    context = click.Context(command, info_name=name)
    rows = [row for parameter in command.params if (row := _row(parameter, context)) is not None]
    return "\n".join(["| option | meaning | default; range |", "| --- | --- | --- |", *rows])


def _row(parameter: click.Parameter, context: click.Context) -> str | None:
    if isinstance(parameter, click.Argument):
        return f"| `{parameter.make_metavar(context)}` | an argument, explained above | |"
    record = parameter.get_help_record(context)
    if record is None:
        return None
    flags, text = record
    extra = EXTRA.search(text)
    meaning = text[: extra.start()] if extra else text
    bounds = extra[1].removeprefix("default: ").replace("<=", " ≤ ").replace(">=", " ≥ ") if extra else ""
    return f"| {_flags(flags)} | {escaped(meaning)} | {escaped(bounds)} |"


def _flags(flags: str) -> str:
    """`--steps INTEGER`; choices are one code each, so that a long list of them wraps."""
    names, bracket, choices = flags.removesuffix(" RANGE").partition(" [")
    words = " · ".join(f"`{word}`" for word in choices.removesuffix("]").split("|")) if "|" in choices else ""
    return f"`{names if words else names + bracket + choices}` {words}".strip()


def escaped(text: str) -> str:
    """Plain text as Markdown in the cell of a table; what stands between backticks stays code."""
    parts = text.split("`")
    plain = ["".join(f"&#{ord(sign)};" if sign in SPECIAL else sign for sign in part) for part in parts]
    return "`".join(part.replace("|", "&#124;") if i % 2 else plain[i] for i, part in enumerate(parts))
