"""Writing into given tensors, in place included."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from latentdiff import ops

Draw = Callable[..., Tensor]
NAN = float("nan")


@pytest.fixture
def draw() -> Draw:
    g = torch.Generator().manual_seed(0)
    return lambda *shape, dtype=torch.float32: torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype)


def key(batch: int) -> dict[str, Tensor]:
    return {"seeds": torch.arange(batch) + 3, "stream": torch.tensor(9)}


def places(like: Tensor) -> list[Tensor]:
    """Tensors of one shape to write into: contiguous, channels last, with gaps, misaligned."""
    n, shape = like.numel(), like.shape
    return [
        torch.full(shape, NAN, dtype=like.dtype),
        torch.full(shape, NAN, dtype=like.dtype).contiguous(memory_format=torch.channels_last),
        torch.full((*shape[:-1], 2 * shape[-1]), NAN, dtype=like.dtype)[..., 1::2],
        torch.full((n + 1,), NAN, dtype=like.dtype)[1:].view(shape),
    ]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_what_is_written_is_what_would_be_returned(draw: Draw, dtype: torch.dtype) -> None:
    x, out, noise = (draw(2, 3, 4, 5, dtype=dtype) for _ in range(3))
    coef = draw(2, 6)
    for given in (key(2), {"noise": noise}):
        x_s, x0 = ops.step_x0(x, [out], coef, clip=0.8, **given)
        x_t, target = ops.add_noise(x, coef[:, :4], **given)
        for first, second in zip(places(x), reversed(places(x)), strict=True):
            assert ops.step(x, [out], coef, clip=0.8, **given, out=first) is first
            assert torch.equal(first, x_s)
            written = ops.step_x0(x, [out], coef, clip=0.8, **given, out=(second, first))
            assert written[0] is second
            assert written[1] is first
            assert all(map(torch.equal, written, (x_s, x0)))
            assert all(
                map(torch.equal, ops.add_noise(x, coef[:, :4], **given, out=(first, second)), (x_t, target))
            )
    for place in places(x):
        assert ops.normal(**key(2), shape=(3, 4, 5), out=place) is place
        assert torch.equal(place, ops.normal(**key(2), shape=(3, 4, 5), dtype=dtype))


@pytest.mark.parametrize("given", ["drawn", "noise", "none"])
@pytest.mark.parametrize("arrange", [torch.clone, lambda x: x.contiguous(memory_format=torch.channels_last)])
def test_in_place(draw: Draw, given: str, arrange: Callable[[Tensor], Tensor]) -> None:
    def inputs() -> tuple[Tensor, Tensor, Tensor]:
        g = torch.Generator().manual_seed(1)
        x, out, noise = (arrange(torch.randn(2, 3, 20, 25, generator=g)) for _ in range(3))
        return x, out, noise

    coef = draw(2, 6)
    x, out, noise = inputs()
    source = {"drawn": key(2), "noise": {"noise": noise}, "none": {}}[given]
    expected = ops.step_x0(x, [out], coef, clip=0.9, **source)
    for write in range(3 if given == "noise" else 2):
        tensors = inputs()
        source = {"drawn": key(2), "noise": {"noise": tensors[2]}, "none": {}}[given]
        ops.step(tensors[0], [tensors[1]], coef, clip=0.9, **source, out=tensors[write])
        assert torch.equal(tensors[write], expected[0])
    tensors = inputs()
    source = {"drawn": key(2), "noise": {"noise": tensors[2]}, "none": {}}[given]
    ops.step_x0(tensors[0], [tensors[1]], coef, clip=0.9, **source, out=(tensors[0], tensors[1]))
    assert all(map(torch.equal, tensors[:2], expected))
    if given != "none":
        noised = ops.add_noise(x, coef[:, :4], **source)
        tensors = inputs()
        source = {"drawn": key(2), "noise": {"noise": tensors[2]}}[given]
        ops.add_noise(tensors[0], coef[:, :4], **source, out=(tensors[1], tensors[0]))
        assert all(map(torch.equal, (tensors[1], tensors[0]), noised))


def test_shared_memory_that_is_not_in_place_gives_the_same(draw: Draw) -> None:
    coef = draw(1, 5)
    memory = draw(5000)
    overlapping = [
        lambda m: (m[: 2 * 2000].view(2, 2000), m[7 : 7 + 2 * 2000].view(2, 2000)),
        lambda m: (m[:4000].view(2, 2000), m[:4000].view(2000, 2).T),
        lambda m: (m[:4000].view(2, 2000)[:, ::2], m[1:4001].view(2, 2000)[:, ::2]),
    ]
    for views in overlapping:
        x, _ = views(memory.clone())
        expected = ops.step(x, [x], coef, **key(2))
        shared = memory.clone()
        x, out = views(shared)
        assert torch.equal(ops.step(x, [x], coef, **key(2), out=out), expected)
        noisy = ops.add_noise(views(memory.clone())[0], coef[:, :4], **key(2))
        x, out = views(memory.clone())
        other = torch.empty_like(x)
        assert all(map(torch.equal, ops.add_noise(x, coef[:, :4], **key(2), out=(out, other)), noisy))


X, COEF = torch.zeros(2, 3), torch.zeros(1, 5)


@pytest.mark.parametrize(
    ("out", "error", "message"),
    [
        (torch.zeros(2, 4), ValueError, r"out of x's shape \[2, 3\], got \[2, 4\]"),
        (torch.zeros(2, 3).double(), TypeError, "out of x's dtype torch.float32, got torch.float64"),
        (torch.zeros(2, 1).expand(2, 3), RuntimeError, "more than one element"),
    ],
)
def test_step_refuses_what_it_cannot_write(out: Tensor, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ops.step(X, [X], COEF, out=out)


def test_other_refusals() -> None:
    y, rows = torch.zeros(2, 3), torch.zeros(3, 3)
    with pytest.raises(ValueError, match="x_s and x0 in different memory"):
        ops.step_x0(X, [X], COEF, out=(y, y))
    with pytest.raises(ValueError, match="x_s and x0 in different memory"):
        ops.step_x0(X, [X], COEF, out=(rows[:2], rows[1:]))
    with pytest.raises(TypeError, match=r"out of dtype torch.float64, got torch.float32"):
        ops.normal(**key(2), shape=(3,), dtype=torch.float64, out=y)
    with pytest.raises(ValueError, match="x_t and target in different memory"):
        ops.add_noise(X, COEF[:, :4], noise=X, out=(y, y))
    with pytest.raises(ValueError, match=r"target of x0's shape \[2, 3\], got \[3\]"):
        ops.add_noise(X, COEF[:, :4], noise=X, out=(y, y[0]))
    with pytest.raises(ValueError, match=r"out of shape \[2, 3\], got \[2, 4\]"):
        ops.normal(**key(2), shape=(3,), out=torch.zeros(2, 4))
    with pytest.raises(TypeError, match=r"out of dtype .*, got torch.int64"):
        ops.normal(**key(2), shape=(3,), out=torch.zeros(2, 3, dtype=torch.int64))
    for tensors in (
        {"x": torch.zeros(2, 3, requires_grad=True)},
        {"out": torch.zeros(2, 3, requires_grad=True)},
    ):
        with pytest.raises(ValueError, match=r"no tensor that requires a gradient with out="):
            ops.step(tensors.get("x", X), [X], COEF, out=tensors.get("out", y))
        with torch.no_grad():
            ops.step(tensors.get("x", X), [X], COEF, out=tensors.get("out", y))


def test_empty_tensors() -> None:
    for shape in ((0, 3), (2, 0)):
        x, y = torch.zeros(shape), torch.zeros(shape)
        assert ops.step(x, [x], COEF, **key(shape[0]), out=y) is y
        assert ops.add_noise(x, COEF[:, :4], **key(shape[0]), out=(x, y))[1] is y
        assert ops.normal(**key(shape[0]), shape=shape[1:], out=y) is y


def test_opcheck() -> None:
    op, seeds, stream = torch.ops.latentdiff, torch.arange(2), torch.tensor(1)
    x, y = torch.ones(2, 3), torch.zeros(2, 3)
    torch.library.opcheck(op.normal.out, (seeds, stream, y))
    torch.library.opcheck(op.add_noise.out, (x, COEF[:, :4], None, seeds, stream, y, y.clone()))
    torch.library.opcheck(op.step.out, (x, [x], COEF, 1.0, None, seeds, stream, y))
    torch.library.opcheck(op.step_x0.out, (x, [x], COEF, None, x, None, None, y, y.clone()))


def test_compiles_without_a_graph_break(draw: Draw) -> None:
    def loop(x: Tensor, coef: Tensor) -> Tensor:
        y, target = torch.empty_like(x), torch.empty_like(x)
        ops.add_noise(x, coef[:, :4], **key(3), out=(y, target))
        ops.step(y, [target], coef, **key(3), out=y)
        return y * 2 + ops.normal(**key(3), shape=x.shape[1:], out=target)

    x, coef = draw(3, 7), draw(3, 5)
    with torch.no_grad():
        assert torch.equal(torch.compile(loop, fullgraph=True, backend="aot_eager")(x, coef), loop(x, coef))


def test_autograd_notices_what_was_written(draw: Draw) -> None:
    """A tensor saved for a backward pass and then written must not give a wrong gradient in silence."""
    x, coef = draw(2, 6), draw(1, 5)
    writes: list[Callable[[Tensor], object]] = [
        lambda y: ops.step(x, [x], coef, out=y),
        lambda y: ops.step_x0(x, [x], coef, out=(y, torch.empty_like(x))),
        lambda y: ops.step_x0(x, [x], coef, out=(torch.empty_like(x), y)),
        lambda y: ops.add_noise(x, coef[:, :4], noise=x, out=(y, torch.empty_like(x))),
        lambda y: ops.add_noise(x, coef[:, :4], noise=x, out=(torch.empty_like(x), y)),
        lambda y: ops.normal(**key(2), shape=(6,), out=y),
    ]
    for write in writes:
        a = x.clone().requires_grad_()
        y = a.exp()
        write(y.detach())
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            y.sum().backward()


def test_outputs_over_coefficients_or_keys_come_out_right(draw: Draw) -> None:
    memory = draw(3, 40)
    x = draw(3, 5)
    coef = memory[:, :5]
    expected = ops.step(x, [x], coef.clone())
    assert torch.equal(ops.step(x, [x], coef, out=memory[:, 2:7]), expected)
