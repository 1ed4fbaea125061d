"""Folders of diffusers that are broken, hostile or of another kind: one line each, and nothing is ever
unpickled.
"""

import json
import pickle
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler
from diffusers_models import autoencoder, saved, tiny_autoencoder, unet
from safetensors.torch import load_file, save_file

WEIGHTS = "diffusion_pytorch_model.safetensors"
UNET, SCHEDULER, INDEX = "unet/config.json", "scheduler/scheduler_config.json", "model_index.json"
Spoil = Callable[[Path], object]


class Bomb:
    def __reduce__(self) -> Any:
        return Path.touch, (Path("unpickled"),)


def edited(name: str, **values: object) -> Spoil:
    """Set keys of a JSON file."""

    def spoil(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(content | values))

    return spoil


def replaced(name: str, change: Callable[[bytes], bytes]) -> Spoil:
    return lambda folder: (folder / name).write_bytes(change((folder / name).read_bytes()))


def removed(name: str) -> Spoil:
    return lambda folder: (folder / name).unlink()


def pickled(folder: Path) -> None:
    (folder / "unet" / WEIGHTS).unlink()
    (folder / "unet" / "diffusion_pytorch_model.bin").write_bytes(pickle.dumps(Bomb()))


def in_parts(folder: Path) -> None:
    (folder / "unet" / WEIGHTS).rename(folder / "unet" / "diffusion_pytorch_model-00001-of-00002.safetensors")


def without_one(folder: Path) -> None:
    tensors = load_file(folder / "unet" / WEIGHTS)
    tensors.pop("conv_in.weight")
    save_file(tensors, folder / "unet" / WEIGHTS)


def not_finite(folder: Path) -> None:
    tensors = load_file(folder / "unet" / WEIGHTS)
    tensors["conv_in.bias"][0] = float("nan")
    save_file(tensors, folder / "unet" / WEIGHTS)


def in_eight_bits(folder: Path, dtype: torch.dtype = torch.float8_e4m3fn) -> None:
    tensors = load_file(folder / "unet" / WEIGHTS)
    tensors["conv_in.bias"] = tensors["conv_in.bias"].to(dtype)
    save_file(tensors, folder / "unet" / WEIGHTS)


def folder_of_weights(folder: Path) -> None:
    (folder / "unet" / WEIGHTS).unlink()
    (folder / "unet" / WEIGHTS).mkdir()


def with_vae(folder: Path) -> None:
    edited(INDEX, _class_name="StableDiffusionPipeline")(folder)
    (folder / "vae").mkdir()
    (folder / "vae" / "config.json").write_text("{}")


@dataclass(frozen=True)
class Case:
    """What is done to a good folder, and what the one line must name."""

    name: str
    spoil: Spoil
    expected: tuple[str, ...]


