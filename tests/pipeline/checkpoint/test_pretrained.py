"""Models that ship with the package: whole, small, as good as they say, and there where nothing has been
trained.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import Result, run_cli

import latentdiff
from latentdiff.config.diffusion import DiffusionConfig
from latentdiff.data import load_dataset, to_uint8
from latentdiff.errors import InputError
from latentdiff.metrics.features import extract, feature_network
from latentdiff.nn import build
from latentdiff.nn.networks import MLPConfig
from latentdiff.pipeline.checkpoint import pretrained
from latentdiff.pipeline.checkpoint.folder import open_checkpoint
from latentdiff.pipeline.checkpoint.pretrained import Shipped, shipped_for, shipped_models
from latentdiff.pipeline.checkpoint.runs import locate
from latentdiff.pipeline.codec import IdentityCodec
from latentdiff.pipeline.components import load_codec
from latentdiff.pipeline.pipeline import Pipeline

CODECS = tuple(model for model in shipped_models() if model.about["works_on"] == "codec")
MODELS = tuple(model for model in shipped_models() if model not in CODECS)
SAID = {"title", "condition", "works_on", "images", "data", "commands", "hardware", "figures"}
MOST = 8 * 2**20  # bytes


def by_name(model: Shipped) -> str:
    return model.name


def tiny(seed: int = 0) -> Pipeline:
    network = build(MLPConfig(shape=(1, 6, 6), width=16, depth=1, num_classes=2), seed=seed)
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.2)
    return Pipeline(network, DiffusionConfig(), IdentityCodec((1, 6, 6)), ("ring", "bar"), data="shapes")


@pytest.fixture
def packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with one model, "shapes", and a working folder in which nothing has been trained."""
    folder = tmp_path / "package"
    tiny().save(folder / "shapes", half=True)
    about = {
        "title": "rings and bars",
        "condition": "classes",
        "works_on": "pixels",
        "images": "mnist5k",
        "commands": ["latentdiff train-denoiser --pixel"],
    }
    (folder / "shapes.json").write_text(json.dumps(about))
    monkeypatch.setattr(pretrained, "FOLDER", folder)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return folder


@pytest.mark.parametrize("model", MODELS, ids=by_name)
def test_a_model_is_whole_and_small_and_says_how_it_was_made(model: Shipped) -> None:
    open_checkpoint(model.folder).verify()
    shared = sum(file.stat().st_size for file in model.folder.rglob("*") if file.is_symlink())  # a codec
    assert model.bytes - shared <= MOST
    assert model.about.keys() >= SAID
    assert all(command.startswith(("latentdiff ", "python scripts/")) for command in model.about["commands"])
    pipeline = latentdiff.load(model.name)
    assert (pipeline.tokenizer is not None) == (model.about["condition"] == "text")
    assert bool(pipeline.classes) == (model.about["condition"] == "classes")
    assert isinstance(pipeline.codec, IdentityCodec) == (model.about["works_on"] == "pixels")
    if model.about["images"] is not None:
        data = load_dataset(model.about["images"])
        assert data.shape == pipeline.codec.image_shape and (data.classes or ()) == tuple(pipeline.classes)
    images = pipeline.sample(2, steps=None if pipeline.student else 2)
    assert (pipeline.student.teacher if pipeline.student else None) == model.about.get("teacher")
    assert images.shape == (2, *pipeline.codec.image_shape) and float(images.std()) > 0.1


@pytest.mark.parametrize("model", CODECS, ids=by_name)
@pytest.mark.parametrize("size", [(64, 64), (32, 48), (128, 128)])
def test_a_codec_is_whole_and_reconstructs_images_of_any_size(model: Shipped, size: tuple[int, int]) -> None:
    checkpoint = open_checkpoint(model.folder)
    checkpoint.verify()
    assert model.bytes <= MOST and model.about.keys() >= SAID and all(model.about.values())
    codec = load_codec(checkpoint, checkpoint.json("model_index.json"), image=(3, *size))
    assert codec.image_shape == (3, *size)
    rows, columns = torch.linspace(-0.9, 0.7, size[0]), torch.linspace(-0.8, 0.9, size[1])
    image = torch.stack(
        [rows[:, None] * columns, rows[:, None].expand(size), -columns.expand(size)]
    ).unsqueeze(0)
    with torch.no_grad():
        flat = torch.full((1, 3, *size), 0.3)
        copy, flat_copy = (codec.decode(codec.encode(x)) for x in (image, flat))
    assert float((copy - image).square().mean()) < 0.01  # 26 dB
    assert float((flat_copy - flat_copy.mean((2, 3), keepdim=True)).abs().max()) < 1e-4  # no weave, no frame
    assert float((flat_copy - flat).abs().max()) < 0.1


