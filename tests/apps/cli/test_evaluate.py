"""`latentdiff evaluate`: of runs and of images; complete JSON, the same figures for any batch, one line for
bad input.
"""

import json
import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from latentdiff.data import load_dataset
from latentdiff.parallel.device import bf16_native
from latentdiff.viz.images import save_npz

SHARED = "--features mnist --resamples 20 --test-images 8 --threads 1 -n 12 --neighbors 6 --steps 3 --json"


SCORE = {"value", "low", "high", "corrected", "resamples"}
PAIRS = {"n", "identical", "psnr", "ssim", "rmse"}
SETS = {"n", "reference", "features", "fd", "kd", "precision", "recall", "density", "coverage", "accuracy"}
SETS |= {"confident", "sharpness", "histogram", "per_class"}
CLOSE = {"median", "test_median", "test_quantile", "share_closer_than_test_quantile"}
KEYS = {  # of evaluation.json, which scripts of users read
    "vae": PAIRS | {"perceptual", "fd", "kl_nats", "active_units", "latent_units", "collapsed"},
    "vae/psnr": SCORE,
    "vae/perceptual": SCORE | {"network"},
    "vae/fd": SCORE | {"features"},
    "samples": SETS | {"floor", "agreement", "neighbors", "settings", "class_balance", "seed", "seconds"},
    "samples/floor": SETS,
    "samples/fd": SCORE,
    "samples/features": {"name", "sha256", "dim"},
    "samples/neighbors": {
        "n",
        "test_n",
        "train_n",
        "identical",
        "quantile",
        "mirrored",
        "features",
        "pixels",
    },
    "samples/neighbors/features": CLOSE | {"network"},
    "samples/neighbors/pixels": CLOSE,
    "denoiser": {"loss", "weighting", "strata", "bits_per_dimension", "by_level"},
    "denoiser/by_level": {"n", "levels", "prediction", "prediction_se", "x0", "eps"},
    "reconstruction/0": {"t", "alpha_bar", "one_step", "iterative"},
    "reconstruction/0/one_step": PAIRS,
    "reconstruction/0/iterative": PAIRS | {"steps"},
}


def has_keys(found: dict[str, Any], wanted: dict[str, set[str]]) -> bool:
    def at(path: str) -> Any:
        place: Any = found
        for name in path.split("/"):
            place = place[int(name)] if isinstance(place, list) else place[name]
        return place

    return {path: set(at(path)) for path in wanted} == wanted


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("LATENTDIFF_CACHE", str(folder))
    return folder


def evaluated(cli: Callable, folder: Path, out: Path, options: str) -> dict[str, Any]:
    code, text, err = cli(f"evaluate {options} --out {out}", cwd=folder)
    assert code == 0, err
    return json.loads(text)


