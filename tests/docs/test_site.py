"""The documentation as a site: it builds strictly, loads nothing from elsewhere, and says what the commands
and docstrings say.
"""

import html
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import util
from pathlib import Path
from types import ModuleType, SimpleNamespace

import click
import pytest
from helpers import ROOT, load_script, run_cli

import latentdiff
from latentdiff.apps.cli.root import COMMANDS, root

DOCS = ROOT / "docs"
TOOLS = ("mkdocs", "material", "mkdocstrings", "griffe", "latex2mathml")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
MISSING = [name for name in TOOLS if util.find_spec(name) is None]
needs_tools = pytest.mark.skipif(bool(MISSING), reason=f"needs the extra docs ({MISSING} missing)")


def hook(name: str) -> ModuleType:
    """A module of scripts/site, which is no package."""
    return load_script(ROOT / "scripts" / "site" / f"{name}.py")


def command_of(name: str) -> click.Command:
    command = root.get_command(click.Context(root), name)
    assert command is not None
    return command


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    out = tmp_path_factory.mktemp("site")
    line = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        line, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@needs_tools
def test_pages_load_nothing_from_elsewhere(site: Path) -> None:
    """Links may lead away; scripts, styles, fonts and pictures are the site's own."""
    pages = list(site.rglob("*.html"))
    assert len(pages) > 40
    for page in pages:
        text = page.read_text(encoding="utf-8")
        loads = re.findall(r"<(?:script|img|iframe|source)\b[^>]*?\bsrc=\"([^\"]*)\"", text)
        loads += re.findall(r"<link\b[^>]*?\bhref=\"([^\"]*)\"", text)
        assert loads and not [url for url in loads if re.match(r"(https?:)?//", url)], page.name
    styles = [style.read_text(encoding="utf-8") for style in site.rglob("*.css")]
    assert styles and not [url for text in styles for url in re.findall(r"url\(\W?(?:https?:)?//[^)]*", text)]


@needs_tools
def test_every_formula_is_mathml(site: Path) -> None:
    for page in site.rglob("*.html"):
        assert "arithmatex" not in page.read_text(encoding="utf-8"), page.name
    for name in ("mathematics", "errata"):
        formulas = re.findall(r"\$\$.+?\$\$|\$[^$]+\$", (DOCS / f"{name}.md").read_text(encoding="utf-8"))
        shown = (site / f"{name}.html").read_text(encoding="utf-8").count("<math ")
        assert shown >= len(formulas) > 20


@needs_tools
@pytest.mark.parametrize("name", COMMANDS)
def test_a_page_has_every_option_of_its_command(name: str, site: Path) -> None:
    text = html.unescape(
        re.sub(r"<[^>]+>", "", (site / "commands" / f"{name}.html").read_text(encoding="utf-8"))
    )
    for parameter in command_of(name).params:
        shown = parameter.opts[-1] if isinstance(parameter, click.Option) else str(parameter.name).upper()
        assert shown in text, shown
        if isinstance(parameter, click.Option) and "$" not in str(parameter.help):
            assert " ".join(str(parameter.help).replace("`", "").split()) in " ".join(text.split())


@needs_tools
def test_the_reference_has_every_public_name(site: Path) -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in (site / "reference").glob("*.html"))
    missing = [
        name for name in latentdiff.__all__ if not re.search(rf'id="latentdiff\.[\w.]+\.{name}"', text)
    ]
    assert not missing
    shown = html.unescape(text)
    assert "A x, y> = <x, A^T y" in shown  # what looks like HTML in a docstring is shown as it stands
    assert ":func:" not in shown and "[B, *shape]" in shown


@needs_tools
def test_what_is_built_can_be_searched(site: Path) -> None:
    index = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))
    texts = " ".join(entry["text"] for entry in index["docs"])
    assert "ScoreALD" in texts and "--guidance-rescale" in texts


