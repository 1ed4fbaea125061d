"""Operators: <A x, y> = <x, A^T y>, agreement with scipy and with dense matrices, and what they refuse."""

import inspect
from collections.abc import Callable

import numpy as np
import pytest
import scipy.ndimage
import torch
from torch import Tensor
from torch.nn import functional as F

from latentdiff.diffusion import operators as op
from latentdiff.diffusion.operators import Operator
from latentdiff.edit import measured
from latentdiff.ops.random import Key

GREY, RGB = (1, 12, 18), (3, 8, 8)

OPERATORS: dict[str, Callable[[], Operator]] = {
    "identity": lambda: op.identity(RGB),
    "box": lambda: op.masked(GREY, op.box(12, 18)),
    "half": lambda: op.masked(RGB, op.half(8, 8, "left")),
    "scattered": lambda: op.masked(GREY, op.scattered(12, 18, missing=0.7, seed=3)),
    "mask of channels": lambda: op.masked(RGB, torch.stack([op.half(8, 8), op.box(8, 8), torch.ones(8, 8)])),
    "blur": lambda: op.gaussian_blur(GREY, sigma=1.3),
    "blur wider than the image": lambda: op.gaussian_blur(RGB, sigma=7.0),
    "motion": lambda: op.motion_blur(GREY, length=5, angle=30),
    "motion of colours": lambda: op.motion_blur(RGB, length=9, angle=-75),
    "downsample": lambda: op.downsample(GREY, 3),
    "convolution": lambda: op.convolution(RGB, Key.of(5, 1).normal((3, 5))[0]),
    "blur, then fewer pixels": lambda: op.downsample(GREY, 2).after(op.gaussian_blur(GREY, sigma=1.0)),
    "matrix": lambda: op.matrix(Key.of(6, 1).normal((4, 7))[0]),
}


@pytest.fixture(params=OPERATORS)
def operator(request: pytest.FixtureRequest) -> Operator:
    return OPERATORS[request.param]()


def normal(seed: int, n: int, shape: tuple[int, ...]) -> Tensor:
    return Key.of(seed, n).normal(shape, dtype=torch.float64)


def test_the_adjoint_is_one(operator: Operator) -> None:
    x, y = normal(0, 3, operator.image_shape), normal(10, 3, operator.measured_shape)
    forward, back = operator(x), operator.adjoint(y)
    assert forward.shape == y.shape and back.shape == x.shape
    left, right = (forward * y).flatten(1).sum(1), (x * back).flatten(1).sum(1)
    torch.testing.assert_close(left, right, rtol=1e-12, atol=1e-12)


def test_it_is_linear_and_by_sample(operator: Operator) -> None:
    x, y = normal(0, 3, operator.image_shape), normal(20, 3, operator.image_shape)
    torch.testing.assert_close(operator(2 * x - 3 * y), 2 * operator(x) - 3 * operator(y))
    torch.testing.assert_close(operator(x)[1:2], operator(x[1:2]))


def test_the_adjoint_is_what_autograd_says(operator: Operator) -> None:
    x, y = normal(0, 2, operator.image_shape).requires_grad_(), normal(10, 2, operator.measured_shape)
    (gradient,) = torch.autograd.grad((operator(x) * y).sum(), x)
    torch.testing.assert_close(operator.adjoint(y), gradient)


def test_it_follows_the_dtype(operator: Operator) -> None:
    x = normal(0, 2, operator.image_shape)
    single = operator(x.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single, operator(x).float(), rtol=1e-5, atol=1e-5)


def test_it_refuses_other_shapes(operator: Operator) -> None:
    with pytest.raises(ValueError, match="expected"):
        operator(torch.zeros(2, *operator.image_shape[:-1], operator.image_shape[-1] + 1))
    with pytest.raises(ValueError, match="adjoint"):
        operator.adjoint(torch.zeros(*operator.measured_shape))


def test_gaussian_blur_is_scipys() -> None:
    x = normal(0, 1, (1, 20, 16))
    ours = op.gaussian_blur((1, 20, 16), sigma=1.7, size=11)(x)[0, 0].numpy()
    theirs = scipy.ndimage.gaussian_filter(x[0, 0].numpy(), 1.7, mode="mirror", radius=5)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("reach", [2, 9, 25])
