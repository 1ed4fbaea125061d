"""What commands write: nothing that is there is replaced without --overwrite, and nothing is refused after
the work.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import numpy as np
import pytest
from PIL import Image

from latentdiff.apps.cli.root import COMMANDS, root
from latentdiff.apps.cli.shared.outputs import Output, settle
from latentdiff.data.written import variants_in
from latentdiff.errors import InputError
from latentdiff.viz.image_folder import aligned, save_images, variant
from latentdiff.viz.images import save_image

FAST = "--run runs/classes --steps 2 -n 2"
WRITERS = {  # a command line that writes all that the command can write, by command
    "sample": f"{FAST} --files out --trajectory way.gif",
    "edit": f"{FAST} --strength 0.2,1 --files out",
    "p2p": "--run runs/text --steps 2 -n 1 --prompt 'a disc' --edit 'the disc' --maps maps.png --files out",
    "inpaint": f"{FAST} --samples 2 --solver diffpir --files out",
    "restore": f"{FAST} --files out",
    "denoise": f"{FAST} --level 5,10 --files out",
    "invert": f"{FAST} --files out",
    "anagram": f"{FAST} --label 0,1 --files out",
    "hybrid": f"{FAST} --label 0 --label 1 --files out",
    "sample-cold": "--run runs/cold --steps 2 -n 2 --restore --files out",
    "reconstruct": "--run runs/vae",
    "plot-schedule": "--schedule linear --schedule cosine --T 20",
    "datasets": "tiny.npz --preview preview.png",
    "encode": "--run runs/vae",
    "export": "--run runs/classes --part scheduler",
    "evaluate": "--images tiny.npz --reference tiny.npz --split test --resamples 0 --no-cache",
    "reproduce": "schedules",
}
WITHOUT = {  # commands that write nothing, or a run of its own name
    *(
        "train",
        "train-vae",
        "train-denoiser",
        "distill",
        "train-cold",
        "ui",
        "inspect",
        "models",
        "bench",
        "info",
    )
}
Snapshot = dict[str, tuple[int, int, bytes]]


@pytest.fixture
def work(
    tmp_path: Path,
    tiny_folder: Path,
    tiny_class_run: Path,
    tiny_vae_run: Path,
    tiny_cold_run: Path,
    text_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A folder with tiny.npz and one run of each kind; the study is a small one."""
    from dataclasses import replace

    from latentdiff.apps.studies.process import schedules

    for run in (tiny_class_run, tiny_vae_run, tiny_cold_run, text_folder / "runs" / "text"):
        (tmp_path / "runs").mkdir(exist_ok=True)
        (tmp_path / "runs" / run.name).symlink_to(run)
    shutil.copy(tiny_folder / "tiny.npz", tmp_path)
    monkeypatch.setattr(
        schedules, "STUDY", replace(schedules.STUDY, quick=schedules.SchedulesSettings(T=20, images=1))
    )
    return tmp_path


def files_of(folder: Path) -> Snapshot:
    """Every file below a folder that a command wrote, by path: which file, of when, and its bytes."""
    paths = [
        path for path in folder.rglob("*") if path.is_file() and path.relative_to(folder).parts[0] != "runs"
    ]
    facts = {str(path.relative_to(folder)): (path.stat(), path.read_bytes()) for path in paths}
    return {name: (found.st_ino, found.st_mtime_ns, content) for name, (found, content) in facts.items()}


def commands() -> Iterator[tuple[str, click.Command]]:
    context = click.Context(root)
    for name in COMMANDS:
        command = root.get_command(context, name)
        assert command is not None
        yield name, command


def test_every_command_is_known_to_write_or_not() -> None:
    assert WRITERS.keys() | WITHOUT == COMMANDS.keys() and not WRITERS.keys() & WITHOUT
    for name, command in commands():
        outputs = {str(param.name) for param in command.params if isinstance(param.type, Output)}
        named = {str(param.name) for param in command.params} & {
            "out",
            "files",
            "trajectory",
            "maps",
            "preview",
        }
        assert named == (outputs or named), name
        assert (
            bool(named) == any(param.name == "overwrite" for param in command.params) == (name in WRITERS)
        ), name


