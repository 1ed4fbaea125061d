"""The networks: shapes, gradients, classes, independence of samples, reproducible weights."""

import math
import subprocess
import sys

import pytest
import torch
from torch.nn import functional as F

from latentdiff.nn import CONFIGS, VAEConfig, build, network_class, timestep_embedding
from latentdiff.nn.layers import Conv2d, GroupNorm
from latentdiff.nn.networks import (
    CNNConfig,
    ConvNeXtConfig,
    CourseUNetConfig,
    DiTConfig,
    MLPConfig,
    UNetConfig,
)

IMAGES = [(1, 16, 16), (3, 16, 24), (1, 28, 28), (3, 32, 32), (1, 40, 24), (3, 64, 64), (1, 8, 8)]
VECTOR = VAEConfig.of_preset("small", image=(1, 28, 28), latent=(8,), width=8, depth=1, hidden=16)
SPATIAL = VAEConfig.of_preset("small", image=(3, 16, 8), latent=(2, 4, 2), width=8, depth=1)
MLP = MLPConfig.of_preset("small", shape=(6,), num_classes=5, width=16, depth=2, time_dim=16)
UNET = UNetConfig.of_preset("small", shape=(2, 7, 5), num_classes=5, width=8, groups=4, depth=1)
PIXELS = UNetConfig.of_preset("small", shape=(1, 18, 20), num_classes=5, width=8, groups=4)
GRID = MLPConfig.of_preset("small", shape=(2, 4, 3), num_classes=5, width=16, depth=2, time_dim=16)
PATCHED = UNetConfig.of_preset("small", shape=(3, 18, 20), num_classes=5, width=8, groups=4, patch=2)
CNN = CNNConfig.of_preset(
    "small", shape=(2, 9, 6), num_classes=5, width=8, kernels=(7, 5, 3, 3, 3), time_dim=16
)
COURSE = CourseUNetConfig.of_preset("small", shape=(2, 12, 8), levels=300, num_classes=5, width=16)
NEXT = ConvNeXtConfig.of_preset("small", shape=(2, 7, 6), num_classes=5, width=16)
DIT = DiTConfig.of_preset("small", shape=(2, 6, 4), num_classes=5, width=16, depth=2)
ALL = [VECTOR, SPATIAL, MLP, UNET, CNN, COURSE, NEXT, DIT]
NAMES = ["vae", "vae_spatial", "mlp", "unet", "cnn", "course", "next", "dit"]


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def shaken(net):
    """The network with every parameter moved, so that nothing that starts at zero hides anything."""
    with torch.no_grad():
        for i, p in enumerate(net.parameters()):
            p.add_(normal(*p.shape, seed=i) * 0.1)
    return net


def denoiser_input(config, batch=4):
    return normal(batch, *config.shape), torch.linspace(0, 999, batch), torch.arange(batch) % 5


