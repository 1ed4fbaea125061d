"""Latents as grey pictures."""

import pytest
import torch

from latentdiff.viz.images import latent_pictures, side_by_side


@pytest.mark.parametrize(
    ("shape", "picture"), [((4,), (2, 2)), ((32,), (6, 6)), ((8, 3, 5), (9, 15)), ((1, 4, 4), (4, 4))]
)
def test_every_number_has_its_place(shape: tuple[int, ...], picture: tuple[int, int]) -> None:
    x = torch.linspace(-3, 3, 2 * torch.Size(shape).numel()).view(2, *shape)
    found = latent_pictures(x)
    assert tuple(found.shape) == (2, 1, *picture)
    extra = found[0].numel() - x[0].numel()
    values = found.flatten(1).sort(1).values
    assert torch.allclose(values[1, extra:], x[1].flatten().sort().values / 3)
    assert bool((values[:, :extra] == -1).all())
    assert bool((latent_pictures(10 * torch.ones(1, *shape)).max() == 1).all())


def test_channels_stand_beside_one_another() -> None:
    x = torch.zeros(1, 4, 2, 3)
    x[0, 1] = 3.0
    assert latent_pictures(x)[0, 0].tolist() == [[0, 0, 0, 1, 1, 1]] * 2 + [[0] * 6] * 2


def test_pictures_of_other_heights_end_in_white() -> None:
    low, high = torch.zeros(4, 3, 3).byte().numpy(), torch.zeros(6, 5, 3).byte().numpy()
    found = side_by_side(low, high)
    assert (
        found.shape == (6, 3 + 8 + 5, 3)
        and int(found[4:, :11].min()) == 255
        and int(found[:4, :3].max()) == 0
    )
