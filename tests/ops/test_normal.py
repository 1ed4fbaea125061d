"""Noise: Philox4x32-10 and Box-Muller, by seed, stream and element."""

import hashlib
import math
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor

from latentdiff import ops
from latentdiff.ops import exact, philox

MASK = 0xFFFFFFFF


def key(seeds: list[int], stream: int) -> tuple[Tensor, Tensor]:
    return torch.tensor(seeds, dtype=torch.int64), torch.tensor(stream, dtype=torch.int64)


def philox_loop(counter: list[int], k: list[int]) -> list[int]:
    """The naive twin: Python integers."""
    c0, c1, c2, c3 = counter
    k0, k1 = k
    for _ in range(10):
        a, b = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (b >> 32) ^ c1 ^ k0, b & MASK, (a >> 32) ^ c3 ^ k1, a & MASK
        k0, k1 = (k0 + 0x9E3779B9) & MASK, (k1 + 0xBB67AE85) & MASK
    return [c0, c1, c2, c3]


def philox_tensor(counter: list[int], k: list[int]) -> list[int]:
    c, key_words = torch.tensor(counter).unsqueeze(1), torch.tensor(k).unsqueeze(1)
    even, odd = philox.philox(c[::2], c[1::2], key_words)
    return [int(even[0]), int(odd[0]), int(even[1]), int(odd[1])]