@needs_tools
def test_hooks_refuse_what_they_cannot_show() -> None:
    mathml, insert = hook("mathml"), hook("insert")
    assert "<msqrt>" in mathml.mathml(r"\sqrt{\beta_t}") and 'class="bar"' in mathml.mathml(r"\bar\alpha_t")
    for tex in (r"\nosuchcommand x", r"\begin{aligned} a &= b \end{aligned}"):
        with pytest.raises(ValueError, match="expected TeX that becomes MathML"):
            mathml.mathml(tex)
    with pytest.raises(ValueError, match="name of a command"):
        insert.options("no-such-command")
    with pytest.raises(ValueError, match="expected a heading"):
        insert.section("README.md#No such heading")
    page = SimpleNamespace(meta={}, file=SimpleNamespace(src_uri="reference/models.md"))
    text = insert.on_page_markdown("<!-- section: README.md#Licence -->", page=page)
    assert text.lstrip().startswith("Apache-2.0")
    weights = [insert.boost(place) for place in ("questions.md", "training.md", "reference/models.md")]
    assert weights == sorted(weights, reverse=True) and page.meta == {"search": {"boost": weights[2]}}


@needs_tools
def test_docstrings_are_shown_as_they_stand() -> None:
    shown = hook("docstrings").as_markdown(
        "See :func:`run`: [B, *shape] and <A x, y>, ``a[0]``.\n\n>>> run()\n1"
    )
    assert "`run`" in shown and ":func:" not in shown
    assert "&#91;B, &#42;shape]" in shown and "&lt;A x" in shown and "``a[0]``" in shown
    assert "```python\nrun()\n```" in shown


def test_every_command_has_a_page_of_its_own() -> None:
    pages = {page.stem: page.read_text(encoding="utf-8") for page in (DOCS / "commands").glob("*.md")}
    listed = pages.pop("index")
    assert pages.keys() == COMMANDS.keys()
    for name, text in pages.items():
        assert f"<!-- options: {name} -->" in text and f"latentdiff {name}" in text
        assert f"| [{name}]({name}.md) | {COMMANDS[name][1]} |" in listed


def lines() -> Iterator[tuple[str, str]]:
    for page in sorted(DOCS.rglob("*.md")):
        for block in re.findall(
            r"^```\w*\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
        ):
            yield from ((page.stem, line) for line in re.findall(r"^latentdiff (\S.*)$", block, re.MULTILINE))


