"""`latentdiff datasets`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from latentdiff.apps.cli.shared.help import Argument
from latentdiff.apps.cli.shared.options import build, cli_command, flag_of, given, options_of
from latentdiff.config.data import DataOptions

if TYPE_CHECKING:
    from latentdiff.data import DataDescription


@cli_command(
    "datasets",
    "latentdiff datasets",
    "latentdiff datasets photos/ --size 64",
)
@click.argument("data", cls=Argument, required=False)
@options_of(DataOptions, skip=("data", "flip", "random_shift"))
def command(data: str | None, data_root: str | None, as_json: bool, **values: Any) -> int:
    """List the data sets and where to put them.

    With DATA, a name or a path, describe it instead: images by split, sizes, classes with their numbers of
    images, captions, and the reason for every file that is not used.
    """
    root = None if data_root is None else Path(data_root)
    if data is not None:
        return _describe(data, build(DataOptions, values | {"data": data}), root, as_json=as_json)
    for name in given(values):
        raise click.UsageError(f"{flag_of(name)} is for one data set: give its name or folder as well")

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


def _describe(data: str, options: DataOptions, root: Path | None, *, as_json: bool) -> int:
    from latentdiff.apps.cli.shared.progress import print_report, result
    from latentdiff.data import describe_data, describe_loaded
    from latentdiff.data.resize import Fit
    from latentdiff.train.latent_dataset import is_encoded, load_encoded

    if is_encoded(Path(data)):
        found = describe_loaded(load_encoded(Path(data)))
    else:
        found = describe_data(data, Fit(**options.reading()), root)
    print_report(found.report)
    result(found.as_dict(), as_json=as_json, text=_text(data, found))
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
    from latentdiff.apps.cli.shared.progress import counted

    return (
        f"{counted(sum(counts.values()), 'image')} ({', '.join(f'{name} {n}' for name, n in counts.items())})"
    )