def test_the_digits_of_the_package_are_those_that_are_asked_for() -> None:
    images = latentdiff.load("digits").sample(60, sampler="ddim", steps=20, label=[k % 10 for k in range(60)])
    seen = extract(feature_network("mnist"), to_uint8(images)).predictions
    assert seen is not None
    assert float((seen == torch.arange(60) % 10).double().mean()) >= 0.9


def test_the_student_of_the_digits_draws_what_they_draw_in_one_call() -> None:
    teacher, student = latentdiff.load("digits"), latentdiff.load("digits-student")
    assert student.student is not None and student.student.calls == 1
    calls: list[int] = []
    student.network.register_forward_pre_hook(lambda *_: calls.append(1))
    labels = [k % 10 for k in range(100)]
    ours, theirs = student.sample(100, label=labels), teacher.sample(100, label=labels)
    assert len(calls) == 1
    seen = extract(feature_network("mnist"), to_uint8(ours)).predictions
    assert seen is not None and float((seen == torch.tensor(labels)).double().mean()) >= 0.95
    other = teacher.sample(100, label=labels, seed=1000)
    near, far = ((ours - each).square().flatten(1).mean(1).sqrt().median() for each in (theirs, other))
    assert near < 0.4 * far


def test_a_listing_of_nothing_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path)
    assert "no trained models ship with this version" in called("models").out


def test_half_precision_takes_half_the_space_and_draws_nearly_the_same(tmp_path: Path) -> None:
    pipeline = tiny()
    pipeline.save(tmp_path / "full")
    pipeline.save(tmp_path / "half", half=True)
    sizes = [
        sum(path.stat().st_size for path in (tmp_path / name).rglob("*.safetensors"))
        for name in ("full", "half")
    ]
    assert sizes[1] < 0.7 * sizes[0]
    full, half = (latentdiff.load(tmp_path / name) for name in ("full", "half"))
    assert next(half.network.parameters()).dtype == torch.float32
    a, b = (pipeline.sample(4, label="bar", steps=5) for pipeline in (full, half))
    assert 0 < float((a - b).abs().max()) < 0.02


def test_a_name_means_the_model_unless_there_is_such_a_folder(packed: Path) -> None:
    assert locate(Path("shapes")).folder == packed / "shapes"
    tiny(seed=1).save("shapes")
    assert locate(Path("shapes")).folder == Path("shapes")
    for name in ("other", "../package/shapes/..", ""):
        with pytest.raises(InputError, match=r"no such run|not a run"):
            locate(Path(name))


def test_the_first_with_the_conditioning_is_the_default(packed: Path) -> None:
    found = shipped_for("classes")
    assert found is not None and found.name == "shapes"
    assert shipped_for("text") is None


def called(command: str) -> Result:
    return run_cli(command, cwd=Path())


def answer(command: str) -> dict[str, Any]:
    code, out, err = called(f"{command} --json")
    assert code == 0, err
    values = json.loads(out)
    assert isinstance(values, dict)
    return values


def test_models_are_listed(packed: Path) -> None:
    (model,) = answer("models")["models"]
    assert model["name"] == "shapes" and model["title"] == "rings and bars" and 0 < model["bytes"] < 2**20
    shown = called("models").out
    assert "shapes: rings and bars" in shown and "latentdiff train-denoiser --pixel" in shown


