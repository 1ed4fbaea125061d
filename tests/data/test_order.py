"""Laws of the data order, the augmentation and the pixel conversion."""

from hashlib import sha256

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from latentdiff.config.data import DataOptions
from latentdiff.data import Augment, batch_indices, permutation, to_float, to_uint8
from latentdiff.data.augment import AUGMENTATIONS, Draw
from latentdiff.errors import InputError


def test_permutation_holds_each_index_once_and_depends_on_seed_and_epoch() -> None:
    orders = [permutation(500, seed=seed, epoch=epoch) for seed in (0, 1) for epoch in (0, 1)]
    for order in orders:
        assert torch.equal(order.sort().values, torch.arange(500))
    assert len({tuple(order.tolist()) for order in orders}) == 4
    assert torch.equal(permutation(500, seed=1, epoch=1), orders[3])


def test_permutation_result_may_be_changed_without_changing_the_next_one() -> None:
    first = permutation(10, seed=3, epoch=0)
    kept = first.clone()
    first.zero_()
    assert torch.equal(permutation(10, seed=3, epoch=0), kept)


def test_permutation_is_uniform_over_places() -> None:
    places = torch.stack([permutation(4, seed=seed, epoch=7) for seed in range(2000)])
    counts = F.one_hot(places, 4).sum(0)
    assert (counts - 500).abs().max() < 100  # five standard deviations


@pytest.mark.parametrize(("n", "batch"), [(10, 3), (3, 10), (7, 7), (1, 4), (64, 16)])
def test_batches_are_the_concatenated_epochs_cut_anywhere(n: int, batch: int) -> None:
    epochs = torch.cat([permutation(n, seed=5, epoch=e) for e in range(20 * batch // n + 2)])
    steps = list(range(20))
    for step in steps[::-1]:  # backwards: no state is carried from step to step
        expected = epochs[step * batch : step * batch + batch]
        assert torch.equal(batch_indices(n, batch=batch, step=step, seed=5), expected)


@pytest.mark.parametrize(
    ("n", "batch", "step", "seed"), [(0, 1, 0, 0), (1, 0, 0, 0), (1, 1, -1, 0), (1, 1, 0, -1)]
)
def test_batch_indices_refuse_impossible_arguments(n: int, batch: int, step: int, seed: int) -> None:
    with pytest.raises(ValueError, match="expected n >="):
        batch_indices(n, batch=batch, step=step, seed=seed)


def test_global_generators_are_left_alone() -> None:
    before = torch.get_rng_state().clone()
    batch_indices(100, batch=10, step=3, seed=1)
    Augment(flip=True, random_shift=2)(torch.zeros(2, 1, 8, 8, dtype=torch.uint8), torch.arange(2), 0)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.fixture
def images() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (64, 3, 9, 12), dtype=torch.uint8, generator=generator)


def candidates(image: Tensor, augment: Augment) -> list[Tensor]:
    """Every result the augmentation may give, by torch's own reflection padding."""
    c = augment.values.get("random_shift", 0)
    _, height, width = image.shape
    padded = F.pad(image[None].float(), (c, c, c, c), mode="reflect")[0].to(torch.uint8) if c else image
    shifts = [(y, x) for y in range(2 * c + 1) for x in range(2 * c + 1)]
    crops = [padded[:, y : y + height, x : x + width] for y, x in shifts]
    return crops + [crop.flip(2) for crop in crops] if "flip" in augment.values else crops


@pytest.mark.parametrize(
    "augment", [Augment(flip=True), Augment(random_shift=2), Augment(flip=True, random_shift=1)]
)
def test_augment_gives_each_allowed_result_and_no_other(images: Tensor, augment: Augment) -> None:
    repeated = images[:1].expand(400, -1, -1, -1)
    allowed = candidates(images[0], augment)
    seen = set()
    for result in augment(repeated, torch.arange(400), 11):
        matches = [i for i, candidate in enumerate(allowed) if torch.equal(result, candidate)]
        assert len(matches) == 1
        seen.add(matches[0])
    assert seen == set(range(len(allowed)))


def test_augment_depends_on_seed_and_position_alone(images: Tensor) -> None:
    augment = Augment(flip=True, random_shift=3)
    positions = torch.arange(64) * 1000
    whole = augment(images, positions, 4)
    order = torch.randperm(64, generator=torch.Generator().manual_seed(1))
    assert torch.equal(augment(images[order], positions[order], 4), whole[order])
    assert torch.equal(augment(images[17:18], positions[17:18], 4), whole[17:18])
    assert not torch.equal(augment(images, positions, 5), whole)
    assert not torch.equal(augment(images, positions + 1, 4), whole)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"flip": True}, "37e7853f271f1009"),
        ({"random_shift": 2}, "4f349c7a2cb62c35"),
        ({"flip": True, "random_shift": 3}, "55fa2cbd00700838"),
    ],
)
def test_augmented_images_are_those_of_earlier_versions(
    images: Tensor, values: dict[str, int], expected: str
) -> None:
    found = Augment(**values)(images, torch.arange(64) * 1000, 4)
    assert sha256(found.contiguous().numpy().tobytes()).hexdigest().startswith(expected)


