"""Captions for photos of clothes, "a red dress": the kind is the class folder, the colour is measured.

    python scripts/caption_clothes.py FOLDER OUT

FOLDER is that of github.com/alexeygrigorev/clothing-dataset-small (CC0): train and test with class folders.
OUT gets the photos of both and a metadata.jsonl each. Every fifth caption leaves the colour out.

A photo is divided into a few colours (k-means in CIELAB). The garment has the one that fills the middle and
not the border. Dark blue is often called black; a pattern has the name of its main colour.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from scipy.cluster.vq import kmeans2
from skimage.color import rgb2lab

NAMES = {
    "dress": "a {} dress",
    "hat": "a {} hat",
    "longsleeve": "a {} pullover",
    "outwear": "a {} jacket",
    "pants": "{} pants",
    "shirt": "a {} shirt",
    "shoes": "{} shoes",
    "shorts": "{} shorts",
    "skirt": "a {} skirt",
    "t-shirt": "a {} t-shirt",
}
SIDE, CLUSTERS, PLAIN = 64, 4, 5  # pixels; colours of a photo; of so many captions one has no colour
Floats = NDArray[np.float64]


def colour_name(lightness: float, a: float, b: float) -> str:
    """The name of a colour in CIELAB."""
    chroma, hue = float(np.hypot(a, b)), float(np.degrees(np.arctan2(b, a))) % 360
    if lightness < 15 or (chroma < 14 and lightness < 24) or (chroma < 9 and lightness < 28):
        return "black"
    if (chroma < 9 and lightness > 76) or (chroma < 14 and lightness > 82):
        return "white"
    if chroma < 9 or (chroma < 11 and lightness < 45):
        return "grey"
    if hue >= 335 or hue < 15:
        return "pink" if lightness > 52 or (not 8 <= hue < 335 and lightness > 45) else "red"
    if hue < 42:
        return "pink" if lightness > 65 else "red" if chroma > 32 else "brown"
    if hue < 105:
        if chroma > 45 and hue < 70 and lightness > 55:
            return "orange"
        if chroma > 38 and hue >= 70:
            return "yellow"
        return "beige" if lightness > 65 else "brown" if hue < 85 else "green"
    return "green" if hue < 200 else "blue" if hue < 303 else "purple"


def garment_colour(image: Image.Image) -> Floats:
    """The colour of what is in the middle and not at the border, in CIELAB [3]."""
    pixels = rgb2lab(np.asarray(ImageOps.fit(image.convert("RGB"), (SIDE, SIDE)))).reshape(-1, 3)
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    middle = np.exp(-(y**2 + x**2) / 0.35).ravel()
    border = (np.maximum(abs(y), abs(x)) > 0.85).ravel()
    # of the lightness less, as folds and shadows are
    _, cluster = kmeans2(pixels * (0.6, 1, 1), CLUSTERS, minit="++", seed=0, missing="warn")

    def score(k: int) -> float:
        inside = middle[cluster == k].sum() / middle.sum()
        outside = border[cluster == k].sum() / border.sum()
        return float(inside * max(0.001, 1 - 1.6 * outside))

    return np.median(pixels[cluster == max(np.unique(cluster), key=score)], 0)


def caption(kind: str, colour: str) -> str:
    """The caption of a photo of the class ``kind``; ``colour`` may be empty."""
    text = " ".join(NAMES[kind].format(colour).split())
    return text.replace("a orange", "an orange")


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("out", type=click.Path(path_type=Path))
def main(folder: Path, out: Path) -> None:
    """Copy the photos of FOLDER to OUT, with captions."""
    for split in ("train", "test"):
        lines = []
        for number, path in enumerate(sorted((folder / split).glob("*/*.jp*g"))):
            name = Path(path.parent.name, path.name)
            colour = colour_name(*garment_colour(Image.open(path)))
            text = caption(path.parent.name, "" if number % PLAIN == 0 else colour)
            lines.append(json.dumps({"file_name": name.as_posix(), "text": text}))
            (out / split / name.parent).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, out / split / name)
        (out / split / "metadata.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        click.echo(f"{out / split}: {len(lines)} photos")


if __name__ == "__main__":
    main()
