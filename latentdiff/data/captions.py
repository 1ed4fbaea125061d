"""Captions and labels beside images: metadata.jsonl or .csv, captions.txt, NAME.txt or NAME.caption."""

import csv
import io
import json
import posixpath
import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from latentdiff.data.read_report import ReadReport
from latentdiff.data.scan import shown
from latentdiff.errors import InputError

METADATA, METADATA_CSV, CAPTIONS = "metadata.jsonl", "metadata.csv", "captions.txt"
SIDECARS = (".txt", ".caption")
MAX_TEXT_BYTES = 2**28
_HEADER = re.compile(r"(image|file|path|name)(_?(name|path|file))?s?", re.IGNORECASE)
"""The first column's title in a captions.txt."""

Row = tuple[str, str, str | None, int | str | None]
"""Place in the file, file name, caption and label."""


@dataclass(frozen=True)
class Annotations:
    """Captions and labels by the image's relative path; ``used``: the text files that they are from,
    ``labelled_by``:
    those with labels."""

    captions: dict[str, str] = field(default_factory=dict)
    labels: dict[str, int | str] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    labelled_by: set[str] = field(default_factory=set)


def nfc(name: str) -> str:
    """`name` with composed characters: some systems store é as e and an accent, and texts may not."""
    return unicodedata.normalize("NFC", name)


class _Names:
    """Finds a file by the name in a text: as it is, else with / for \\, in whichever Unicode form."""

    def __init__(self, paths: Collection[str]) -> None:
        self._exact = set(paths)
        self._composed = {nfc(path): path for path in sorted(paths, reverse=True)}

    def find(self, folder: str, name: str) -> str | None:
        """The path of `name` as seen from `folder`; None if there is no such file."""
        for variant in (name, name.replace("\\", "/")):
            path = posixpath.normpath(posixpath.join(folder, variant))
            if path in self._exact:
                return path
            if (found := self._composed.get(nfc(path))) is not None:
                return found
        return None


def _text(root: Path, path: str) -> str:
    """The content of a UTF-8 text file; InputError if it is not one."""
    source = shown(str(root / path))
    try:
        if (root / path).stat().st_size > MAX_TEXT_BYTES:
            raise InputError(f"{source}: expected at most {MAX_TEXT_BYTES} bytes of text")
        return (root / path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{source}: expected a readable text file, found: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"{source}: expected UTF-8 text, found {error.reason} at byte {error.start}"
        ) from error


def _lines(root: Path, path: str) -> Iterator[tuple[str, str]]:
    """(where, line) of each line that is not blank; InputError as :func:`_text`."""
    for number, line in enumerate(_text(root, path).split("\n"), start=1):
        if line.strip():
            yield f"{shown(str(root / path))} line {number}", line.strip()


def parse_entry(text: str | bytes, where: str) -> dict[str, Any]:
    """The JSON object about one image; InputError for other content."""
    try:
        entry = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: expected a JSON object, found: {' '.join(str(error).split())}") from error
    if not isinstance(entry, dict):
        raise InputError(f"{where}: expected a JSON object, found {type(entry).__name__}")
    return entry


def text_and_label(
    entry: Mapping[str, Any], where: str, *, other: str = "label"
) -> tuple[str | None, int | str | None]:
    """The caption (text, or caption) and the label (or ``other``) of an entry; InputError for other types."""
    text = entry.get("text", entry.get("caption"))
    if text is not None and not isinstance(text, str):
        raise InputError(f"{where}: expected a string as text or caption, found {type(text).__name__}")
    label = entry.get("label", entry.get(other))
    if label is not None and (isinstance(label, bool) or not isinstance(label, int | str)):
        raise InputError(f"{where}: expected an integer or a string as label, found {type(label).__name__}")
    return text, label


def _jsonl_rows(root: Path, path: str, report: ReadReport) -> Iterator[Row]:
    """The lines of metadata.jsonl (the layout of Hugging Face's imagefolder)."""
    for where, line in _lines(root, path):
        entry = parse_entry(line, where)
        if not isinstance(name := entry.get("file_name"), str):
            raise InputError(f'{where}: expected a JSON object with a string "file_name"')
        yield where, name, *text_and_label(entry, where)


def _csv_rows(root: Path, path: str, report: ReadReport) -> Iterator[Row]:
    """The rows of metadata.csv: columns file_name, text or caption, label, each where it is there.

    Labels are integers if all of them are, else strings. Fields beyond the titles of the columns belong to
    the caption (its commas are not quoted) where its column is the last; the report counts such rows, and
    those where it is not.
    """
    source = shown(str(root / path))
    reader = csv.DictReader(io.StringIO(_text(root, path), newline=""), skipinitialspace=True, strict=True)
    reader.restkey = _REST
    try:
        if "file_name" not in (reader.fieldnames or ()):
            return  # a table of something else
        rows = [(f"{source} line {reader.line_num}", row) for row in reader]
    except csv.Error as error:
        raise InputError(
            f"{source} line {reader.line_num}: expected comma-separated values, found: {error}"
        ) from None
    longer = [(where, row) for where, row in rows if any(field.strip() for field in row.get(_REST) or ())]
    last = (reader.fieldnames or ("",))[-1]
    if longer and last in _CAPTION_COLUMNS:
        for _, row in longer:
            row[last] = ", ".join((row[last], *row[_REST]))
    if longer:
        end = (
            "the rest is read as part of the caption" if last in _CAPTION_COLUMNS else "the rest is not used"
        )
        report.remark(
            f"{len(longer)} rows of {shown(path)} have more fields than the first row has titles, {end} "
            f'(first: {longer[0][0]}); put a field with commas in double quotes ("a, b")'
        )
    labels = [row.get("label") or None for _, row in rows]
    are_numbers = all(label is None or re.fullmatch(r"-?[0-9]{1,18}", label) for label in labels)
    for (where, row), label in zip(rows, labels, strict=True):
        if not (name := row["file_name"]):
            raise InputError(f"{where}: expected a file_name, found none")
        text = row.get("text") if row.get("text") is not None else row.get("caption")
        yield where, name, text or None, int(label) if label is not None and are_numbers else label