def leaves(values: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(values, dict):
        for key, value in values.items():
            yield from leaves(value, f"{path}/{key}")
    elif isinstance(values, list):
        for k, value in enumerate(values):
            yield from leaves(value, f"{path}/{k}")
    else:
        yield path, values


def test_a_denoiser_run_has_every_part(
    cli: Callable, tiny_folder: Path, tiny_denoiser_run: Path, tmp_path: Path, cache: Path
) -> None:
    found = evaluated(cli, tiny_folder, tmp_path / "out", f"--run {tiny_denoiser_run} {SHARED}")
    assert found["parts"] == ["vae", "samples", "denoiser", "reconstruction"] and has_keys(found, KEYS)
    assert found["data"] == "tiny.npz" and found["split"] == "test" and found["resampling"]["resamples"] == 20
    vae, samples, denoiser = found["vae"], found["samples"], found["denoiser"]
    for name in ("psnr", "ssim", "rmse", "perceptual", "kl_nats"):
        assert vae[name]["low"] < vae[name]["value"] < vae[name]["high"]
    for fd in (vae["fd"], samples["fd"]):  # of 12 images with 96 features each
        assert fd["value"] > 0 and fd["low"] is None and fd["corrected"] is None and fd["resamples"] is None
    assert vae["n"] == 12 and vae["latent_units"] == 4 and vae["perceptual"]["network"] == "mnist"
    for side in (samples, samples["floor"]):
        for name in ("kd", "precision", "recall", "density", "coverage", "confident", "sharpness"):
            assert side[name]["low"] <= side[name]["value"] <= side[name]["high"]
        assert side["n"] == 12 and side["reference"] == {"name": "tiny.npz test", "n": 12}
        assert side["features"]["name"] == "mnist" and len(side["features"]["sha256"]) == 64
        assert (
            sum(side["histogram"]) == 12 and side["accuracy"] is None
        )  # three classes, and a network of ten
    assert found["dtype"] == ("bfloat16" if bf16_native(torch.device("cpu")) else "float32")
    assert samples["settings"]["steps"] == 3 and samples["settings"]["guidance"] == 1
    assert samples["neighbors"]["n"] == 6 and samples["neighbors"]["train_n"] == 43
    assert len(denoiser["by_level"]["levels"]) == 20 and denoiser["bits_per_dimension"] is None
    assert denoiser["loss"]["low"] < denoiser["loss"]["value"] < denoiser["loss"]["high"]
    assert [each["t"] for each in found["reconstruction"]] == [2, 5, 10]
    assert all(each[kind]["n"] == 8 for each in found["reconstruction"] for kind in ("one_step", "iterative"))
    assert sum("no interval below 432 on a side" in line for line in found["warnings"]) == 2, (
        "samples, and the VAE"
    )
    names = [
        "evaluation.json",
        "vae.png",
        "samples.png",
        "classes.png",
        "neighbors.png",
        "denoiser.png",
        "reconstruction.png",
    ]
    assert found["wrote"] == [str(tmp_path / "out" / name) for name in names]
    for path in found["wrote"][1:]:
        with Image.open(path) as picture:
            assert min(picture.size) > 100
    assert json.loads((tmp_path / "out/evaluation.json").read_text()) == found
    assert len(list(cache.glob("*.safetensors"))) == 4  # test, train, train mirrored, a classifier


def test_a_vae_run_and_a_pixel_run_have_their_parts(
    cli: Callable, tiny_folder: Path, tiny_vae_run: Path, tiny_pixel_run: Path, tmp_path: Path
) -> None:
    vae = evaluated(cli, tiny_folder, tmp_path / "vae", f"--run {tiny_vae_run} {SHARED}")
    assert vae["parts"] == ["vae"] and vae["samples"] is None and (tmp_path / "vae/vae.png").is_file()
    pixel = evaluated(
        cli,
        tiny_folder,
        tmp_path / "pixel",
        f"--run {tiny_pixel_run} {SHARED} --what denoiser,reconstruction",
    )
    assert pixel["parts"] == ["denoiser", "reconstruction"] and pixel["samples"] is None
    bits = pixel["denoiser"]["bits_per_dimension"]
    assert set(bits) == {
        "total",
        "n",
        "standard_error",
        "prior",
        "terms",
        "decoder",
        "variance",
        "strata",
        "T",
    }
    assert bits["T"] == bits["strata"] == 20 and bits["n"] == 8 and bits["standard_error"] > 0
    assert bits["total"]["value"] == pytest.approx(bits["prior"] + bits["terms"] + bits["decoder"])
    assert bits["total"]["value"] > 1
    assert any("bits per dimension, more than the 8" in line for line in pixel["warnings"]) == (
        bits["total"]["value"] > 8
    )


@pytest.mark.slow
@pytest.mark.parametrize("run", ["tiny_denoiser_run", "tiny_pixel_run"])
def test_no_figure_depends_on_the_batch(
    cli: Callable, tiny_folder: Path, run: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """The law of the issue: the same to 1e-9 for 1, 7 and 500."""
    folder = request.getfixturevalue(run)
    found = {
        batch: evaluated(
            cli, tiny_folder, tmp_path / "out", f"--run {folder} {SHARED} -n 120 --batch {batch} --no-cache"
        )
        for batch in (1, 7, 500)
    }
    figures = {batch: dict(leaves(values)) for batch, values in found.items()}
    assert figures[1].keys() == figures[7].keys() == figures[500].keys()
    numbers = [
        key
        for key, value in figures[500].items()
        if isinstance(value, float) and not key.endswith("/seconds")
    ]
    assert len(numbers) > 150
    for key in numbers:
        for batch in (1, 7):
            assert figures[batch][key] == pytest.approx(figures[500][key], rel=1e-9, abs=1e-9), key


def test_the_cache_is_used_and_a_damaged_one_is_told(
    cli: Callable, tiny_folder: Path, tiny_vae_run: Path, tmp_path: Path, cache: Path
) -> None:
    options = f"evaluate --run {tiny_vae_run} {SHARED} --out {tmp_path / 'out'}"
    first = json.loads(cli(options, cwd=tiny_folder).out)
    (path,) = cache.glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:-1])
    code, out, err = cli(options, cwd=tiny_folder)
    assert code == 0 and "damaged" in err and json.loads(out)["vae"] == first["vae"]
    code, out, err = cli(options, cwd=tiny_folder)
    assert code == 0 and "damaged" not in err and json.loads(out)["vae"] == first["vae"]


