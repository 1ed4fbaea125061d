"""The plain CNN and the course UNet against twins written with functions, and what is particular to them."""

import json
from pathlib import Path

import pytest
import torch
from helpers import Cli
from torch import Tensor, nn
from torch.nn import functional as F

import latentdiff as ld
from latentdiff.nn import DenoiserConfig, build, timestep_embedding
from latentdiff.nn.networks import CNNConfig, CourseUNetConfig, DiTConfig, MLPConfig, UNetConfig
from latentdiff.pipeline import batching

CNN = CNNConfig.of_preset("small", shape=(1, 28, 28), num_classes=3)
COURSE = CourseUNetConfig.of_preset("small", shape=(1, 28, 28), levels=300, num_classes=3, width=16)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def shaken(config: DenoiserConfig) -> nn.Module:
    """The network of a configuration with every parameter moved: none is zero."""
    net = build(config)
    with torch.no_grad():
        for i, p in enumerate(net.parameters()):
            p.add_(normal(*p.shape, seed=i) * 0.05)
    return net.eval()


def hot_rows(labels: list[int], classes: int) -> Tensor:
    """One-hot rows, all zeros for the null class."""
    return torch.tensor([[float(k == label) for k in range(classes)] for label in labels])


T, LABELS = torch.tensor([0.0, 17.0, 299.0]), [2, 0, 3]  # 3 is the null class


