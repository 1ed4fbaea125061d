"""Captions and labels beside images: metadata.jsonl, captions.txt, and NAME.txt next to NAME.png."""

import json
import posixpath
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from latentdiff.data.walk import shown
from latentdiff.errors import InputError

METADATA, CAPTIONS = "metadata.jsonl", "captions.txt"
MAX_TEXT_BYTES = 2**28


@dataclass(frozen=True)
class Annotations:
    """Captions and labels by the image's relative path; `unmatched` counts lines that name no image."""

    captions: dict[str, str] = field(default_factory=dict)
    labels: dict[str, int | str] = field(default_factory=dict)
    unmatched: int = 0


def _lines(root: Path, path: str) -> Iterator[tuple[str, str]]:
    """(where, line) of each line of a UTF-8 text file that is not blank; InputError if it is not such a file."""
    source = shown(str(root / path))
    try:
        if (root / path).stat().st_size > MAX_TEXT_BYTES:
            raise InputError(f"{source}: expected at most {MAX_TEXT_BYTES} bytes of text")
        text = (root / path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{source}: expected a readable text file, found: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{source}: expected UTF-8 text, found {error.reason} at byte {error.start}") from error
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield f"{source} line {number}", line.strip()


def _parse_metadata(where: str, line: str) -> tuple[str, str | None, int | str | None]:
    """file_name, caption and label of one line of metadata.jsonl (the layout of Hugging Face's imagefolder)."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: expected a JSON object, found: {' '.join(str(error).split())}") from error
    name = entry.get("file_name") if isinstance(entry, dict) else None
    if not isinstance(name, str):
        raise InputError(f'{where}: expected a JSON object with a string "file_name"')
    text = entry.get("text", entry.get("caption"))
    if text is not None and not isinstance(text, str):
        raise InputError(f"{where}: expected a string as text or caption, found {type(text).__name__}")
    label = entry.get("label")
    if label is not None and (isinstance(label, bool) or not isinstance(label, int | str)):
        raise InputError(f"{where}: expected an integer or a string as label, found {type(label).__name__}")
    return name, text, label


def _parse_caption(where: str, line: str) -> tuple[str, str]:
    """File name and caption of one line of captions.txt: separated by the first tab, else the first comma."""
    name, separator, text = line.partition("\t" if "\t" in line else ",")
    if not separator:
        raise InputError(f"{where}: expected FILE<tab>CAPTION or FILE,CAPTION, found no tab and no comma")
    return name.strip(), text.strip()


def read_annotations(root: Path, *, files: Collection[str], images: Collection[str]) -> Annotations:
    """Collect captions and labels of `images` (relative paths) from the text `files` below `root`.

    File names are relative to the folder of the metadata.jsonl or captions.txt that holds them. metadata.jsonl goes
    before captions.txt, that before NAME.txt; the first of several captions in captions.txt is kept. InputError if a
    file is malformed or none of its lines names an image.
    """
    captions: dict[str, str] = {}
    labels: dict[str, int | str] = {}
    unmatched = 0
    known = set(images)
    listed = sorted(f for f in files if posixpath.basename(f) == METADATA)
    listed += sorted(f for f in files if posixpath.basename(f) == CAPTIONS)
    for path in listed:
        found = total = 0
        for where, line in _lines(root, path):
            is_metadata = posixpath.basename(path) == METADATA
            name, text, label = _parse_metadata(where, line) if is_metadata else (*_parse_caption(where, line), None)
            image = posixpath.normpath(posixpath.join(posixpath.dirname(path), name))
            total += 1
            if image not in known:
                continue
            found += 1
            if text is not None:
                captions.setdefault(image, " ".join(text.split()))
            if label is not None:
                labels.setdefault(image, label)
        if total and not found:
            raise InputError(f"{shown(str(root / path))}: expected file names of images, found none in {total} lines")
        unmatched += total - found
    texts = set(files)
    for image in images:
        sidecar = posixpath.splitext(image)[0] + ".txt"
        if image not in captions and sidecar in texts and posixpath.basename(sidecar) != CAPTIONS:
            captions[image] = " ".join(" ".join(line for _, line in _lines(root, sidecar)).split())
    return Annotations(captions, labels, unmatched)