@pytest.mark.parametrize(
    ("counter", "k", "expected"),
    [
        ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([MASK] * 4, [MASK] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_philox_known_answers_of_random123(counter: list[int], k: list[int], expected: list[int]) -> None:
    assert philox_tensor(counter, k) == expected
    assert philox_loop(counter, k) == expected


@pytest.mark.parametrize("seed", [0, 1, -1, -(2**63), 2**63 - 1, 2**40 + 17, -123456789012345])
@pytest.mark.parametrize("stream", [0, 7, 2**32, 2**56 | 3 << 32 | 999, -5])
def test_elements_come_from_the_documented_words(seed: int, stream: int) -> None:
    count = 10
    z = ops.normal(*key([seed], stream), (count,))[0]
    for i in range(count):
        block = [i // 4, 0, stream & MASK, (stream >> 32) & MASK]
        words = philox_loop(block, [seed & MASK, (seed >> 32) & MASK])
        radius_word, angle_word = words[i % 4 // 2 * 2 : i % 4 // 2 * 2 + 2]
        radius = math.sqrt(-2 * math.log(((radius_word >> 8) + 1) / 2**24))
        angle = 2 * math.pi * angle_word / 2**32
        expected = radius * (math.sin(angle) if i % 2 else math.cos(angle))
        assert z[i].item() == pytest.approx(expected, rel=2e-6, abs=2e-6)


@pytest.mark.parametrize(
    ("seeds", "stream", "count", "expected"),
    [
        (
            [0, 42, -1, 2**40 + 17],
            1 << 56 | 3 << 32 | 999,
            1003,
            "29f2040dd37473a039241139a29816e39a864161c5a0f119a8f8e6f8c8f2386c",
        ),
        ([7], 5, 1 << 18, "81202c76e302863615f7606b24a5d2b25b7f70e8be09c1d5ba7a99584c4527da"),
    ],
)
def test_golden_hash_of_the_noise(
    implementation: Any, seeds: list[int], stream: int, count: int, expected: str
) -> None:
    """Any implementation on any device must give these bits.

    The constants were computed by a scalar C++ program (fmaf, g++ -O0 and -O2 -mfma), not by this package.
    """
    given = (words.to(implementation.device) for words in key(seeds, stream))
    z = implementation.normal(*given, (count,), torch.float32).cpu()
    assert hashlib.sha256(z.numpy().astype("<f4").tobytes()).hexdigest() == expected


def test_a_sample_does_not_depend_on_its_batch_its_shape_or_its_length() -> None:
    seeds, stream = key([5, 6, 7, 8], 3)
    z = ops.normal(seeds, stream, (3, 7, 5))
    assert torch.equal(ops.normal(seeds[2:3], stream, (3, 7, 5))[0], z[2])
    assert torch.equal(ops.normal(seeds.flip(0), stream, (105,)).flip(0), z.flatten(1))
    for count in (0, 1, 3, 4, 5, 103):
        assert torch.equal(ops.normal(seeds, stream, (count,)), z.flatten(1)[:, :count])


def test_a_stream_for_each_sample_is_that_stream() -> None:
    seeds = torch.tensor([5, 6])
    z = ops.normal(seeds, torch.tensor([3, 2**40]), (9,))
    assert torch.equal(z[:1], ops.normal(seeds[:1], torch.tensor(3), (9,)))
    assert torch.equal(z[1:], ops.normal(seeds[1:], torch.tensor(2**40), (9,)))


@pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3), (1,), (2, 3)])
@pytest.mark.parametrize("batch", [0, 1, 2])
def test_shapes(shape: tuple[int, ...], batch: int) -> None:
    z = ops.normal(torch.arange(batch), torch.tensor(0), shape)
    assert z.shape == (batch, *shape)
    assert z.is_contiguous()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes_are_the_float32_normal_converted(dtype: torch.dtype) -> None:
    arguments = (*key([1, 2], 3), (101,))
    z = ops.normal(*arguments, dtype=dtype)
    assert z.dtype == dtype
    assert torch.equal(z, ops.normal(*arguments).to(dtype))


def test_threads_do_not_change_a_bit() -> None:
    arguments = (*key(list(range(8)), 1), (40_000,))
    threads = torch.get_num_threads()
    results = []
    try:
        for n in (1, 2):
            torch.set_num_threads(n)
            results.append(ops.normal(*arguments))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*results)


def test_the_global_generator_is_neither_read_nor_moved() -> None:
    state = torch.get_rng_state()
    z = ops.normal(*key([1], 2), (16,))
    assert torch.equal(torch.get_rng_state(), state)
    torch.randn(3)
    assert torch.equal(ops.normal(*key([1], 2), (16,)), z)


@pytest.fixture(scope="module")
def sample() -> Tensor:
    return ops.normal(torch.arange(16), torch.tensor(11), (1 << 15,)).double()


def test_moments(sample: Tensor) -> None:
    n = sample.numel()
    for power, expected, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs(sample.pow(power).mean().item() - expected) < 4 * math.sqrt(variance / n)


def test_distribution_and_tails(sample: Tensor) -> None:
    for part in (sample.flatten(), sample[:, ::4].flatten(), sample[:, 3::4].flatten()):
        assert stats.kstest(part.numpy(), "norm").pvalue > 1e-3
    for bound in (3.0, 4.0):
        expected = 2 * stats.norm.sf(bound) * sample.numel()
        assert abs((sample.abs() > bound).sum().item() - expected) < 4 * math.sqrt(expected)
    assert sample.abs().max() < 5.78


def test_smallest_radius_word_is_the_largest_value() -> None:
    radius = math.sqrt(-2 * exact.log(torch.tensor([2.0**-24], dtype=torch.float64)).item())
    assert radius == pytest.approx(5.768, abs=1e-3)


def correlation(a: Tensor, b: Tensor) -> float:
    """In standard deviations of independent normals, for the values and for their squares: the larger."""
    n = a.numel()
    plain, squared = (
        (a * b).mean().item() * math.sqrt(n),
        ((a**2 - 1) * (b**2 - 1)).mean().item() * math.sqrt(n) / 2,
    )
    return max(abs(plain), abs(squared))


@pytest.mark.parametrize("lag", [1, 2, 3, 4, 5, 8, 64])
def test_neighbors_are_independent(sample: Tensor, lag: int) -> None:
    assert correlation(sample[:, lag:], sample[:, :-lag]) < 4


def test_samples_and_streams_are_independent(sample: Tensor) -> None:
    assert correlation(sample[1:], sample[:-1]) < 4
    for seed_bit, stream in ((0, 12), (0, 11 + 2**32), (0, 11 + 2**56), (1 << 32, 11), (1 << 62, 11)):
        other = ops.normal(torch.arange(16) + seed_bit, torch.tensor(stream), (1 << 15,)).double()
        assert correlation(sample, other) < 4
        assert not torch.equal(sample, other)


@pytest.mark.parametrize(
    ("seeds", "stream", "shape", "dtype", "error", "message"),
    [
        (
            torch.zeros(2),
            torch.tensor(0),
            (3,),
            torch.float32,
            TypeError,
            "seeds of dtype int64, got torch.float32",
        ),
        (torch.tensor([1]), torch.tensor(0.0), (3,), torch.float32, TypeError, "stream of dtype int64"),
        (
            torch.tensor(1),
            torch.tensor(0),
            (3,),
            torch.float32,
            ValueError,
            r"seeds of shape \[B\], got \[\]",
        ),
        (
            torch.arange(2),
            torch.arange(3),
            (3,),
            torch.float32,
            ValueError,
            r"shape \[\] or \[2\], got \[3\]",
        ),
        (torch.arange(2), torch.tensor(0), (-1,), torch.float32, ValueError, r"sizes >= 0, got \[-1\]"),
        (torch.arange(2), torch.tensor(0), (3,), torch.int32, TypeError, "float32.*got torch.int32"),
        (
            torch.arange(2, device="meta"),
            torch.tensor(0),
            (3,),
            torch.float32,
            ValueError,
            "device meta, got cpu",
        ),
    ],
)
def test_bad_arguments_are_refused(
    seeds: Tensor,
    stream: Tensor,
    shape: tuple[int, ...],
    dtype: torch.dtype,
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        ops.normal(seeds, stream, shape, dtype=dtype)
