"""Which class each image is of: in turn, in proportion; what a checkpoint records of its data."""

import itertools
import json
import re
import shutil
import unicodedata
from pathlib import Path

import click
import numpy as np
import pytest
import torch
from helpers import Cli, reseal
from PIL import Image

import latentdiff as ld
from latentdiff.apps.cli.root import COMMANDS, root
from latentdiff.apps.cli.sample import output
from latentdiff.data.classes import class_index, class_indices, joined, labels_in_proportion, representative
from latentdiff.errors import InputError
from latentdiff.evaluate import sampling

TAIL = [99] + [1] * 99


@pytest.mark.parametrize(
    "counts",
    [[3, 1], [5923, 6742, 5421, 1], [1, 0, 7], [10**12, 3, 10**6], [0, 2], TAIL, [2, 3, 5] * 20, [7]],
)
def test_every_beginning_is_right_to_one_image(counts: list[int]) -> None:
    n = 400
    labels = labels_in_proportion(n, counts)
    assert labels.dtype == torch.int64 and len(labels) == n
    drawn = torch.nn.functional.one_hot(labels, len(counts)).cumsum(0).double()
    share = torch.tensor(counts, dtype=torch.float64) / sum(counts)
    wanted = torch.arange(1, n + 1, dtype=torch.float64)[:, None] * share
    assert float((drawn - wanted).abs().max()) < 1
    assert not drawn[-1][share == 0].any()
    for shorter in (0, 1, 7, 49, 399):
        assert torch.equal(labels_in_proportion(shorter, counts), labels[:shorter])


def test_equal_counts_come_in_turn() -> None:
    assert labels_in_proportion(7, [5, 5, 5]).tolist() == [0, 1, 2, 0, 1, 2, 0]
    for classes in (2, 10, 37):
        assert labels_in_proportion(500, [3] * classes).tolist() == [k % classes for k in range(500)]
    assert labels_in_proportion(8, [3, 1]).tolist() == [0, 0, 1, 0, 0, 0, 1, 0]


@pytest.mark.parametrize("counts", [[], [0, 0], [1, -1]])
def test_counts_that_say_nothing_are_refused(counts: list[int]) -> None:
    with pytest.raises(ValueError, match="counts"):
        labels_in_proportion(3, counts)


def test_a_training_records_how_often_its_data_had_each_class(
    tiny_denoiser_run: Path, tiny_folder: Path
) -> None:
    data = ld.load_dataset(str(tiny_folder / "tiny.npz"))
    assert data.train.labels is not None
    pipe = ld.load(tiny_denoiser_run)
    assert pipe.class_counts == tuple(int((data.train.labels == k).sum()) for k in range(3))
    labels = pipe.class_labels(30, "data")
    assert labels is not None and torch.equal(labels, labels_in_proportion(30, pipe.class_counts))
    equal = pipe.class_labels(4)
    assert equal is not None and equal.tolist() == [0, 1, 2, 0]


def _with(run: Path, folder: Path, **index: object) -> Path:
    """A copy of the last checkpoint of a run with another model index (None: without the entry), under a
    right manifest.
    """
    shutil.copytree(max(run.glob("checkpoint-*")), folder)
    path = folder / "model_index.json"
    content = json.loads(path.read_text()) | index
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
    reseal(folder)
    return folder


def test_class_counts_survive_a_save_and_older_checkpoints_have_none(
    tiny_denoiser_run: Path, tmp_path: Path, cli: Cli
) -> None:
    pipe = ld.load(tiny_denoiser_run)
    pipe.save(tmp_path / "saved")
    assert ld.load(tmp_path / "saved").class_counts == pipe.class_counts
    older = _with(tiny_denoiser_run, tmp_path / "older", class_counts=None)
    assert ld.load(older).class_counts == ()
    with pytest.raises(ld.InputError, match="does not record"):
        ld.load(older).class_labels(3, "data")
    result = cli(f"sample --run {older} -n 3 --steps 2 --class-balance data", cwd=tmp_path)
    assert result.code == 1 and "does not record" in result.err and result.err.count("\n") == 1


@pytest.mark.parametrize(
    "bad", [[1, 2], "many", [0, 0, 0], [1, -1, 3], [1.5, 1, 1], [True, 1, 1], [2**60, 1, 1]]
)
def test_damaged_class_counts_are_named(tiny_denoiser_run: Path, tmp_path: Path, bad: object) -> None:
    damaged = _with(tiny_denoiser_run, tmp_path / "damaged", class_counts=bad)
    with pytest.raises(ld.InputError, match="class_counts as 3 whole numbers"):
        ld.load(damaged)


