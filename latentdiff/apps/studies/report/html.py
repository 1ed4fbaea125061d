"""A report as one HTML page: pictures inlined, no script, no request, readable on a phone."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path

from latentdiff.apps.studies.report.blocks import (
    Block,
    Cell,
    IntervalCell,
    Paragraph,
    Picture,
    Report,
    Table,
    format_cell,
)

# A second protection besides the escaping: the browser loads nothing.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

STYLE = """
:root { --ink: #1f4e79; --second: #c8553d; --line: #e3e6ea; --soft: #f6f8fa; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 60rem; padding: 1.5rem 1.25rem 4rem; color: #1c2126; background: #fff;
       font: 1rem/1.6 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: .5rem 0 .25rem; }
h2 { font-size: 1.25rem; margin: 2.75rem 0 .75rem; padding-top: 1rem; border-top: 1px solid var(--line); }
p { max-width: 46rem; margin: .75rem 0; }
.question { font-size: 1.15rem; color: #57606a; margin-top: 0; }
.findings { background: var(--soft); border-left: 4px solid var(--ink); padding: .75rem 1.25rem; margin: 1.5rem 0; }
.findings h2 { border: 0; margin: 0; padding: 0; font-size: 1rem; color: var(--ink); }
.findings ul { margin: .5rem 0 0; padding-left: 1.2rem; }
.findings li { margin: .35rem 0; }
.finding { border-left: 4px solid var(--ink); padding-left: 1rem; }
.warning { border-left: 4px solid var(--second); padding-left: 1rem; }
figure { margin: 1.5rem 0; }
figure img { display: block; max-width: 100%; height: auto; }
figcaption, caption { color: #57606a; font-size: .9rem; line-height: 1.45; text-align: left; max-width: 46rem; }
figcaption { margin-top: .5rem; }
caption { caption-side: bottom; padding-top: .5rem; }
/* wide tables reach into the margin; a shadow says that there are columns beyond the edge */
.scroll { overflow-x: auto; margin-right: min(0px, calc(31rem - 50vw));
  background: linear-gradient(90deg, #fff 2rem, #fff0) 0 0, linear-gradient(-90deg, #fff 2rem, #fff0) 100% 0,
    linear-gradient(90deg, #0002, #0000) 0 0, linear-gradient(-90deg, #0002, #0000) 100% 0;
  background-repeat: no-repeat; background-size: 3rem 100%, 3rem 100%, .75rem 100%, .75rem 100%;
  background-attachment: local, local, scroll, scroll; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .95rem; margin: 1.25rem 0; }
th, td { padding: .35rem .6rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
thead th { border-bottom: 2px solid var(--ink); vertical-align: bottom; white-space: normal; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
td .interval { display: block; font-size: .72rem; line-height: 1.2; color: #7a838d; }
.about { font-size: .9rem; }
.about td { white-space: normal; overflow-wrap: anywhere; }
.about td, .about th { text-align: left; }
code { font: .9em ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; overflow-wrap: anywhere; }
@media (max-width: 40rem) {
  body { padding: 1rem .9rem 3rem; }
  h1 { font-size: 1.5rem; }
  .wide img { max-width: none; width: 56rem; }
}
"""


def page(title: str, question: str, report: Report, about: Mapping[str, str], *, folder: Path) -> str:
    """The page; pictures are read from ``folder``, ``about`` is the table of its origin.

    All text is escaped.
    """
    lines = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8"/>',
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>',
        f'<meta http-equiv="Content-Security-Policy" content="{escape(POLICY)}"/>',
        f"<title>{escape(title)}</title>",
        f"<style>{STYLE}</style>",
        "</head>",
        "<body>",
        f"<h1>{escape(title)}</h1>",
        f'<p class="question">{escape(question)}</p>',
        *_findings(report.findings),
    ]
    for section in report.sections:
        lines += ["<section>", f"<h2>{escape(section.title)}</h2>"]
        for block in section.blocks:
            lines += _block(block, folder)
        lines.append("</section>")
    lines += [
        "<section>",
        "<h2>How this page was made</h2>",
        *_about(about),
        "</section>",
        "</body>",
        "</html>",
    ]
    return "\n".join(lines) + "\n"


def _findings(findings: Sequence[str]) -> Iterator[str]:
    if findings:
        items = "".join(f"<li>{escape(text)}</li>" for text in findings)
        yield f'<div class="findings"><h2>What was found</h2><ul>{items}</ul></div>'


def _block(block: Block, folder: Path) -> Iterator[str]:
    if isinstance(block, Paragraph):
        yield f'<p class="{block.kind}">{escape(block.text)}</p>'
    elif isinstance(block, Table):
        yield from _table(block)
    else:
        yield _picture(block, folder)


def _table(table: Table) -> Iterator[str]:
    yield f'<div class="scroll"><table><caption>{escape(table.caption)}</caption>'
    heads = "".join(f'<th scope="col">{escape(name)}</th>' for name in table.columns)
    yield f"<thead><tr>{heads}</tr></thead><tbody>"
    for row in table.rows:
        yield f"<tr>{''.join(f'<td>{_cell(cell, table.digits)}</td>' for cell in row)}</tr>"
    yield "</tbody></table></div>"


def _cell(cell: Cell, digits: int) -> str:
    """A cell; an interval stands below its figure."""
    if not isinstance(cell, IntervalCell) or cell.low is None or cell.high is None:
        return escape(format_cell(cell, digits))
    low, high = (escape(format_cell(end, digits)) for end in (cell.low, cell.high))
    return f'{escape(format_cell(cell.value, digits))}<span class="interval">{low} to {high}</span>'


def _picture(picture: Picture, folder: Path) -> str:
    data = (folder / picture.file).read_bytes()
    width, height = (int.from_bytes(data[at : at + 4], "big") for at in (16, 20))  # of the PNG header
    kind = "scroll wide" if width > 1.8 * height else "scroll"
    text = escape(picture.caption)
    source = f"data:image/png;base64,{base64.b64encode(data).decode('ascii')}"
    image = f'<img src="{source}" alt="{text}" width="{width}" height="{height}"/>'
    return f'<figure><div class="{kind}">{image}</div><figcaption>{text}</figcaption></figure>'


def _about(about: Mapping[str, str]) -> Iterator[str]:
    yield '<table class="about"><tbody>'
    for name, value in about.items():
        text = f"<code>{escape(value)}</code>" if name == "command" else escape(value)
        yield f'<tr><th scope="row">{escape(name)}</th><td>{text}</td></tr>'
    yield "</tbody></table>"