def test_a_row_of_the_table_is_an_augmentation(images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    def negate(images: Tensor, percent: int, draw: Draw) -> Tensor:
        chosen = draw("negate", 100) < percent
        return torch.where(chosen[:, None, None, None], 255 - images, images)

    monkeypatch.setitem(AUGMENTATIONS, "negate", negate)
    cropped = Augment(random_shift=2)(images, torch.arange(64), 0)
    found = Augment(negate=25, random_shift=2)(images, torch.arange(64), 0)
    negated = (found == 255 - cropped).flatten(1).all(1)
    assert torch.equal(found[~negated], cropped[~negated]) and 4 < int(negated.sum()) < 28
    with pytest.raises(TypeError, match="expected augmentations random_shift, flip, negate, found rotate"):
        Augment(rotate=1)


def test_every_augmentation_is_an_option_that_is_off() -> None:
    assert all(DataOptions.model_fields[name].default == 0 for name in AUGMENTATIONS)


def test_flip_is_a_fair_coin(images: Tensor) -> None:
    repeated = images[:1].expand(4000, -1, -1, -1)
    kept = (Augment(flip=True)(repeated, torch.arange(4000), 0) == repeated).flatten(1).all(1).sum()
    assert abs(int(kept) - 2000) < 160  # five standard deviations


def test_augment_that_does_nothing_returns_the_images(images: Tensor) -> None:
    assert torch.equal(Augment()(images, torch.arange(64), 0), images)


def test_augment_refuses_what_does_not_fit(images: Tensor) -> None:
    with pytest.raises(ValueError, match="random_shift >= 0, found -1"):
        Augment(random_shift=-1)
    with pytest.raises(ValueError, match=r"`random_shift`: expected 0\.\.8, found 9"):
        Augment(random_shift=9)(images, torch.arange(64), 0)
    with pytest.raises(ValueError, match=r"positions \[64\]"):
        Augment(flip=True)(images, torch.arange(63), 0)
    with pytest.raises(ValueError, match="uint8 images"):
        Augment(flip=True)(images.float(), torch.arange(64), 0)


def test_all_pixels_survive_the_round_trip() -> None:
    pixels = torch.arange(256, dtype=torch.uint8)
    floats = to_float(pixels)
    assert floats.dtype == torch.float32
    assert (floats[0].item(), floats[-1].item()) == (-1.0, 1.0)
    assert torch.allclose(floats.double(), pixels.double() / 127.5 - 1, atol=1e-7)
    assert torch.equal(to_uint8(floats), pixels)
    assert torch.equal(to_uint8(floats.double()), pixels)


def test_to_uint8_rounds_and_clamps() -> None:
    values = torch.tensor([-float("inf"), -3.0, 0.4 / 127.5 - 1, 0.6 / 127.5 - 1, 1.5, float("inf")])
    assert to_uint8(values).tolist() == [0, 0, 0, 1, 255, 255]


def test_conversions_refuse_nan_and_wrong_types() -> None:
    with pytest.raises(InputError, match="found 1 NaN in 2 values"):
        to_uint8(torch.tensor([0.0, float("nan")]))
    with pytest.raises(TypeError, match=r"expected floating-point images, found torch\.uint8"):
        to_uint8(torch.zeros(1, dtype=torch.uint8))
    with pytest.raises(TypeError, match=r"expected uint8 images, found torch\.float32"):
        to_float(torch.zeros(1))
