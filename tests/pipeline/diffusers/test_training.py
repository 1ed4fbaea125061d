"""Autoencoders and UNets of diffusers trained further: what changes, what stays, what loads."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    UNet2DModel,
)
from diffusers_models import SIDE, autoencoder, quiet, saved, tiny_autoencoder, unet
from safetensors.torch import load_file, save_file
from torch import Tensor

import latentdiff as ld
from latentdiff.config.training import TrainDenoiser, TrainVAE
from latentdiff.data import Dataset, Split, load_dataset, to_float
from latentdiff.nn import Autoencoder
from latentdiff.pipeline.checkpoint.folder import INDEX
from latentdiff.pipeline.checkpoint.runs import locate
from latentdiff.pipeline.codec import VAECodec
from latentdiff.pipeline.components import load_autoencoder, load_codec
from latentdiff.train.batch import data_key
from latentdiff.train.denoiser import DenoiserTask
from latentdiff.train.vae import VAETask

WEIGHTS = "diffusion_pytorch_model.safetensors"
SHORT = "--batch 8 --warmup 0 --ema 0.5 --bf16 off --log-every 1"


def images_of(folder: Path, split: str) -> Tensor:
    with np.load(folder / "tiny.npz") as arrays:
        return torch.from_numpy(arrays[f"x_{split}"])[:, None] / 127.5 - 1


def train(cli: Callable, cwd: Path, command: str) -> str:
    code, _, err = cli(f"{command} {SHORT}", cwd=cwd)
    assert code == 0, err
    return str(err)


def newest(run: Path) -> Path:
    return sorted(run.glob("checkpoint-*"))[-1]


def logged(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


@pytest.fixture
def work(tmp_path: Path, tiny_folder: Path) -> Path:
    """A folder with tiny.npz, an AutoencoderKL and an AutoencoderTiny."""
    shutil.copy(tiny_folder / "tiny.npz", tmp_path)
    autoencoder().save_pretrained(tmp_path / "kl")
    tiny_autoencoder().save_pretrained(tmp_path / "small")
    return tmp_path


KINDS = {"kl": (AutoencoderKL, autoencoder), "small": (AutoencoderTiny, tiny_autoencoder)}


@pytest.mark.parametrize("kind", KINDS)
def test_a_decoder_is_trained_and_nothing_else_changes(kind: str, work: Path, cli: Callable) -> None:
    cls, made = KINDS[kind]
    said = train(
        cli, work, f"train-vae --init-from {kind} --train decoder --data tiny.npz --steps 3 --name run"
    )
    assert "stay as they are; the loss has no KL term" in said
    folder, before = newest(work / "runs" / "run") / "vae", made().state_dict()
    assert json.loads((folder / "config.json").read_text()) == json.loads(
        (work / kind / "config.json").read_text()
    )
    theirs = cls.from_pretrained(folder).eval()
    after = theirs.state_dict()
    assert after.keys() == before.keys()
    for name, value in before.items():
        encoding = name.startswith(("encoder.", "quant_conv."))
        assert torch.equal(after[name], value) == encoding, name
    lines = [line for line in logged(work / "runs" / "run") if "reconstruction" in line]
    assert len(lines) == 3 and not any("kl" in line for line in lines)
    x = images_of(work, "test")
    checkpoint = locate(work / "runs" / "run")
    mine, _ = load_autoencoder(checkpoint, checkpoint.json(INDEX))
    with torch.no_grad():
        z = mine.encode(x).mode()
        torch.testing.assert_close(mine.decode(z), theirs.decode(z).sample.clamp(-1, 1), rtol=0, atol=0)
        assert torch.equal(
            z,
            load_autoencoder(locate(work / kind), {"vae": ["diffusers"]}, (1, SIDE, SIDE))[0]
            .encode(x)
            .mode(),
        )


def test_the_newest_vae_run_may_be_of_diffusers(work: Path, cli: Callable) -> None:
    train(cli, work, "train-vae --init-from kl --train decoder --data tiny.npz --steps 1 --name first")
    said = train(
        cli, work, "train-denoiser --data tiny.npz --width 16 --depth 1 --T 20 --steps 1 --name second"
    )
    assert "using the VAE of runs/first/checkpoint-00000001" in said
    code, out, err = cli(
        "train-vae --init-from kl --train decoder --data tiny.npz --dry-run --json", cwd=work
    )
    plan = json.loads(out)
    assert code == 0 and plan["network"]["class"] == "AutoencoderKL", err
    assert 0 < plan["network"]["trained"] < plan["network"]["parameters"]
    assert (plan["batch"], plan["peak_lr"]) == (16, 1e-4)
    code, out, err = cli("train-vae --init-from kl --data tiny.npz --dry-run --json", cwd=work)
    assert json.loads(out)["options"]["beta"] is None, err  # that of the network, see ForeignVAEConfig


def test_a_denoiser_of_the_old_latents_works_with_the_new_decoder(work: Path, cli: Callable) -> None:
    options = "--data tiny.npz --width 16 --depth 1 --T 20 --steps 2 --name denoiser"
    train(cli, work, f"train-denoiser --vae kl {options}")
    train(
        cli, work, "train-vae --init-from kl --train decoder --data tiny.npz --steps 2 --lr 0.01 --name run"
    )
    model = ld.load(work / "runs" / "denoiser")
    x = images_of(work, "test")
    tuned = model.with_vae(work / "runs" / "run")
    assert torch.equal(tuned.encode(x), model.encode(x))
    assert not torch.equal(tuned.sample(2, steps=3), model.sample(2, steps=3))
    z = model.encode(x)
    theirs = AutoencoderKL.from_pretrained(newest(work / "runs" / "run") / "vae")
    with torch.no_grad():
        expected = theirs.decode(model.codec.statistics.denormalize(z)).sample.clamp(-1, 1)
    torch.testing.assert_close(tuned.decode(z), expected, rtol=0, atol=1e-6)
    tuned.save(work / "saved")
    assert torch.equal(ld.load(work / "saved").sample(2, steps=3), tuned.sample(2, steps=3))
    train(cli, work, "train-vae --init-from kl --data tiny.npz --steps 1 --name other")
    with pytest.raises(ld.InputError, match="found other latents"):
        model.with_vae(work / "runs" / "other")
    assert torch.equal(tuned.with_vae(work / "runs" / "denoiser").decode(z), model.decode(z))


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("kl", {}),
        ("kl", {"shift_factor": None}),
        ("kl", {"latents_mean": [0.1, 0.2], "latents_std": [1.0, 2.0]}),
        ("small", {}),
    ],
    ids=str,
)
def test_with_the_encoder_its_normalisation_is_measured(
    kind: str, options: dict[str, Any], work: Path, cli: Callable
) -> None:
    cls, made = KINDS[kind]
    made(**options).save_pretrained(work / kind)
    said = train(cli, work, f"train-vae --init-from {kind} --data tiny.npz --steps 3 --name run")
    assert "measured anew" in said and ("has no variance" in said) == (kind == "small")
    checkpoint = locate(work / "runs" / "run")
    theirs, before = cls.from_pretrained(newest(work / "runs" / "run") / "vae"), made(**options).state_dict()
    assert not any(torch.equal(value, before[name]) for name, value in theirs.state_dict().items())
    assert any("kl" in line for line in logged(work / "runs" / "run")) == (kind == "kl")
    codec = load_codec(checkpoint, checkpoint.json(INDEX))
    assert isinstance(codec, VAECodec)
    config, old = theirs.config, made(**options).config
    written, first = (
        json.loads((folder / "config.json").read_text())
        for folder in (newest(work / "runs" / "run") / "vae", work / kind)
    )
    changed = {name for name in written if written[name] != first[name]}
    assert changed <= {"scaling_factor", "shift_factor", "latents_mean", "latents_std"}
    assert bool(config.shift_factor) == bool(old.shift_factor)
    # the images that it was trained on: those of the training split
    posterior = codec.vae.encode(to_float(load_dataset(str(work / "tiny.npz")).train.images))
    z = codec.normalized(posterior).transpose(0, 1).flatten(1)
    noise = (
        (posterior.logvar.exp() / codec.statistics.std.view(1, -1, 1, 1).square()).transpose(0, 1).flatten(1)
    )
    if config.get("latents_mean") is not None:
        torch.testing.assert_close(z.mean(1), torch.zeros(2), rtol=0, atol=1e-3)
        torch.testing.assert_close(z.var(1, correction=0) + noise.mean(1), torch.ones(2), rtol=1e-3, atol=0)
        return
    total = z.var(correction=0) + noise.mean()
    torch.testing.assert_close(total, torch.tensor(1.0), rtol=1e-3, atol=0)
    if config.shift_factor:
        torch.testing.assert_close(z.mean(), torch.tensor(0.0), rtol=0, atol=1e-3)


@pytest.mark.parametrize("part", ["decoder", "all"])
def test_a_resumed_training_ends_where_a_whole_one_does(part: str, work: Path, cli: Callable) -> None:
    start = f"train-vae --init-from kl --train {part} --data tiny.npz --decay constant"
    train(cli, work, f"{start} --steps 4 --name whole")
    train(cli, work, f"{start} --steps 2 --name parts")
    shutil.rmtree(work / "kl")  # the run holds what it needs
    code, _, err = cli("train-vae --resume runs/parts --steps 4", cwd=work)
    assert code == 0, err
    whole, parts = (load_file(newest(work / "runs" / name) / "vae" / WEIGHTS) for name in ("whole", "parts"))
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())


def foreign_task(folder: Path, network: Any, **options: Any) -> VAETask:
    network.save_pretrained(folder)
    vae, statistics = load_autoencoder(locate(folder), {"vae": ["diffusers"]}, (1, SIDE, SIDE))
    generator = torch.Generator().manual_seed(3)
    splits = [
        Split(torch.randint(0, 256, (n, 1, SIDE, SIDE), generator=generator, dtype=torch.uint8))
        for n in (12, 4, 3)
    ]
    return VAETask(
        TrainVAE(bf16="off", **options), Dataset("tiny", *splits), vae, torch.device("cpu"), statistics
    )


@pytest.mark.parametrize("loss", ["mse", "l1"])
def test_the_loss_is_of_images_that_are_not_clipped(loss: Any, tmp_path: Path) -> None:
    """Pixels beyond [-1, 1] have a gradient that takes them back."""
    network = autoencoder()
    with torch.no_grad():
        network.decoder.conv_out.bias.fill_(50.0)
    task = foreign_task(tmp_path, network, loss=loss, beta=0.0)
    positions = torch.arange(6)
    mean, parts = task.loss(0, positions, positions)
    x = task.images.batch(positions, positions)
    raw = task.vae.decode_raw(task.vae.encode(x).mode()).detach()
    assert float(raw.min()) > 1 and bool((task.vae.decode(task.vae.encode(x).mode()) == 1).all())
    error = (raw - x).abs() if loss == "l1" else (raw - x).square()
    # samples of the posterior move the pixels a little
    assert float(parts["reconstruction"].detach()) == pytest.approx(
        float(error.flatten(1).sum(1).mean()), rel=0.05
    )
    mean.backward()
    bias = dict(task.network.named_parameters())["inner.decoder.conv_out.bias"]
    assert bias.grad is not None and float(bias.grad) > 0


def test_the_loss_of_an_autoencoder_kl_is_that_of_ours(tmp_path: Path) -> None:
    task = foreign_task(tmp_path, autoencoder(), beta=0.3, beta_warmup=0)
    positions = torch.arange(6)
    mean, parts = task.loss(0, positions, positions)
    posterior = autoencoder().encode(task.images.batch(positions, positions)).latent_dist
    assert float(parts["kl"].detach()) == pytest.approx(float(posterior.kl().mean()), rel=1e-4)
    expected = (parts["reconstruction"] + 0.3 * parts["kl"]) / SIDE**2
    assert float(mean.detach()) == pytest.approx(float(expected.detach()), rel=1e-6)


def test_files_with_the_old_names_of_attention_are_read(tmp_path: Path) -> None:
    autoencoder().save_pretrained(tmp_path)
    path, names = (
        tmp_path / WEIGHTS,
        {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"},
    )
    tensors = load_file(path)
    for new, old in names.items():
        for name in [name for name in tensors if f".{new}." in name]:
            tensors[name.replace(f".{new}.", f".{old}.")] = tensors.pop(name)
    assert any(".proj_attn." in name for name in tensors)
    save_file(tensors, path)
    mine, _ = load_autoencoder(locate(tmp_path), {"vae": ["diffusers"]})
    x = torch.linspace(-1, 1, SIDE * SIDE).view(1, 1, SIDE, SIDE)
    with torch.no_grad():
        theirs = AutoencoderKL.from_pretrained(tmp_path).encode(x).latent_dist.mean
        assert isinstance(mine, Autoencoder) and torch.equal(mine.encode(x).mode(), theirs)
    tensors["decoder.mid_block.attentions.0.query.extra"] = torch.zeros(1)
    save_file(tensors, path)
    with pytest.raises(
        ld.InputError, match=r"unexpected tensor 'decoder\.mid_block\.attentions\.0\.query\.extra'"
    ):
        load_autoencoder(locate(tmp_path), {"vae": ["diffusers"]})


def test_a_run_of_ours_trains_its_decoder_alone(
    tiny_vae_run: Path, tiny_denoiser_run: Path, work: Path, cli: Callable
) -> None:
    start = f"train-vae --init-from {tiny_vae_run} --train decoder --data tiny.npz --lr 0.01"
    train(cli, work, f"{start} --steps 2 --name run")
    before, after = (
        load_file(newest(run) / "vae" / WEIGHTS) for run in (tiny_vae_run, work / "runs" / "run")
    )
    for name, value in before.items():
        assert torch.equal(after[name], value) == name.startswith("encoder."), name
    configs = [
        json.loads((newest(run) / "vae" / "config.json").read_text())
        for run in (tiny_vae_run, work / "runs" / "run")
    ]
    assert configs[0] == configs[1]
    model, x = ld.load(tiny_denoiser_run), images_of(work, "test")
    tuned = model.with_vae(work / "runs" / "run")
    assert torch.equal(tuned.encode(x), model.encode(x))
    assert not torch.equal(tuned.sample(2, steps=2), model.sample(2, steps=2))
    code, _, err = cli("train-vae --resume runs/run --steps 3", cwd=work)
    assert code == 0, err


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("--train decoder", (2, "--train decoder: needs an encoder that is trained, give --init-from")),
        ("--init-from unet", (1, "--init-from unet: expected an autoencoder, found UNet2DModel")),
        ("--init-from pipeline", (1, "pipeline: expected an autoencoder, found UNet2DModel")),
        ("--init-from nowhere", (1, "nowhere: no such run")),
        ("--init-from bare", (1, f"expected {WEIGHTS} in it")),
        ("--init-from three", (1, "for images of 3 channels, got [1, 8, 8]")),
        ("--init-from coarse", (1, "for images with sides divisible by 16, got [1, 8, 8]")),
        (
            "--init-from narrow",
            (1, "encoder.conv_in.weight should have shape [8, 1, 3, 3], found [4, 1, 3, 3]"),
        ),
        ("--init-from kl --latent 2x4x4", (2, "--latent: the network is that of --init-from")),
        ("--init-from kl --loss bce", (1, "--loss: bce needs a decoder of logits, expected mse or l1")),
        ("--init-from kl --train decoder --beta 1", (2, "--beta: there is no KL term")),
        ("--init-from small --beta 1", (2, "--beta: there is no KL term without a variance")),
    ],
)
def test_what_cannot_be_trained_further_is_said_in_one_line(
    command: str, expected: tuple[int, str], work: Path, cli: Callable
) -> None:
    unet().save_pretrained(work / "unet")
    saved(work / "pipeline")
    autoencoder(channels=3).save_pretrained(work / "three")
    four = {"block_out_channels": (8,) * 5, "down_block_types": ("DownEncoderBlock2D",) * 5}
    autoencoder(**four, up_block_types=("UpDecoderBlock2D",) * 5).save_pretrained(work / "coarse")
    for name in ("bare", "narrow"):
        shutil.copytree(work / "kl", work / name)
    (work / "bare" / WEIGHTS).unlink()
    tensors = load_file(work / "narrow" / WEIGHTS)
    tensors["encoder.conv_in.weight"] = tensors["encoder.conv_in.weight"][:4].clone()
    save_file(tensors, work / "narrow" / WEIGHTS)
    code, _, err = cli(f"train-vae {command} --data tiny.npz --steps 1", cwd=work)
    last = err.strip().splitlines()[-1]
    assert code == expected[0] and expected[1] in last and "Traceback" not in err, err
    assert not (work / "runs").exists()


SCHEDULERS: dict[str, Any] = {
    "linear-epsilon": DDPMScheduler(num_train_timesteps=20, beta_end=0.3),
    "cosine-v": DDIMScheduler(
        num_train_timesteps=20, beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction"
    ),
    "table-sample": DDPMScheduler(
        num_train_timesteps=20, beta_schedule="sigmoid", beta_end=0.3, prediction_type="sample"
    ),
}


@pytest.mark.parametrize("kind", SCHEDULERS)
def test_a_unet_of_pixels_is_trained_by_its_own_process(kind: str, work: Path, cli: Callable) -> None:
    scheduler = SCHEDULERS[kind]
    saved(work / "pipeline", scheduler)
    start = "train-denoiser --init-from pipeline --data tiny.npz --decay constant"
    said = train(cli, work, f"{start} --steps 4 --name run")
    assert (
        "trained on pixels, as its 1 channels suggest" in said and "labels of the data are not used" in said
    )
    folder, before = newest(work / "runs" / "run") / "denoiser", unet().state_dict()
    assert json.loads((folder / "config.json").read_text()) == json.loads(
        (work / "pipeline" / "unet" / "config.json").read_text()
    )
    theirs = UNet2DModel.from_pretrained(folder)
    assert theirs.state_dict().keys() == before.keys()
    assert not any(torch.equal(value, before[name]) for name, value in theirs.state_dict().items())
    old, mine = ld.load(work / "pipeline"), ld.load(work / "runs" / "run")
    assert mine.diffusion == old.diffusion
    x, t = images_of(work, "test"), torch.full((12,), 7.0)
    with torch.no_grad():
        assert torch.equal(mine.network(x, t), theirs(x, t.long()).sample)

    train(cli, work, f"{start} --steps 2 --name parts")
    shutil.rmtree(work / "pipeline")
    code, _, err = cli("train-denoiser --resume runs/parts --steps 4", cwd=work)
    assert code == 0, err
    parts = load_file(newest(work / "runs" / "parts") / "denoiser" / WEIGHTS)
    assert all(torch.equal(value, parts[name]) for name, value in theirs.state_dict().items())

    code, _, err = cli("export --run runs/run --scheduler ddpm --out there", cwd=work)
    assert code == 0, err
    pipeline = quiet(DDPMPipeline.from_pretrained(work / "there"))
    assert pipeline.scheduler.config.prediction_type == scheduler.config.prediction_type
    torch.testing.assert_close(
        pipeline.scheduler.alphas_cumprod, scheduler.alphas_cumprod, rtol=2e-5, atol=1e-7
    )


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_the_loss_of_a_unet_is_that_of_its_scheduler(prediction: str, work: Path) -> None:
    """With diffusers' own ``add_noise`` and ``get_velocity`` at the levels and noises that were drawn."""
    scheduler = DDPMScheduler(num_train_timesteps=20, beta_end=0.3, prediction_type=prediction)
    model, data = ld.load(saved(work / "pipeline", scheduler)), load_dataset(str(work / "tiny.npz"))
    options = TrainDenoiser(pixel=True, bf16="off", labels=False, seed=3, prediction="flow")
    task = DenoiserTask(
        options, data, model.codec, model.network, torch.device("cpu"), diffusion=model.diffusion
    )
    positions = torch.arange(8)
    found = task.loss(0, positions, positions)[0].detach()
    x0, t = to_float(data.train.images[:8]), task._levels(positions) - 1
    key = data_key(positions, seed=3, device=torch.device("cpu")).at("train")
    noise = key.normal(x0.shape[1:])
    step: Any = t
    target = {"epsilon": noise, "sample": x0, "v_prediction": scheduler.get_velocity(x0, noise, step)}
    with torch.no_grad():
        out = unet()(scheduler.add_noise(x0, noise, step), t).sample
    expected = (out - target[prediction]).square().mean()
    assert float(found) == pytest.approx(float(expected), rel=1e-4)