def test_samples_follow_the_data(tiny_denoiser_run: Path, tmp_path: Path, cli: Cli) -> None:
    command = f"sample --run {tiny_denoiser_run} -n 20 --steps 2 --out a.npz"
    assert cli(f"{command} --class-balance data", cwd=tmp_path).code == 0
    drawn = np.load(tmp_path / "a.npz", allow_pickle=False)["labels"]
    assert drawn.tolist() == labels_in_proportion(20, ld.load(tiny_denoiser_run).class_counts).tolist()
    for other in ("--label 1", "--interpolate 3"):
        result = cli(f"{command} --class-balance data {other}", cwd=tmp_path)
        assert result.code == 2 and "--class-balance" in result.err


def test_an_unconditional_model_has_no_balance(tiny_pixel_run: Path, tiny_folder: Path, cli: Cli) -> None:
    assert ld.load(tiny_pixel_run).class_counts == () and ld.load(tiny_pixel_run).class_labels(3) is None
    result = cli(f"sample --run {tiny_pixel_run} -n 2 --class-balance data", cwd=tiny_folder)
    assert result.code == 1 and "unconditional" in result.err
    result = cli(
        f"evaluate --run {tiny_pixel_run} -n 20 --class-balance data --what samples", cwd=tiny_folder
    )
    assert result.code == 1 and "--class-balance" in result.err