PIPELINES = [
    Case("other pipeline", edited(INDEX, _class_name="FluxPipeline"), (INDEX, "DDPMPipeline or DDIMPipeline", "'FluxPipeline'")),
    Case("pipeline with an autoencoder", with_vae, ("'StableDiffusionPipeline'", "autoencoder alone name", "vae")),
    Case("remote code", edited(INDEX, unet=["my_module", "UNet2DModel"]), (INDEX, "expected unet as", "my_module")),
    Case("other unet", edited(INDEX, unet=["diffusers", "UNet2DConditionModel"]), ("expected unet as", "UNet2DConditionModel")),
    Case("other scheduler", edited(INDEX, scheduler=["diffusers", "PNDMScheduler"]), ("expected a scheduler of DDPMScheduler, DDIMScheduler", "PNDMScheduler")),
    Case("class of the unet", edited(UNET, _class_name="os.system"), (UNET, "expected class UNet2DModel", "'os.system'")),
    Case("class of the scheduler", edited(SCHEDULER, _class_name="EulerDiscreteScheduler"), (SCHEDULER, "expected class", "Euler")),
    Case("no class", edited(INDEX, _class_name=None), (INDEX, "found None")),
    Case("index is no JSON", replaced(INDEX, lambda _: b"{"), (INDEX, "not valid JSON")),
    Case("index is a list", replaced(INDEX, lambda _: b"[]"), (INDEX, "expected a JSON object, found list")),
    Case("unet is no JSON", replaced(UNET, lambda _: b"\xff\x00"), (UNET, "not valid JSON")),
    Case("deep JSON", replaced(UNET, lambda _: b"[" * 100_000), (UNET, "not valid JSON")),
    Case("huge JSON", replaced(UNET, lambda data: data + b" " * 2**25), (UNET, "at most 16 MiB, found 32 MiB")),
    Case("NaN", replaced(UNET, lambda data: data.replace(b'"dropout": 0.0', b'"dropout": NaN')), (UNET, "finite numbers")),
    Case("no unet", lambda folder: shutil.rmtree(folder / "unet"), (UNET, "no such file")),
    Case("no scheduler", removed(SCHEDULER), (SCHEDULER, "no such file")),
    Case("no weights", removed(f"unet/{WEIGHTS}"), ("unet", f"expected {WEIGHTS}")),
    Case("pickle", pickled, ("diffusion_pytorch_model.bin", "is a pickle", "never read")),
    Case("weights in parts", in_parts, (f"expected {WEIGHTS}", "00001-of-00002", "in parts")),
    Case("cut weights", replaced(f"unet/{WEIGHTS}", lambda data: data[:-100]), (WEIGHTS, "not a readable safetensors file")),
    Case("empty weights", replaced(f"unet/{WEIGHTS}", lambda _: b""), (WEIGHTS, "not a readable safetensors file")),
    Case("huge header", replaced(f"unet/{WEIGHTS}", lambda data: b"\xff" * 8 + data[8:]), (WEIGHTS, "not a readable")),
    Case("tensor missing", without_one, (WEIGHTS, "lacks tensor 'conv_in.weight'")),
    Case("not finite", not_finite, (WEIGHTS, "conv_in.bias", "not finite")),
    Case("other widths", edited(UNET, block_out_channels=[8, 24]), (WEIGHTS, "should have shape")),
    Case("huge width", edited(UNET, block_out_channels=[60_000, 65_000]), (WEIGHTS, "should have shape")),
    Case("huge classes", edited(UNET, num_class_embeds=10**12), (UNET, "num_class_embeds", "got 1000000000000")),
    Case("endless layers", edited(UNET, layers_per_block=10**9), (UNET, "layers_per_block", "got 1000000000")),
    Case("endless blocks", edited(UNET, block_out_channels=[8] * 1000), (UNET, "block_out_channels", "at most 16 of them, got 1000")),
    Case("huge side", edited(UNET, sample_size=10**6), (UNET, "sample_size", "got 1000000")),
    Case("odd side", edited(UNET, sample_size=15), (UNET, "cannot use this configuration")),
    Case("padding", edited(UNET, downsample_padding=5), (UNET, "cannot use this configuration")),
    Case("small numbers", in_eight_bits, (WEIGHTS, "conv_in.bias should hold real numbers of 16 to 64 bits", "float8_e4m3fn")),
    Case("whole numbers", lambda folder: in_eight_bits(folder, torch.int64), (WEIGHTS, "real numbers", "int64")),
    Case("folder of weights", folder_of_weights, (WEIGHTS, "expected a file of weights, found something else")),
    Case("no side", edited(UNET, sample_size=None), (UNET, "sample_size")),
    Case("unknown block", edited(UNET, down_block_types=["DownBlock2D", "EvilBlock"]), (UNET, "cannot use this configuration", "EvilBlock")),
    Case("division by zero", edited(UNET, norm_num_groups=0), (UNET, "cannot use this configuration")),
    Case("latents", edited(UNET, in_channels=4, out_channels=4), (UNET, "in_channels", "1 or 3", "got 4")),
    Case("learned variance", edited(UNET, out_channels=2), (UNET, "learned variance")),
    Case("fourier times", edited(UNET, time_embedding_type="fourier"), (UNET, "time_embedding_type", "'fourier'")),
    Case("class by time", edited(UNET, class_embed_type="timestep"), (UNET, "class_embed_type", "'timestep'")),
    Case("learned range", edited(SCHEDULER, variance_type="learned_range"), (SCHEDULER, "variance_type", "'learned_range'")),
    Case("thresholding", edited(SCHEDULER, thresholding=True), (SCHEDULER, "thresholding", "got True")),
    Case("offset", edited(SCHEDULER, steps_offset=1), (SCHEDULER, "steps_offset", "got 1")),
    Case("flow", edited(SCHEDULER, prediction_type="flow_prediction"), (SCHEDULER, "prediction_type", "'flow_prediction'")),
    Case("old x_0", edited(SCHEDULER, predict_epsilon=False), (SCHEDULER, "predict_epsilon", "got False")),
    Case("unknown schedule", edited(SCHEDULER, beta_schedule="mine"), (SCHEDULER, "beta_schedule", "'mine'")),
    Case("too few betas", edited(SCHEDULER, trained_betas=[0.1]), (SCHEDULER, "betas must be as many as the levels, 20, got 1")),
    Case("beta of 2", edited(SCHEDULER, trained_betas=[2.0] * 20), (SCHEDULER, "betas", "less than 1", "got 2.0")),
    Case("endless levels", edited(SCHEDULER, num_train_timesteps=10**9), (SCHEDULER, "num_train_timesteps", "got 1000000000")),
    Case("no signal", edited(SCHEDULER, rescale_betas_zero_snr=True), (SCHEDULER, "prediction eps", "alpha is 0")),
]  # fmt: skip


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("good"), DDPMScheduler(num_train_timesteps=20))


def check(result: Any, expected: tuple[str, ...]) -> None:
    code, out, err = result
    assert (code, out, err.count("\n")) == (1, "", 1), err
    assert all(text in err for text in expected), err