def test_classes_are_kept(work: Path, cli: Callable) -> None:
    data = load_dataset(str(work / "tiny.npz"))
    saved(work / "pipeline", network=unet(classes=data.num_classes))
    saved(work / "many", network=unet(classes=data.num_classes + 1))
    train(cli, work, "train-denoiser --init-from pipeline --data tiny.npz --steps 2 --name run")
    model = ld.load(work / "runs" / "run")
    assert model.classes == tuple(data.classes or ())
    assert model.sample(2, steps=2, label=1).shape == (2, 1, SIDE, SIDE)
    for source, options, found in (
        ("many", "", data.num_classes),
        ("pipeline", "--no-labels", 0),
    ):
        code, _, err = cli(
            f"train-denoiser --init-from {source} {options} --data tiny.npz --steps 1", cwd=work
        )
        assert code == 1 and f"expected data with as many, found {found}" in err


def test_a_unet_of_latents_is_trained_on_those_of_a_vae(work: Path, cli: Callable) -> None:
    autoencoder(
        block_out_channels=(8,),
        down_block_types=("DownEncoderBlock2D",),
        up_block_types=("UpDecoderBlock2D",),
    ).save_pretrained(work / "flat")
    pipeline = saved(work / "pipeline", network=unet(in_channels=2, out_channels=2))
    start = "train-denoiser --data tiny.npz --vae flat"
    train(cli, work, f"{start} --init-from pipeline/unet --steps 2 --name run")
    model = ld.load(work / "runs" / "run")
    assert isinstance(model.codec, VAECodec) and model.sample(2, steps=2).shape == (2, 1, SIDE, SIDE)
    assert model.diffusion.schedule.T == 20 and model.diffusion.prediction == "eps"
    train(cli, work, f"{start} --init-from runs/run --steps 1 --name again")
    code, _, err = cli("sample --run pipeline/unet -n 1", cwd=work)
    assert code == 1 and "a UNet2DModel of 2 channels, which are latents" in err
    code, _, err = cli("export --run runs/run --part unet --out there", cwd=work)
    assert code == 0 and UNet2DModel.from_pretrained(work / "there").config.in_channels == 2, err
    shutil.rmtree(pipeline / "scheduler")
    code, _, err = cli(f"{start} --init-from pipeline/unet --steps 1", cwd=work)
    assert code == 2 and "without a scheduler; name what it predicts with --prediction" in err
    train(
        cli,
        work,
        f"{start} --init-from pipeline/unet --prediction eps --schedule linear --steps 1 --name own",
    )
    assert ld.load(work / "runs" / "own").diffusion.schedule.kind == "linear"