LONG = {"denoise", "evaluate"}  # they are tried all the same, with the slow tests


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] if n in LONG else []) for n in WRITERS if n != "reproduce"],
)
def test_nothing_that_is_there_is_replaced_without_overwrite(work: Path, cli: Callable, name: str) -> None:
    command = f"{name} {WRITERS[name]}"
    untouched = files_of(work)
    first = cli(command, cwd=work)
    assert first.code == 0, first.err
    before = files_of(work)
    written = before.keys() - untouched.keys()
    tops = {Path(path).parts[0] for path in written}
    second = cli(command, cwd=work)
    assert second.code == 0, second.err
    after = files_of(work)
    assert {path: after.get(path) for path in before} == before, "an earlier result changed"
    beside = {f"{Path(top).stem}-2{Path(top).suffix}" for top in tops}
    assert {Path(path).parts[0] for path in after.keys() - before.keys()} == beside
    for top in tops:
        assert (
            f"{top} exists: writing {Path(top).stem}-2{Path(top).suffix} (--overwrite replaces it)"
            in second.err
        )
    third = cli(f"{command} --overwrite", cwd=work)
    assert third.code == 0, third.err
    replaced = files_of(work)
    assert replaced.keys() == after.keys() and "exists" not in third.err
    assert all(replaced[path][:2] != before[path][:2] for path in written), "--overwrite replaces"
    assert all(replaced[path] == after[path] for path in after.keys() - written), "and nothing else"


@pytest.mark.slow
def test_a_study_goes_on_by_its_own_command_alone(work: Path, cli: Callable) -> None:
    def made(options: str) -> str:
        done = cli(f"reproduce schedules --json {options}", cwd=work)
        assert done.code == 0, done.err
        return json.loads(done.out)["studies"][0]["page"]

    assert made("") == made("") == "studies/schedules/report.html"
    page = (work / "studies/schedules/results.json").read_bytes()
    assert made("--seed 1") == made("--seed 1") == "studies/schedules-2/report.html"
    assert (work / "studies/schedules/results.json").read_bytes() == page
    assert made("--seed 1 --overwrite") == "studies/schedules/report.html"
    assert (work / "studies/schedules/results.json").read_bytes() != page


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("sample --out x.png --trajectory x.png", "--out x.png and --trajectory x.png name the same place"),
        (
            "edit --input photos --out photos/cat.png --overwrite",
            "--out photos/cat.png is in photos, which the command",
        ),
        (
            "edit --input photos/cat.png --files photos --overwrite",
            "--files photos holds photos/cat.png, which the comm",
        ),
        ("sample --out x.png --trajectory sub/../x.png", "name the same place"),
        (
            "sample --trajectory samples.png",
            "--out samples.png and --trajectory samples.png name the same place",
        ),
        ("sample --out out/x.png --files out", "--out out/x.png lies in the folder of --files"),
        ("p2p --prompt a --edit b --maps p2p.png", "name the same place"),
        ("edit --input photo.png --out photo.png --overwrite", "--out photo.png is what the command reads"),
        ("inpaint --mask photo.png --out photo.png --overwrite", "--out photo.png is what the command reads"),
        ("edit --out x.jpg", "--out: expected a name that ends in .png, got 'x.jpg'"),
        ("sample --trajectory x.png.npz", "--trajectory: expected a name that ends in .png or .gif"),
        ("sample --out dir.png", "dir.png: cannot be written (it is a folder)"),
        ("sample --out photo.png/x.png", "photo.png/x.png: cannot be written"),
        ("sample --files photo.png", "photo.png: expected a folder, found a file"),
        ("sample --files photos --overwrite", "photos: holds cat.png, and --overwrite replaces only what"),
        ("edit --files photos --overwrite", "photos: holds cat.png, and --overwrite replaces only what"),
        ("evaluate --images a --reference b --out photos --overwrite", "photos: holds cat.png"),
        ("export --out photos --overwrite", "photos: holds cat.png"),
        (
            "encode --run runs/vae --out photos --overwrite",
            "photos: holds something else than an encoded data set",
        ),
        ("evaluate --images a --reference b --out .", "holds files already, expected a new or empty folder"),
        (f"sample --out {'x' * 252}.png", "cannot be written (File name too long)"),
    ],
)
def test_what_cannot_be_written_is_refused_before_any_work(
    work: Path, cli: Callable, options: str, words: str
) -> None:
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(work / "photo.png")
    (work / "photos").mkdir()
    shutil.copy(work / "photo.png", work / "photos" / "cat.png")
    (work / "dir.png").mkdir()
    before = files_of(work)
    name, _, rest = options.partition(" ")
    done = cli(
        f"{name} {'' if '--run' in rest or 'evaluate' in name else '--run runs/classes'} {rest}", cwd=work
    )
    assert done.code in (1, 2) and done.err.splitlines()[-1].startswith("error: ") and words in done.err, (
        done.err
    )
    assert files_of(work) == before and done.out == ""
    assert sorted(path.name for path in work.iterdir()) == [
        "dir.png",
        "photo.png",
        "photos",
        "runs",
        "tiny.npz",
    ]