def test_mirrored_edges_are_scipys(reach: int) -> None:
    x = normal(0, 1, (1, 7, 10))
    kernel = normal(1, 1, (2 * reach + 1, 2 * reach + 1))[0]
    ours = op.convolution((1, 7, 10), kernel)(x)[0, 0].numpy()
    theirs = scipy.ndimage.correlate(x[0, 0].numpy(), kernel.numpy(), mode="mirror")
    np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-10)


def test_a_row_of_one_pixel_can_be_blurred() -> None:
    x = normal(0, 1, (1, 1, 9))
    torch.testing.assert_close(op.gaussian_blur((1, 1, 9), sigma=1e-3)(x), x)


def test_downsampling_takes_means_of_blocks() -> None:
    x = normal(0, 2, (3, 8, 8))
    torch.testing.assert_close(op.downsample((3, 8, 8), 4)(x), F.avg_pool2d(x, 4))


def test_blurs_keep_flat_images() -> None:
    flat = torch.full((1, *GREY), -1.0, dtype=torch.float64)
    for operator in (op.gaussian_blur(GREY, sigma=2.0), op.motion_blur(GREY, length=6, angle=45)):
        torch.testing.assert_close(operator(flat), flat)


@pytest.mark.parametrize("angle, shape", [(0, "row"), (90, "column"), (180, "row")])
def test_motion_along_an_axis_is_a_line(angle: float, shape: str) -> None:
    kernel = op.motion_kernel(5, angle)
    line = kernel.sum(0) if shape == "row" else kernel.sum(1)
    assert line.max() < 0.3 and abs(float(line.sum()) - 1) < 1e-12
    across = kernel.sum(1) if shape == "row" else kernel.sum(0)
    assert float(across.max()) == pytest.approx(1, abs=1e-9)