@pytest.mark.parametrize("case", PIPELINES, ids=[case.name for case in PIPELINES])
def test_a_bad_pipeline_gives_one_line(case: Case, good: Path, cli: Callable, tmp_path: Path) -> None:
    shutil.copytree(good, tmp_path / "model")
    case.spoil(tmp_path / "model")
    check(cli("sample --run model -n 1 --steps 1", cwd=tmp_path), case.expected)
    assert not (tmp_path / "unpickled").exists() and not (tmp_path / "samples.png").exists()


def test_the_good_pipeline_is_good(good: Path, cli: Callable, tmp_path: Path) -> None:
    assert cli(f"sample --run {good} -n 1 --steps 1", cwd=tmp_path).code == 0


def test_a_last_step_that_ends_elsewhere_is_refused(cli: Callable, tmp_path: Path) -> None:
    edited(SCHEDULER, set_alpha_to_one=False)(saved(tmp_path / "model"))
    check(
        cli("sample --run model -n 1 --steps 1", cwd=tmp_path), (SCHEDULER, "set_alpha_to_one", "got False")
    )


AUTOENCODERS = [
    Case("other autoencoder", edited("config.json", _class_name="VQModel"), ("AutoencoderKL or AutoencoderTiny", "'VQModel'")),
    Case("no number", edited("config.json", scaling_factor=0), ("scaling_factor", "greater than or equal to 0.000001")),
    Case("huge number", edited("config.json", scaling_factor=1e300), ("config.json", "scaling_factor", "less than or equal to 1000000")),
    Case("one statistic", edited("config.json", latents_mean=[0, 0]), ("both or neither",)),
    Case("other statistics", edited("config.json", latents_mean=[0], latents_std=[1]), ("expected 2 numbers, got 1",)),
    Case("other output", edited("config.json", out_channels=3), ("out_channels: expected 1",)),
    Case("wide latents", edited("config.json", latent_channels=10**9), ("latent_channels", "got 1000000000")),
    Case("factor", edited("config.json", block_out_channels=[8] * 5, down_block_types=["DownEncoderBlock2D"] * 5, up_block_types=["UpDecoderBlock2D"] * 5), ("divisible by 16", "[1, 8, 8]")),
    Case("cut", replaced(WEIGHTS, lambda data: data[:50]), (WEIGHTS, "not a readable")),
    Case("none", removed(WEIGHTS), (f"expected {WEIGHTS}",)),
]  # fmt: skip


@pytest.mark.parametrize("case", AUTOENCODERS, ids=[case.name for case in AUTOENCODERS])
def test_a_bad_autoencoder_gives_one_line(
    case: Case, cli: Callable, tiny_folder: Path, tmp_path: Path
) -> None:
    autoencoder().save_pretrained(tmp_path / "kl")
    case.spoil(tmp_path / "kl")
    result = cli(f"train-denoiser --vae kl --data {tiny_folder}/tiny.npz --steps 1", cwd=tmp_path)
    check(result, case.expected)
    assert not (tmp_path / "runs").exists()


def test_an_uneven_autoencoder_is_refused(cli: Callable, tiny_folder: Path, tmp_path: Path) -> None:
    tiny_autoencoder(num_decoder_blocks=(1, 1, 1), decoder_block_out_channels=(8, 8, 8)).save_pretrained(
        tmp_path / "t"
    )
    result = cli(f"train-denoiser --vae t --data {tiny_folder}/tiny.npz --steps 1", cwd=tmp_path)
    check(
        result, ("expected latents [2, 4, 4] of images [1, 8, 8] and back", "found [2, 4, 4] and [1, 16, 16]")
    )


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("sample --run kl -n 1", ("holds a VAE but no denoiser",)),
        ("sample --run unet -n 1", ("a UNet2DModel without a scheduler", "model_index.json")),
        ("train-denoiser --vae pipeline --data DATA --steps 1", ("is a pixel model without a VAE",)),
        ("train-denoiser --resume pipeline --data DATA", ("has no training/state.json",)),
        ("train-denoiser --vae three --data DATA --steps 1", ("for images of 3 channels", "--channels 3")),
        ("edit --run pipeline -n 1", ("does not say which data it was trained on; expected --input",)),
        ("sample --run pipeline -n 1 --label 1", ("is unconditional",)),
        ("restore --run pipeline --input DATA --solver psld -n 1", ("is a pixel model", "use --solver dps")),
    ],
)
def test_what_does_not_fit_a_command_is_said(
    command: str, expected: tuple[str, ...], good: Path, cli: Callable, tiny_folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(good, tmp_path / "pipeline")
    autoencoder().save_pretrained(tmp_path / "kl")
    autoencoder(channels=3).save_pretrained(tmp_path / "three")
    unet().save_pretrained(tmp_path / "unet")
    check(cli(command.replace("DATA", f"{tiny_folder}/tiny.npz"), cwd=tmp_path), expected)
