"""Formulas as MathML, which browsers show by themselves: TeX is read while the site is built, pages load no
script for it.
"""

from __future__ import annotations

import html
import re
from typing import Any

from latex2mathml.converter import convert

# what pymdownx.arithmatex leaves of $x$ and of $$x$$
FORMULA = re.compile(
    r'<span class="arithmatex">\\\((?P<inline>.*?)\\\)</span>|<div'
    r' class="arithmatex">\s*\\\[(?P<block>.*?)\\\]\s*</div>',
    re.DOTALL,
)
LEFT_OVER = re.compile(r"\\[A-Za-z]+|<mi>&</mi>")  # of TeX that the converter does not know
# Browsers draw a macron over a letter so small that it is taken for a dot: a line above the letter instead.
BAR = re.compile(r'<mover>(<mi>[^<]*</mi>)<mo stretchy="true">&#x000AF;</mo></mover>')
NAMES = re.compile(r"<mi>(log|exp|min)</mi>(?=<mi>)")  # `log p` has a space in it


def on_page_content(content: str, **_: Any) -> str:
    """The hook of mkdocs: a page's HTML with its formulas as MathML."""
    return FORMULA.sub(_shown, content)


def _shown(found: re.Match[str]) -> str:
    if found["inline"] is not None:
        return mathml(html.unescape(found["inline"]))
    # what \qquad keeps apart may stand under one another where there is no room beside
    parts = [mathml(part, block=True) for part in html.unescape(found["block"]).split(r"\qquad")]
    return f'<div class="formula">{"".join(parts)}</div>'


def mathml(tex: str, *, block: bool = False) -> str:
    """A formula in TeX as a <math> element; ValueError for TeX that does not become MathML, which no reader
    should see.
    """
    fenced = (
        tex.strip().replace(r"\lvert", r"\left|").replace(r"\rvert", r"\right|")
    )  # else they are spaced like signs
    shown = convert(fenced, display="block" if block else "inline")
    if left := LEFT_OVER.search(shown):
        raise ValueError(f"formula {tex.strip()!r}: expected TeX that becomes MathML, {left[0]!r} does not")
    shown = BAR.sub(r'<mrow class="bar">\1</mrow>', shown)
    return NAMES.sub(r'<mi>\1</mi><mspace width="0.167em" />', shown)