def digits(folder: Path, n: int = 60) -> None:
    """ours.npz and theirs.npz: test digits of the embedded set with their labels, and others."""
    test = load_dataset("mnist5k").test
    labels = None if test.labels is None else test.labels[:n].tolist()
    save_npz(test.images[:n], folder / "ours.npz", labels=labels)
    noisy = (test.images[:n].int() + 20).clamp(0, 255).to(test.images.dtype)
    save_npz(noisy, folder / "theirs.npz", labels=labels)


def test_images_are_scored_against_a_data_set(cli: Callable, tmp_path: Path) -> None:
    digits(tmp_path)
    found = evaluated(
        cli, tmp_path, tmp_path / "out", "--images ours.npz --reference mnist5k --resamples 20 --json"
    )
    assert found["images"] == "ours.npz" and found["reference"] == {"name": "mnist5k test", "n": 500}
    assert found["n"] == 60 and found["precision"]["value"] == 1  # they are among the reference
    assert found["accuracy"]["value"] > 0.9 and len(found["per_class"]) == 10 and found["pairs"] is None
    assert (tmp_path / "out/images.png").is_file()
    assert any("60 of 60 images stand in mnist5k test too" in line for line in found["warnings"])


def test_sets_of_another_kind_are_compared_with_a_warning(cli: Callable, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for name, shape in (("a", (12, 28, 28)), ("b", (12, 28, 28)), ("c", (12, 32, 32))):
        np.savez(tmp_path / f"{name}.npz", images=generator.integers(0, 256, shape, dtype=np.uint8))
    common = "--features mnist --resamples 0 --json"
    found = evaluated(cli, tmp_path, tmp_path / "out", f"--images a.npz --reference b.npz {common}")
    assert not any("stand in" in line or "difference of kind" in line for line in found["warnings"])
    found = evaluated(cli, tmp_path, tmp_path / "out", f"--images a.npz --reference c.npz {common}")
    assert any("images [1, 28, 28] against [1, 32, 32]" in line for line in found["warnings"])


def test_folders_that_hold_some_digits_are_told_by_name(cli: Callable, tmp_path: Path) -> None:
    """Classes of a folder are numbered by what it has: 3 and 7 would be 0 and 1."""
    test = load_dataset("mnist5k").test
    assert test.labels is not None
    for name in ("3", "7"):
        (tmp_path / "some" / name).mkdir(parents=True)
        (tmp_path / "animals" / f"animal {name}").mkdir(parents=True)
        for k, image in enumerate(test.images[test.labels == int(name)][:20]):
            for folder in (tmp_path / "some" / name, tmp_path / "animals" / f"animal {name}"):
                Image.fromarray(image[0].numpy()).save(folder / f"{k:02d}.png")
    found = evaluated(
        cli, tmp_path, tmp_path / "out", "--images some --reference mnist5k --resamples 0 --json"
    )
    assert found["accuracy"]["value"] > 0.9
    assert [(each["label"], each["n"]) for each in found["per_class"]] == [(3, 20), (7, 20)]
    assert all(each["real"] == int((test.labels == each["label"]).sum()) for each in found["per_class"])
    code, text, err = cli(
        f"evaluate --images animals --reference mnist5k --resamples 0 --json --out {tmp_path / 'b'}",
        cwd=tmp_path,
    )
    assert (
        code == 0
        and json.loads(text)["accuracy"] is None
        and "the classes of animals are not those of mnist" in err
    )


def test_options_of_the_run_hold_where_others_are_given(
    cli: Callable, tiny_folder: Path, tiny_denoiser_run: Path, tmp_path: Path
) -> None:
    options = f"--run {tiny_denoiser_run} --what denoiser {SHARED} --data-root {tmp_path}"
    assert evaluated(cli, tiny_folder, tmp_path / "out", options)["data"] == "tiny.npz"


def test_pairs_are_compared_one_by_one(cli: Callable, tmp_path: Path) -> None:
    digits(tmp_path)
    found = evaluated(
        cli,
        tmp_path,
        tmp_path / "out",
        "--images ours.npz --reference theirs.npz --paired --resamples 20 --json",
    )
    a, b = (np.load(tmp_path / name)["images"] / 255 for name in ("ours.npz", "theirs.npz"))
    rmse = np.sqrt(((a - b) ** 2).mean((1, 2)))
    assert found["pairs"]["rmse"]["value"] == pytest.approx(rmse.mean(), rel=1e-9)
    assert found["pairs"]["psnr"]["value"] == pytest.approx((-20 * np.log10(rmse)).mean(), rel=1e-9)
    assert has_keys(
        found, {"pairs": PAIRS | {"perceptual"}, "per_class/0": {"label", "n", "real", "accuracy", "fd"}}
    )
    assert found["pairs"]["perceptual"]["value"] > 0 and found["pairs"]["perceptual"]["network"] == "mnist"


def folder(place: Path, images: np.ndarray, names: list[str]) -> None:
    place.mkdir(parents=True)
    for image, name in zip(images, names, strict=True):
        Image.fromarray(image).save(place / name)


def test_pairs_of_folders_are_those_of_their_names(cli: Callable, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 28, 28), dtype=np.uint8)
    names = [f"{k}.png" for k in range(6)]
    folder(tmp_path / "a", images, names)
    folder(tmp_path / "same", images, names)
    command = "evaluate --images a --reference {} --paired --resamples 0 --features mnist --json --out {}"
    found = cli(command.format("same", tmp_path / "o"), cwd=tmp_path)
    assert found.code == 0 and json.loads(found.out)["pairs"]["identical"] == 6
    assert json.loads(found.out)["pairs"]["psnr"]["value"] is None, "infinite"
    folder(tmp_path / "other", images[1:], names[1:])
    (tmp_path / "a" / "5.png").unlink()
    found = cli(command.format("other", tmp_path / "o"), cwd=tmp_path)
    assert (
        found.code == 1
        and "the same file names in both folders, found 2 without a partner, the first 0 in a" in found.err
    )