def test_an_evaluation_draws_classes_as_the_data_had_them(
    tiny_denoiser_run: Path, tiny_folder: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    real = sampling.draw_samples

    def watched(*args: object, **named: object) -> torch.Tensor:
        seen.append(named["labels"])
        return real(*args, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(sampling, "draw_samples", watched)
    counts = ld.load(tiny_denoiser_run).class_counts
    common = (
        f"evaluate --run {tiny_denoiser_run} --features mnist --what samples --resamples 0 --neighbors 0 -n"
        " 20 --steps 2"
    )
    for options, balance, labels in (
        ("", "data", labels_in_proportion(20, counts)),
        ("--class-balance equal", "equal", torch.arange(20) % 3),
    ):
        result = cli(f"{common} {options} --no-cache --json --out {tmp_path / 'out'}", cwd=tiny_folder)
        assert result.code == 0, result.err
        assert json.loads(result.out)["samples"]["class_balance"] == balance
        assert torch.equal(seen.pop(), labels)  # type: ignore[arg-type]


def test_fewer_images_than_classes_leave_no_empty_columns(tiny_denoiser_run: Path) -> None:
    pipe = ld.load(tiny_denoiser_run)

    def columns(labels: list[int]) -> int | None:
        return output.columns(
            pipe, output.SampleRequest(len(labels), labels, 0, Path("a.png"), None, None, None)
        )

    assert columns([0, 1, 2, 0, 1, 2]) == 3
    assert columns([0, 1]) is None and columns([0, 0, 1, 2]) is None


def test_a_picture_of_sorted_images_shows_all_classes() -> None:
    labels = torch.arange(5).repeat_interleave(100)
    assert labels[representative(labels, 500, 12)].tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1]
    assert labels[representative(None, 500, 5)].tolist() == [0, 1, 2, 3, 4]
    assert representative(None, 3, 12).tolist() == [0, 1, 2] and representative(None, 1, 4).tolist() == [0]


def test_the_pictures_of_trainings_and_of_reconstructions_show_all_classes(
    tiny_vae_run: Path, tmp_path: Path, cli: Cli
) -> None:
    """Images of class k are flat, of brightness 60 k, and sorted by class."""
    for part, k in itertools.product(("train", "val"), range(4)):
        folder = tmp_path / "flat" / part / f"c{k}"
        folder.mkdir(parents=True)
        for i in range(40):
            Image.new("L", (8, 8), 60 * k).save(folder / f"{i}.png")
    common = "--data flat --width 8 --steps 1 --batch 8"
    for command in ("train-vae --latent 4 --beta-warmup 0", "train-cold --T 2 --degradation fade"):
        assert (done := cli(f"{command} {common} --name {command[6:9]}", cwd=tmp_path)).code == 0, done.err
    assert cli(f"reconstruct --run {tiny_vae_run} --data flat --split train -n 8", cwd=tmp_path).code == 0
    for path in (*tmp_path.glob("runs/*/samples-*.png"), tmp_path / "reconstructions.png"):
        assert {0, 60, 120, 180} <= set(np.unique(np.asarray(Image.open(path).convert("L")))), path


NUMBERED = ("00", "01", "10", "2")


@pytest.mark.parametrize(
    ("classes", "label", "index"),
    [
        (NUMBERED, "01", 1),
        (NUMBERED, "1", 1),  # the number, not the class at that index
        (NUMBERED, "2", 3),
        (NUMBERED, "10", 2),
        (NUMBERED, 2, 2),  # a Python int is an index
        (("1", "2", "3", "other"), "3", 2),
        (("ant", "bee"), "1", 1),
        (("a, b", "c"), "0", 0),
    ],
)
def test_a_class_is_known_by_its_name_and_then_by_its_index(
    classes: tuple[str, ...], label: int | str, index: int
) -> None:
    assert class_index(classes, label) == index


@pytest.mark.parametrize(
    ("classes", "label"),
    [(NUMBERED, "3"), (NUMBERED, "-1"), (("1", "2", "other"), "0"), (("1", "01"), "001")],
)
def test_a_number_is_no_index_where_classes_are_called_by_numbers(
    classes: tuple[str, ...], label: str
) -> None:
    with pytest.raises(InputError, match=f"unknown class '{label}'; this model knows {', '.join(classes)}"):
        class_index(classes, label)


def test_several_classes_are_separated_by_commas_unless_one_is_called_so() -> None:
    classes = ("a, b", "a", "b")
    assert class_indices(classes, ["a, b"]) == [0]
    assert class_indices(classes, ["b,a, 0"]) == [2, 1, 0]
    assert class_indices(classes, ["a, b", "b", "0,a"]) == [
        0,
        2,
        0,
        1,
    ]  # a repeated option keeps its values apart
    assert class_indices(classes, [joined(classes, ["a, b", "b", "0,a"])]) == [0, 2, 0, 1]
    with pytest.raises(InputError, match=r"unknown class 'c'; this model knows 'a, b' \(index 0\), a, b$"):
        class_indices(classes, ["c"])


def test_a_name_is_found_however_its_accents_are_composed() -> None:
    composed, decomposed = (unicodedata.normalize(form, "Ünï, çödé") for form in ("NFC", "NFD"))
    for name, text in ((composed, decomposed), (decomposed, composed)):
        assert class_index(("a", name), text) == 1 and class_indices(("a", name), [text]) == [1]
    assert [class_index((composed, decomposed), name) for name in (composed, decomposed)] == [0, 1]


@pytest.mark.parametrize(
    ("options", "drawn", "said"),
    [
        ("-n 4 --label cat --label 0", ["cat", "ant", "cat", "ant"], ""),
        ("-n 4 --label cat,0", ["cat", "ant", "cat", "ant"], ""),
        (
            "-n 2 --label cat,0,bee",
            ["cat", "ant"],
            "2 images: of the 3 given with --label the first 2 are used",
        ),
        ("-n 2", ["ant", "bee"], "drawing the first 2 of 3 classes (ant, bee); --label chooses"),
        ("-n 1", ["ant"], "drawing class ant; --label chooses"),
        ("-n 3", ["ant", "bee", "cat"], "drawing all 3 classes in turn; --label chooses"),
        ("-n 1 --config labels.yaml", ["bee"], "1 image: of the 2 given with --label the first 1 are used"),
    ],
)
def test_what_is_drawn_is_what_was_given_and_said(
    cli: Cli, tmp_path: Path, tiny_class_run: Path, options: str, drawn: list[str], said: str
) -> None:
    (tmp_path / "labels.yaml").write_text("label: [bee, cat]\n")
    done = cli(f"sample --run {tiny_class_run} --steps 1 --json {options}", cwd=tmp_path)
    assert done.code == 0, done.err
    assert json.loads(done.out)["labels"] == drawn
    assert said in done.err and (said or not done.err)


def test_every_option_of_several_values_may_be_repeated() -> None:
    """Of an option that takes one text the last would silently win."""
    found = set()
    for name in COMMANDS:
        command = root.get_command(click.Context(root), name)
        assert command is not None
        for param in command.params:
            words = getattr(param, "help", None) or ""
            if re.search(
                r"several,? (?:such )?as|[a-z0-9.]+,[a-z0-9.]+ \(default|separated by commas|, as \w+,\w+",
                words,
            ):
                assert param.multiple, f"{name} {param.opts[0]}"  # type: ignore[attr-defined]
                found.add(param.opts[0])
    assert found >= {
        "--label",
        "--steps",
        "--strength",
        "--level",
        "--show",
        "--what",
        "--schedule",
        "--operator",
    }


@pytest.mark.parametrize("name", ["sample", "edit"])
def test_a_repeated_label_keeps_its_values_apart(name: str) -> None:
    command = root.get_command(click.Context(root), name)
    assert command is not None
    with command.make_context(name, ["--label", "dog, big", "--label", "cat"]) as context:
        assert context.params["label"] == ("dog, big", "cat")
