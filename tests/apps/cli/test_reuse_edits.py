"""A figure of an editing command carries its options: `inspect` reads them, `--like` repeats them."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from latentdiff.config.recipe import CommandRecipe
from latentdiff.data.written import KEYWORD
from latentdiff.viz.images import read_recipe
from latentdiff.viz.table import draw_table

WEIGHTS = "0" * 64
EDIT = "edit --run runs/denoiser --input photo.png --strength 0.3,0.6 --steps 4 --label bee --seed 3"


@pytest.fixture
def work(
    tmp_path: Path, tiny_denoiser_run: Path, tiny_class_run: Path, text_folder: Path, tiny_cold_run: Path
) -> Path:
    """A folder with runs of every kind that a command needs, and a picture to edit."""
    for run in (tiny_denoiser_run, tiny_class_run, text_folder / "runs" / "text", tiny_cold_run):
        shutil.copytree(run, tmp_path / "runs" / run.name)
    x = np.linspace(0, 255, 8)
    Image.fromarray(np.minimum.outer(x, x).astype(np.uint8)).save(tmp_path / "photo.png")
    return tmp_path


QUICK = (
    EDIT,
    "inpaint --run runs/classes --input photo.png --samples 2 --steps 4 --solver repaint --jump-length 2",
    "hybrid --run runs/classes --label ant --label bee -n 2 --steps 4 --sigma 1.5",
    "sample-cold --restore --input photo.png --degradation-level 2",
)
SLOW = (
    "edit --run runs/denoiser --input photo.png --level 9 --steps 4 --exact-steps --negate",
    "denoise --run runs/denoiser --input photo.png --level 4,9 --steps 4 --blur-sigma 2",
    "restore --run runs/classes --input photo.png --operator blur --noise 0.1 --steps 4",
    "invert --run runs/classes --input photo.png --steps 4 --to cat",
    "anagram --run runs/classes --label ant --label bee --view identity --view flip -n 2 --steps 4",
    "p2p --run runs/text --prompt 'a disc' --edit 'a ring' -n 2 --steps 4 --sampler ddim",
    "sample-cold -n 3 --seed 4 --steps 2",
)


@pytest.mark.parametrize(
    "command", [*QUICK, *(pytest.param(command, marks=pytest.mark.slow) for command in SLOW)]
)
def test_a_figure_is_repeated_from_its_file_to_the_last_byte(work: Path, cli: Callable, command: str) -> None:
    name, source = command.split()[0], "--input photo.png" if "--input" in command else ""
    made = cli(f"{command} --out a.png", cwd=work)
    assert made.code == 0, made.err
    again = cli(f"{name} --like a.png {source} --out b.png", cwd=work)
    assert again.code == 0, again.err
    assert (work / "a.png").read_bytes() == (work / "b.png").read_bytes()
    recipe = read_recipe(work / "a.png")
    assert isinstance(recipe, CommandRecipe) and recipe.command == name
    assert recipe.input == ("photo.png" if source else "") and not {"run", "out"} & recipe.options.keys()
    assert str(work) not in recipe.text()


def test_the_command_line_wins_over_the_figure(work: Path, cli: Callable) -> None:
    assert cli(f"{EDIT} --out a.png", cwd=work).code == 0

    def answer(options: str) -> dict:
        done = cli(f"edit --like a.png --input photo.png {options} --json --out b.png --overwrite", cwd=work)
        assert done.code == 0, done.err
        return json.loads(done.out)

    assert [each["strength"] for each in answer("")["edits"]] == [0.3, 0.6]
    assert [each["level"] for each in answer("--level 5")["edits"]] == [5]
    assert answer("--label cat")["labels"] == ["cat"] and answer("--sampler dpm++")["settings"]["steps"] != 4
    assert cli("edit --like a.png --input photo.png --level 5 --out l.png", cwd=work).code == 0
    repeated = cli("edit --like l.png --input photo.png --out m.png", cwd=work)  # whose figure has one start
    assert repeated.code == 0 and (work / "l.png").read_bytes() == (work / "m.png").read_bytes()
    (work / "c.yaml").write_text("{sampler: dpm++, level: 3, seed: 9, files: out}")
    assert answer("--config c.yaml") | {"wrote": []} == answer("") | {"wrote": []}
    assert (work / "out").is_dir()
    shown = json.loads(cli("inspect a.png --json", cwd=work).out)
    assert shown["command"] == "edit" and shown["options"]["strength"] == "0.3,0.6"
    assert shown["checkpoint"].startswith("runs/denoiser/")
    found = cli("edit --like a.png --input photo.png --run runs/classes --out c.png", cwd=work)
    assert found.code == 0 and "another picture" in found.err


@pytest.mark.parametrize(
    ("made", "other"),
    [
        ("restore --operator blur --blur-sigma 1", "--operator downsample"),
        ("inpaint --mask box --box 3x3", "--mask half"),
        ("inpaint --solver diffpir --diffpir-zeta 0.5", "--solver dps"),
        ("denoise --level 9 --show 6,3", "--moments 3"),
    ],
)
def test_what_belongs_to_another_choice_gives_way(work: Path, cli: Callable, made: str, other: str) -> None:
    name = made.split()[0]
    one = cli(f"{made} --run runs/classes --input photo.png --steps 4 --out a.png", cwd=work)
    assert one.code == 0, one.err
    again = cli(f"{name} --like a.png --input photo.png {other} --out b.png", cwd=work)
    assert again.code == 0, again.err
    whole = cli(f"{name} --run runs/classes --input photo.png --steps 4 --out c.png {other}", cwd=work)
    drawn = [np.asarray(Image.open(work / f"{each}.png")) for each in "bc"]
    assert whole.code == 0 and (name == "denoise" or np.array_equal(*drawn))


def test_files_beside_the_input_are_asked_for_again(work: Path, cli: Callable) -> None:
    Image.fromarray(np.where(np.eye(8), 0, 255).astype(np.uint8)).save(work / "hole.png")
    made = cli("inpaint --run runs/classes --input photo.png --mask hole.png --steps 4 --out a.png", cwd=work)
    assert made.code == 0, made.err
    lost = cli("inpaint --like a.png --input photo.png --out b.png", cwd=work)
    assert lost.code == 2 and "was made from --mask 'hole.png'" in lost.err
    found = cli("inpaint --like a.png --input photo.png --mask hole.png --out b.png", cwd=work)
    assert found.code == 0 and (work / "a.png").read_bytes() == (work / "b.png").read_bytes()
    (work / "texts.txt").write_text("a disc\na ring\n")
    texts = "edit --run runs/text --input photo.png --prompt-file texts.txt --steps 4 --strength 0.5"
    assert cli(f"{texts} --out t.png", cwd=work).code == 0
    (work / "texts.txt").unlink()
    again = cli("edit --like t.png --input photo.png --out u.png", cwd=work)
    assert again.code == 0, again.err
    assert np.array_equal(*(np.asarray(Image.open(work / f"{each}.png")) for each in "tu"))


def test_names_that_are_not_utf8_do_not_lose_the_figure(work: Path, cli: Callable) -> None:
    name = b"ph\xffoto.png".decode(errors="surrogateescape")
    (work / "photo.png").rename(work / name)
    done = cli(
        ["edit", "--run", "runs/denoiser", "--input", name, "--steps", "2", "--out", "a.png"], cwd=work
    )
    assert done.code == 0, done.err
    recipe = read_recipe(work / "a.png")
    assert isinstance(recipe, CommandRecipe) and recipe.input == "ph\\xffoto.png"


def test_rows_are_named_by_the_classes_of_their_inputs_alone(
    work: Path, cli: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not by the parts of an anagram, of which every row has all."""
    seen: list[list[str]] = []

    def spied(bands: object, *, names: Sequence[str] = (), note: str = "") -> Figure:
        seen.append(list(names))
        return draw_table(bands, names=names, note=note)  # type: ignore[arg-type]

    monkeypatch.setattr("latentdiff.viz.table.draw_table", spied)
    parts = "--label ant --label bee -n 2 --steps 4"
    for command in (f"anagram --run runs/classes --view identity --view flip {parts}", EDIT):
        assert cli(f"{command} --out a.png", cwd=work).code == 0
    assert seen == [[], ["bee"]]