def test_pairs_do_not_depend_on_the_order_of_suffixes_and_names_are_printed_as_they_stand(
    cli: Callable, tmp_path: Path
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 28, 28), dtype=np.uint8)
    names = ["a.png", "a-b.png", "a.b.png", "c.png"]
    for place in ("b", "x[/b] $_"):
        folder(tmp_path / place, images, names)
    (tmp_path / "b" / "a.png").rename(tmp_path / "b" / "a.JPG")  # sorted before a.b.png, unlike a.png
    command = "evaluate --images 'x[/b] $_' --reference b --paired --resamples 0 --features mnist --out o"
    found = cli(command, cwd=tmp_path)
    assert found.code == 0 and found.out.startswith("x[/b] $_ against b\n4 images against 4 of b"), found
    assert json.loads((tmp_path / "o" / "evaluation.json").read_text())["pairs"]["identical"] == 4
    found = cli(
        command.replace("'x[/b] $_'", "b").replace("reference b", "reference 'x[/b] $_'"), cwd=tmp_path
    )
    assert found.code == 0 and "4 images against 4 of x[/b] $_" in found.out, found
    folder(tmp_path / "twice", images, ["a.png", "a.webp", "a.b.png", "c.png"])
    found = cli(command.replace("reference b", "reference twice"), cwd=tmp_path)
    assert found.code == 1 and found.err.endswith(
        "differ without their suffixes, found a twice in twice\n"
    ), found.err


def test_identical_pairs_do_not_hide_the_psnr_of_the_others(cli: Callable, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 28, 28), dtype=np.uint8)
    other = images.copy()
    other[2:] = 255 - other[2:]
    np.savez(tmp_path / "a.npz", x=images)
    np.savez(tmp_path / "b.npz", x=other)
    options = "--images a.npz --reference b.npz --paired --resamples 0 --features mnist"
    found = evaluated(cli, tmp_path, tmp_path / "o", f"{options} --json")["pairs"]
    mse = ((images[2:] / 255.0 - other[2:] / 255.0) ** 2).mean((1, 2))
    assert found["identical"] == 2 and found["psnr"]["value"] == pytest.approx((-10 * np.log10(mse)).mean())
    out = cli(f"evaluate {options} --out {tmp_path / 'o'}", cwd=tmp_path).out
    assert "2 identical pairs left out" in out


