"""Gradients, registration and compilation of the operations."""

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from latentdiff import ops

Draw = Callable[..., Tensor]
SEEDS, STREAM, STREAMS = torch.tensor([1, -2, 3]), torch.tensor(5), torch.tensor([1, 2, 2**40])


@pytest.fixture
def draw() -> Draw:
    g = torch.Generator().manual_seed(0)
    return lambda *shape, dtype=torch.float64: torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype)


def leaf(x: Tensor) -> Tensor:
    return x.detach().requires_grad_()


def textbook(
    x: Tensor, outs: list[Tensor], coef: Tensor, *, clip: float | None, noise: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The formula in plain differentiable PyTorch."""
    k, m, c, p, *w = coef.view(*coef.shape, *[1] * (x.dim() - 1)).unbind(1)
    n = len(outs)
    x0 = p * x + sum(q * out for q, out in zip(w[:n], outs, strict=True))
    if clip is not None:
        x0 = x0.clamp(-clip, clip)
    x_s = k * x + m * x0
    if len(w) > n:
        x_s = x_s + sum(r * out for r, out in zip(w[n:], outs, strict=True))
    return (x_s if noise is None else x_s + c * noise), x0


@pytest.mark.parametrize("n", [1, 2, 4])
@pytest.mark.parametrize("clip", [None, 0.8])
@pytest.mark.parametrize("with_r", [False, True])
def test_gradients_of_step_are_those_of_the_textbook_lines(
    draw: Draw, n: int, clip: float | None, with_r: bool
) -> None:
    coef = draw(3, 4 + n * (1 + with_r))
    inputs = [leaf(draw(3, 2, 4)) for _ in range(n + 2)]
    x, noise, *outs = inputs
    weights = draw(3, 2, 4), draw(3, 2, 4)
    for used in ((0,), (1,), (0, 1)):  # the loss may see either output or both
        grads = []
        for function in (ops.step_x0, textbook):
            results = function(x, outs, coef, clip=clip, noise=noise)
            loss = sum((weights[i] * results[i].square()).sum() for i in used)
            grads.append(torch.autograd.grad(loss, inputs, allow_unused=True, materialize_grads=True))
        for grad, expected in zip(*grads, strict=True):
            torch.testing.assert_close(grad, expected, rtol=1e-12, atol=1e-12)
    loss = (weights[0] * ops.step(x, outs, coef, clip=clip, noise=noise).square()).sum()
    expected_loss = (weights[0] * textbook(x, outs, coef, clip=clip, noise=noise)[0].square()).sum()
    for grad, expected in zip(
        torch.autograd.grad(loss, inputs), torch.autograd.grad(expected_loss, inputs), strict=True
    ):
        torch.testing.assert_close(grad, expected, rtol=1e-12, atol=1e-12)


def test_gradcheck_and_double_backward(draw: Draw) -> None:
    coef = draw(3, 8)
    x, first, second, noise = (leaf(draw(3, 2)) for _ in range(4))

    def moved(x: Tensor, first: Tensor, second: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        # products, so that the second derivatives are not all zero
        x_s, x0 = ops.step_x0(x * first, [first * second, second], coef, clip=2.0, noise=noise)
        return x_s * x0, ops.step(x * x, [first], coef[:, :6], seeds=SEEDS, stream=STREAM)

    def noised(x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        return ops.add_noise(x * x, coef[:, :4], noise=noise * x)

    assert torch.autograd.gradcheck(moved, (x, first, second, noise))
    assert torch.autograd.gradgradcheck(moved, (x, first, second, noise))
    assert torch.autograd.gradcheck(noised, (x, noise))
    assert torch.autograd.gradgradcheck(noised, (x, noise))


def test_gradient_of_the_clip_is_its_mask_bounds_included_and_nan_excluded() -> None:
    out = leaf(torch.tensor([[-2.0, -1.0, -0.5, 0.0, 1.0, 1.0000001, float("nan")]]))
    coef = torch.tensor([[0.0, 1.0, 0.0, 0.0, 1.0]])
    ops.step(torch.zeros_like(out), [out], coef, clip=1.0).sum().backward()
    assert out.grad is not None
    assert out.grad.tolist() == [[0.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0]]


def test_a_coefficient_of_zero_lets_no_gradient_through() -> None:
    """Nor does an infinite input that is clipped away turn the others' gradients into NaN."""
    x, out, noise = (leaf(torch.tensor([[float("inf"), 0.5]], dtype=torch.float64)) for _ in range(3))
    coef = torch.tensor([[0.0, 0.9, 0.0, 2.0, 0.0, 0.0]], dtype=torch.float64)  # x0 = 2 x, x_s = 0.9 x0
    x_s = ops.step(x, [out], coef, clip=1.0, noise=noise)
    assert x_s.tolist() == [[0.9, 0.9]]
    (x_s * torch.tensor([[float("inf"), 1.0]])).sum().backward()
    assert [tensor.grad.tolist() for tensor in (x, out, noise) if tensor.grad is not None] == [
        [[0.0, 1.8]],
        [[0.0, 0.0]],
        [[0.0, 0.0]],
    ]
    x0 = leaf(torch.ones(1, 1))
    x_t, target = ops.add_noise(x0, torch.tensor([[0.5, 0.5, 0.0, 1.0]]), noise=torch.ones(1, 1))
    (x_t + target * float("inf")).sum().backward()
    assert x0.grad is not None and x0.grad.item() == 0.5


def test_the_mask_of_sixteen_bits_looks_before_the_rounding() -> None:
    x = leaf(torch.ones(1, 1, dtype=torch.bfloat16))
    coef = torch.tensor([[0.0, 1.0, 0.0, 1.001, 0.0]])  # 1.001 rounds to 1 in bfloat16, yet it was clipped
    ops.step(x, [torch.zeros_like(x)], coef, clip=1.0).sum().backward()
    assert x.grad is not None
    assert x.grad.item() == 0.0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_gradients_have_the_dtype_of_their_tensor(draw: Draw, dtype: torch.dtype) -> None:
    x, out, noise = (leaf(draw(2, 5, dtype=dtype)) for _ in range(3))
    coef = draw(1, 5)
    ops.step(x, [out], coef, noise=noise).float().sum().backward()
    for tensor, value in (
        (x, coef[0, 0] + coef[0, 1] * coef[0, 3]),
        (out, coef[0, 1] * coef[0, 4]),
        (noise, coef[0, 2]),
    ):
        assert tensor.grad is not None
        assert tensor.grad.dtype == dtype
        torch.testing.assert_close(tensor.grad, torch.full_like(tensor, value.item()))


def test_only_what_asks_for_a_gradient_gets_one(draw: Draw) -> None:
    x, frozen, out = draw(3, 2), draw(3, 2), leaf(draw(3, 2))
    coef, noise = leaf(draw(1, 6)), draw(3, 2)
    ops.step(x, [frozen, out], coef, noise=noise).sum().backward()
    assert out.grad is not None
    assert [tensor.grad for tensor in (x, frozen, coef, noise)] == [None] * 4
    with torch.no_grad():
        assert not ops.step(x, [out], coef[:, :5]).requires_grad


INPUTS: dict[str, Callable[[Draw], Tensor]] = {
    "plain": lambda draw: draw(3, 2, 4, 5, dtype=torch.float32),
    "channels_last": (
        lambda draw: draw(3, 2, 4, 5, dtype=torch.float32).contiguous(memory_format=torch.channels_last)
    ),
    "sliced": lambda draw: draw(3, 4, 4, 10, dtype=torch.float32)[:, ::2, :, 1::2],
    "expanded": lambda draw: draw(3, 1, 4, 1, dtype=torch.float32).expand(3, 2, 4, 5),
    "empty": lambda draw: draw(3, 0, 4, dtype=torch.float32),
    "scalars": lambda draw: draw(3, dtype=torch.float32),
    "float64": lambda draw: draw(3, 5),
    "bfloat16": lambda draw: draw(3, 5, dtype=torch.bfloat16),
}


@pytest.mark.parametrize("kind", INPUTS)
def test_opcheck_of_the_updates(draw: Draw, kind: str) -> None:
    def x() -> Tensor:
        return leaf(INPUTS[kind](draw))

    op = torch.ops.latentdiff
    torch.library.opcheck(op.add_noise.default, (x(), draw(3, 4), None, SEEDS, STREAMS))
    torch.library.opcheck(op.step_x0.default, (x(), [x(), x()], draw(1, 8), 0.7, x(), None, None))
    torch.library.opcheck(
        op.step.default, (x().detach(), [x().detach()], draw(3, 5), None, None, SEEDS, STREAM)
    )


def test_opcheck_of_step_and_of_given_noise(draw: Draw) -> None:
    x, out, noise = (leaf(draw(3, 2)) for _ in range(3))
    op = torch.ops.latentdiff
    torch.library.opcheck(
        op.step.default, (x, [out, out.detach(), out], draw(3, 7), 0.7, None, SEEDS, STREAM)
    )
    torch.library.opcheck(op.step_x0.default, (x, [out], draw(1, 5), None, None, None, None))
    torch.library.opcheck(op.add_noise.default, (x, draw(1, 4), noise, None, None))


@pytest.mark.parametrize("shape", [[], [0], [5], [2, 3]])
def test_opcheck_of_normal(shape: list[int]) -> None:
    op = torch.ops.latentdiff.normal.default
    for dtype, stream in itertools.product((torch.float32, torch.bfloat16), (STREAM, STREAMS)):
        torch.library.opcheck(op, (SEEDS, stream, shape, dtype))


def test_compiles_without_a_graph_break_and_gives_the_same_bits(draw: Draw) -> None:
    def loop(x: Tensor, coef: Tensor) -> Tensor:
        x = x + ops.normal(SEEDS, STREAM, x.shape[1:])
        x, target = ops.add_noise(x, coef[:, :4], seeds=SEEDS, stream=STREAM)
        x, x0 = ops.step_x0(x, [target, x.sin()], coef, clip=1.0, seeds=SEEDS, stream=STREAMS)
        return ops.step(x, [x0], coef[:, :5])

    compiled = torch.compile(loop, fullgraph=True, backend="aot_eager", dynamic=True)
    for size in (6, 11):
        x, coef = draw(3, size, dtype=torch.float32), draw(3, 6, dtype=torch.float32)
        grads = []
        for function in (loop, compiled):
            inner = leaf(x)
            result = function(inner, coef)
            grads.append((result.detach(), *torch.autograd.grad(result.square().sum(), inner)))
        for one, other in zip(*grads, strict=True):
            assert torch.equal(one, other)


def test_a_registered_kernel_is_named() -> None:
    has = torch._C._dispatch_has_kernel_for_dispatch_key
    if has("latentdiff::step", "CUDA"):
        assert ops.implementation().endswith("native")
        return
    cpu = "native" if has("latentdiff::step", "CPU") else "fallback"
    assert ops.implementation() == ("fallback" if cpu == "fallback" else "cpu native, cuda fallback")
    library = torch.library.Library("latentdiff", "IMPL")
    library.impl("step", lambda x, *_: x, "CUDA")
    try:
        assert ops.implementation() == ("native" if cpu == "native" else "cpu fallback, cuda native")
    finally:
        library._destroy()


def test_forward_mode_is_refused_rather_than_wrong(draw: Draw) -> None:
    if not ops.implementation().endswith("native") and "cpu native" not in ops.implementation():
        pytest.skip("PyTorch cannot tell custom operations in Python of tangents")
    x, coef = draw(3, 2), draw(1, 5)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, torch.ones_like(x))
        for call in (lambda: ops.step(dual, [x], coef), lambda: ops.step(x, [dual], coef)):
            with pytest.raises(NotImplementedError, match="no forward-mode gradients"):
                call()


def test_tensors_without_data_get_shapes_and_checks() -> None:
    x, coef = torch.empty(2, 3, 4, device="meta"), torch.empty(1, 5, device="meta")
    seeds, stream = (torch.empty(shape, dtype=torch.int64, device="meta") for shape in ((2,), ()))
    x_s, x0 = ops.step_x0(x, [x], coef, seeds=seeds, stream=stream)
    assert x_s.device.type == x0.device.type == "meta"
    assert x_s.shape == ops.normal(seeds, stream, (3, 4)).shape == x.shape
    assert ops.step(x, [x], coef, out=x) is x
    with pytest.raises(ValueError, match="1 to 4 outs, got 0"):
        ops.step(x, [], coef)
