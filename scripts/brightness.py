"""The ranges of brightness of a data set's training images, as the JSON of a model in
latentdiff/assets/models keeps them.

python scripts/brightness.py mnist5k
"""

import json
import sys

import torch

from latentdiff.data import load_dataset
from latentdiff.data.brightness import LOOKED_AT, Brightness


def main() -> None:
    """Print the ranges of the data set that is named."""
    images = load_dataset(sys.argv[1]).train.images
    chosen = torch.linspace(0, len(images) - 1, min(len(images), LOOKED_AT)).long()
    print(json.dumps({"brightness": Brightness.of(images[chosen]).dump()}))


if __name__ == "__main__":
    main()