def test_names_up_to_the_limit_of_the_file_system_and_links_are_written(work: Path, cli: Callable) -> None:
    long = "x" * (os.pathconf(work, "PC_NAME_MAX") - 4) + ".png"
    assert cli(f"sample {FAST} --out {long}", cwd=work).code == 0 and (work / long).is_file()
    (work / "target.png").write_bytes(b"old")
    (work / "link.png").symlink_to("target.png")
    assert cli(f"sample {FAST} --out link.png --overwrite", cwd=work).code == 0
    assert (work / "link.png").is_symlink() and Image.open(work / "target.png").format == "PNG"


def test_fewer_images_leave_none_of_those_before(work: Path, cli: Callable) -> None:
    draw = "sample --run runs/classes --steps 2 --out a.png --overwrite --files out"
    for n in (5, 2):
        assert cli(f"{draw} -n {n}", cwd=work).code == 0
    assert sorted(os.listdir(work / "out")) == ["000000.png", "000001.png"]
    edit = "edit --run runs/classes --steps 2 -n 2 --overwrite --files edits"
    assert cli(f"{edit} --strength 0.2,1", cwd=work).code == 0
    assert sorted(os.listdir(work / "edits")) == ["strength=0.2", "strength=1.0"]
    assert cli(f"{edit} --strength 0.2", cwd=work).code == 0
    assert sorted(os.listdir(work / "edits")) == ["000000.png", "000001.png"]


def test_images_that_are_read_or_of_another_command_are_not_replaced(work: Path, cli: Callable) -> None:
    assert cli(f"sample {FAST} --files out", cwd=work).code == 0
    before = files_of(work)
    for command, words in (
        (
            "sample --like out/000000.png --files out",
            "--files out holds out/000000.png, which the command reads",
        ),
        (
            f"edit {FAST} --input out/000001.png --files out",
            "--files out holds out/000001.png, which the command reads",
        ),
        (
            f"edit {FAST} --input out --out out/000001.png",
            "--out out/000001.png is in out, which the command reads",
        ),
        (
            f"edit {FAST} --files out",
            "out: holds 000000.png, and --overwrite replaces only what this command wrote",
        ),
    ):
        done = cli(f"{command} --overwrite", cwd=work)
        assert done.code in (1, 2) and words in done.err and files_of(work) == before, done.err
    assert cli(f"edit {FAST} --input out --out out/edit.png --overwrite", cwd=work).code == 0, (
        "nothing is there"
    )


@pytest.mark.parametrize("where", ["", "new/"])
def test_a_name_is_taken_while_another_command_is_to_write_it(work: Path, where: str) -> None:
    command = root.get_command(click.Context(root), "sample")
    assert command is not None

    def settled(*, overwrite: bool = False) -> tuple[Path, Path]:
        found = {
            "out": work / f"{where}p.png",
            "files": work / f"{where}pf",
            "trajectory": None,
            "overwrite": overwrite,
        }
        settle(found)
        return found["out"], found["files"]

    def expected(suffix: str) -> tuple[Path, Path]:
        return work / f"{where}p{suffix}.png", work / f"{where}pf{suffix}"

    for killed in (False, True):
        with click.Context(command):
            assert settled() == expected("")
            with click.Context(command):
                assert settled() == expected("-2")
                with (
                    click.Context(command),
                    pytest.raises(InputError, match=r"p\.png: is being written by process"),
                ):
                    settled(overwrite=True)
                left_by_a_killed_command = {
                    path: path.read_bytes() for path in work.glob(f"{where}.reserved-*")
                }
                assert len(left_by_a_killed_command) == 4
        assert files_of(work).keys() == {"tiny.npz"} and (work / "new").exists() == (
            killed and where == "new/"
        )
        for path, content in left_by_a_killed_command.items():
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)


