"""The diffusion transformer against a twin written with functions, its symmetries, and its life in the
package.
"""

import json
from pathlib import Path

import pytest
import torch
from helpers import Cli
from torch import Tensor, nn
from torch.nn import functional as F

import latentdiff as ld
from latentdiff.config.sampling import Sampling
from latentdiff.edit.p2p import Edit, prompt_to_prompt
from latentdiff.nn import AttentionSite, TextConfig, build, timestep_embedding
from latentdiff.nn import dit as dit_module
from latentdiff.nn.dit import positions
from latentdiff.nn.networks import DiTConfig

TEXT = TextConfig(vocabulary=40, length=6, width=16, depth=1)
ONE = DiTConfig.of_preset("small", shape=(2, 4, 6), num_classes=3, width=16, depth=1, heads=2, patch=2)
SPOKEN = DiTConfig.of_preset("small", shape=(2, 4, 6), text=TEXT, width=16, depth=2, heads=2)
T = torch.tensor([0.0, 17.0, 299.0])


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def shaken(config: DiTConfig) -> nn.Module:
    """The network of a configuration with every parameter moved: none is zero."""
    net = build(config)
    with torch.no_grad():
        for i, p in enumerate(net.parameters()):
            p.add_(normal(*p.shape, seed=i) * 0.1)
    return net.eval()


def test_positions_are_sinusoids_of_row_and_column() -> None:
    found = positions((3, 5), 16, torch.device("cpu")).view(3, 5, 16)
    for row, column in ((0, 0), (2, 1), (1, 4)):
        angles = [place / 10_000 ** (i / 4) for place in (row, column) for i in range(4)]
        waves = torch.tensor(angles, dtype=torch.float64).view(2, 4)
        expected = torch.cat([waves.sin(), waves.cos()], dim=1).flatten()
        torch.testing.assert_close(found[row, column].double(), expected, rtol=0, atol=1e-6)


def test_one_block_is_the_papers() -> None:
    """Peebles and Xie 2023, figure 3, with loops over patches and heads."""
    net, x, labels = shaken(ONE), normal(3, 2, 4, 6), torch.tensor([2, 0, 3])
    w = {name: value.detach() for name, value in net.state_dict().items()}

    def linear(h: Tensor, name: str) -> Tensor:
        return h @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def normed(h: Tensor) -> Tensor:
        centred = h - h.mean(-1, keepdim=True)
        return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()

    e = linear(F.silu(linear(timestep_embedding(T, 128), "condition.time1")), "condition.time2")
    e = F.silu(e + w["condition.label.weight"][labels])[:, None]
    cells = [x[:, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].flatten(1) for i in range(2) for j in range(3)]
    h = linear(torch.stack(cells, 1), "stem") + positions((2, 3), 16, x.device)
    scale1, shift1, gate1, scale2, shift2, gate2 = linear(e, "blocks.0.modulation").split(16, dim=2)
    q, k, v = linear(normed(h) * (1 + scale1) + shift1, "blocks.0.qkv").split(16, dim=2)
    heads = [slice(0, 8), slice(8, 16)]
    mixed = [((q[..., s] @ k[..., s].mT) / 8**0.5).softmax(-1) @ v[..., s] for s in heads]
    h = h + gate1 * linear(torch.cat(mixed, 2), "blocks.0.out")
    inner = F.gelu(linear(normed(h) * (1 + scale2) + shift2, "blocks.0.up"), approximate="tanh")
    h = h + gate2 * linear(inner, "blocks.0.down")
    scale, shift = linear(e, "modulation").split(16, dim=2)
    out = linear(normed(h) * (1 + scale) + shift, "head").view(3, 2, 3, 2, 2, 2)  # B, i, j, C, 2, 2
    expected = out.permute(0, 3, 1, 4, 2, 5).reshape(3, 2, 4, 6)
    with torch.no_grad():
        torch.testing.assert_close(net(x, T, labels), expected, rtol=1e-4, atol=1e-5)
    assert float(expected.std()) > 0.01