@pytest.mark.parametrize("image", IMAGES, ids=str)
@pytest.mark.parametrize("latent", ["vector", 1, 2, 4], ids=str)
def test_autoencoder_shapes_and_range(image, latent):
    size = (5,) if latent == "vector" else (3, image[1] // latent, image[2] // latent)
    net = build(VAEConfig.of_preset("small", image=image, latent=size, width=8, depth=1, hidden=16))
    x = normal(2, *image).tanh()
    posterior = net.encode(x)
    assert posterior.mean.shape == posterior.logvar.shape == (2, *size)
    again = net.decode(100 * posterior.mode())
    assert again.shape == x.shape
    assert again.dtype == torch.float32
    assert again.abs().max() <= 1


@pytest.mark.parametrize("out_factor", [1, 2])
@pytest.mark.parametrize("shape", [(1, 4, 4), (4, 7, 7), (2, 5, 11), (1, 28, 28), (3, 33, 20)], ids=str)
def test_unet_shapes(shape, out_factor):
    net = build(UNetConfig.of_preset("small", shape=shape, out_factor=out_factor, width=8, groups=4))
    out = net(normal(2, *shape), torch.tensor([0.0, 999.0]))
    assert out.shape == (2, shape[0] * out_factor, *shape[1:])


@pytest.mark.parametrize("out_factor", [1, 2])
@pytest.mark.parametrize(("shape", "patch"), [((1, 28, 28), 4), ((3, 20, 12), 2)], ids=str)
def test_patches_leave_the_shape_as_it_is(shape, patch, out_factor):
    net = build(
        UNetConfig.of_preset(
            "small",
            shape=shape,
            out_factor=out_factor,
            width=8,
            groups=4,
            mult=(1, 2),
            attention=(),
            patch=patch,
        )
    )
    out = net(normal(2, *shape), torch.tensor([0.0, 999.0]))
    assert out.shape == (2, shape[0] * out_factor, *shape[1:])


def test_a_patch_is_a_square_of_pixels():
    """A network of one 1x1 place each sees what it says: moving by a patch moves the output by a patch, away
    from the edges.
    """
    net = shaken(
        build(
            UNetConfig.of_preset(
                "small", shape=(1, 48, 48), width=8, groups=1, mult=(1,), attention=(), patch=4
            )
        )
    )
    x = torch.zeros(2, 1, 48, 48)
    x[0, 0, 16:20, 16:20], x[1, 0, 16:20, 20:24] = 1.0, 1.0
    with torch.no_grad():
        left, right = net(x, torch.tensor([5.0, 5.0])) - net(torch.zeros_like(x), torch.tensor([5.0, 5.0]))
    strongest = [side.abs().amax((0, 1)).view(12, 4).sum(1).argmax() for side in (left, right)]
    assert strongest[1] - strongest[0] == 1


@pytest.mark.parametrize("out_factor", [1, 2])
@pytest.mark.parametrize("shape", [(1, 4, 4), (4, 8, 12), (1, 28, 28), (3, 32, 32)], ids=str)
def test_plain_networks_take_other_shapes(shape, out_factor):
    cnn = build(CNNConfig.of_preset("small", shape=shape, out_factor=out_factor))
    course = build(
        CourseUNetConfig.of_preset("small", shape=shape, out_factor=out_factor, levels=1000, width=8)
    )
    for net in (cnn, course):
        out = net(normal(2, *shape), torch.tensor([0.0, 999.0]))
        assert out.shape == (2, shape[0] * out_factor, *shape[1:])


@pytest.mark.parametrize("out_factor", [1, 2])
def test_mlp_shapes(out_factor):
    net = build(MLPConfig.of_preset("small", shape=(7,), out_factor=out_factor, width=16, depth=1))
    assert net(normal(3, 7), torch.tensor([0.0, 0.5, 999.0])).shape == (3, 7 * out_factor)
    grid = build(MLPConfig.of_preset("small", shape=(2, 4, 3), out_factor=out_factor, width=16, depth=1))
    assert grid(normal(3, 2, 4, 3), torch.tensor([0.0, 0.5, 999.0])).shape == (3, 2 * out_factor, 4, 3)


def test_an_mlp_sees_a_grid_as_the_vector_of_its_numbers():
    grid, line = (
        shaken(build(MLPConfig.of_preset("small", shape=shape, width=16, depth=1)))
        for shape in ((2, 4, 3), (24,))
    )
    x, t = normal(3, 2, 4, 3), torch.tensor([0.0, 0.5, 999.0])
    with torch.no_grad():
        assert torch.equal(grid(x, t).flatten(1), line(x.flatten(1), t))


@pytest.mark.parametrize("config", [VECTOR, SPATIAL], ids=["vector", "spatial"])
def test_gradient_reaches_every_parameter_of_the_autoencoder(config):
    net = shaken(build(config)).to(memory_format=torch.channels_last)
    x = normal(4, *config.image).tanh().contiguous(memory_format=torch.channels_last)
    posterior = net.encode(x)
    recon = net.decode(posterior.sample(normal(4, *config.latent)))
    ((recon - x).square().mean() + posterior.kl().mean()).backward()
    assert [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize(
    "config",
    [MLP, GRID, UNET, PIXELS, PATCHED, CNN, COURSE, NEXT, DIT],
    ids=["mlp", "grid", "unet_latent", "unet", "patched", "cnn", "course", "next", "dit"],
)
def test_gradient_reaches_every_parameter_of_the_denoisers(config):
    net = shaken(build(config))
    net(*denoiser_input(config)).square().mean().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize(
    "config", [MLP, UNET, CNN, COURSE, NEXT, DIT], ids=["mlp", "unet", "cnn", "course", "next", "dit"]
)
def test_denoisers_start_at_zero(config):
    assert not build(config)(*denoiser_input(config)).any()


@pytest.mark.parametrize(
    "config", [MLP, UNET, CNN, COURSE, NEXT, DIT], ids=["mlp", "unet", "cnn", "course", "next", "dit"]
)
def test_labels_none_is_the_null_class_and_classes_differ(config):
    net = shaken(build(config))
    x, t, labels = denoiser_input(config)
    null = torch.full((4,), config.num_classes)
    with torch.no_grad():
        assert torch.equal(net(x, t), net(x, t, null))
        assert (net(x, t, labels) - net(x, t)).abs().flatten(1).amax(1).min() > 1e-4
        assert (net(x, t, labels) - net(x, t + 0.5, labels)).abs().flatten(1).amax(1).min() > 1e-6


@pytest.mark.parametrize(
    "config", [MLP, UNET, CNN, COURSE, NEXT, DIT], ids=["mlp", "unet", "cnn", "course", "next", "dit"]
)
def test_labels_that_do_not_fit_are_refused(config):
    net = build(config)
    x, t, labels = denoiser_input(config)
    for wrong in (labels.float(), labels[:2], labels[:, None]):
        with pytest.raises(ValueError, match=r"`labels`: expected int64 of shape \[4\]"):
            net(x, t, wrong)
    unconditional = build(config.model_copy(update={"num_classes": 0}))
    with pytest.raises(ValueError, match="expected None"):
        unconditional(x, t, labels)
    assert unconditional(x, t).shape == x.shape


@pytest.mark.parametrize(
    "config", [MLP, UNET, CNN, COURSE, NEXT, DIT], ids=["mlp", "unet", "cnn", "course", "next", "dit"]
)
def test_shapes_that_do_not_fit_are_refused(config):
    net = build(config)
    x, t, _ = denoiser_input(config)
    for bad_x, bad_t in ((x[..., :-1], t), (x[0], t), (x, t[:2]), (x, t[:, None])):
        with pytest.raises(ValueError, match="expected"):
            net(bad_x, bad_t)


def test_autoencoder_refuses_shapes_that_do_not_fit():
    net = build(VECTOR)
    with pytest.raises(ValueError, match=r"`x`: expected shape \['B', 1, 28, 28\], got \[2, 1, 28, 24\]"):
        net.encode(normal(2, 1, 28, 24))
    with pytest.raises(ValueError, match=r"`z`: expected shape \['B', 8\], got \[2, 9\]"):
        net.decode(normal(2, 9))
    with pytest.raises(ValueError, match=r"`noise`: expected shape \[2, 8\], got \[8\]"):
        net.encode(normal(2, 1, 28, 28)).sample(normal(8))


@pytest.mark.parametrize(
    "config",
    [MLP, GRID, UNET, PIXELS, PATCHED, CNN, COURSE, NEXT, DIT],
    ids=["mlp", "grid", "unet_latent", "unet", "patched", "cnn", "course", "next", "dit"],
)
def test_a_denoised_sample_does_not_depend_on_its_batch(config):
    net = shaken(build(config))
    x, t, labels = denoiser_input(config, batch=5)
    with torch.no_grad():
        together = net(x, t, labels)
        scaled = net(torch.cat([x[:1], 50 * x[1:]]), t, labels)
        alone = torch.cat([net(x[i : i + 1], t[i : i + 1], labels[i : i + 1]) for i in range(5)])
    assert together.abs().max() > 0.05
    torch.testing.assert_close(alone, together, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(scaled[0], together[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("config", [VECTOR, SPATIAL], ids=["vector", "spatial"])
def test_a_coded_image_does_not_depend_on_its_batch(config):
    net = shaken(build(config))
    x = normal(5, *config.image).tanh()
    with torch.no_grad():
        together = net.encode(x)
        alone = net.encode(x[2:3])
        torch.testing.assert_close(alone.mean, together.mean[2:3], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(alone.logvar, together.logvar[2:3], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(
            net.decode(alone.mean), net.decode(together.mean)[2:3], rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize("config", ALL, ids=NAMES)
def test_channels_last_changes_nothing_but_the_speed(config):
    net = shaken(build(config))
    is_vae = config.class_name() == "AutoencoderKL"
    x = normal(3, *(config.image if is_vae else config.shape))
    last = x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x
    run = (lambda x: net.decode(net.encode(x).mode())) if is_vae else (lambda x: net(x, torch.arange(3.0)))
    with torch.no_grad():
        before = run(x)
        net.to(memory_format=torch.channels_last)
        torch.testing.assert_close(run(last), before, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("config", ALL, ids=NAMES)
@pytest.mark.parametrize("how", ["autocast", "cast"])
def test_bfloat16_is_near_and_returns_float32(config, how):
    exact, net = shaken(build(config)), shaken(build(config))
    is_vae = config.class_name() == "AutoencoderKL"
    x = normal(3, *(config.image if is_vae else config.shape))

    def run(net):
        return (
            net.decode(net.encode(x).mode())
            if is_vae
            else net(x, torch.tensor([0.0, 10, 999]), torch.arange(3))
        )

    if how == "cast":
        net.to(torch.bfloat16)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=how == "autocast"):
        out = run(net)
    expected = run(exact)
    assert out.dtype == torch.float32
    error = (out - expected).norm() / expected.norm()
    assert 1e-6 < error < 0.1


def test_groupnorm_keeps_float32_statistics():
    norm = GroupNorm(2, 4).to(torch.bfloat16)
    x = (1000 + normal(2, 4, 3, 3)).to(torch.bfloat16)
    expected = F.group_norm(x.double(), 2, eps=norm.eps)
    assert norm(x).dtype == torch.bfloat16
    torch.testing.assert_close(norm(x).double(), expected, rtol=1e-2, atol=1e-2)


def test_groupnorm_trains_on_channels_last_input_that_needs_no_gradient():
    norm = GroupNorm(2, 8)
    x = normal(2, 8, 6, 6)
    norm(x.contiguous(memory_format=torch.channels_last)).pow(
        3
    ).sum().backward()  # once a crash of the process
    (expected,) = torch.autograd.grad(norm(x.requires_grad_()).pow(3).sum(), norm.weight)
    torch.testing.assert_close(norm.weight.grad, expected)


@pytest.mark.parametrize("config", ALL, ids=NAMES)
def test_build_depends_on_the_seed_alone_and_leaves_the_global_generator(config):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        before = torch.get_rng_state()
        first = build(config, seed=3).state_dict()
        assert torch.equal(torch.get_rng_state(), before)
        torch.manual_seed(2)
        with torch.device("meta"):  # nor does it depend on the default device
            again = build(config, seed=3).state_dict()
        other = build(config, seed=4).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)
    assert all(value.isfinite().all() and value.device.type == "cpu" for value in first.values())


def test_weights_start_with_variance_one_over_fan_in():
    net = build(VAEConfig.of_preset("base", image=(3, 32, 32), latent=(4, 4, 4)))
    checked = 0
    for layer in net.modules():
        if isinstance(layer, torch.nn.ConvTranspose2d) or (
            type(layer) in (torch.nn.Conv2d, Conv2d) and layer.in_channels > 8
        ):
            x = normal(2, layer.in_channels, 16, 16)
        else:
            continue
        with torch.no_grad():
            inner = layer(x)[:, :, 2:-2, 2:-2]  # without the border, whose sums are shorter
        assert 0.7 < inner.std() < 1.4
        checked += 1
    assert checked > 6


def test_build_refuses_other_configurations():
    with pytest.raises(TypeError, match="got str"):
        build("AutoencoderKL")


def test_tables_name_the_same_classes():
    """The names of classes in files, which never change: checkpoints of every version hold them."""
    names = [
        "MLPDenoiser",
        "UNetDenoiser",
        "CNNDenoiser",
        "CourseUNetDenoiser",
        "ConvNeXtDenoiser",
        "DiTDenoiser",
    ]
    for config, name in zip(ALL, ["AutoencoderKL", "AutoencoderKL", *names], strict=True):
        assert CONFIGS[name] is type(config) and type(build(config)) is network_class(type(config))
        assert type(build(config)).__name__ == name.replace("AutoencoderKL", "VAE")


@pytest.mark.parametrize("config", ALL, ids=NAMES)
def test_weights_return_through_the_configuration_in_json(config):
    net = shaken(build(config))
    again = build(CONFIGS[config.class_name()].model_validate_json(config.model_dump_json()), seed=9)
    again.load_state_dict(net.state_dict())
    x = normal(2, *(config.image if hasattr(config, "image") else config.shape))
    run = (
        (lambda n: n.decode_logits(n.encode(x).mean))
        if hasattr(config, "image")
        else (lambda n: n(x, x.new_ones(2)))
    )
    with torch.no_grad():
        assert torch.equal(run(net), run(again))


def test_kl_equals_torch_distributions():
    net = shaken(build(SPATIAL))
    with torch.no_grad():
        posterior = net.encode(3 * normal(4, *SPATIAL.image))
    q = torch.distributions.Normal(posterior.mean.double(), posterior.logvar.double().div(2).exp())
    p = torch.distributions.Normal(torch.zeros_like(q.mean), torch.ones_like(q.mean))
    expected = torch.distributions.kl_divergence(q, p).flatten(1).sum(1)
    assert posterior.kl().dtype == torch.float32
    torch.testing.assert_close(posterior.kl().double(), expected, rtol=1e-5, atol=0)


def test_posterior_sample_is_mean_plus_std_times_noise_and_mode_is_the_mean():
    net = shaken(build(VECTOR))
    with torch.no_grad():
        posterior = net.encode(normal(2, 1, 28, 28))
    noise = normal(2, 8, seed=5)
    expected = posterior.mean + posterior.logvar.exp().sqrt() * noise
    torch.testing.assert_close(posterior.sample(noise), expected)
    assert torch.equal(posterior.mode(), posterior.mean)


def test_logvar_is_clamped():
    net = build(VECTOR)
    with torch.no_grad():
        net.encoder[-1].bias[8:] = torch.tensor([1e6, -1e6] * 4)
        logvar = net.encode(normal(2, 1, 28, 28)).logvar
    assert logvar[:, ::2].eq(10).all()
    assert logvar[:, 1::2].eq(-20).all()


def test_decode_and_its_logits_tell_the_same_image():
    net = shaken(build(SPATIAL))
    z = normal(2, *SPATIAL.latent)
    with torch.no_grad():
        torch.testing.assert_close(torch.sigmoid(net.decode_logits(z)), (net.decode(z) + 1) / 2)


@pytest.mark.parametrize("dim", [2, 16, 128])
def test_timestep_embedding_against_float64(dim):
    steps = [0.0, 0.25, 1.0, 17.3, 500.0, 999.0]
    half = dim // 2
    expected = [
        [wave(t / 10_000 ** (i / half)) for wave in (math.sin, math.cos) for i in range(half)] for t in steps
    ]
    out = timestep_embedding(torch.tensor(steps), dim)
    torch.testing.assert_close(out.double(), torch.tensor(expected, dtype=torch.float64), rtol=0, atol=2e-4)


def test_timestep_embedding_takes_integers_and_refuses_odd_sizes():
    assert torch.equal(timestep_embedding(torch.tensor([3]), 8), timestep_embedding(torch.tensor([3.0]), 8))
    with pytest.raises(ValueError, match="even number of at least 2, got 7"):
        timestep_embedding(torch.tensor([3.0]), 7)


def test_nothing_uses_batch_statistics():
    for config in (VECTOR, MLP, UNET):
        kinds = [type(m).__name__ for m in build(config).modules()]
        assert not any("BatchNorm" in kind or "Dropout" in kind for kind in kinds)


def test_autoencoder_learns_an_image():
    config = VAEConfig.of_preset("small", image=(1, 16, 16), latent=(4,), width=8, depth=1, hidden=32)
    net = build(config)
    x = torch.sign(normal(2, 1, 16, 16))
    optimizer = torch.optim.Adam(net.parameters(), 5e-3)
    for _ in range(80):
        optimizer.zero_grad()
        loss = (net.decode(net.encode(x).mode()) - x).square().mean()
        loss.backward()
        optimizer.step()
    assert loss < 0.2  # 1 without learning


@pytest.mark.parametrize(
    "config", [MLP, UNET, CNN, COURSE, NEXT, DIT], ids=["mlp", "unet", "cnn", "course", "next", "dit"]
)
def test_denoisers_learn_what_depends_on_time_and_label(config):
    net = build(config)
    x, t, labels = denoiser_input(config, batch=5)
    target = (t / 999 - labels / 2).view(5, *[1] * len(config.shape)).expand_as(x)
    optimizer = torch.optim.Adam(net.parameters(), 5e-3)
    for _ in range(60):
        optimizer.zero_grad()
        loss = (net(x, t, labels) - target * x).square().mean()
        loss.backward()
        optimizer.step()
    assert loss < 0.1 * (target * x).square().mean()


def test_networks_are_built_without_symbolic_mathematics() -> None:
    """Half a second of imports before the first picture, which torch wants for copies of the meta device."""
    code = (
        "import sys; from latentdiff.nn import VAEConfig, build, network_config;"
        "build(VAEConfig(image=(1, 8, 8), latent=(4,)));"
        "build(network_config('unet', 'small', (2, 8, 8), levels=10));"
        "assert 'sympy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
