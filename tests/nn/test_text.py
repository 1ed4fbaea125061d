"""Networks that listen to texts: what they are told, the null text, and attention in the open."""

import pytest
import torch
from torch import Tensor

from latentdiff.config.diffusion import ScheduleConfig
from latentdiff.diffusion.denoiser import denoiser
from latentdiff.diffusion.guidance import Condition
from latentdiff.diffusion.schedule import make_schedule
from latentdiff.errors import InputError
from latentdiff.nn import AttentionSite, TextConfig, TextEncoder, build, network_config
from latentdiff.nn.networks import MLPConfig, UNetConfig
from latentdiff.nn.unet import UNetDenoiser
from latentdiff.pipeline.text.tokenizer import train_tokenizer

TOKENIZER = train_tokenizer(
    ["a red seven on a blue background", "a green three"] * 3, vocabulary=80, length=12
)
TEXT = TextConfig(vocabulary=len(TOKENIZER), length=12, width=16, depth=2, heads=2)
TEXTS = ["a red seven", "a green three on a blue background", ""]


@pytest.fixture(scope="module")
def network() -> UNetDenoiser:
    """A UNet of two resolutions whose branches are no longer zero."""
    made = build(UNetConfig.of_preset("small", shape=(2, 8, 8), width=16, groups=4, text=TEXT), seed=3).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return made


def some_x(n: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n, 2, 8, 8, generator=generator), torch.arange(n) * 100.0


# the encoder


def test_the_encoder_reads_the_order_of_words() -> None:
    encoder = build(
        UNetConfig.of_preset("small", shape=(2, 8, 8), width=16, groups=4, text=TEXT), seed=3
    ).text
    assert isinstance(encoder, TextEncoder)
    context = encoder(
        TOKENIZER.encode(["a red seven on a blue", "a blue seven on a red", "a red seven on a blue"])
    )
    assert context.shape == (3, 12, 16)
    torch.testing.assert_close(context[0], context[2])
    assert float((context[0, 0] - context[1, 0]).detach().abs().max()) > 1e-3
    assert torch.equal(encoder.empty(torch.device("cpu")), TOKENIZER.encode([""]))


@pytest.mark.parametrize(
    "tokens", [torch.zeros(2, 11, dtype=torch.int64), torch.zeros(12, dtype=torch.int64), torch.zeros(2, 12)]
)
def test_other_tokens_are_refused(tokens: Tensor, network: UNetDenoiser) -> None:
    assert network.text is not None
    with pytest.raises(ValueError, match="`tokens`: expected int64 of shape"):
        network.text(tokens)


# what a network is told


def test_texts_and_what_was_made_of_them_say_the_same(network: UNetDenoiser) -> None:
    (x, t), tokens = some_x(), TOKENIZER.encode(TEXTS)
    with torch.no_grad():
        told = network(x, t, tokens)
        torch.testing.assert_close(network(x, t, network.encode(tokens, 3)), told, rtol=0, atol=1e-6)
        nothing = network(x, t, None)
    torch.testing.assert_close(nothing[2], told[2], rtol=0, atol=1e-5)  # the third text is empty
    assert float((nothing[:2] - told[:2]).abs().amax((1, 2, 3)).min()) > 1e-3


def test_wrong_contexts_are_refused(network: UNetDenoiser) -> None:
    x, t = some_x()
    with pytest.raises(ValueError, match=r"`context`: expected shape \[3, 12, 16\], got \[3, 12, 8\]"):
        network(x, t, torch.zeros(3, 12, 8))
    plain = build(UNetConfig.of_preset("small", shape=(2, 8, 8), width=16, groups=4))
    with pytest.raises(ValueError, match="expected a network conditioned on texts"):
        plain.encode(None, 3)
    with pytest.raises(InputError, match="expected 0 for a network conditioned on texts"):
        UNetConfig.of_preset("small", shape=(2, 8, 8), num_classes=3, text=TEXT)
    with pytest.raises(InputError, match="`text`: expected none for a cnn, only for unet, mlp, dit"):
        network_config("cnn", "small", (2, 8, 8), levels=10, text=TEXT)


def test_every_part_of_a_text_network_learns(network: UNetDenoiser) -> None:
    (x, t), tokens = some_x(), TOKENIZER.encode(TEXTS)
    network(x, t, tokens).square().mean().backward()
    silent = [
        name for name, p in network.named_parameters() if p.grad is None or not bool(p.grad.abs().max() > 0)
    ]
    network.zero_grad()
    assert not silent


def test_a_text_is_listened_to_at_every_small_resolution() -> None:
    def crossings(shape: tuple[int, int, int]) -> set[tuple[int, int]]:
        made, seen = build(UNetConfig.of_preset("small", shape=shape, width=16, groups=4, text=TEXT)), set()

        def note(probabilities: Tensor, place: AttentionSite) -> Tensor:
            if place.kind == "cross":
                seen.add(place.grid)
            return probabilities

        made(torch.zeros(1, *shape), torch.zeros(1), None, attend=note)
        return seen

    assert crossings((2, 8, 8)) == {(8, 8), (4, 4)}
    assert crossings((3, 32, 32)) == {(16, 16), (8, 8)}


# an MLP, which is told the text as a whole


