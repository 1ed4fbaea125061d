"""How close two folders of images are, with intervals: real digits against others, and against blurred
ones.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

import latentdiff as ld
from latentdiff.data import read_images
from latentdiff.diffusion.operators import gaussian_blur
from latentdiff.evaluate import Reference, score_images
from latentdiff.metrics.features import feature_network

digits = ld.load_dataset("mnist5k")
sets = {"others": digits.train.images[:500], "reference": digits.test.images}
sets["blurred"] = ld.to_uint8(gaussian_blur((1, 28, 28), sigma=1.0)(ld.to_float(sets["others"])))

with TemporaryDirectory() as place:  # your folders instead
    for name, images in sets.items():
        (Path(place) / name).mkdir()
        for i, image in enumerate(images):
            Image.fromarray(image[0].numpy()).save(Path(place) / name / f"{i:03}.png")
    read = {name: read_images(f"{place}/{name}").images for name in sets}

reference = Reference.from_images(read["reference"], feature_network("mnist"), name="reference")
scores = {name: score_images(read[name], reference) for name in ("others", "blurred")}
for name, score in scores.items():
    print(
        f"{name}: kernel distance x 1000 {1000 * score.kd.value:.1f}, precision {score.precision.value:.0%}"
    )
assert scores["others"].kd.value < 0.1 * scores["blurred"].kd.value
