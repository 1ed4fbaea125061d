"""Docstrings are prose for the terminal: what a page shows of them must not take their brackets and stars for
Markdown.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:func|class|mod|data|meth|attr):(?=`)")
SPECIAL = {"<": "&lt;", ">": "&gt;", "*": "&#42;", "$": "&#36;", "[": "&#91;", "~": "&#126;"}
TABLE = re.compile(r"\s*\|.*\|\s*$")


class PlainDocstrings(griffe.Extension):
    """Hands every docstring on as Markdown that shows it as it stands."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)


def as_markdown(text: str) -> str:
    """A docstring's text: code in backticks and tables stay, consoles (`>>>`) become blocks, everything else
    is literal.
    """
    lines: list[str] = []
    console = False
    for line in text.splitlines():
        begins = line.lstrip().startswith((">>>", "... "))
        if begins != console:
            lines.append("```python" if begins else "```")
            console = begins
        lines.append(line.lstrip().removeprefix(">>> ").removeprefix("... ") if begins else _plain(line))
    return "\n".join([*lines, "```"] if console else lines)


def _plain(line: str) -> str:
    if TABLE.match(line):
        return line
    parts = re.split(r"(``[^`]+``|`[^`]+`)", ROLE.sub("", line))
    return "".join(
        part if part.startswith("`") else "".join(SPECIAL.get(sign, sign) for sign in part) for part in parts
    )