def test_classes_of_image_sets_are_named_as_the_network_numbers_them(cli: Callable, tmp_path: Path) -> None:
    data = load_dataset("mnist5k")
    assert data.test.labels is not None
    for digit in (1, 3, 7):
        chosen = data.test.images[data.test.labels == digit][:5, 0].numpy()
        for side in ("a", "b"):
            folder(tmp_path / side / str(digit), chosen, [f"{k}.png" for k in range(5)])
    found = cli(
        f"evaluate --images a --reference b --resamples 0 --features mnist --out {tmp_path / 'o'}",
        cwd=tmp_path,
    )
    table = found.out.split("by class")[1]
    rows = [line.split()[1] for line in table.splitlines() if line.split()[1:2] and line.split()[1].isdigit()]
    assert found.code == 0 and rows == ["1", "3", "7"], found.out


def test_people_read_tables_that_name_the_network(
    cli: Callable, tiny_folder: Path, tiny_denoiser_run: Path, tmp_path: Path
) -> None:
    options = SHARED.replace("--json", "")
    code, out, err = cli(f"evaluate --run {tiny_denoiser_run} {options} --out {tmp_path}", cwd=tiny_folder)
    assert code == 0, err
    for text in (
        "FD (mnist)",
        "KD (mnist) x 1000",
        "precision (mnist)",
        "PSNR in dB",
        "perceptual distance (mnist)",
        "real images",
    ):
        assert text in out
    assert (
        "warning: 12 images against 12 are too few for the Frechet distance of the 96 features of mnist, which"
        " is mostly bias and has no interval below 432 on a side" in err
    )
    digits(tmp_path)
    code, out, err = cli(
        f"evaluate --images ours.npz --reference theirs.npz --resamples 0 --out {tmp_path}/o", cwd=tmp_path
    )
    assert (
        code == 0
        and "28x28 grey images are taken for digits" in err
        and " to " not in out.split("by class")[0]
    )


def test_a_guidance_of_zero_samples_without_classes(
    cli: Callable, tiny_folder: Path, tiny_denoiser_run: Path, tmp_path: Path
) -> None:
    options = f"--run {tiny_denoiser_run} {SHARED} --what samples --guidance 0 --neighbors 0"
    found = evaluated(cli, tiny_folder, tmp_path / "out", options)
    assert found["samples"]["settings"]["guidance"] == 0 and found["samples"]["neighbors"] is None
    assert not (tmp_path / "out/neighbors.png").exists() and found["samples"]["floor"]["n"] == 12


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--what vae,magic", "--what: expected vae, samples, denoiser, reconstruction, scenes, got 'magic'"),
        ("--reference mnist5k", "needs --images"),
        ("--paired", "needs --images"),
        ("--images a.npz", "compared with --reference"),
        ("--images a.npz --reference mnist5k --what vae", "--what is about a run"),
        (
            "--images a.npz --reference mnist5k --perceptual-network mnist",
            "--perceptual-network is for pairs of images",
        ),
        ("--images a.npz --reference mnist5k -n 7", "-n is about a run"),
        ("--images a.npz --reference mnist5k --guidance 2", "--guidance is about a run"),
        ("--resamples 5", "expected 0 (no intervals) or 20 and more, got 5"),
        ("--confidence nan", "--confidence: expected a finite number, got nan"),
        ("--confidence 1", "less than or equal to 0.999, got 1"),
        ("-n 3", "4<=x<=1000000"),
        ("--features vgg", "'vgg' is not one of"),
        (
            "--feature-weights x.safetensors",
            "--feature-weights goes with --features inception, got --features None",
        ),
        (
            "--features mnist --feature-weights x.safetensors",
            "--feature-weights goes with --features inception, got --features mnist",
        ),
        ("--device tpu", "--device: expected auto, cpu"),
        ("--sampler dpm++ --eta 0.5", "eta is an option of the ddim sampler"),
        ("--batch 0", "--batch: expected a number greater than or equal to 1, got 0"),
    ],
)
def test_wrong_usage_exits_with_2(cli: Callable, tmp_path: Path, options: str, message: str) -> None:
    code, out, err = cli(f"evaluate {options}", cwd=tmp_path)
    assert code == 2 and not out and message in err and len(err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "message", "exit_code"),
    [
        ("", "no runs in runs/", 1),
        ("--run nowhere", "nowhere: no such run", 1),
        ("--images nowhere --reference mnist5k", "no such file or folder", 1),
        ("--images ours.npz --reference text.npz", "expected a readable .npz file", 1),
        (
            "--images ours.npz --reference few.npz --paired",
            "pairs need as many images of one shape on both sides",
            1,
        ),
        ("--images few.npz --reference ours.npz", "more than 3 images on each side, got 3 and 60", 1),
        ("--images ours.npz --reference theirs.npz --features inception", "needs its weights", 1),
        (
            "--images ours.npz --reference theirs.npz --features inception --feature-weights text.npz",
            "text.npz",
            1,
        ),
        ("--images ours.npz --reference theirs.npz --split val --size 0", "size", 2),
        ("--images ours.npz --reference theirs.npz --out text.npz/out", "text.npz", 1),
    ],
)
def test_bad_input_is_one_line(
    cli: Callable, tmp_path: Path, options: str, message: str, exit_code: int
) -> None:
    digits(tmp_path)
    (tmp_path / "text.npz").write_text("no archive")
    np.savez(tmp_path / "few.npz", x=np.zeros((3, 28, 28), dtype=np.uint8))
    code, out, err = cli(f"evaluate {options}", cwd=tmp_path)
    last = err.strip().splitlines()[-1]
    assert (
        code == exit_code
        and not out
        and message in last
        and last.startswith("error: ")
        and "Traceback" not in err
    )
    assert not (tmp_path / "evaluation").exists()  # nothing is left of what measured nothing


