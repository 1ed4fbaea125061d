"""`latentdiff datasets`."""

from __future__ import annotations

import datetime
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from latentdiff.apps.cli.shared.help import Argument, option
from latentdiff.apps.cli.shared.options import (
    build,
    cli_command,
    flag_of,
    given,
    number_option,
    options_of,
)
from latentdiff.apps.cli.shared.outputs import Output, overwrite_option
from latentdiff.config.data import DataOptions
from latentdiff.errors import InputError, counted, in_bytes

if TYPE_CHECKING:
    from torch import Tensor

    from latentdiff.data import DataDescription
    from latentdiff.data.image_cache import Entry


@cli_command(
    "datasets",
    "latentdiff datasets",
    "latentdiff datasets photos/ --size 64 --fit pad --preview photos.png",
    "latentdiff datasets --cached",
)
@click.argument("data", cls=Argument, required=False)
@options_of(DataOptions, skip=("data", "flip", "random_shift"))
@option(
    "--preview",
    type=Output(".png"),
    group="Output",
    help="Write a picture of training images as they are read, all classes in turn (.png).",
)
@number_option(1, 1024, 64, "Images of --preview.")
@overwrite_option
@option(
    "--cached",
    is_flag=True,
    group="Data",
    help="List the folders whose decoded images are kept (see --image-cache).",
)
@option("--clear-cached", is_flag=True, group="Data", help="Remove all decoded images that are kept.")
def command(
    data: str | None, data_root: str | None, cached: bool, clear_cached: bool, as_json: bool, **values: Any
) -> int:
    """List the data sets and where to put them.

    With DATA, a name or a path, describe it instead: images by split, sizes, classes with their numbers of
    images, captions, and the reason for every file that is not used.
    """
    root = None if data_root is None else Path(data_root)
    if cached or clear_cached:
        for name in given([*values, "data", "data_root"]):
            if name != "image_cache":
                flag = "DATA" if name == "data" else flag_of(name)
                raise click.UsageError(f"--cached and --clear-cached are for all decoded images, got {flag}")
        return _cached(values["image_cache"], clear=clear_cached, as_json=as_json)
    if data is not None:
        if values["preview"] is None:
            for name in given(("n", "overwrite")):
                raise click.UsageError(f"{'-n' if name == 'n' else flag_of(name)} is for --preview FILE.png")
        from latentdiff.apps.cli.shared.outputs import settle

        values |= {"data": data}
        settle(values)
        options = build(DataOptions, values)
        return _describe(data, options, root, values["preview"], values["n"], as_json=as_json)
    for name in given(values):
        flag = "-n" if name == "n" else flag_of(name)
        raise click.UsageError(f"{flag} is for one data set: give its name or folder as well")

    from latentdiff.apps.cli.shared.progress import result
    from latentdiff.data import list_datasets
    from latentdiff.data.readers import types_of_data

    rows, lines = [asdict(entry) for entry in list_datasets(root)], []
    for row in rows:
        lines.append(f"{row['name']}: {row['description']}")
        lines += [f"    {key}: {value}" for key, value in row.items() if key not in ("name", "description")]
    lines.append(
        f"Besides these, --data takes a path to {types_of_data()}; `latentdiff datasets PATH` describes it."
    )
    result({"datasets": rows}, as_json=as_json, text="\n".join(lines))
    return 0


def _cached(place: str | None, *, clear: bool, as_json: bool) -> int:
    """List what is kept of decoded images, or remove it."""
    from latentdiff.apps.cli.shared.progress import result
    from latentdiff.data.image_cache import open_cache

    cache = open_cache(place)
    if cache is None:
        result({"folder": None, "cached": []}, as_json=as_json, text="decoded images are not kept (off)")
        return 0
    entries = cache.clear() if clear else cache.entries()
    total = sum(entry.bytes for entry in entries)
    number = f"{'removed ' if clear else ''}{counted(len(entries), 'file')}"
    lines = [f"{cache.folder}: {number}, {in_bytes(total)} of at most {in_bytes(cache.limit)}"]
    lines += [f"    {entry.source or entry.file}: {_kept(entry)}" for entry in entries]
    answer = {"folder": str(cache.folder), "limit": cache.limit, "bytes": total}
    rows = [entry.as_dict() for entry in entries]
    result(answer | {"removed" if clear else "cached": rows}, as_json=as_json, text="\n".join(lines))
    return 0


