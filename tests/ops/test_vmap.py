"""``torch.func`` transforms of the operations."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from latentdiff import ops

Draw = Callable[..., Tensor]
MAPS, BATCH = 4, 3


@pytest.fixture
def draw() -> Draw:
    g = torch.Generator().manual_seed(0)
    return lambda *shape: torch.randn(*shape, generator=g)


def mapped(
    function: Callable[..., Tensor], arguments: tuple[Tensor, ...], in_dims: tuple[int | None, ...]
) -> None:
    """vmap gives what a loop over the mapped dimension gives."""
    result = torch.func.vmap(function, in_dims=in_dims)(*arguments)
    for i in range(MAPS):
        alone = function(
            *(t if d is None else t.select(d, i) for t, d in zip(arguments, in_dims, strict=True))
        )
        assert torch.equal(result[i], alone)


SEEDS, STREAM, STREAMS = torch.arange(BATCH), torch.tensor(5), torch.arange(BATCH) + 2**40


@pytest.mark.parametrize("rows", [1, BATCH])
def test_step_over_samples_coefficients_and_outputs(draw: Draw, rows: int) -> None:
    shape = (BATCH, 2, 5)

    def step(x: Tensor, out: Tensor, coef: Tensor) -> Tensor:
        x_s, x0 = ops.step_x0(x, [out, x], coef, clip=0.9, seeds=SEEDS, stream=STREAM)
        return x_s + x0 + ops.step(x, [out, x], coef, noise=out)

    for x_dim, out_dim, coef_dim in (
        (0, 0, None),
        (1, None, None),
        (None, 2, None),
        (0, None, 0),
        (None, None, 1),
        (3, 0, 2),
    ):
        x, out, coef = (
            draw(*base) if dim is None else draw(*base[:dim], MAPS, *base[dim:])
            for base, dim in ((shape, x_dim), (shape, out_dim), ((rows, 6), coef_dim))
        )
        mapped(step, (x, out, coef), (x_dim, out_dim, coef_dim))


def test_keys_may_be_mapped(draw: Draw) -> None:
    x, coef = draw(BATCH, 6), draw(1, 4)
    seeds, streams = (
        torch.arange(MAPS * BATCH).view(MAPS, BATCH),
        torch.arange(MAPS * BATCH).view(BATCH, MAPS),
    )

    def noised(x: Tensor, seeds: Tensor, stream: Tensor) -> Tensor:
        x_t, target = ops.add_noise(x, coef, seeds=seeds, stream=stream)
        return x_t - target + ops.normal(seeds, stream, (6,))

    mapped(noised, (x, seeds, STREAM), (None, 0, None))
    mapped(noised, (x, seeds, torch.arange(MAPS)), (None, 0, 0))
    mapped(noised, (x, SEEDS, torch.arange(MAPS)), (None, None, 0))
    mapped(noised, (x, SEEDS, streams), (None, None, 1))
    mapped(noised, (draw(BATCH, MAPS, 6), SEEDS, STREAMS), (1, None, None))


def test_nested_maps(draw: Draw) -> None:
    x, coef = draw(2, MAPS, BATCH, 5), draw(1, 5)
    function = lambda x: ops.step(x, [x], coef, seeds=SEEDS, stream=STREAM)  # noqa: E731
    result = torch.func.vmap(torch.func.vmap(function))(x)
    for i in range(2):
        for j in range(MAPS):
            assert torch.equal(result[i, j], function(x[i, j]))