def test_a_run_without_the_part_and_data_of_another_shape(
    cli: Callable, tiny_folder: Path, tiny_vae_run: Path, tiny_pixel_run: Path, tmp_path: Path
) -> None:
    code, _, err = cli(f"evaluate --run {tiny_vae_run} --what samples", cwd=tiny_folder)
    assert code == 1 and "has no samples to evaluate, only vae" in err
    for run in (tiny_vae_run, tiny_pixel_run):
        code, _, err = cli(
            f"evaluate --run {run} --data mnist5k --out {tmp_path} --features mnist", cwd=tiny_folder
        )
        assert code == 1 and "[1, 8, 8]" in err and "[1, 28, 28]" in err
    code, _, err = cli(f"evaluate --run {tiny_pixel_run} --guidance 2", cwd=tiny_folder)
    assert code == 1 and "unconditional" in err


def test_a_run_whose_files_changed_is_refused(
    cli: Callable, tiny_folder: Path, tiny_vae_run: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_vae_run, tmp_path / "run")
    weights = next((tmp_path / "run").glob("checkpoint-*/vae/*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-2])
    code, out, err = cli(f"evaluate --run {tmp_path / 'run'} --out {tmp_path / 'o'}", cwd=tiny_folder)
    assert code == 1 and not out and str(weights) in err


def test_the_newest_run_of_any_kind_is_taken(
    cli: Callable, tiny_folder: Path, tiny_vae_run: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_vae_run, tmp_path / "runs" / "only")
    found = evaluated(cli, tiny_folder, tmp_path / "o", f"--runs {tmp_path / 'runs'} {SHARED}")
    assert "only" in found["run"] and not math.isnan(found["vae"]["psnr"]["value"])


def test_too_few_images_to_compare_with_are_refused_before_any_work(
    cli: Callable, tiny_folder: Path, tiny_pixel_run: Path, tmp_path: Path
) -> None:
    with np.load(tiny_folder / "tiny.npz") as tiny:
        np.savez(tmp_path / "few.npz", x_train=tiny["x_train"], x_test=tiny["x_test"][:3])
    refused = cli(f"evaluate --run {tiny_pixel_run} --data few.npz -n 8 --no-cache --out ev", cwd=tmp_path)
    assert (
        refused.code == 1
        and "more than 3 images in the test split" in refused.err
        and "found 3" in refused.err
    )
    assert "parts denoiser" in refused.err and not list((tmp_path / "ev").glob("*.png"))
