"""The Python side of what the command line does: load, save, labels, interpolation."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import latentdiff as ld
from latentdiff.config.sampling import Sampling
from latentdiff.diffusion.loop import slerp
from latentdiff.diffusion.trajectory import Recorder
from latentdiff.errors import InputError
from latentdiff.ops.random import Key


@pytest.fixture(scope="module")
def pipe(tiny_denoiser_run: Path) -> ld.Pipeline:
    return ld.load(tiny_denoiser_run)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("run", ["tiny_denoiser_run", "tiny_pixel_run"])
def test_saving_what_was_loaded_gives_the_same_bytes(
    run: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    trained = next(request.getfixturevalue(run).glob("checkpoint-*"))
    ld.load(trained).save(tmp_path / "once")
    ld.load(tmp_path / "once").save(tmp_path / "twice")
    once = contents(tmp_path / "once")
    assert once == contents(tmp_path / "twice")
    original = contents(trained)
    assert {name for name in original if not name.startswith("training/")} == once.keys()
    assert all(original[name] == data for name, data in once.items() if name != "manifest.json")


def test_saving_replaces_a_checkpoint_and_nothing_else(pipe: ld.Pipeline, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="exists and is no checkpoint"):
        pipe.save(tmp_path)
    with pytest.raises(InputError, match="exists and is no checkpoint"):
        pipe.save(tmp_path / "thesis.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    for classes in (("a", "b", "c"), ("d", "e", "f")):
        replace(pipe, classes=classes).save(tmp_path / "saved")
        assert ld.load(tmp_path / "saved").classes == classes
    assert sorted(path.name for path in tmp_path.iterdir()) == ["saved", "thesis.txt"]


def test_files_have_the_layout_of_hugging_face(pipe: ld.Pipeline, tmp_path: Path) -> None:
    pipe.save(tmp_path / "saved")
    assert contents(tmp_path / "saved").keys() == {
        "manifest.json",
        "model_index.json",
        "denoiser/config.json",
        "denoiser/diffusion_pytorch_model.safetensors",
        "scheduler/scheduler_config.json",
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
    }
    index = json.loads((tmp_path / "saved/model_index.json").read_text())
    assert index["vae"] == ["latentdiff", "AutoencoderKL"] and index["denoiser"] == [
        "latentdiff",
        "MLPDenoiser",
    ]


def test_labels_by_index_name_or_one_each(pipe: ld.Pipeline) -> None:
    for label in (1, "bee", "1", [1, 1], ["bee", 1], np.array([1, 1]), torch.tensor([1, 1]), np.int64(1)):
        many = [label] * 2 if isinstance(label, np.int64) else label
        found = pipe.conditioner.encode(many, 2)
        assert found is not None and found.dtype == torch.int64 and found.tolist() == [1, 1]
    assert pipe.conditioner.encode(None, 2) is None


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (3, "must lie in 0..2, got 3"),
        (-1, "must lie in 0..2, got -1"),
        ("-1", "must lie in 0..2, got -1"),
        ("dog", "unknown class 'dog'; this model knows ant, bee, cat"),
        ("9" * 5000, "unknown class '999"),
        ([0, 1, 2], "one label or 2 of them, got 3"),
    ],
)
def test_labels_that_are_none_are_refused(label: object, message: str, pipe: ld.Pipeline) -> None:
    with pytest.raises(InputError, match=message):
        pipe.sample(2, steps=1, label=label)


def test_labels_that_are_no_integers_are_a_type_error(pipe: ld.Pipeline) -> None:
    with pytest.raises(TypeError):
        pipe.sample(1, steps=1, label=[1.5])


def test_an_unconditional_model_takes_neither_label_nor_guidance(tiny_pixel_run: Path) -> None:
    pixel = ld.load(tiny_pixel_run)
    assert pixel.classes == () and pixel.sample(1, steps=1).shape == (1, 1, 8, 8)
    with pytest.raises(InputError, match="unconditional"):
        pixel.sample(1, steps=1, label=0)
    with pytest.raises(InputError, match="`guidance` 2 needs a `label`"):
        pixel.sample(1, steps=1, guidance=2.0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"n": 0}, "images of 1 or more, got 0"),
        ({"n": -1}, "images of 1 or more, got -1"),
        ({"batch": 0}, "batch of 1 or more, got 0"),
        ({"steps": 0}, "`steps`: .*got 0"),
        ({"steps": 21}, "`steps` must be at most 20"),
        ({"sampler": "euler"}, "`sampler`: .*'euler'"),
        ({"eta": math.nan}, "`eta`: .*finite"),
        ({"sampler": "ddpm", "variance": "learned"}, "learned.* needs a model trained with it"),
        ({"guidance": 3.0}, "`guidance` 3 needs a `label`"),
        ({"seed": 2**63}, "seeds that fit int64"),
    ],
)
def test_settings_that_cannot_be_followed_are_refused(values: dict, message: str, pipe: ld.Pipeline) -> None:
    with pytest.raises(InputError, match=message):
        pipe.sample(**values)


def test_samples_are_images_in_range_and_of_their_seeds(pipe: ld.Pipeline) -> None:
    images = pipe.sample(3, steps=3, label=[0, 1, 2], seed=4, guidance=1.5)
    assert images.shape == (3, 1, 8, 8) and images.dtype == torch.float32 and images.abs().max() <= 1
    assert torch.allclose(images[2:], pipe.sample(1, steps=3, label="cat", seed=6, guidance=1.5), atol=1e-5)


def test_progress_counts_every_network_call_to_the_end(pipe: ld.Pipeline) -> None:
    seen: list[tuple[int, int]] = []
    pipe.sample(5, steps=3, batch=2, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(k, 9) for k in range(1, 10)]


def test_trajectory_goes_from_noise_to_the_sample(pipe: ld.Pipeline) -> None:
    settings = Sampling(steps=7)
    drawn = pipe.run(settings, Key.of(2, 3), label="ant", recorder=Recorder(frames=4))
    frames = drawn.frames
    levels = [frame.t for frame in frames]
    assert len(frames) == 4 and (levels[0], levels[-1]) == (20, 0) and levels == sorted(levels, reverse=True)
    assert torch.equal(frames[-1].estimate, drawn.images)
    assert torch.equal(drawn.images, pipe.sample(3, settings, label="ant", seed=2))
    every = pipe.run(settings, Key.of(2, 1), recorder=Recorder(frames=100)).frames
    assert len(every) == 8  # every move and the end


def test_frames_of_the_first_images_are_those_of_all(pipe: ld.Pipeline) -> None:
    key, settings = pipe.key(2, 5), Sampling(steps=3)
    rows: list[slice] = []
    recorder = Recorder(frames=3, images=3, show=lambda shown, frame: rows.append(shown))
    some = pipe.run(settings, key, batch=2, recorder=recorder)
    every = pipe.run(settings, key, batch=2, recorder=Recorder(frames=3))
    assert torch.equal(some.images, every.images) and len(some.frames) == 3
    assert rows == [slice(0, 2)] * 3 + [slice(2, 3)] * 3  # the last micro-batch records nothing
    for few, all_of_them in zip(some.frames, every.frames, strict=True):
        assert torch.equal(few.noisy, all_of_them.noisy[:3]) and few.t == all_of_them.t
        assert torch.equal(few.estimate, all_of_them.estimate[:3])


def test_keywords_are_settings(pipe: ld.Pipeline) -> None:
    settings = Sampling(steps=3, guidance=2.0, guidance_rescale=0.5)
    images = pipe.sample(2, settings, label=1)
    same = pipe.sample(2, steps=3, guidance=2.0, guidance_rescale=0.5, label=1)
    over = pipe.sample(2, Sampling(steps=7, guidance=2.0), steps=3, guidance_rescale=0.5, label=1)
    assert torch.equal(images, same) and torch.equal(images, over)
    with pytest.raises(InputError, match="stepz"):
        pipe.sample(2, stepz=3)


def test_bfloat16_computes_in_bfloat16(pipe: ld.Pipeline) -> None:
    exact = pipe.sample(4, steps=3)
    rough = pipe.to(torch.device("cpu"), dtype=torch.bfloat16).sample(4, steps=3)
    latents = torch.randn(4, *pipe.codec.latent_shape, generator=torch.Generator().manual_seed(0))
    decoded = {
        dtype: pipe.to(torch.device("cpu"), dtype=dtype).decode(latents)
        for dtype in (torch.float32, torch.bfloat16, torch.float16)
    }
    assert 0 < (decoded[torch.bfloat16] - decoded[torch.float32]).abs().max() < 0.1
    assert torch.equal(decoded[torch.float16], decoded[torch.float32])  # it could overflow
    assert rough.dtype == torch.float32 and 0 < (exact - rough).abs().max() < 0.1


def test_slerp_keeps_the_ends_the_norm_and_the_angle() -> None:
    a, b = torch.tensor([[3.0, 0.0, 4.0]]), torch.tensor([[0.0, 5.0, 0.0]])
    assert torch.allclose(slerp(a, b, 0.0), a) and torch.allclose(slerp(a, b, 1.0), b)
    for u in (0.25, 0.5, 0.75):
        between = slerp(a, b, u)
        assert between.norm().item() == pytest.approx(5.0, rel=1e-5)
        assert math.acos((between * a).sum().item() / 25) == pytest.approx(u * math.pi / 2, rel=1e-4)
    assert torch.equal(slerp(a, a, 0.3), a)
