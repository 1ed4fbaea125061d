"""Train the feature network `mnist`: latentdiff/metrics/features/mnist.safetensors and mnist.json.

    python scripts/train_mnist_features.py --data mnist [--seed 0] [--epochs 14] [--out FOLDER]

Recipe: the network of latentdiff/metrics/features/mnist.py; 55,000 training images, 5,000 more for validation
(the split of `latentdiff.data`); batches of 128; each image turned, scaled, sheared and shifted by a random
affine map; cross-entropy with label smoothing 0.05, plus 4 times the mean squared error of a linear map from
the features to the image at 14 x 14 (dropped afterwards), which keeps in the features what the class does not
say; AdamW with weight decay 0.02, one cycle of the learning rate with its top at 4e-3; an exponential average
of weights and statistics (0.998) is what is kept. Every choice was made on the validation images; the test
images are measured once, at the end, from the file that was written. One thread: the same seed, machine and
versions give the same bytes.
"""

import argparse
import hashlib
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Generator, Tensor, nn

from latentdiff.data import Split, load_dataset
from latentdiff.metrics.features.mnist import CLASSES, DIM, SIDE, DigitNetwork

OUT = Path(__file__).resolve().parents[1] / "latentdiff" / "metrics" / "features"
BATCH, LEARNING_RATE, WEIGHT_DECAY, SMOOTHING, AVERAGE = 128, 4e-3, 0.02, 0.05, 0.998
IMAGE_WEIGHT = 4.0
DEGREES, SCALE, SHEAR, SHIFT = 12.0, 0.12, 0.15, 2.0  # half ranges: turn, log scale, shear, pixels


def uniform(n: int, half: float, generator: Generator) -> Tensor:
    """n numbers in [-half, half]."""
    return (2 * torch.rand(n, generator=generator) - 1) * half


def moved(images: Tensor, generator: Generator) -> Tensor:
    """Each image [N, 1, 28, 28] under an affine map of its own, drawn uniformly; black comes in from
    outside.
    """
    n = len(images)
    angle, shear = uniform(n, math.radians(DEGREES), generator), uniform(n, SHEAR, generator)
    across, down = uniform(n, SCALE, generator).exp(), uniform(n, SCALE, generator).exp()
    turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], 1).view(n, 2, 2)
    stretch = torch.stack([across, shear, torch.zeros(n), down], 1).view(n, 2, 2)
    shift = torch.stack([uniform(n, 2 * SHIFT / SIDE, generator) for _ in range(2)], 1)[:, :, None]
    grid = F.affine_grid(torch.cat([turn @ stretch, shift], 2), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


def batches(split: Split, epochs: int, generator: Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """(moved images in [0, 1], labels); each epoch in an order of its own, the last short batch left out."""
    assert split.labels is not None
    for _ in range(epochs):
        order = torch.randperm(len(split), generator=generator)
        for chosen in order[: len(order) // BATCH * BATCH].view(-1, BATCH):
            yield moved(split.images[chosen].float() / 255, generator), split.labels[chosen]


@torch.no_grad()
def accuracy(network: DigitNetwork, split: Split) -> float:
    """The share of images whose class has the largest logit."""
    assert split.labels is not None
    network.eval()
    guesses = [network(part.float() / 255)[1].argmax(1) for part in split.images.split(500)]
    return float((torch.cat(guesses) == split.labels).double().mean())


@torch.no_grad()
def averaged(into: nn.Module, network: nn.Module, step: int) -> None:
    """Move the averaged weights and statistics towards the network's; faster in the first steps."""
    decay = min(AVERAGE, (1 + step) / (10 + step))
    for kept, new in zip(into.state_dict().values(), network.state_dict().values(), strict=True):
        if kept.is_floating_point():
            kept.lerp_(new, 1 - decay)
        else:
            kept.copy_(new)


def train(train_split: Split, val: Split, *, epochs: int, seed: int) -> DigitNetwork:
    """The averaged network after `epochs` epochs; prints the validation accuracy after each."""
    torch.manual_seed(seed)
    generator = Generator().manual_seed(seed)
    network, kept, decode = DigitNetwork(), DigitNetwork(), nn.Linear(DIM, 14 * 14)
    kept.load_state_dict(network.state_dict())
    network.to(memory_format=torch.channels_last)
    parameters = [*network.parameters(), *decode.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    per_epoch = len(train_split) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=LEARNING_RATE, total_steps=per_epoch * epochs, pct_start=0.15, cycle_momentum=False
    )
    began = time.monotonic()
    for step, (images, labels) in enumerate(batches(train_split, epochs, generator), start=1):
        network.train()
        features, logits = network(images)
        image_loss = F.mse_loss(decode(features), F.avg_pool2d(images, 2).flatten(1))
        class_loss = F.cross_entropy(logits, labels, label_smoothing=SMOOTHING)
        optimizer.zero_grad(set_to_none=True)
        (class_loss + IMAGE_WEIGHT * image_loss).backward()
        optimizer.step()
        schedule.step()
        averaged(kept, network, step)
        if step % per_epoch == 0:
            print(
                f"epoch {step // per_epoch}: class {class_loss:.4f}, image {image_loss:.4f}, "
                f"validation {accuracy(kept, val):.4f}, {time.monotonic() - began:.0f} s",
                flush=True,
            )
    return kept


def main() -> None:
    """Train, write the weights, measure what was written and write the recipe beside it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", default="mnist", help="mnist, an .npz file or a folder of idx files (default: mnist)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument(
        "--out", type=Path, default=OUT, help="folder to write to (default: the one in the package)"
    )
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    data = load_dataset(chosen.data)
    if (data.channels, data.height, data.width, data.num_classes) != (1, SIDE, SIDE, CLASSES):
        parser.error(f"--data {chosen.data}: expected grey {SIDE} x {SIDE} images of {CLASSES} classes")
    began = time.monotonic()
    network = train(data.train, data.val, epochs=chosen.epochs, seed=chosen.seed)
    seconds = time.monotonic() - began
    weights = chosen.out / "mnist.safetensors"
    save_file(
        {name: value for name, value in network.state_dict().items() if value.is_floating_point()}, weights
    )
    weights.chmod(0o644)  # safetensors writes for the owner alone
    written = DigitNetwork()
    written.load_state_dict(load_file(weights))
    about = {
        "command": (
            f"python scripts/train_mnist_features.py --data {chosen.data} --seed {chosen.seed} --epochs"
            f" {chosen.epochs}"
        ),
        "recipe": " ".join((__doc__ or "").split("Recipe: ")[1].split()),
        "images": {"train": len(data.train), "validation": len(data.val), "test": len(data.test)},
        "train_fingerprint": data.fingerprint(),
        "parameters": sum(value.numel() for value in written.parameters()),
        "validation_accuracy": round(accuracy(written, data.val), 4),
        "test_accuracy": round(accuracy(written, data.test), 4),
        "seconds": round(seconds),
        "torch": torch.__version__,
        "licence": "Apache-2.0, as the package; trained on MNIST (Y. LeCun, C. Cortes; CC BY-SA 3.0)",
        "bytes": weights.stat().st_size,
        "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
    }
    (chosen.out / "mnist.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(about, indent=2))


if __name__ == "__main__":
    main()