@pytest.mark.parametrize("shape", [(6,), (2, 8, 8)])
def test_an_mlp_is_conditioned_on_a_whole_text(shape: tuple[int, ...]) -> None:
    config = network_config("mlp", "small", shape, levels=10, width=16, depth=1, text=TEXT)
    network = build(config, seed=3)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05)
    generator = torch.Generator().manual_seed(1)
    x, t, tokens = (
        torch.randn(3, *shape, generator=generator),
        torch.arange(3) * 100.0,
        TOKENIZER.encode(TEXTS),
    )
    told, context = network(x, t, tokens), network.encode(tokens, 3)
    torch.testing.assert_close(network(x, t, context), told, rtol=0, atol=1e-6)
    whole = torch.cat([context[:, :1], torch.zeros_like(context[:, 1:])], 1)
    torch.testing.assert_close(network(x, t, whole), told, rtol=0, atol=1e-6)
    nothing = network(x, t, None)
    torch.testing.assert_close(nothing[2], told[2], rtol=0, atol=1e-5)  # the third text is empty
    assert float((nothing[:2] - told[:2]).detach().abs().flatten(1).amax(1).min()) > 1e-3
    told.square().mean().backward()
    assert not [
        name for name, p in network.named_parameters() if p.grad is None or not bool(p.grad.abs().max() > 0)
    ]
    with pytest.raises(InputError, match="expected 0 for a network conditioned on texts"):
        MLPConfig.of_preset("small", shape=shape, num_classes=3, text=TEXT)


def test_an_mlp_is_conditioned_on_a_frozen_encoder() -> None:
    given = TextConfig(vocabulary=0, length=5, width=16)
    network = build(network_config("mlp", "small", (6,), levels=10, width=16, depth=1, text=given), seed=3)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05)
    x, t, context = torch.randn(2, 6), torch.zeros(2), torch.randn(2, 5, 16)
    assert float((network(x, t, context) - network(x, t, context.flip(0))).detach().abs().max()) > 1e-3
    with pytest.raises(ValueError, match="expected the contexts of a frozen encoder"):
        network(x, t, None)


# guidance


def test_guidance_leads_from_the_null_text_or_a_negative_one(network: UNetDenoiser) -> None:
    schedule = make_schedule(ScheduleConfig(T=100))
    (x, _), contexts = some_x(), network.encode(TOKENIZER.encode(TEXTS), 3).detach()
    out: dict[str, Tensor] = {}
    with torch.no_grad():
        for name, null in (
            ("empty", network.encode(None, 1)),
            ("negative", network.encode(TOKENIZER.encode(["a"]), 1)),
        ):
            for w in (0.0, 1.0, 3.0):
                condition = Condition(contexts, null, w)
                out[f"{name} {w:g}"] = denoiser(network, schedule, prediction="v", condition=condition)(
                    x, 60
                ).x0()
        alone = denoiser(network, schedule, prediction="v")(x, 60).x0()
    for name in ("empty", "negative"):
        wanted = 3 * out[f"{name} 1"] - 2 * out[f"{name} 0"]
        torch.testing.assert_close(out[f"{name} 3"], wanted, rtol=0, atol=1e-4)
    torch.testing.assert_close(out["empty 0"], alone, rtol=0, atol=1e-5)
    assert float((out["negative 0"] - out["empty 0"]).abs().max()) > 1e-3


# attention in the open


def test_attention_in_the_open_is_the_fused_one(network: UNetDenoiser) -> None:
    (x, t), tokens = some_x(), TOKENIZER.encode(TEXTS)
    shown: list[tuple[AttentionSite, Tensor]] = []

    def look(probabilities: Tensor, place: AttentionSite) -> Tensor:
        shown.append((place, probabilities))
        return probabilities

    with torch.no_grad():
        torch.testing.assert_close(
            network(x, t, tokens, attend=look), network(x, t, tokens), rtol=0, atol=1e-5
        )
    places = [place for place, _ in shown]
    assert len(set(places)) == len(places)
    for kind in ("self", "cross"):
        assert sorted(place.index for place in places if place.kind == kind) == list(range(len(places) // 2))
    for place, probabilities in shown:
        pixels = place.grid[0] * place.grid[1]
        assert probabilities.shape == (3, 4, pixels, 12 if place.kind == "cross" else pixels)
        torch.testing.assert_close(probabilities.sum(-1), torch.ones(3, 4, pixels))


def test_what_is_done_to_attention_shows(network: UNetDenoiser) -> None:
    (x, t), tokens = some_x(), TOKENIZER.encode(TEXTS)

    def deaf(probabilities: Tensor, place: AttentionSite) -> Tensor:
        return torch.zeros_like(probabilities) if place.kind == "cross" else probabilities

    with torch.no_grad():
        changed = network(x, t, tokens, attend=deaf)
        assert float((changed - network(x, t, tokens)).abs().max()) > 1e-3
        # without the text's attention, only the pooled embedding of the text is left
        shuffled = network.encode(tokens, 3)
        shuffled = torch.cat([shuffled[:, :1], shuffled[:, 1:].flip(1)], 1)
        torch.testing.assert_close(network(x, t, shuffled, attend=deaf), changed, rtol=0, atol=1e-6)


def test_networks_without_texts_attend_too() -> None:
    plain = build(UNetConfig.of_preset("small", shape=(2, 8, 8), width=16, groups=4))
    with torch.no_grad():
        for parameter in plain.parameters():
            parameter.add_(0.05)
        x, t = some_x()
        torch.testing.assert_close(plain(x, t, attend=lambda p, place: p), plain(x, t), rtol=0, atol=1e-5)


def test_a_text_network_compiles_whole(network: UNetDenoiser) -> None:
    (x, t), context = some_x(), network.encode(TOKENIZER.encode(TEXTS), 3).detach()
    explained = torch._dynamo.explain(network)(x, t, context)
    assert explained.graph_break_count == 0