def test_motion_of_one_pixel_is_no_motion() -> None:
    kernel = op.motion_kernel(1, 33)
    assert float(kernel[len(kernel) // 2, len(kernel) // 2]) == pytest.approx(1)


def test_motion_upwards_smears_to_the_upper_right_at_45_degrees() -> None:
    kernel = op.motion_kernel(7, 45)
    n = len(kernel)
    assert kernel[: n // 2, n // 2 + 1 :].sum() > 0.3 and kernel[: n // 2, : n // 2].sum() < 1e-9


@pytest.mark.parametrize("rho", [1e-2, 1.0, 50.0])
def test_the_proximal_point_solves_the_normal_equations(operator: Operator, rho: float) -> None:
    x, y = normal(0, 2, operator.image_shape), normal(10, 2, operator.measured_shape)
    z = op.proximal(operator, y, x, rho, iterations=400)
    left = operator.adjoint(operator(z)) + rho * z
    torch.testing.assert_close(left, operator.adjoint(y) + rho * x, rtol=1e-8, atol=1e-8)


def test_the_proximal_point_of_a_mask_in_closed_form() -> None:
    mask = op.scattered(6, 6, missing=0.5, seed=1)
    x, y, rho = normal(0, 2, (1, 6, 6)), normal(1, 2, (1, 6, 6)), 0.25
    expected = torch.where(mask.bool(), (y + rho * x) / (1 + rho), x)
    torch.testing.assert_close(op.proximal(op.masked((1, 6, 6), mask), y, x, rho), expected)


def test_the_proximal_point_of_a_sample_does_not_depend_on_the_others() -> None:
    operator = op.gaussian_blur((1, 6, 6), sigma=1.0)
    x, y = normal(0, 2, (1, 6, 6)), normal(1, 2, (1, 6, 6))
    both = op.proximal(operator, y * torch.tensor([1.0, 1e3]).view(2, 1, 1, 1), x, 0.1)
    torch.testing.assert_close(both[:1], op.proximal(operator, y[:1], x[:1], 0.1), rtol=1e-9, atol=1e-9)
    assert torch.equal(
        both[:1], op.proximal(operator, y[:1], x[:1], 0.1)
    )  # it stops where it has converged itself


def test_rounding_does_not_decide_how_far_a_proximal_point_goes() -> None:
    """With a small rho the number of iterations shows; in float32 it depended on the last digits of the
    input.
    """
    operator = op.gaussian_blur((1, 8, 8), sigma=0.8)
    x, y = normal(0, 32, (1, 8, 8)).float(), normal(40, 32, (1, 8, 8)).float()
    nearly = x * (1 + 1e-7)
    a, b = (op.proximal(operator, y, each, 1e-6) for each in (x, nearly))
    assert a.dtype == torch.float32
    torch.testing.assert_close(a, b, rtol=0, atol=1e-3)


def test_masks_miss_what_they_say() -> None:
    assert int((op.box(8, 10) == 0).sum()) == 4 * 5
    assert op.box(8, 10, size=(2, 3), corner=(6, 7))[6:, 7:].sum() == 0
    assert op.half(5, 4, "top")[:2].sum() == 0 and op.half(5, 4, "top")[2:].all()
    for missing in (0.0, 0.3, 1.0):
        assert int((op.scattered(9, 7, missing=missing, seed=2) == 0).sum()) == round(missing * 63)
    assert not torch.equal(op.scattered(9, 7, seed=0), op.scattered(9, 7, seed=1))


@pytest.mark.parametrize(
    "make",
    [
        lambda: op.box(8, 8, size=(4, 4), corner=(5, 0)),
        lambda: op.box(8, 8, size=(0, 4)),
        lambda: op.half(8, 8, "middle"),  # type: ignore[arg-type]
        lambda: op.scattered(8, 8, missing=1.5),
        lambda: op.masked((1, 8, 8), torch.ones(8, 7)),
        lambda: op.masked((1, 8, 8), torch.full((8, 8), 0.5)),
        lambda: op.masked((1, 8, 8), torch.full((8, 8), float("nan"))),
        lambda: op.gaussian_blur((1, 8, 8), sigma=0),
        lambda: op.gaussian_blur((1, 8, 8), sigma=1, size=4),
        lambda: op.motion_blur((1, 8, 8), length=0.5),
        lambda: op.convolution((1, 8, 8), torch.ones(2, 3)),
        lambda: op.downsample((1, 8, 8), 3),
        lambda: op.identity((1, 8, 8)).after(op.downsample((1, 8, 8), 2)),
        lambda: op.proximal(op.identity((2,)), torch.zeros(1, 2), torch.zeros(1, 2), 0.0),
    ],
)
def test_what_cannot_be_is_refused(make: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"expected|must be|takes"):
        make()


def test_what_a_random_mask_hides_says_nothing_of_the_noise() -> None:
    """One seed for the mask and for the measurement: the noise of the known pixels is that of all."""
    mask = op.scattered(28, 28, missing=0.7, seed=0)
    operator = op.masked((1, 28, 28), mask)
    noise = measured(operator, torch.zeros(4, 1, 28, 28), sigma=1.0, seed=0)[:, 0][:, mask.bool()]
    assert float(noise.mean(1).abs().max()) < 0.2 and float((noise.std(1) - 1).abs().max()) < 0.2


@pytest.mark.parametrize("name", op.OPERATORS)
def test_a_row_of_the_table_names_a_function_of_its_options(name: str) -> None:
    function, info = op.operator_function(name), op.OPERATORS[name]
    assert function.__module__.endswith(f"operators.{info.function.split(':')[0]}")
    takes = {*list(inspect.signature(function).parameters)[1:]} - {"size"}
    options = {option.removeprefix(f"{name}_") for option in info.options.model_fields}
    assert takes == ({"mask"} if name == "mask" else options)
    chosen = {"mask": op.half(8, 8)} if name == "mask" else {}
    made = op.make_operator(name, RGB, **chosen)
    assert isinstance(made, Operator) and made.image_shape == RGB


def test_an_operator_by_its_name_has_the_options_of_its_row() -> None:
    x = normal(0, 2, GREY)
    made = op.make_operator("blur", GREY, blur_sigma=0.7)
    assert torch.equal(made(x), op.gaussian_blur(GREY, sigma=0.7)(x))
    assert torch.equal(op.make_operator("blur", GREY)(x), op.gaussian_blur(GREY, sigma=1.5)(x))
    with pytest.raises(ValueError, match="blur_sigma"):
        op.make_operator("blur", GREY, blur_sigma=0.0)
