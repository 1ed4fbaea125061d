"""Run the tutorial as a newcomer would, and write down how long each part took.

python docs/examples/transcript.py FOLDER [--page PAGE] [--photos PHOTOS]

The repository's committed files are copied into FOLDER, which must not exist; every ```bash block of
docs/tutorial.md (or PAGE) runs there. The folder PHOTOS stands for what a block would fetch with git. The
minutes go into the page, between its transcript marks, what the commands print into FOLDER/transcript.log.
The first command that fails ends it, and the page stays as it was. Nothing else should run on the machine
meanwhile.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import re
import shlex
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PART = re.compile(r"^## (.+?)$(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
BLOCK = re.compile(r"^```bash\n(.*?)^```", re.MULTILINE | re.DOTALL)
PLACE = re.compile(r"(?<=<!-- transcript: begin -->\n).*?(?=<!-- transcript: end -->)", re.DOTALL)
FETCH = re.compile(r"^git clone \S.*\nln -s \S+ photos\n", re.MULTILINE)
ACTIVATE = (  # a shell of its own for each part
    "if [ -f .venv/bin/activate ]; then source .venv/bin/activate; fi\n"
)


class Timed(NamedTuple):
    """A part of the tutorial, how long it took, and the last line that it printed."""

    title: str
    minutes: float
    last_line: str


def with_photos(page: str, photos: Path | None) -> str:
    """The page with a link to ``photos`` where it fetches some with git; unchanged without ``photos``."""
    if photos is None:
        return page
    return FETCH.sub(lambda _: f"ln -s {shlex.quote(str(photos))} photos\n", page)


def parts(page: str) -> list[tuple[str, str]]:
    """(title, commands) of every section that has commands."""
    found = [(part[1], "".join(BLOCK.findall(part[2]))) for part in PART.finditer(page)]
    return [(title, commands) for title, commands in found if commands]


def run(title: str, commands: str, folder: Path) -> Timed:
    """Run the commands of a part; SystemExit with the part's name where one fails."""
    begun = time.perf_counter()
    done = subprocess.run(
        ["bash", "-ec", ACTIVATE + commands], cwd=folder, capture_output=True, text=True, check=False
    )
    minutes = (time.perf_counter() - begun) / 60
    with (folder / "transcript.log").open("a", encoding="utf-8") as log:
        log.write(f"## {title} ({minutes:.1f} minutes)\n{commands}\n{done.stdout}{done.stderr}\n")
    if done.returncode:
        raise SystemExit(f"{title}: exit code {done.returncode}; see {folder}/transcript.log")
    print(f"{title}: {minutes:.1f} minutes", flush=True)
    return Timed(title, minutes, (done.stdout.strip().splitlines() or [""])[-1].strip())


def table(timed: list[Timed]) -> str:
    """The minutes of each part and of all, and the machine they were measured on."""
    rows = [f"| {part.title} | {part.minutes:.1f} | `{part.last_line}` |" for part in timed]
    total = sum(part.minutes for part in timed)
    machine = f"{os.cpu_count()} cores, {_processor()}, Python {platform.python_version()}"
    head = ["| part | minutes | it ended with |", "| --- | --- | --- |"]
    return "\n".join(
        [*head, *rows, f"| all | {total:.1f} | |", "", f"*{machine}; {datetime.date.today():%d.%m.%Y}.*", ""]
    )


def _processor() -> str:
    names = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", names.read_text()) if names.exists() else None
    return found[1].strip() if found else platform.processor() or platform.machine()


def main(folder: Path, page: Path, photos: Path | None) -> None:
    folder.mkdir(parents=True)
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x"], cwd=folder, input=archive, check=True)
    text = page.read_text(encoding="utf-8")
    timed = [run(title, commands, folder) for title, commands in parts(with_photos(text, photos))]
    page.write_text(PLACE.sub(lambda _: table(timed), text), encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    path = {"type": lambda given: Path(given).resolve()}
    parser.add_argument("folder", **path)
    parser.add_argument("--page", default=ROOT / "docs" / "tutorial.md", **path)
    parser.add_argument("--photos", **path)
    given = parser.parse_args()
    main(given.folder, given.page, given.photos)
