"""Deterministic train / validation / test splits."""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from latentdiff.data.order import shuffled
from latentdiff.data.raw import RawSplit, RawSplits
from latentdiff.errors import InputError

VAL_FRACTION, VAL_LIMIT = 0.1, 5_000
UNSPLIT_FRACTION = 0.05


def cut(part: RawSplit, *, count: int, seed: int, round_: int = 0) -> tuple[RawSplit, RawSplit]:
    """Cut `count` images out of `part`: (rest, cut), both in the order of `part`; pure in the arguments.

    Stratified where labeled: every class gives its share to within one image. ValueError unless 1 <= count <
    N.
    """
    n = len(part)
    if not 1 <= count < n:
        raise ValueError(f"expected a count in 1..{n - 1}, found {count}")
    order = shuffled(n, seed=seed, epoch=round_)
    if part.labels is not None:
        # Systematic sampling along the shuffled images sorted by class takes each class in proportion.
        order = order[np.argsort(part.labels[order], kind="stable")]
    chosen = np.zeros(n, dtype=bool)
    chosen[order[(2 * np.arange(count) + 1) * n // (2 * count)]] = True
    return part.take(np.flatnonzero(~chosen)), part.take(np.flatnonzero(chosen))


def complete(parts: RawSplits, *, seed: int) -> tuple[RawSplit, RawSplit, RawSplit]:
    """Train, val and test of `parts`; what is missing is cut from train.

    Images without splits give 5% to each of val and test, by a hash of (seed, key) where they have keys;
    otherwise a missing split takes 10%, at most 5,000. InputError if there are too few images.
    """
    train, val, test = parts.train, parts.val, parts.test
    if not len(train):
        raise InputError("expected usable images in train, found none")
    if parts.unsplit and train.keys is not None:
        first, second, third = by_key(train.keys, seed=seed)
        return train.take(first), train.take(second), train.take(third)
    wanted = ["train", *(name for name, part in (("validation", val), ("test", test)) if part is None)]
    if len(train) < len(wanted):
        raise InputError(
            f"expected at least {len(wanted)} images to split into {', '.join(wanted)}, found {len(train)}"
        )
    fraction = UNSPLIT_FRACTION if parts.unsplit else VAL_FRACTION
    count = min(VAL_LIMIT, max(1, round(fraction * len(train))))
    if test is None:
        train, test = cut(train, count=count, seed=seed, round_=1)
    if val is None:
        train, val = cut(train, count=count, seed=seed)
    return train, val, test


def by_key(
    keys: Sequence[str], *, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Indices of train, val and test (90/5/5), by a hash of (seed, key), the path of a file: it stays in
    its split as others come.

    None of the three is empty: the key with the highest hash is moved where chance left none. InputError if
    there are fewer than 3 keys.
    """
    if len(keys) < 3:
        raise InputError(
            f"expected at least 3 images to split into train, validation and test, found {len(keys)}"
        )
    hashes = [hashlib.sha256(f"{seed}\0{key}".encode(errors="surrogateescape")).digest() for key in keys]
    order = sorted(range(len(keys)), key=lambda i: (hashes[i], keys[i]))
    values = [int.from_bytes(hashes[i][:8], "big") / 2.0**64 for i in order]
    test = min(max(1, sum(v >= 1 - UNSPLIT_FRACTION for v in values)), len(keys) - 2)
    held = sum(v >= 1 - 2 * UNSPLIT_FRACTION for v in values)
    held = min(max(test + 1, held), len(keys) - 1)
    cuts = [
        np.array(sorted(part), dtype=np.int64) for part in (order[:-held], order[-held:-test], order[-test:])
    ]
    return cuts[0], cuts[1], cuts[2]