def test_a_command_that_is_refused_does_not_say_what_it_writes(work: Path, cli: Callable) -> None:
    (work / "edit.png").touch()
    refused = cli(f"edit {FAST} --input none.png", cwd=work)
    assert refused.code == 1 and refused.err.count("\n") == 1 and refused.err.startswith("error: "), (
        refused.err
    )
    for option in ("--level 5000", "--steps 100000"):  # known once the model is loaded
        refused = cli(f"edit {FAST.replace('--steps 2', '')} {option}", cwd=work)
        assert refused.code == 1 and "exists" not in refused.err, refused.err


def test_a_later_evaluation_leaves_no_figure_of_the_one_before(work: Path, cli: Callable) -> None:
    of_sets = "evaluate --images tiny.npz --reference tiny.npz --resamples 0 --no-cache --overwrite"
    of_a_vae = "evaluate --run runs/vae --what vae --features mnist --resamples 0 --no-cache --overwrite"
    for command, figure in ((of_sets, "images.png"), (of_a_vae, "vae.png"), (of_sets, "images.png")):
        done = cli(command, cwd=work)
        assert done.code == 0, done.err
        assert sorted(os.listdir(work / "evaluation")) == sorted(["evaluation.json", figure])


@pytest.mark.slow
def test_several_results_of_each_image_are_sets_of_their_own(work: Path, cli: Callable) -> None:
    for command, folders in (
        ("inpaint --samples 10 --solver diffpir", [f"draw={k:02d}" for k in range(1, 11)]),
        (
            "denoise --level 5,10",
            [f"level={t}/method={how}" for t in ("05", "10") for how in ("blur", "one-step", "step-by-step")],
        ),
        ("edit --strength 0.5", [""]),
    ):
        shutil.rmtree(work / "out", ignore_errors=True)
        assert cli(f"{command} {FAST} --files out", cwd=work).code == 0
        assert (
            sorted(
                str(path.relative_to(work / "out").parent).removeprefix(".")
                for path in (work / "out").rglob("000001.png")
            )
            == folders
        )
        assert len(list((work / "out").rglob("*.png"))) == 2 * len(folders)
    shutil.rmtree(work / "out")
    assert cli(f"edit {FAST} -n 4 --strength 0.3,0.9 --files out", cwd=work).code == 0
    assert cli(f"sample {FAST} -n 4 --files drawn", cwd=work).code == 0
    score = "evaluate --reference drawn --paired --resamples 0 --no-cache --features mnist --images"
    mixed = cli(f"{score} out", cwd=work)
    assert (
        mixed.code == 1
        and "out: holds 2 results of each image, as strength=0.3 and strength=0.9" in mixed.err
    )
    assert "expected one of them, as out/strength=0.3" in mixed.err
    assert cli(f"{score} out/strength=0.3", cwd=work).code == 0


def test_only_numbered_pictures_of_this_package_are_taken_for_results(tmp_path: Path) -> None:
    import torch

    pixels = np.zeros((4, 4), np.uint8)
    save_image(pixels, tmp_path / "figure.png")
    Image.fromarray(pixels).save(tmp_path / "000007.png")
    save_images(tmp_path, {"a=1": torch.zeros(3, 1, 4, 4), "a=2": torch.zeros(3, 1, 4, 4)})
    save_images(tmp_path, {"": torch.zeros(2, 3, 4, 4)})
    assert sorted(os.listdir(tmp_path)) == ["000000.png", "000001.png", "000007.png", "figure.png"]


def test_variants_are_known_by_what_wrote_them(tmp_path: Path) -> None:
    import torch

    for label in ("a=b", "a=c"):
        (tmp_path / label).mkdir()
        Image.new("L", (4, 4)).save(tmp_path / label / "000000.png")
    assert variants_in(tmp_path) == []
    images = torch.zeros(1, 1, 4, 4)
    save_images(tmp_path, {"level=5/method=blur": images, "level=9/method=blur": images}, command="denoise")
    assert variants_in(tmp_path) == ["level=5/method=blur", "level=9/method=blur"]


def test_numbers_in_names_sort_as_numbers() -> None:
    assert aligned([5, 100, 20]) == ["005", "100", "020"] and aligned([0.25, 1, 0]) == [
        "0.25",
        "1.00",
        "0.00",
    ]
    assert variant(start_index="3", method="blur") == "start-index=3/method=blur"