@pytest.mark.usefixtures("packed")
def test_sampling_without_a_training_takes_a_model_of_the_package_and_says_so() -> None:
    code, out, err = called("sample -n 4 --steps 2 --json")
    assert code == 0
    assert "no denoiser in runs/: using shapes of the package (see `latentdiff models`)" in err
    assert json.loads(out)["labels"] == ["ring", "bar"] * 2
    assert Path("samples.png").is_file()
    code, _, err = called("sample --prompt 'a ring'")  # a model of classes is none for texts
    assert code == 1 and "no trained model in runs/" in err


def test_a_trained_run_comes_first(packed: Path) -> None:
    assert answer("sample -n 2 --steps 2")["run"] == str(packed / "shapes")
    tiny(seed=1).save("runs/mine/checkpoint-00000001")
    assert answer("sample -n 2 --steps 2")["run"] == "runs/mine/checkpoint-00000001"
    assert answer("sample -n 2 --steps 2 --run shapes")["run"] == str(packed / "shapes")


def test_commands_find_a_model_that_can_do_what_they_do(tmp_path: Path) -> None:
    restored = run_cli("restore --operator blur -n 2 --steps 3 --json", cwd=tmp_path)
    assert restored.code == 0, restored.err
    assert "using digits-pixels of the package" in restored.err and (tmp_path / "restored.png").is_file()
    for words, name in (
        ("", "clothes"),
        ("--label shoes", "clothes"),
        ("--label 7 --guidance 2", "digits"),
        ("--sampler ddim --v-pred", "digits"),
    ):
        drawn = run_cli(f"sample -n 1 --steps 2 {words}", cwd=tmp_path)
        assert drawn.code == 0 and f"using {name} of the package" in drawn.err, drawn.err
    unknown = run_cli("sample -n 1 --label cars", cwd=tmp_path)
    assert unknown.code == 1 and "unknown class 'cars'" in unknown.err
    edited = run_cli("edit --run clothes -n 2 --steps 2 --strength 0.5", cwd=tmp_path)
    assert edited.code == 0 and "no --input: pictures that clothes draws itself" in edited.err, edited.err
    assert (
        "using scenes of the package"
        in run_cli("sample -n 1 --steps 2 --prompt 'a red one'", cwd=tmp_path).err
    )
    for words in (
        "anagram --label 3 --label 5 --view identity --view rotate180",
        "hybrid --label 3 --label 5",
    ):
        drawn = run_cli(f"{words} -n 1 --steps 2", cwd=tmp_path)
        assert drawn.code == 0 and "using digits-pixels of the package" in drawn.err, drawn.err
    texts = "--prompt 'a red six' --prompt 'a red nine'"
    for words in (f"anagram {texts} --view identity --view rotate180", f"hybrid {texts} --colour"):
        drawn = run_cli(f"{words} -n 1 --steps 2", cwd=tmp_path)
        assert drawn.code == 0 and "using scenes of the package" in drawn.err, drawn.err


def test_pixels_that_no_model_of_the_package_works_on_are_said_to_be_missing(
    packed: Path, tmp_path: Path
) -> None:
    about = json.loads((packed / "shapes.json").read_text()) | {"works_on": "latents"}
    (packed / "shapes.json").write_text(json.dumps(about))
    bad = called("hybrid --label ring --label bar")
    assert bad.code == 1 and "no trained model in runs/" in bad.err and "using shapes" not in bad.err


def test_of_several_the_first_of_pixels_is_taken_where_pixels_are_needed(packed: Path) -> None:
    tiny().save(packed / "early", half=True)
    about = json.loads((packed / "shapes.json").read_text()) | {"works_on": "latents"}
    (packed / "early.json").write_text(json.dumps(about))
    every, pixels = shipped_for("classes"), shipped_for("classes", pixels=True)
    assert every is not None and every.name == "early" and pixels is not None and pixels.name == "shapes"


def test_a_student_is_taken_by_name_alone(packed: Path) -> None:
    tiny().save(packed / "a-student", half=True)
    about = json.loads((packed / "shapes.json").read_text()) | {"teacher": "shapes"}
    (packed / "a-student.json").write_text(json.dumps(about))
    found = shipped_for("classes")
    assert found is not None and found.name == "shapes"
    assert answer("sample -n 2 --steps 2 --run a-student")["run"] == str(packed / "a-student")