def test_what_a_figure_lacks_is_said_in_a_line(work: Path, cli: Callable) -> None:
    assert cli(f"{EDIT} --out a.png", cwd=work).code == 0
    assert cli("sample --run runs/denoiser -n 2 --steps 2 --out s.png", cwd=work).code == 0
    for command, code, said in (
        ("edit --like a.png", 2, "was made from --input 'photo.png', which it does not hold"),
        ("denoise --like a.png --input photo.png", 1, "made by another command, `latentdiff edit`"),
        ("edit --like s.png --input photo.png", 1, "made by another command, `latentdiff sample`"),
        ("sample --like a.png", 1, "made by another command, `latentdiff edit`"),
    ):
        done = cli(f"{command} --out b.png", cwd=work)
        assert (done.code, done.err.count("\n")) == (code, 1) and said in done.err, done.err
    shutil.rmtree(work / "runs" / "denoiser")
    gone = cli("edit --like a.png --input photo.png --out b.png", cwd=work)
    assert gone.code == 1 and "no such checkpoint in runs/" in gone.err


@pytest.mark.parametrize(
    ("values", "code", "said"),
    [
        ({"options": {"unheard_of": "1"}}, 1, "'unheard_of'"),
        ({"options": {"out": "/tmp/elsewhere.png"}}, 1, "'out'"),
        ({"options": {"n": "1000000000"}}, 2, "1000"),
        ({"options": {"n": 3}}, 1, "options"),
        ({"options": {"n": {"a": 1}}}, 1, "options"),
        ({"options": {"n": ["1", "2"]}}, 1, "expected one value of the option n, found 2"),
        ({"options": {"guidance": "1" + "0" * 400}}, 2, "--guidance"),
        ({"options": {"negate": "5"}}, 2, "--negate"),
        ({"options": {"prompt_file": "/etc/passwd"}}, 1, "'prompt_file'"),
        ({"options": {"image_cache": "/tmp/elsewhere"}}, 1, "'image_cache'"),
        ({"options": {"strength": "2"}}, 2, "--strength"),
        ({"command": "../edit"}, 1, "command"),
        ({"weights": "x"}, 1, "weights"),
        ({"more": 1}, 1, "more"),
    ],
)
def test_options_that_a_file_brings_are_checked(
    work: Path, cli: Callable, values: dict, code: int, said: str
) -> None:
    about = PngInfo()
    about.add_text(KEYWORD, json.dumps({"command": "edit", "weights": WEIGHTS} | values))
    Image.new("L", (4, 4)).save(work / "bad.png", pnginfo=about)
    done = cli("edit --like bad.png --input photo.png --out b.png", cwd=work)
    assert (done.code, done.err.count("\n")) == (code, 1) and said in done.err, done.err
    assert not (work / "b.png").exists()
