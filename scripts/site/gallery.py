"""Fill the gallery of the site from studies that `latentdiff reproduce` made: a figure, what was found, and
how.

python scripts/site/gallery.py COMMIT studies/*        writes docs/images/gallery/*.png and the middle of
docs/gallery.md; COMMIT is that of the program which made them. Other studies of the page stay as they are.
"""

from __future__ import annotations

import json
import re
import sys
import textwrap
from pathlib import Path

from PIL import Image

from latentdiff.apps.studies.catalog import STUDIES

DOCS = Path(__file__).parents[2] / "docs"
PLACE = re.compile(r"(?<=<!-- gallery: begin -->\n).*?(?=<!-- gallery: end -->)", re.DOTALL)
FIGURES = {  # that say more than the first of their study
    "latent-size": "reconstructions.png",
    "denoiser-training": "samples.png",
    "ddpm-ddim": "trajectory.png",
    "noise-schedule-study": "grids.png",
    "course-unets": "guided-epochs.png",
    "class-guidance": "scales.png",
    "denoising": "level-500.png",
    "sdedit": "digits.png",
    "restoration": "Gaussian-blur--1-5-pixels.png",
    "inpainting": "a-box-in-the-middle.png",
    "cold-diffusion": "new-blur.png",
    "anagrams": "pairs.png",
    "hybrids": "pairs.png",
    "text-to-image": "things.png",
    "text-sdedit": "photos.png",
    "text-anagrams": "things.png",
    "text-hybrids": "things.png",
    "prompt-to-prompt": "photos.png",
}
FIRST = (  # in the gallery: what can be liked without reading
    "text-anagrams",
    "text-hybrids",
    "text-to-image",
    "prompt-to-prompt",
    "ddim-steps",
    "sdedit",
    "inpainting",
    "restoration",
    "text-sdedit",
    "anagrams",
    "hybrids",
    "course-unets",
    "class-guidance",
)
WIDTH, COLOURS = 1400, 256  # of a picture on the page
WRAP, MOST = 110, 300  # characters of a line, and of a caption that is shown


def entry(folder: Path, commit: str) -> str:
    """The part of the page about one study; its figure is written smaller."""
    found = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    study, figures = found["study"], found["figures"]
    name = FIGURES.get(study, next(iter(figures)))
    picture = Image.open(folder / name).convert("RGB")
    picture.thumbnail((WIDTH, 10 * WIDTH), Image.Resampling.LANCZOS)
    (DOCS / "images" / "gallery").mkdir(parents=True, exist_ok=True)
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(
        DOCS / "images" / "gallery" / f"{study}.png", optimize=True
    )
    command = re.sub(r" --(out|threads) \S+", "", found["command"])
    machine, seconds = found["hardware"], found["seconds"]
    took = f"{seconds:.0f} seconds" if seconds < 100 else f"{seconds / 60:.1f} minutes"
    how = (
        f"`{command}`, seed {found['seed']}, {machine['threads']}"
        f" thread{'s' if machine['threads'] > 1 else ''} of an {processor(machine['cpu'])}, {took},"
        f" {found['date'][:10]}, commit {commit}"
    )
    caption = figures[name]["caption"]
    alt = caption if len(caption) <= MOST else f"{found['title']}: {found['question']}"
    findings = [f"- {each}" for each in found["findings"][:3] if len(each) <= 5 * WRAP]
    lines = [
        f"## {found['title']}",
        "",
        f"*{found['question']}*",
        "",
        f"![{alt}](images/gallery/{study}.png)",
        "",
    ]
    lines += [*wrapped(caption if len(caption) <= MOST else ""), *[""] * (len(caption) <= MOST)]
    lines += [line for each in findings for line in wrapped(each)]
    return "\n".join([*lines, "", *wrapped(f"{how}."), ""])


def processor(name: str) -> str:
    """The name of a processor without marks."""
    return re.sub(r"\((?:R|TM)\)| Processor\b", "", name).strip()


def wrapped(text: str) -> list[str]:
    """Lines of at most WRAP characters; those of an entry of a list hang."""
    hang = "  " if text.startswith("- ") else ""
    return textwrap.wrap(text, WRAP, subsequent_indent=hang, break_long_words=False, break_on_hyphens=False)


def entries(page: str) -> dict[str, str]:
    """The parts of the page by study."""
    place = PLACE.search(page)
    assert place is not None
    parts = re.split(r"(?m)^(?=## )", place[0])[1:]
    return {re.findall(r"images/gallery/([\w-]+)\.png", part)[0]: part.rstrip() + "\n" for part in parts}


def main(commit: str, folders: list[Path]) -> None:
    order = [*FIRST, *(name for name in STUDIES if name not in FIRST)]
    page = DOCS / "gallery.md"
    text = page.read_text(encoding="utf-8")
    found = entries(text)
    made = [(json.loads((each / "results.json").read_text())["study"], each) for each in folders]
    if len(dict(made)) < len(made):
        sys.exit(f"expected one folder for each study, got {', '.join(sorted(study for study, _ in made))}")
    found |= {study: entry(each, commit) for study, each in made}
    parts = [found[study] for study in order if study in found]
    page.write_text(PLACE.sub(lambda _: "\n" + "\n".join(parts), text), encoding="utf-8")


if __name__ == "__main__":
    if not sys.argv[1:] or not re.fullmatch("[0-9a-f]{7,40}", sys.argv[1]):
        sys.exit("usage: gallery.py COMMIT FOLDER...")
    main(sys.argv[1], [Path(name) for name in sys.argv[2:]])
