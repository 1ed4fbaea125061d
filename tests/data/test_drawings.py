"""Photos of pen drawings become what a model of digits has learned."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from latentdiff.data import load_dataset
from latentdiff.data.brightness import Brightness
from latentdiff.data.drawings import as_strokes
from latentdiff.metrics.features import extract, feature_network

SIZE = (28, 28)


def digits() -> tuple[Tensor, Tensor]:
    test = load_dataset("mnist5k").test
    assert test.labels is not None
    return test.images[:200], test.labels[:200]


def on_paper(images: Tensor, seed: int = 0) -> Tensor:
    """Digits as dark strokes somewhere on a sheet [N, 1, 280, 224], lit from one side, with noise."""
    g = torch.Generator().manual_seed(seed)
    sheets = []
    for image in images:
        side = int(torch.randint(80, 150, (), generator=g))
        strokes = F.interpolate(image[None].float() / 255, (side, side), mode="bicubic").clamp(0, 1)
        cover = torch.zeros(1, 1, 280, 224)
        y, x = (int(torch.randint(5, room - side - 5, (), generator=g)) for room in (280, 224))
        cover[..., y : y + side, x : x + side] = strokes
        angle = float(torch.rand((), generator=g)) * 2 * math.pi
        rows, columns = torch.meshgrid(torch.linspace(-1, 1, 280), torch.linspace(-1, 1, 224), indexing="ij")
        light = 0.7 + 0.12 * (math.cos(angle) * rows + math.sin(angle) * columns)
        sheet = light * (1 - 0.75 * cover) + 0.02 * torch.randn(cover.shape, generator=g)
        sheets.append((255 * sheet.clamp(0, 1)).round().to(torch.uint8))
    return torch.cat(sheets)


def accuracy(images: Tensor, labels: Tensor) -> float:
    found = extract(feature_network("mnist"), images).predictions
    assert found is not None
    return float((found == labels).double().mean())


def test_drawings_on_paper_are_read_as_the_digits_that_they_are() -> None:
    images, labels = (each[:100] for each in digits())
    sheets = on_paper(images)
    known = Brightness.of(images)
    plain = F.interpolate(sheets.float(), SIZE, mode="area").round().to(torch.uint8)
    assert float(known.far(plain).double().mean()) > 0.99 and accuracy(255 - plain, labels) < 0.6
    found = as_strokes(sheets, SIZE)
    assert found.dtype == torch.uint8 and tuple(found.shape) == tuple(images.shape)
    assert float(known.far(found).double().mean()) < 0.05
    assert accuracy(found, labels) > 0.93


def test_what_is_light_on_dark_stays_so() -> None:
    images, labels = digits()
    found = as_strokes(255 - on_paper(images[:60], 1), SIZE)
    assert accuracy(found, labels[:60]) > 0.93


def test_they_lie_in_the_middle_of_their_box() -> None:
    found = as_strokes(on_paper(digits()[0][:40], 2), SIZE).double()[:, 0]
    place = torch.arange(28) + 0.5
    for dimension in (1, 2):
        mass = found.sum(3 - dimension)
        centre = (mass * place).sum(1) / mass.sum(1)
        assert float((centre - 14).abs().max()) <= 1.0
    lit = found > 40
    reach = torch.maximum(lit.any(1).sum(1), lit.any(2).sum(1))
    assert int(reach.min()) >= 17 and int(reach.max()) <= 23


def test_thin_strokes_are_made_wide_enough() -> None:
    sheet = torch.full((1, 1, 280, 280), 255, dtype=torch.uint8)
    sheet[..., 40:240, 139:141] = 0
    sheet[..., 139:141, 40:240] = 0
    found = as_strokes(sheet, SIZE).double() / 255
    assert 0.05 < float(found.mean()) < 0.2 and float(found.max()) == 1


@pytest.mark.parametrize("value", [0, 127, 255])
def test_an_empty_sheet_is_black(value: int) -> None:
    sheet = torch.full((2, 1, 120, 90), value, dtype=torch.uint8)
    assert int(as_strokes(sheet, SIZE).max()) == 0
    noise = torch.randint(200, 208, (1, 1, 120, 90), generator=torch.Generator().manual_seed(0))
    assert int(as_strokes(noise.to(torch.uint8), SIZE).max()) == 0