def test_the_cnn_is_its_five_convolutions() -> None:
    net = shaken(CNN)
    w = net.state_dict()
    x = normal(3, 1, 28, 28)
    h = F.linear(timestep_embedding(T, 128), w["condition.time1.weight"], w["condition.time1.bias"])
    e = F.linear(F.silu(h), w["condition.time2.weight"], w["condition.time2.bias"])
    e = e + hot_rows(LABELS, 3) @ w["condition.label.weight"].T + w["condition.label.bias"]
    added = F.linear(F.silu(e), w["shifts.weight"], w["shifts.bias"])[:, :, None, None]
    y, first = x, 0
    for i, (channels, kernel) in enumerate(zip((16, 32, 32, 16), (7, 7, 7, 3), strict=True)):
        assert w[f"convs.{i}.weight"].shape[2:] == (kernel, kernel)
        y = F.conv2d(y, w[f"convs.{i}.weight"], w[f"convs.{i}.bias"], padding=kernel // 2)
        y = F.silu(y + added[:, first : first + channels])
        first += channels
    y = F.conv2d(y, w["head.weight"], w["head.bias"], padding=1)
    with torch.no_grad():
        torch.testing.assert_close(net(x, T, torch.tensor(LABELS)), y)


def test_an_output_of_the_cnn_sees_23_pixels_a_side() -> None:
    net = shaken(CNNConfig.of_preset("small", shape=(1, 28, 28)))
    x = normal(1, 1, 28, 28).requires_grad_()
    net(x, torch.zeros(1))[0, 0, 14, 14].backward()
    assert x.grad is not None
    seen = torch.nonzero(x.grad[0, 0])
    assert seen.min(0).values.tolist() == [3, 3] and seen.max(0).values.tolist() == [25, 25]


def course_twin(w: dict[str, Tensor], x: Tensor, time: Tensor, hot: Tensor) -> Tensor:
    """The course's picture of the network, block by block."""

    def fully(name: str, values: Tensor) -> Tensor:
        h = F.gelu(F.linear(values, w[f"{name}.0.weight"], w[f"{name}.0.bias"]))
        return F.linear(h, w[f"{name}.2.weight"], w[f"{name}.2.bias"])[:, :, None, None]

    def normed(h: Tensor, name: str, k: int) -> Tensor:
        return F.gelu(F.group_norm(h, 8, w[f"{name}.{k + 1}.weight"], w[f"{name}.{k + 1}.bias"]))

    def conv(h: Tensor, name: str, k: int, stride: int = 1) -> Tensor:
        return normed(F.conv2d(h, w[f"{name}.{k}.weight"], w[f"{name}.{k}.bias"], stride, 1), name, k)

    def grown(h: Tensor, name: str, stride: int, padding: int) -> Tensor:
        return normed(
            F.conv_transpose2d(h, w[f"{name}.0.weight"], w[f"{name}.0.bias"], stride, padding), name, 0
        )

    def block(h: Tensor, name: str, k: int) -> Tensor:
        return conv(conv(h, name, k), name, k + 3)

    h0 = block(x, "stem", 0)
    h1 = block(conv(h0, "down1", 0, stride=2), "down1", 3)
    h2 = block(conv(h1, "down2", 0, stride=2), "down2", 3)
    h = grown(F.gelu(F.avg_pool2d(h2, 7)), "unflatten", 7, 0)
    h = fully("classes.0", hot) * h + fully("times.0", time)
    h = block(grown(torch.cat([h, h2], 1), "up1", 2, 1), "up1", 3)
    h = fully("classes.1", hot) * h + fully("times.1", time)
    h = block(grown(torch.cat([h, h1], 1), "up2", 2, 1), "up2", 3)
    return F.conv2d(block(torch.cat([h, h0], 1), "last", 0), w["head.weight"], w["head.bias"], padding=1)


def test_the_course_unet_is_its_picture() -> None:
    net, x = shaken(COURSE), normal(3, 1, 28, 28)
    with torch.no_grad():
        expected = course_twin(net.state_dict(), x, T[:, None] / 300, hot_rows(LABELS, 3))
        found = net(x, T, torch.tensor(LABELS))
    assert float(expected.std()) > 0.01
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_the_course_unet_sees_the_share_of_its_levels() -> None:
    short, long = shaken(COURSE), shaken(COURSE.model_copy(update={"levels": 600}))
    x = normal(2, 1, 28, 28)
    with torch.no_grad():
        at = short(x, torch.tensor([3.0, 250.0]))
        torch.testing.assert_close(long(x, torch.tensor([6.0, 500.0])), at)
        assert not torch.allclose(long(x, torch.tensor([3.0, 250.0])), at)


@pytest.mark.parametrize(
    ("config", "name"),
    [(CNN, "condition.label.weight"), (COURSE, "classes.0.0.weight")],
    ids=["cnn", "course"],
)
def test_the_null_class_is_the_zero_vector(config: DenoiserConfig, name: str) -> None:
    """No weight that reads the one-hot vector matters to it; only a bias does."""
    net, x, t = shaken(config), normal(2, 1, 28, 28), torch.tensor([5.0, 200.0])
    with torch.no_grad():
        null, first = net(x, t), net(x, t, torch.tensor([0, 0]))
        net.get_parameter(name).mul_(3)
        assert torch.equal(net(x, t), null)
        assert not torch.allclose(net(x, t, torch.tensor([0, 0])), first)
        with pytest.raises((IndexError, RuntimeError)):
            net(x, t, torch.tensor([0, 4]))


@pytest.mark.parametrize(
    "config",
    [
        CNN,
        CNNConfig(shape=(3, 32, 32), channels=(8, 96, 8), kernels=(3, 3, 3, 3)),
        CourseUNetConfig(shape=(3, 32, 32), width=24),
        UNetConfig.of_preset("small", shape=(1, 28, 28)),
        UNetConfig.of_preset("small", shape=(1, 28, 28), patch=2),
        MLPConfig.of_preset("small", shape=(32,)),
        MLPConfig.of_preset("small", shape=(4, 7, 7)),
        DiTConfig.of_preset("small", shape=(4, 8, 8)),
        DiTConfig.of_preset("small", shape=(1, 32, 32), expand=1),
    ],
    ids=["cnn", "wide_cnn", "course", "unet", "patched", "mlp", "grid", "dit", "dit_pixels"],
)
def test_the_memory_estimate_covers_the_widest_layer(config: DenoiserConfig) -> None:
    net, sizes = build(config), []

    def note(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        sizes.append(output.nbytes + sum(value.nbytes for value in inputs))

    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            layer.register_forward_hook(note)
    with torch.no_grad():
        net(torch.zeros(2, *config.shape), torch.zeros(2))  # a guided pair
    estimate = batching._bytes_per_sample(net)
    assert max(sizes) <= estimate < 60 * max(sizes)
    assert 1 <= batching.batch_that_fits(net, torch.device("cpu")) <= 1024


@pytest.mark.parametrize("network", ["cnn", "course-unet", "convnext", "dit"])
def test_a_network_by_name_trains_resumes_and_samples(
    cli: Cli, tiny_folder: Path, tmp_path: Path, network: str
) -> None:
    options = (
        f"--pixel --network {network} --width 8 --T 20 --variance learned --batch 16 --bf16 off --decay"
        " constant"
    )
    train = f"train-denoiser --data {tiny_folder / 'tiny.npz'} {options} --warmup 0 --log-every 1"
    assert cli(f"{train} --steps 4 --name whole", cwd=tmp_path).code == 0
    assert cli(f"{train} --steps 2 --name parts", cwd=tmp_path).code == 0
    resumed = cli("train-denoiser --resume runs/parts --steps 4", cwd=tmp_path)
    assert resumed.code == 0, resumed.err
    whole, parts = ld.load(tmp_path / "runs/whole"), ld.load(tmp_path / "runs/parts")
    images = whole.sample(
        5, steps=4, sampler="ddpm", label=["ant", "bee", "cat", 0, 1], guidance=2.0, batch=2
    )
    assert torch.equal(
        images, parts.sample(5, steps=4, sampler="ddpm", label=[0, 1, 2, 0, 1], guidance=2.0, batch=2)
    )
    assert images.shape == (5, 1, 8, 8) and float(images.std()) > 0.05
    config = whole.network.config
    assert (config.kind, config.num_classes, config.out_factor) == (network, 3, 2)
    assert getattr(config, "levels", 20) == 20
    shown = json.loads(cli("inspect runs/whole --json", cwd=tmp_path).out)
    assert network in json.dumps(shown)


def test_a_network_that_cannot_take_the_shape_is_one_line(
    cli: Cli, tiny_folder: Path, tiny_vae_run: Path, tmp_path: Path
) -> None:
    data = f"--data {tiny_folder / 'tiny.npz'}"
    for options, words in (
        (f"{data} --vae {tiny_vae_run} --network cnn", "network: expected mlp for a vector of 4, got cnn"),
        (
            f"{data} --pixel --size 10 --network course-unet",
            "expected sides divisible by 4, at most 256, got 10x10",
        ),
    ):
        result = cli(f"train-denoiser {options} --dry-run", cwd=tmp_path)
        assert result.code == 1 and words in result.err and result.err.count("error: ") == 1