@pytest.mark.parametrize(
    ("page", "line"), [pytest.param(*each, id=f"{each[0]}: {each[1][:40]}") for each in lines()]
)
def test_the_commands_on_pages_can_be_parsed(
    page: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are not run: click reads them, with the files they name in place."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    if "picture.png" in line:
        assert run_cli("sample --run digits -n 1 --steps 1 --out picture.png", cwd=tmp_path).code == 0
    name, *arguments = shlex.split(line, comments=True)
    command_of(name).make_context(name, arguments)


def test_a_transcript_runs_the_blocks_and_writes_their_minutes(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    text = (
        "# A page\n\n## One\n\nWords.\n\n```bash\ntest -f mkdocs.yml\necho first\n```\n\n```\nnot"
        " run\n```\n\n## No commands\n\n## Two\n\n```bash\necho second\n```\n\n<!-- transcript: begin"
        " -->\n*Not measured yet.*\n<!-- transcript: end -->\nThe end.\n"
    )
    page.write_text(text)
    script = DOCS / "examples" / "transcript.py"

    def run(folder: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, str(script), str(tmp_path / folder), "--page", str(page)]
        return subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)

    assert run("copy").returncode == 0
    written = page.read_text()
    assert (
        "| One | 0.0 | `first` |" in written
        and "| Two | 0.0 | `second` |" in written
        and "| all | 0.0 | |" in written
    )
    assert "Not measured" not in written and written.endswith("<!-- transcript: end -->\nThe end.\n")
    assert "first" in (tmp_path / "copy" / "transcript.log").read_text()
    page.write_text(text.replace("echo second", "false"))
    failed = run("other")
    assert failed.returncode == 1 and "Two: exit code 1" in failed.stderr
    assert "Not measured" in page.read_text()


@pytest.fixture(scope="module")
def transcript() -> ModuleType:
    return load_script(DOCS / "examples" / "transcript.py")


def test_the_tutorial_has_a_place_for_its_minutes_and_commands_for_all_parts(transcript: ModuleType) -> None:
    text = (DOCS / "tutorial.md").read_text(encoding="utf-8")
    assert len(transcript.PLACE.findall(text)) == 1
    commands = " ".join(commands for _, commands in transcript.parts(text))
    names = ("info", "train", "train-vae", "train-denoiser", "sample", "edit")
    assert all(f"latentdiff {name} " in commands or f"latentdiff {name}\n" in commands for name in names)
    budgets = [float(minutes) for minutes in re.findall(r"--minutes (\S+)", commands)]
    assert sum(budgets) == 28.0 and "28 minutes are training" in text


def test_a_transcript_takes_photos_from_a_folder_instead_of_git(transcript: ModuleType) -> None:
    text = (DOCS / "tutorial.md").read_text(encoding="utf-8")
    assert "git clone" in text and transcript.with_photos(text, None) == text
    linked = dict(transcript.parts(transcript.with_photos(text, Path("/a b"))))["Your photos"]
    assert linked.startswith("ln -s '/a b' photos\n") and "git clone" not in linked


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shapes") / "photos"
    line = [sys.executable, str(DOCS / "examples" / "own_images.py"), str(folder), "60"]
    assert subprocess.run(line, timeout=60, check=False).returncode == 0
    return folder


def test_the_tutorials_images_train_a_model_that_draws_them(shapes: Path, cli: Callable) -> None:
    """The tutorial's own commands, with steps for minutes."""
    text = (DOCS / "tutorial.md").read_text(encoding="utf-8")
    commands = re.findall(r"^latentdiff (.*)$", text, re.MULTILINE)
    few = {"steps": 2, "batch": 4, "width": 16, "workers": 1, "bf16": "off"}
    config = {"train-vae": few, "train-denoiser": few}
    (shapes.parent / "few.json").write_text(json.dumps(config), encoding="utf-8")  # JSON is YAML
    for line in commands:
        if line.startswith("train "):
            quick = re.sub(r"--minutes \S+", "--config few.json", line)
        else:
            quick = re.sub(r"--minutes \S+", "--steps 2 --batch 4 --width 16 --workers 1 --bf16 off", line)
        if quick.startswith(("sample", "edit")):
            quick += " --steps 2"
        result = cli(quick, cwd=shapes.parent)
        assert result.code == 0, f"{quick}: {result.err}"
    for picture in ("reconstructions", "mine", "one-class", "eight", "edited", "small"):
        assert (shapes.parent / f"{picture}.png").exists()
    assert (shapes.parent / "steps.gif").exists()


@needs_tools
def test_the_search_works_from_a_folder(site: Path) -> None:
    """Browsers start no workers from files: the index is a script, and so is the worker."""
    assert (site / "search" / "search_index.js").read_text(encoding="utf-8").startswith("var __index = {")
    assert "window.IFrameWorker" in (site / "javascripts" / "iframe-worker.js").read_text(encoding="utf-8")
    assert 'src="../javascripts/iframe-worker.js"' in (site / "commands" / "sample.html").read_text(
        encoding="utf-8"
    )


QUESTIONS = {  # of newcomers, and the page with the answer
    "which latent size": "questions.html#which-latent-size",
    "out of memory": "questions.html#it-runs-out-of-memory",
    "resume training": "questions.html#my-training-was-stopped",
    "use in diffusers": "questions.html#can-i-use-my-model-in-diffusers",
    "why grainy": "questions.html#why-are-my-pictures-grainy",
    "own photos": "tutorial.html",
}

# the part of the first page found that is shown below it, without its query; the page where no part is shown
FIRST_HIT = """[...document.querySelector('.md-search-result__item').querySelectorAll('a')]
    .filter((link) => !link.closest('details')).map((link) => link.href.replace(/\\?[^#]*/, '')).pop()"""


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
@needs_tools
def test_the_search_answers_in_its_first_hit(site: Path) -> None:
    """In a browser, from the folder, without a server."""
    driver = pytest.importorskip("playwright.sync_api")
    with driver.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(60_000)
        found = {}
        for question in QUESTIONS:
            page.goto((site / "index.html").as_uri())
            page.fill("input.md-search__input", question)
            page.locator(".md-search-result__item a").first.wait_for()
            found[question] = page.evaluate(FIRST_HIT)
        browser.close()
    assert [each for each, answer in QUESTIONS.items() if answer not in found[each]] == [], found