def _kept(entry: Entry) -> str:
    """ "3,068 images of 64x64, 37.7 MB, used 2026-11-29"."""
    used = datetime.date.fromtimestamp(entry.used).isoformat()
    what = "damaged" if not entry.source else f"the sizes of {entry.shape[0]:,} images"
    if len(entry.shape) == 4:
        count, height, width, _ = entry.shape
        what = f"{count:,} images of {width}x{height}"
    return f"{what}, {in_bytes(entry.bytes)}, used {used}"


def _preview(data: str, options: DataOptions, root: Path | None, out: Path, n: int) -> int:
    """Write a picture of ``n`` training images as they are read; returns how many there are."""
    from latentdiff.data import Unreadable, is_streamed, load_dataset, stream_dataset
    from latentdiff.data.catalog import NAMED
    from latentdiff.data.classes import representative
    from latentdiff.data.readers import find_reader
    from latentdiff.data.types import ImageData
    from latentdiff.viz.images import class_columns, image_grid, save_image

    reader = None if data in NAMED else find_reader(data)[1]
    found: ImageData
    if is_streamed(data) or (options.size is not None and reader is not None and reader.streams):
        found = stream_dataset(data, **options.reading())  # decodes what is shown alone
    else:
        found = load_dataset(data, **options.reading(), root=root)

    def shown(found: ImageData) -> Tensor:
        return found.train.images[representative(found.train.labels, len(found.train), n)]

    try:
        images = shown(found)
    except Unreadable:
        if is_streamed(data):
            raise
        # a reader of the whole folder leaves such files out
        found = load_dataset(data, **options.reading(), root=root)
        images = shown(found)
    save_image(image_grid(images, columns=class_columns(len(images), found.num_classes)), out)
    return len(images)


def _describe(
    data: str, options: DataOptions, root: Path | None, out: Path | None, n: int, *, as_json: bool
) -> int:
    from latentdiff.apps.cli.shared.progress import print_report, result
    from latentdiff.data import describe_data, describe_loaded
    from latentdiff.data.resize import Fit
    from latentdiff.train.latent_dataset import is_encoded, load_encoded

    if is_encoded(Path(data)):
        if out is not None:
            raise InputError(f"--preview: expected images, found the encoded latents {data}")
        found = describe_loaded(load_encoded(Path(data)))
    else:
        found = describe_data(data, Fit(**options.reading()), root)
    print_report(found.report)
    answer, text = found.as_dict(), _text(data, found)
    if out is not None:
        shown = _preview(data, options, root, out, n)
        answer |= {"wrote": str(out)}
        text += f"\n{out}: {counted(shown, 'training image')} as they are read"
    result(answer, as_json=as_json, text=text)
    return 0


def _text(data: str, found: DataDescription) -> str:
    low, high = (f"{width}x{height}" for height, width in (found.smallest, found.largest))
    size = low if low == high else f"{low} to {high}"
    lines = [f"{data}: {_by_split(found.images)}, {size} {'grey' if found.channels == 1 else 'RGB'}"]
    lines.append(f"    classes: {len(found.classes) or 'none'}")
    lines += [f"        {name}: {_by_split(counts)}" for name, counts in found.classes.items()]
    lines.append(f"    captions: {_by_split(found.captions) if sum(found.captions.values()) else 'none'}")
    return "\n".join(lines)


def _by_split(counts: dict[str, int]) -> str:
    """ "120 images (train 100, val 10, test 10)"."""
    return (
        f"{counted(sum(counts.values()), 'image')} ({', '.join(f'{name} {n}' for name, n in counts.items())})"
    )
