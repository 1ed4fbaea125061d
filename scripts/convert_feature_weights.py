"""Convert the published weights of `inception`, `lpips-alex` or `lpips-vgg` to the safetensors file
latentdiff reads.

    python scripts/convert_feature_weights.py inception pt_inception-2015-12-05-6726825d.pth --out
    inception.safetensors python scripts/convert_feature_weights.py lpips-alex alexnet-owt-7be5be79.pth
    alex.pth --out lpips-alex.safetensors python scripts/convert_feature_weights.py lpips-vgg
    vgg16-397923af.pth vgg.pth --out lpips-vgg.safetensors

docs/features.md says where the files are. Each one's SHA-256 has to be the published one before it is
unpickled (weights only). The result carries a stamp, by which latentdiff knows that a figure made with it is
FID or LPIPS.
"""

import argparse
import hashlib
import io
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from latentdiff.metrics.features import inception, lpips
from latentdiff.metrics.features.weights import PUBLISHED, stamp


def verified(path: Path, sha256: str) -> dict[str, Tensor]:
    """The tensors of a published file; SystemExit, one line, where it is another file."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SystemExit(f"error: {path}: cannot be read ({error.strerror})") from None
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise SystemExit(f"error: {path}: expected the published file, SHA-256 {sha256}, found {found}")
    tensors: dict[str, Tensor] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    return tensors


def convert(network: str, paths: list[Path], out: Path) -> None:
    """Write the tensors that the network has, of the published files, stamped."""
    published = PUBLISHED[network]
    if len(paths) != len(published):
        raise SystemExit(f"error: {network}: expected {len(published)} file(s), found {len(paths)}")
    found: dict[str, Tensor] = {}
    for path, sha256 in zip(paths, published, strict=True):
        found |= verified(path, sha256)
    shapes = inception.weight_shapes() if network == "inception" else lpips.weight_shapes(network)
    if missing := shapes.keys() - found.keys():
        raise SystemExit(f"error: {network}: the files lack {min(missing)}")
    tensors = {name: found[name].contiguous().clone() for name in shapes}
    save_file(tensors, out, metadata=stamp(network, tensors))


def main() -> None:
    """Read the command line and convert."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("network", choices=sorted(PUBLISHED))
    parser.add_argument(
        "files", type=Path, nargs="+", help="the published file; for LPIPS the trunk, then lpips's own"
    )
    parser.add_argument("--out", type=Path, required=True, help="the .safetensors file to write")
    chosen = parser.parse_args()
    convert(chosen.network, chosen.files, chosen.out)
    print(chosen.out)


if __name__ == "__main__":
    main()