def test_only_positions_tell_the_patches_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without them, exchanging patches of the input exchanges those of the output, and nothing else."""
    net, x = (
        shaken(DiTConfig.of_preset("small", shape=(1, 8, 8), width=16, depth=2, heads=2)),
        normal(2, 1, 8, 8),
    )
    moved = x.roll((2, -4), (2, 3))
    with torch.no_grad():
        assert not torch.allclose(net(moved, T[:2]), net(x, T[:2]).roll((2, -4), (2, 3)), atol=1e-2)
        monkeypatch.setattr(dit_module, "positions", lambda grid, width, device: torch.zeros(1))
        torch.testing.assert_close(
            net(moved, T[:2]), net(x, T[:2]).roll((2, -4), (2, 3)), rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("shape", [(4, 8, 8), (1, 7, 5), (3, 32, 32), (1, 28, 20)], ids=str)
@pytest.mark.parametrize("out_factor", [1, 2])
def test_shapes(shape: tuple[int, int, int], out_factor: int) -> None:
    config = DiTConfig.of_preset("small", shape=shape, out_factor=out_factor, width=16, depth=1)
    out = build(config)(normal(2, *shape), T[:2])
    assert out.shape == (2, out_factor * shape[0], *shape[1:]) and not out.any()


@pytest.mark.parametrize("config", [ONE, SPOKEN], ids=["classes", "texts"])
def test_gradients_reach_every_parameter_and_the_input(config: DiTConfig) -> None:
    net, x = shaken(config), normal(3, 2, 4, 6).requires_grad_()
    condition = (
        torch.tensor([0, 1, 3])
        if config.num_classes
        else torch.tensor([[2, k, 3, 0, 0, 0] for k in (5, 9, 12)])
    )
    net(x, T, condition).square().mean().backward()
    unreached = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    # of an embedding, rows of pieces that do not occur get none; their table as a whole does
    assert unreached == [] and x.grad is not None and bool(x.grad.flatten(1).any(1).all())


def test_the_context_of_a_text_stands_for_its_pieces_and_texts_differ() -> None:
    net, x = shaken(SPOKEN), normal(2, 2, 4, 6)
    pieces = torch.tensor([[2, 7, 8, 3, 0, 0], [2, 9, 3, 0, 0, 0]])
    with torch.no_grad():
        out = net(x, T[:2], pieces)
        assert torch.equal(out, net(x, T[:2], net.encode(pieces, 2)))
        assert (out - net(x, T[:2], pieces.flip(0))).abs().flatten(1).amax(1).min() > 1e-4
        assert torch.equal(net(x, T[:2]), net(x, T[:2], torch.tensor([[2, 3, 0, 0, 0, 0]] * 2)))


def test_attention_of_a_hook_is_the_fused_one_and_can_be_changed() -> None:
    net, x, sites = shaken(SPOKEN), normal(2, 2, 4, 6), []
    pieces = torch.tensor([[2, 7, 8, 3, 0, 0], [2, 9, 3, 0, 0, 0]])

    def watch(probabilities: Tensor, site: AttentionSite) -> Tensor:
        sites.append((site.kind, site.index, site.grid, tuple(probabilities.shape)))
        torch.testing.assert_close(probabilities.sum(-1), torch.ones(probabilities.shape[:-1]))
        return probabilities

    with torch.no_grad():
        plain = net(x, T[:2], pieces)
        torch.testing.assert_close(net(x, T[:2], pieces, attend=watch), plain, rtol=1e-4, atol=1e-5)
        changed = net(x, T[:2], pieces, attend=lambda p, site: p.flip(-1) if site.kind == "cross" else p)
    assert sites == [(kind, index, (2, 3), (2, 2, 6, 6)) for index in (0, 1) for kind in ("self", "cross")]
    assert not torch.allclose(changed, plain, atol=1e-3)


def test_a_text_model_trains_samples_evaluates_and_edits_by_words(
    cli: Cli, text_folder: Path, tmp_path: Path
) -> None:
    data = f"--data {text_folder / 'captioned.npz'}"
    options = "--pixel --text --network dit --width 16 --depth 1 --T 20 --batch 16 --bf16 off --vocabulary 64"
    train = cli(f"train-denoiser {data} {options} --steps 3 --name run", cwd=tmp_path)
    assert train.code == 0, train.err
    shown = json.loads(cli("inspect runs/run --json", cwd=tmp_path).out)
    assert "DiTDenoiser" in json.dumps(shown)
    scored = cli(
        f"evaluate --run runs/run {data} -n 16 --steps 2 --resamples 0 --features mnist --json", cwd=tmp_path
    )
    assert scored.code == 0, scored.err
    pipe = ld.load(tmp_path / "runs" / "run")
    with torch.no_grad():
        for i, p in enumerate(pipe.network.parameters()):
            p.add_(normal(*p.shape, seed=i) * 0.1)
    left, right = "a disc on the left", "a disc on the right"
    settings = Sampling(guidance=3.0, steps=3)
    made = prompt_to_prompt(pipe, left, [Edit(left), Edit(right)], n=2, settings=settings)
    torch.testing.assert_close(made.edits[0], made.source)
    assert not torch.allclose(made.edits[1], made.source, atol=1e-3) and len(made.maps) == 2


def test_wrong_choices_are_one_line(cli: Cli, tiny_folder: Path, tiny_vae_run: Path, tmp_path: Path) -> None:
    data = f"--data {tiny_folder / 'tiny.npz'}"
    for options, code, words in (
        (f"{data} --vae {tiny_vae_run} --network dit", 1, "expected mlp for a vector of 4, got dit"),
        (f"{data} --pixel --network dit --patch 3", 1, "patch: expected a divisor of 8x8 pixels, got 3"),
    ):
        result = cli(f"train-denoiser {options} --dry-run", cwd=tmp_path)
        assert result.code == code and words in result.err and result.err.count("error: ") == 1
