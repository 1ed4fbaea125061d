"""Keys: seeds, streams and the purposes that keep uses apart."""

import pytest
import torch

from latentdiff import ops
from latentdiff.errors import InputError
from latentdiff.ops.random import PURPOSES, Key


def test_image_k_of_a_batch_is_the_image_of_its_own_seed() -> None:
    batch = Key.of(100, 5).at("init").normal((3, 2))
    assert batch.shape == (5, 3, 2)
    for k in range(5):
        assert torch.equal(Key.of(100 + k, 1).at("init").normal((3, 2))[0], batch[k])


def test_a_stream_is_purpose_then_visit_then_level() -> None:
    key = Key.of(0, 1).at("known", 999, 3)
    assert key.stream == 3 << 56 | 3 << 32 | 999
    assert key.at("init").stream == 1 << 56  # `at` replaces the stream, it does not add to it
    assert key.at("augment", (1 << 32) - 1, (1 << 24) - 1).stream == (8 << 56) + (1 << 56) - 1


def test_published_purposes_keep_their_numbers() -> None:
    published = ["init", "step", "known", "posterior", "train", "degrade", "ald", "augment"]
    assert [PURPOSES[name] for name in published] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert len(set(PURPOSES.values())) == len(PURPOSES)
    assert all(0 < value < 128 for value in PURPOSES.values())


def test_no_two_uses_share_noise() -> None:
    key = Key.of(7, 2)
    uses = [key.at(name, level, visit) for name in PURPOSES for level in (0, 1) for visit in (0, 1)]
    draws = {tuple(use.normal((4,)).flatten().tolist()) for use in uses}
    assert len(draws) == len(uses)


def test_selection_repetition_and_length() -> None:
    key = Key.of(10, 4).at("step", 5)
    z = key.normal((6,))
    assert len(key) == 4
    for index in (slice(1, 3), torch.tensor([3, 0]), torch.tensor([True, False, False, True])):
        part = key[index]
        assert part.stream == key.stream
        assert torch.equal(part.normal((6,)), z[index])
    assert torch.equal(key.repeat(2).normal((6,)), torch.cat([z, z]))


def test_normal_is_the_operation() -> None:
    key = Key(torch.tensor([-3, 2**50]), 12)
    assert torch.equal(key.normal((5,)), ops.normal(key.seeds, torch.tensor(12), (5,)))
    assert key.normal((5,), dtype=torch.float64).dtype == torch.float64
    assert key.stream_tensor().item() == 12
    assert key.stream_tensor().dtype == torch.int64


def test_device_moves_seeds_stream_and_noise() -> None:
    key = Key.of(1, 2).at("init").to("meta")
    assert key.seeds.device.type == key.stream_tensor().device.type == "meta"
    assert Key.of(1, 2, device="meta").seeds.device.type == "meta"


def test_seeds_reach_the_ends_of_int64() -> None:
    assert Key.of(2**63 - 2, 2).seeds.tolist() == [2**63 - 2, 2**63 - 1]
    assert Key.of(-(2**63), 1).seeds.tolist() == [-(2**63)]
    assert len(Key.of(0, 0)) == 0
    for seed, n in ((2**63 - 1, 2), (2**63, 1), (-(2**63) - 1, 1)):
        with pytest.raises(InputError, match=f"fit int64.*got {seed} for {n}"):
            Key.of(seed, n)
    with pytest.raises(InputError, match="samples >= 0, got -1"):
        Key.of(0, -1)


def test_bad_keys_are_refused() -> None:
    key = Key.of(0, 1)
    with pytest.raises(ValueError, match=r"expected a purpose out of init, step, known.*got 'noise'"):
        key.at("noise")
    with pytest.raises(ValueError, match=r"level in 0\.\.2\^32-1, got -1"):
        key.at("step", -1)
    with pytest.raises(ValueError, match="got 4294967296"):
        key.at("step", 1 << 32)
    with pytest.raises(ValueError, match=r"visit in .*got 16777216"):
        key.at("step", 0, 1 << 24)
    with pytest.raises(ValueError, match=r"seeds int64 \[B\], got torch.float32 \[2\]"):
        Key(torch.zeros(2))
    with pytest.raises(ValueError, match=r"got torch.int64 \[\]"):
        Key(torch.tensor(3))
    with pytest.raises(ValueError, match="fits int64, got 9223372036854775808"):
        Key(torch.tensor([3]), 1 << 63)
