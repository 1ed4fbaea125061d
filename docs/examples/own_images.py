"""Images for the tutorial, where you have none of your own at hand: coloured shapes as PNG files, a folder
for each kind.

python docs/examples/own_images.py FOLDER [COUNT]        COUNT files, by default 3000; 32 x 32 pixels
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw


def corners(kind: str, x: float, y: float, size: float) -> list[tuple[float, float]]:
    """The outline of a shape around (x, y) that reaches ``size`` far."""
    turns = {"circle": 40, "triangle": 3, "square": 4}[kind]
    angles = 2 * np.pi * (np.arange(turns) + {3: -0.75, 4: 0.5}.get(turns, 0)) / turns
    return [(x + size * np.cos(angle), y + size * np.sin(angle)) for angle in angles]


def draw(kind: str, random: np.random.Generator) -> Image.Image:
    """One shape of a random colour, size and place; drawn four times as large and reduced, so that edges are
    smooth.
    """
    shade, colour = random.integers(0, 70, 3), random.integers(90, 256, 3)
    picture = Image.new("RGB", (128, 128), tuple(int(value) for value in shade))
    x, y, size = random.uniform(48, 80), random.uniform(48, 80), random.uniform(28, 44)
    ImageDraw.Draw(picture).polygon(corners(kind, x, y, size), fill=tuple(int(value) for value in colour))
    return picture.resize((32, 32), Image.Resampling.LANCZOS)


def main(folder: Path, count: int = 3000) -> None:
    random = np.random.default_rng(0)
    kinds = ("circle", "square", "triangle")
    for kind in kinds:
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for i in range(count):
        draw(kinds[i % 3], random).save(folder / kinds[i % 3] / f"{i:05}.png")
    print(f"{count} images of {', '.join(kinds)} in {folder}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *(int(number) for number in sys.argv[2:3]))