def test_a_pipeline_whose_files_lie_beside_its_index_is_read(work: Path) -> None:
    expected = ld.load(saved(work / "pipeline")).sample(2, steps=2)
    flat = work / "flat"
    shutil.copytree(work / "pipeline" / "unet", flat)
    for name in ("scheduler/scheduler_config.json", INDEX):
        shutil.copy(work / "pipeline" / name, flat)
    assert torch.equal(ld.load(flat).sample(2, steps=2), expected)


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("--init-from pipeline --width 32", (2, "--width: the network is that of --init-from")),
        ("--init-from pipeline --prediction v", (2, "--prediction: the process is that of the scheduler")),
        ("--init-from pipeline --text", (2, "--text: is not for a UNet2DModel")),
        ("--init-from pipeline --label-dropout 0.2", (2, "--label-dropout: is not for a UNet2DModel")),
        ("--init-from pipeline --shard", (2, "--shard splits the network among the processes of torchrun")),
        ("--init-from large", (1, "is for [1, 16, 16], the images are [1, 8, 8]; expected --size 16")),
        ("--init-from pipeline --vae kl", (1, "is for [1, 8, 8], the latents of the VAE are [2, 4, 4]")),
        (
            "--init-from three",
            (1, "is for [3, 8, 8], the images are [1, 8, 8]; expected --size 8 --channels 3"),
        ),
        ("--init-from bare", (1, f"expected {WEIGHTS} in it")),
        ("--init-from narrow", (1, "conv_in.weight should have shape [8, 1, 3, 3], found [4, 1, 3, 3]")),
        ("--init-from kl --pixel", (1, "--init-from kl: expected a denoiser, found AutoencoderKL")),
    ],
)
def test_what_no_unet_can_be_trained_on_is_said_in_one_line(
    command: str, expected: tuple[int, str], work: Path, cli: Callable
) -> None:
    saved(work / "pipeline")
    saved(work / "large", network=unet(sample_size=16))
    saved(work / "three", network=unet(in_channels=3, out_channels=3))
    for name in ("bare", "narrow"):
        shutil.copytree(work / "pipeline", work / name)
    (work / "bare" / "unet" / WEIGHTS).unlink()
    tensors = load_file(work / "narrow" / "unet" / WEIGHTS)
    tensors["conv_in.weight"] = tensors["conv_in.weight"][:4].clone()
    save_file(tensors, work / "narrow" / "unet" / WEIGHTS)
    code, _, err = cli(f"train-denoiser {command} --data tiny.npz --steps 1", cwd=work)
    last = err.strip().splitlines()[-1]
    assert code == expected[0] and expected[1] in last and "Traceback" not in err, err
    assert not (work / "runs").exists()
