"""The commands that edit, restore and invert images or draw illusions: what they write and say, and what they
refuse.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers import ROOT
from PIL import Image

from latentdiff.apps.cli.edit import anagram
from latentdiff.config.restoration import ASSUMED_NOISE
from latentdiff.diffusion.illusions import views

MODEL = "--run runs/classes --steps 4"


@pytest.fixture
def work(
    tmp_path: Path, tiny_folder: Path, tiny_class_run: Path, tiny_denoiser_run: Path, tiny_pixel_run: Path
) -> Path:
    """A folder with tiny.npz and copies of the pixel run with classes, the one without and the vector
    latent's.
    """
    for run in (tiny_class_run, tiny_denoiser_run, tiny_pixel_run):
        shutil.copytree(run, tmp_path / "runs" / run.name)
    shutil.copy(tiny_folder / "tiny.npz", tmp_path)
    return tmp_path


@pytest.fixture
def answer(work: Path, cli: Callable) -> Callable[[str], dict]:
    """`answer("edit ...")`: the JSON of a command that must succeed."""

    def ask(command: str) -> dict:
        done = cli(f"{command} --json", cwd=work)
        assert done.code == 0, done.err
        return json.loads(done.out)

    return ask


def picture(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_edit(work: Path, answer: Callable) -> None:
    found = answer(f"edit {MODEL} -n 3 --strength 0,0.4,1 --label own --files out")
    assert [edit["level"] for edit in found["edits"]] == [0, 8, 20]
    assert found["edits"][0]["rmse"]["value"] < 1e-6 < found["edits"][1]["rmse"]["value"]
    assert found["labels"] == ["ant", "bee", "cat"]
    assert picture(work / "edit.png").ndim == 3
    folders = {
        f"strength={value}": sorted((work / "out" / f"strength={value}").iterdir())
        for value in (0.0, 0.4, 1.0)
    }
    assert all(
        [path.name for path in files] == [f"{k:06d}.png" for k in range(3)] for files in folders.values()
    )
    kept, changed = ([picture(path) for path in folders[f"strength={value}"]] for value in (0.0, 1.0))
    with np.load(work / "tiny.npz") as arrays:
        inputs = arrays["x_test"]
    assert all(any((image == original).all() for original in inputs) for image in kept)
    assert all((one != other).any() for one, other in zip(kept, changed, strict=True))
    by_index = answer(f"edit {MODEL} -n 2 --start-index 1,3 --label 0 --guidance 2")
    assert [edit["level"] for edit in by_index["edits"]] == [15, 5]
    assert answer(f"edit {MODEL} -n 2 --level 7 --exact-steps")["edits"][0]["level"] == 7


def test_edit_of_one_file_of_another_size(work: Path, answer: Callable) -> None:
    photo = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(photo).save(work / "photo.png")
    found = answer(f"edit {MODEL} --input photo.png --strength 0.5")
    assert found["n"] == 1 and found["input"] == "photo.png"


def test_inpaint(work: Path, answer: Callable) -> None:
    found = answer(
        f"inpaint {MODEL} -n 2 --mask half --side left --samples 2 --solver repaint --jump-length 2 --jumps 2"
        " --files out"
    )
    assert found["missing"] == 0.5 and len(found["draws"]) == 2
    with np.load(work / "tiny.npz") as arrays:
        originals = arrays["x_test"]
    made = [picture(work / "out" / f"draw={draw}" / f"{k:06d}.png") for draw in (1, 2) for k in range(2)]
    assert (made[0] != made[2]).any(), "draws differ"
    for image in made:
        assert any((image[:, 4:] == original[:, 4:]).all() for original in originals), "known pixels are kept"


def test_inpaint_with_a_mask_from_a_file(work: Path, answer: Callable) -> None:
    mask = np.full((8, 8), 255, np.uint8)
    mask[2:4, 5:8] = 0
    Image.fromarray(mask).save(work / "mask.png")
    assert answer(f"inpaint {MODEL} -n 2 --mask mask.png --samples 1")["missing"] == pytest.approx(6 / 64)
    box = answer(f"inpaint {MODEL} -n 2 --mask box --box 2x3+2+5 --samples 1")
    assert box["missing"] == pytest.approx(6 / 64)
    assert answer(f"inpaint {MODEL} -n 2 --mask random --missing 0.25 --samples 1")["missing"] == 0.25


def test_a_mask_of_the_size_of_the_photo_is_fitted_like_the_photo(work: Path, cli: Callable) -> None:
    wide = np.full((16, 32), 255, np.uint8)
    wide[4:12, 12:20] = 0
    Image.fromarray(wide).save(work / "wide.png")
    Image.fromarray(np.full((16, 32), 90, np.uint8)).save(work / "photo.png")
    found = []
    for mask in ("--mask wide.png", "--mask box --box 4x4+2+2"):
        folder = mask.split()[1]
        done = cli(
            f"inpaint {MODEL} --input photo.png {mask} --samples 1 --files to-{folder} --json", cwd=work
        )
        assert done.code == 0, done.err
        assert ("mask: wide.png has 16x32 pixels" in done.err) == (folder == "wide.png")
        found.append(
            (json.loads(done.out)["missing"], picture(work / f"to-{folder}" / "000000.png").tolist())
        )
    assert found[0] == found[1] and found[0][0] == 0.25


def saved_masks(work: Path) -> None:
    """Masks of a 4 x 4 hole as the colours white and black and as transparency, and some that hide nothing or
    all.
    """
    hole = np.full((8, 8), 255, np.uint8)
    hole[2:6, 2:6] = 0
    white = np.full((8, 8, 4), 255, np.uint8)
    rubbed, strokes, opaque = white.copy(), np.zeros_like(white), white
    rubbed[2:6, 2:6] = 0
    strokes[2:6, 2:6, 3] = 255  # black on a transparent ground
    tiny = np.zeros((8, 8), np.uint8)
    tiny[:2, :3] = 255
    masks = {
        "black": hole,
        "white": 255 - hole,
        "rubbed": rubbed,
        "strokes": strokes,
        "opaque": opaque,
        "tiny": tiny,
    }
    for name, pixels in (masks | {"grey": np.full((8, 8), 100, np.uint8)}).items():
        Image.fromarray(pixels).save(work / f"{name}.png")


HERE = "black is filled in and white is kept"
TURNED = "white is filled in and black is kept"


@pytest.mark.parametrize(
    ("mask", "missing", "said"),
    [
        ("black.png", 0.25, HERE),
        ("white.png", 0.75, HERE),
        ("white.png --invert-mask", 0.25, TURNED),
        ("rubbed.png", 0.25, "transparent ones count as black"),
        ("strokes.png", 0.25, HERE),
        (
            "tiny.png",
            58 / 64,
            f"warning: mask tiny.png: hides 90.6% of the pixels; {HERE}, with --invert-mask",
        ),
        ("tiny.png --invert-mask", 6 / 64, f"{TURNED}, without --invert-mask"),
        ("grey.png", 1.0, "warning: mask grey.png: hides 100.0%"),
        ("box --box 2x4 --invert-mask", 56 / 64, ""),
        ("box --box 8x8", 1.0, "warning: mask box: hides every pixel"),
    ],
)
def test_a_mask_says_what_it_hides(work: Path, cli: Callable, mask: str, missing: float, said: str) -> None:
    saved_masks(work)
    done = cli(f"inpaint {MODEL} -n 1 --samples 1 --solver diffpir --mask {mask} --json", cwd=work)
    assert done.code == 0, done.err
    assert json.loads(done.out)["missing"] == pytest.approx(missing) and said in done.err
    if "warning" not in said:
        assert "warning" not in done.err


@pytest.mark.parametrize("mask", ["opaque.png", "grey.png --invert-mask", "box --box 8x8 --invert-mask"])
def test_a_mask_that_hides_nothing_is_refused(work: Path, cli: Callable, mask: str) -> None:
    saved_masks(work)
    done = cli(f"inpaint {MODEL} --mask {mask}", cwd=work)
    assert done.code == 1 and "hides no pixel, there is nothing to fill in" in done.err
    assert "it is the other way round" in done.err


@pytest.mark.parametrize("solver", ["dps", "diffpir", "ald", "sdedit"])
def test_restore(work: Path, answer: Callable, solver: str) -> None:
    found = answer(f"restore {MODEL} -n 2 --operator blur,downsample --noise 0.05 --solver {solver}")
    assert found["operator"] == "blur + downsample"
    assert found["restored"]["psnr"]["value"] > 0 and found["degraded"]["n"] == 2
    assert picture(work / "restored.png").ndim == 3


def test_restore_what_is_degraded_already(work: Path, answer: Callable) -> None:
    Image.fromarray(np.full((8, 8), 100, np.uint8)).save(work / "grey.png")
    found = answer(f"restore {MODEL} --operator motion --motion-length 3 --already-degraded --input grey.png")
    assert "restored" not in found and found["n"] == 1


def test_restore_a_small_picture_of_ones_own(work: Path, answer: Callable) -> None:
    small = np.random.default_rng(0).integers(60, 200, (4, 4), dtype=np.uint8)
    Image.fromarray(small).save(work / "small.png")
    answer(f"restore {MODEL} --operator downsample --already-degraded --input small.png --files large")
    large = picture(work / "large" / "000000.png").astype(float)
    assert large.shape == (8, 8)
    assert np.abs(large.reshape(4, 2, 4, 2).mean((1, 3)) - small).mean() < 3, (
        "it does not explain the picture"
    )


def test_denoise(work: Path, answer: Callable, cli: Callable) -> None:
    found = answer(f"denoise {MODEL} -n 2 --level 5,15 --blur-sigma 0.8 --blur-kernel 3 --blur-times 2")
    assert [entry["level"] for entry in found["levels"]] == [5, 15]
    ways = {"noisy", "blur", "one_step", "step_by_step"}
    assert set(found["levels"][0]) == {"level", "worse_than_noisy", *ways}
    for entry in found["levels"]:
        off = {name: entry[name]["rmse"]["value"] for name in ways}
        assert set(entry["worse_than_noisy"]) == {name for name in ways if off[name] > off["noisy"]}
    lines = cli(f"denoise {MODEL} -n 2 --level 1 --out a.png", cwd=work).out.splitlines()
    harmed = [line for line in lines if line.endswith("(farther from the original than the noisy image)")]
    assert any(line.strip().startswith("t = 1, blur:") for line in harmed), (
        "a blur where there is hardly any noise"
    )
    assert set(found["levels"][0]["noisy"]["psnr"]) == {"value"}, "no fields of intervals that were not made"
    assert found["levels"][0]["noisy"]["psnr"]["value"] > found["levels"][1]["noisy"]["psnr"]["value"]


def test_invert(work: Path, answer: Callable) -> None:
    few, many = (answer(f"invert --run runs/denoiser --steps {n} -n 4 --label own") for n in (4, 20))
    assert many["round_trip_error"] < few["round_trip_error"]
    assert answer("invert --run runs/denoiser --steps 4 -n 2 --label 0 --to cat")["to"] == "cat"
    plain, guided = (
        answer(f"invert --run runs/classes --steps 4 -n 2 --to 1 --guidance {w} --files out{w}")
        for w in (1, 9)
    )
    assert plain["noise_std"] == guided["noise_std"], "the inversion has no guidance"
    assert plain["rmse"]["value"] != guided["rmse"]["value"], "the drawing has it"


@pytest.mark.parametrize("operator", ["mask", "blur,mask"])
def test_what_lies_in_a_hole_of_a_degraded_image_is_no_measurement(
    work: Path, answer: Callable, operator: str
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8), dtype=np.uint8)
    other = images.copy()
    other[:, 2:6, 2:6] = 255 - other[:, 2:6, 2:6]  # the box that is missing
    for name, pixels in (("seen", images), ("filled", other)):
        np.savez(work / f"{name}.npz", x=pixels)
    option = f"--operator {operator} --already-degraded --solver dps --steps 4 -n 2"
    found = []
    for name in ("seen", "filled"):
        made = answer(f"restore {MODEL} {option} --input {name}.npz --files {name}")
        assert made["noise"] == ASSUMED_NOISE, "no operator fits an image of one's own exactly"
        found.append(picture(work / name / "000000.png"))
    assert (found[0] == found[1]).all()


def test_the_views_of_the_command_are_those_that_there_are() -> None:
    assert anagram.VIEWS == views.NAMES


def test_illusions(work: Path, answer: Callable) -> None:
    flipped = answer(
        f"anagram {MODEL} -n 2 --label 0 --label 1 --view identity --view rotate180 --class-weights 0.7,0.3"
    )
    assert flipped["views"] == ["identity", "rotate180"] and picture(work / "anagram.png").ndim == 3
    assert flipped["weights"] == [0.7, 0.3] and flipped["refine"] == 0
    assert flipped["read"] is None, "no network knows the classes of this model"
    once = picture(work / "anagram.png")
    again = answer(
        f"anagram {MODEL} -n 2 --label 0 --label 1 --view identity --view rotate180 --class-weights 0.7,0.3"
        " --resample-steps 2 --overwrite"
    )
    assert again["refine"] == 2 and (picture(work / "anagram.png") != once).any()
    mixed = answer(f"hybrid {MODEL} -n 2 --label 0 --label 2")
    assert mixed["bands"] == ["low", "high"] and mixed["sigmas"] == [2.0]
    triple = answer(f"hybrid {MODEL} -n 2 --label 0 --label 2 --label 1 --sigma 2,0.8")
    assert len(triple["bands"]) == 3


@pytest.mark.parametrize(
    ("command", "words", "code"),
    [
        ("edit --strength 1.2", ("--strength", "0 to 1"), 2),
        ("edit --strength 0.5 --level 3", ("--strength, --level",), 2),
        ("edit --level 21", ("--level must lie in 0..20", "21"), 1),
        ("edit --start-index 9 --steps 4", ("--start-index must lie in 0..4",), 1),
        ("edit --guidance 3", ("--guidance", "--label"), 2),
        ("edit --label 7", ("--label must lie in 0..2", "7"), 1),
        ("edit --out edit.jpg", ("--out", ".png"), 2),
        ("edit --input nowhere.png", ("nowhere.png",), 1),
        ("inpaint --mask nowhere.png", ("--mask", "nowhere.png"), 2),
        ("inpaint --mask tiny.npz", ("tiny.npz",), 1),
        ("inpaint --box 9x9", ("error: --box 9x9: expected one within 8x8 pixels (",), 2),
        ("inpaint --box 3", ("--box", "12x10"), 2),
        ("inpaint --solver psld", ("--solver psld", "pixel model", "use --solver dps"), 1),
        ("inpaint --solver dps --jumps 3", ("jumps", "repaint"), 2),
        ("inpaint --solver repaint --steps 5", ("jumps of 10", "got 5"), 1),
        ("inpaint --solver diffpir --eta 0.5", ("--eta", "diffpir"), 2),
        ("restore --sampler ddpm", ("--sampler ddpm", "diffpir"), 2),
        ("inpaint --mask half --missing 0.3", ("--missing", "random"), 2),
        ("inpaint --mask box --side left", ("--side", "--mask half"), 2),
        ("restore --operator blur --factor 3", ("--factor", "downsample"), 2),
        ("restore --operator downsample --box 2x2", ("--box", "--operator mask"), 2),
        ("restore --operator motion --motion-angle nan", ("nan",), 2),
        ("restore --noise nan", ("nan",), 2),
        ("denoise --blur-sigma nan", ("nan",), 2),
        ("invert --start-level -1", ("--start-level", "-1"), 2),
        ("invert --start-level 20", ("--start-level must lie in 0..19", "20"), 1),
        ("denoise --show 4,x", ("--show", "4,x"), 2),
        ("denoise --show 4 --moments 4", ("give one of --moments, --show",), 2),
        ("edit --strength ''", ("--strength", "''"), 2),
        ("edit --level ''", ("--level", "''"), 2),
        ("edit --start-index ''", ("--start-index", "''"), 2),
        ("denoise --show ''", ("--show", "''"), 2),
        ("denoise --level 1e1", ("--level", "'1e1'"), 2),
        ("denoise --moments 500.0", ("--moments", "500.0"), 2),
        ("denoise --blur-times 0", ("--blur-times", "1", "0"), 2),
        ("edit --level 5.0", ("--level", "'5.0'"), 2),
        ("edit --strength nan", ("--strength", "'nan'"), 2),
        ("inpaint --samples 21", ("--samples", "20", "21"), 2),
        ("invert --eta 2", ("--eta", "2"), 2),
        ("anagram --label 0,1 --patch-side 0", ("--patch-side", "0"), 2),
        ("anagram --label 0 --label 1 --view identity --view flip --patch 4", ("--patch", "patches"), 2),
        ("inpaint --mask random --missing 0", ("--missing", "above 0"), 2),
        ("edit --input gone.gif", ("gone.gif", ".png", ".npz", "no such file"), 1),
        ("restore --operator melt", ("--operator", "'melt'"), 2),
        ("restore --operator downsample --factor 3", ("factor", "divisor"), 2),
        ("restore --operator blur --solver repaint", ("repaint", "mask"), 1),
        ("restore --operator blur --already-degraded", ("--already-degraded", "--input"), 2),
        ("restore --operator noise", ("--operator noise", "--noise above 0"), 2),
        ("restore --zeta 2", ("error: --zeta is an option of dps and psld",), 2),
        ("inpaint --jump-length 3", ("error: --jump-length is an option of repaint",), 2),
        ("edit --label 7 --input nowhere.png", ("--label must lie in 0..2",), 1),
        ("edit --out tiny.npz/new/a.png", ("error: tiny.npz/new/a.png: cannot be written",), 1),
        ("denoise --level 0", ("--level", "1 or more"), 2),
        ("denoise --level 30", ("--level must lie in 0..20", "30"), 1),
        ("denoise --blur-kernel 4", ("--blur-kernel", "odd"), 2),
        ("invert --eta 0.5", ("--eta", "ddim"), 2),
        ("invert --sampler ddpm", ("ddpm", "ddim"), 2),
        ("anagram --label 0 --label 1 --view flip", ("--label", "--view", "2 and 1"), 2),
        ("anagram --label 0 --label 1 --class-weights 1", ("--class-weights", "2 numbers"), 2),
        ("anagram --label 0 --label 1 --view identity --view zoom", ("--view", "zoom"), 2),
        (
            "anagram --label 0 --label 1 --view identity --view patches --patch-side 3",
            ("a side that divides 8",),
            1,
        ),
        ("hybrid --label 0", ("--label twice",), 2),
        ("hybrid --label 0 --label 1 --class-weights 1,-1", ("--class-weights", "2 numbers"), 2),
        ("anagram --label 0 --label 1 --resample-steps -1", ("--resample-steps", "-1"), 2),
        ("hybrid --label 0 --label 1 --sigma 1,2", ("--sigma: expected a number above 0 for 2",), 2),
        ("hybrid --label 0 --label 1 --sigma ''", ("--sigma", "''"), 2),
        ("hybrid --label 0,1,2 --sigma 1", ("--sigma", "2 falling numbers"), 2),
        ("hybrid --label 0 --label 1 --colour", ("3 channels", "got 1"), 1),
    ],
)
def test_bad_input_is_one_clear_line(
    work: Path, cli: Callable, command: str, words: tuple[str, ...], code: int
) -> None:
    name, _, rest = command.partition(" ")
    done = cli(f"{name} --run runs/classes {rest}", cwd=work)
    lines = [line for line in done.err.splitlines() if line.startswith("error:")]
    assert (done.code, len(lines)) == (code, 1), done.err
    assert "Traceback" not in done.err
    for word in words:
        assert word in lines[0], lines[0]


def test_of_a_file_and_a_command_line_that_exclude_each_other_the_command_line_wins(
    work: Path, answer: Callable
) -> None:
    (work / "c.yaml").write_text("edit: {strength: 0.5}\ndenoise: {moments: 4}")
    found = answer(f"edit {MODEL} -n 1 --config c.yaml --level 7")
    assert [edit["level"] for edit in found["edits"]] == [7]
    answer(f"denoise {MODEL} -n 1 --level 10 --config c.yaml --show 5")


def test_one_image_is_not_said_to_be_several(work: Path, cli: Callable) -> None:
    for command, text in (("hybrid", "1 hybrid: "), ("anagram", "1 anagram: ")):
        done = cli(f"{command} {MODEL} -n 1 --label 0 --label 1", cwd=work)
        assert done.out.startswith(text), done


def test_models_that_cannot(work: Path, cli: Callable) -> None:
    for command, words in (
        ("anagram --run runs/pixel --label 0 --label 1", "unconditional"),
        ("inpaint --run runs/denoiser --solver replacement", "vector latents"),
        ("edit --run runs/pixel --label own", "unconditional; leave --label out, take --run digits"),
    ):
        done = cli(command, cwd=work)
        assert done.code == 1 and words in done.err, (command, done.err)


def test_models_of_vectors_make_illusions(work: Path, cli: Callable) -> None:
    for command in ("hybrid", "anagram --view identity --view negative"):
        files = command.split()[0]
        done = cli(
            f"{command} --run runs/denoiser --label 0 --label 1 -n 2 --steps 3 --files {files} --json",
            cwd=work,
        )
        assert done.code == 0, done.err
        assert len(list((work / files).iterdir())) == 2


def test_the_benchmark_beside_deepinv_says_whether_it_is_there(work: Path) -> None:
    root = ROOT
    words = (
        f"--run {work / 'runs' / 'classes'} --data {work / 'tiny.npz'} -n 2 --steps 4 --threads 1 --json"
        f" {work / 'r.json'}"
    )
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.restoration_vs_deepinv", *words.split()],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((work / "r.json").read_text())
    assert "deepinv cannot be imported here" in done.stdout or found["settings"]["deepinv"].startswith(
        "deepinv "
    )
    ours = [row for row in found["rows"] if row["side"] == "latentdiff"]
    assert len(ours) == 8 and all(row["psnr"] > 0 and row["seconds_an_image"] > 0 for row in ours)


@pytest.mark.parametrize(
    ("command", "renamed"),
    [
        ("inpaint --mask half --half left --draws 1", {"--half": "--side", "--draws": "--samples"}),
        (
            "restore --operator mask --trust 1 --share 0.2",
            {"--trust": "--diffpir-lambda", "--share": "--diffpir-zeta"},
        ),
        (
            "anagram --label 0,1 --weights 1,2 --refine 1",
            {"--weights": "--class-weights", "--refine": "--resample-steps"},
        ),
    ],
)
def test_options_of_the_version_before(
    work: Path, cli: Callable, command: str, renamed: dict[str, str]
) -> None:
    new = " ".join(renamed.get(word, word) for word in command.split())
    found = []
    for words in (command, new):
        done = cli(f"{words} {MODEL} -n 1 --files out --overwrite --json", cwd=work)
        assert done.code == 0, done.err
        found.append((json.loads(done.out), picture(next((work / "out").rglob("*.png"))).tolist()))
        notes = [line for line in done.err.splitlines() if " is now " in line]
        assert notes == ([] if words == new else [f"{a} is now {b}" for a, b in renamed.items()])
    assert found[0] == found[1]


def test_what_every_editing_command_answers(work: Path, answer: Callable) -> None:
    commands = {
        "edit": ("--strength 0.5", {"edits"}),
        "inpaint": ("--samples 1", {"missing", "restoration", "masked", "draws"}),
        "restore": ("", {"operator", "noise", "restoration", "degraded", "restored"}),
        "denoise": ("--level 3", {"blur", "levels"}),
        "invert": ("", {"start_level", "to", "round_trip_error", "psnr", "noise_std"}),
        "anagram": ("--label 0,1", {"views", "weights", "refine", "read"}),
        "hybrid": ("--label 0,1", {"bands", "sigmas", "weights", "refine", "read"}),
    }
    for name, (options, own) in commands.items():
        found = answer(f"{name} {MODEL} {options} -n 1 --files {name}")
        assert {"run", "n", "seed", "labels", "settings", "wrote"} | own <= set(found), name
        assert ("input" in found) == (name not in ("anagram", "hybrid"))
        assert all((work / path).exists() for path in found["wrote"]) and len(found["wrote"]) == 2
