"""MSE, PSNR and SSIM against scikit-image and torchmetrics."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from latentdiff.errors import InputError
from latentdiff.metrics.pairs import mse, psnr, rmse, ssim, ssim_window

SHAPES = [(1, 28, 28), (3, 32, 32), (1, 11, 40), (3, 64, 17)]


def pair(shape: tuple[int, ...], *, n: int = 4, noise: float = 0.1) -> tuple[Tensor, Tensor]:
    """Smooth uint8 images with flat parts, and noisy copies."""
    g = torch.Generator().manual_seed(len(shape) + shape[-1])
    coarse = torch.rand(n, shape[0], 4, 4, generator=g)
    clean = torch.nn.functional.interpolate(coarse, shape[1:], mode="bilinear").sub(0.2).clamp(0, 1)
    noisy = (clean + noise * torch.randn(clean.shape, generator=g)).clamp(0, 1)
    return clean.mul(255).round().byte(), noisy.mul(255).round().byte()


@pytest.mark.parametrize("shape", SHAPES)
def test_agrees_with_scikit_image(shape: tuple[int, ...]) -> None:
    metrics = pytest.importorskip("skimage.metrics")
    a, b = pair(shape)
    found = {"mse": mse(a, b), "psnr": psnr(a, b), "ssim": ssim(a, b)}
    assert all(values.dtype == torch.float64 and values.shape == (4,) for values in found.values())
    for i, (p, q) in enumerate(zip(a.double().numpy() / 255, b.double().numpy() / 255, strict=True)):
        options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1}
        expected = metrics.structural_similarity(p, q, channel_axis=0, **options)
        assert float(found["ssim"][i]) == pytest.approx(expected, rel=1e-10)
        assert float(found["psnr"][i]) == pytest.approx(
            metrics.peak_signal_noise_ratio(p, q, data_range=1), rel=1e-12
        )
        assert float(found["mse"][i]) == pytest.approx(metrics.mean_squared_error(p, q), rel=1e-12)
    torch.testing.assert_close(rmse(a, b), found["mse"].sqrt())


@pytest.mark.parametrize("shape", SHAPES)
def test_agrees_with_torchmetrics(shape: tuple[int, ...]) -> None:
    image = pytest.importorskip("torchmetrics.functional.image")
    a, b = (images.double() / 255 for images in pair(shape))
    mean, full = image.structural_similarity_index_measure(
        a, b, data_range=1.0, reduction="none", return_full_image=True
    )
    torch.testing.assert_close(ssim(a, b), full[..., 5:-5, 5:-5].flatten(1).mean(1), rtol=1e-7, atol=0)
    torch.testing.assert_close(ssim(a, b, border="reflect"), mean, rtol=1e-7, atol=0)
    expected = image.peak_signal_noise_ratio(a, b, data_range=1.0, reduction="none", dim=(1, 2, 3))
    torch.testing.assert_close(psnr(a, b), expected, rtol=1e-6, atol=0)


def naive_ssim(a: np.ndarray, b: np.ndarray, window: int) -> float:
    """One channel, place by place, from the paper."""
    place = np.arange(window) - window // 2
    weights = np.exp(-(place[:, None] ** 2 + place**2) / (2 * 1.5**2))
    weights /= weights.sum()
    values = []
    for i in range(a.shape[0] - window + 1):
        for j in range(a.shape[1] - window + 1):
            p, q = a[i : i + window, j : j + window], b[i : i + window, j : j + window]
            x, y = (weights * p).sum(), (weights * q).sum()
            vx, vy = (weights * (p - x) ** 2).sum(), (weights * (q - y) ** 2).sum()
            cov = (weights * (p - x) * (q - y)).sum()
            values.append((2 * x * y + 1e-4) * (2 * cov + 9e-4) / ((x * x + y * y + 1e-4) * (vx + vy + 9e-4)))
    return float(np.mean(values))


@pytest.mark.parametrize(
    ("height", "width", "window"), [(8, 8, 7), (3, 20, 3), (1, 5, 1), (12, 10, 9), (14, 13, 11)]
)
def test_small_images_have_the_largest_odd_window_that_fits(height: int, width: int, window: int) -> None:
    assert ssim_window(height, width) == window
    a, b = pair((1, height, width))
    expected = [naive_ssim(p[0].numpy() / 255, q[0].numpy() / 255, window) for p, q in zip(a, b, strict=True)]
    np.testing.assert_allclose(ssim(a, b), expected, rtol=1e-10)


@pytest.mark.parametrize("measure", [mse, psnr, ssim])
def test_an_image_does_not_depend_on_its_batch(measure: Callable[[Tensor, Tensor], Tensor]) -> None:
    a, b = pair((3, 19, 23), n=300)
    whole = measure(a, b)
    assert torch.equal(whole, torch.cat([measure(p[None], q[None]) for p, q in zip(a, b, strict=True)]))


def test_uint8_and_float_images_say_the_same() -> None:
    a, b = pair((3, 16, 16))
    torch.testing.assert_close(ssim(a, b), ssim(a.double() / 255, b), rtol=0, atol=0)
    assert (ssim(a, a) == 1).all() and (mse(a, a) == 0).all() and psnr(a, a).tolist() == [math.inf] * 4


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        (
            torch.zeros(2, 1, 8, 8),
            torch.zeros(3, 1, 8, 8),
            r"one shape, found \[2, 1, 8, 8\] and \[3, 1, 8, 8\]",
        ),
        (torch.zeros(1, 8, 8), torch.zeros(1, 8, 8), r"\[N, C, H, W\]"),
        (torch.zeros(0, 1, 8, 8), torch.zeros(0, 1, 8, 8), r"\[N, C, H, W\]"),
        (-torch.ones(1, 1, 8, 8), torch.zeros(1, 1, 8, 8), r"in \[0, 1\], found values from -1 to -1"),
        (torch.zeros(1, 1, 8, 8), torch.full((1, 1, 8, 8), torch.nan), "from nan"),
        (torch.zeros(1, 1, 8, 8).int(), torch.zeros(1, 1, 8, 8), "uint8 or float, found torch.int32"),
    ],
)
def test_bad_pairs_are_refused(a: Tensor, b: Tensor, words: str) -> None:
    for measure in (mse, ssim):
        with pytest.raises(InputError, match=words):
            measure(a, b)