def _caption_rows(root: Path, path: str, report: ReadReport) -> Iterator[Row]:
    """The lines of captions.txt: a file name and a caption, separated by the first tab, else the first comma.

    With commas, either may be quoted as in CSV; a line that is not proper CSV is taken as it stands. A first
    line with the titles of the columns is skipped.
    """
    for number, (where, line) in enumerate(_lines(root, path)):
        name, separator, text = line.partition("\t" if "\t" in line else ",")
        if not separator:
            raise InputError(f"{where}: expected FILE<tab>CAPTION or FILE,CAPTION, found no tab and no comma")
        if separator == "," and (line.startswith('"') or text.lstrip().startswith('"')):
            try:
                fields = next(csv.reader([line], skipinitialspace=True, strict=True))
            except csv.Error:
                fields = []
            if len(fields) > 1:
                name, text = fields[0], ",".join(fields[1:])
        if number == 0 and _HEADER.fullmatch(name.strip()):
            continue
        yield where, name.strip(), text.strip(), None


_CAPTION_COLUMNS = ("text", "caption")
_REST = "\0"
"""The key of what a row has beyond the titles; no title is called so."""
_READERS = {METADATA: _jsonl_rows, METADATA_CSV: _csv_rows, CAPTIONS: _caption_rows}
"""By file name; the former go before the latter."""


def read_annotations(
    root: Path, report: ReadReport, *, files: Collection[str], images: Collection[str]
) -> Annotations:
    """Collect captions and labels of `images` (relative paths) from the text `files` below `root`.

    File names are relative to the folder of the text that holds them. metadata.jsonl goes before
    metadata.csv, that before captions.txt, that before NAME.txt and NAME.caption; the first of several
    captions is kept. The report counts texts of files that are not there. InputError if a file is malformed
    or none of its lines names a file.
    """
    found = Annotations()
    known, others = _Names(images), _Names(files)
    try:
        for kind, reader in _READERS.items():
            for path in sorted(f for f in files if posixpath.basename(f) == kind):
                _add_rows(found, root, path, list(reader(root, path, report)), known, others, report)
        _add_sidecars(found, root, set(files) - found.used, images)
    except InputError as error:
        raise InputError(f"{error}; rename or remove this file to read the images without it") from error
    return found


def _add_rows(
    found: Annotations,
    root: Path,
    path: str,
    rows: list[Row],
    known: _Names,
    others: _Names,
    report: ReadReport,
) -> None:
    """Enter the rows of one file."""
    folder, missing, captioned, repeated = posixpath.dirname(path), 0, set[str](), set[str]()
    labelled, relabelled = dict[str, int | str](), set[str]()
    for _, name, text, label in rows:
        image = known.find(folder, name)
        if image is None:
            if others.find(folder, name) is None:
                report.leave_out(name, "named by a caption or label but not there")
                missing += 1
            continue
        if text is not None:
            (repeated if image in captioned else captioned).add(image)
            found.captions.setdefault(image, " ".join(text.split()))
        if label is not None:
            found.labels.setdefault(image, label)
            found.labelled_by.add(path)
            if labelled.setdefault(image, label) != label:
                relabelled.add(image)
        if text is not None or label is not None:
            found.used.add(path)
    if rows and missing == len(rows):
        raise InputError(
            f"{shown(str(root / path))}: expected file names of images, found none in {len(rows)} lines, "
            f"the first {shown(rows[0][1])} is not there"
        )
    for what, images in (("captions", repeated), ("labels", relabelled)):
        if images:
            report.remark(f"the first of several {what} in {shown(path)} is kept for {len(images)} images")


def _add_sidecars(found: Annotations, root: Path, texts: set[str], images: Collection[str]) -> None:
    """Enter the captions of NAME.txt or NAME.caption beside images that have none yet."""
    names = _Names(
        [text for text in texts if text.lower().endswith(SIDECARS) and posixpath.basename(text) != CAPTIONS]
    )
    for image in images:
        stem = posixpath.splitext(image)[0]
        paths = [path for suffix in SIDECARS if (path := names.find("", stem + suffix)) is not None]
        if paths and image not in found.captions:
            found.captions[image] = " ".join(" ".join(line for _, line in _lines(root, paths[0])).split())
            found.used.add(paths[0])
