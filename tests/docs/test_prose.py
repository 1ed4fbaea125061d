"""Prose: a README that is read in three minutes, lines that fit a screen, and the field's words."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from helpers import ROOT

WIDTH, TABLE = 110, 340
WHOLE = re.compile(r"`[^`]*`|!?\[[^\]]*\]\([^)]*\)|\$[^$]*\$")  # code, links and formulas are not broken
PRIVATE = re.compile(r"\b(told|listens?|heard|hears|asked for)\b", re.IGNORECASE)  # networks do none of it


def files(*patterns: str) -> list[Path]:
    """Files of the repository, in a distribution without git those below its folders."""
    found = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", *patterns], cwd=ROOT, capture_output=True, text=True
    )
    names = found.stdout.split("\n") if found.returncode == 0 else []
    paths = [ROOT / name for name in names if name] or [
        p for pattern in patterns for p in ROOT.rglob(pattern)
    ]
    return [path for path in paths if path.is_file() and ".venv" not in path.parts]


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a Markdown file outside of blocks of code."""
    fenced = False
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced:
            yield number, line


def test_the_readme_is_short() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text.count("\n") <= 200 and len(text) <= 9000


def test_prose_fits_a_screen_and_tables_a_page() -> None:
    wide = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in files("*.md")
        for number, line in lines(path)
        if not line.startswith("$$")
        and len(WHOLE.sub(lambda found: found[0][:40], line)) > (TABLE if line.startswith("|") else WIDTH)
    ]
    assert not wide


def test_networks_and_commands_are_not_personified() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in files("latentdiff/*.py", "latentdiff/**/*.py")
        for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1)
        if PRIVATE.search(line)
    ]
    assert len(found) <= 5, found


def test_pages_that_the_program_names_exist() -> None:
    named = {
        page
        for path in files("latentdiff/*.py", "latentdiff/**/*.py")
        for page in re.findall(r"\bdocs/[\w/-]+\.md", path.read_text(encoding="utf-8"))
    }
    assert named and not [page for page in named if not (ROOT / page).is_file()]
