"""Tar shards as webdataset writes them: files of one name before the first dot are one sample. Headers are
read, pixels are not.

A name whose part after the first dot is no known suffix (img_v1.7.png) is divided at its last dot instead.
"""

from __future__ import annotations

import posixpath
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from latentdiff.data.captions import parse_entry, text_and_label
from latentdiff.data.class_folders import (
    below,
    class_of,
    common_folder,
    is_like_split,
    note_unused_option,
)
from latentdiff.data.decode import FORMATS, HEAD_BYTES, MAX_FILE_BYTES, SUFFIXES, FileLocation, format_of
from latentdiff.data.file_names import captions_by_name, labels_by_name
from latentdiff.data.raw import Listed, labels_of_all
from latentdiff.data.read_report import ReadReport, named
from latentdiff.data.resize import Fit
from latentdiff.data.scan import HIDDEN, is_hidden, shown
from latentdiff.errors import InputError

BESIDE = frozenset({".txt", ".cls", ".json"})  # an image, of its name
KNOWN = BESIDE.union(SUFFIXES)
MAX_TEXT = 2**20  # bytes of a caption, a label or a JSON file
_SPLIT = re.compile(r"(train|val|valid|validation|test)(?![a-z])", re.IGNORECASE)
_NAMES = {"valid": "val", "validation": "val"}


@dataclass(frozen=True)
class Sample:
    """One image of a shard with what stands beside it; ``split`` by the shard's name, ``path``: shard/key."""

    place: FileLocation
    path: str
    split: str | None
    label: int | str | None = None
    caption: str = ""


def shards_of(path: Path) -> list[Path]:
    """One .tar file, or the shards in a folder without images or folders of its own; else []."""
    if path.suffix.lower() == ".tar" and path.is_file():
        return [path]
    entries = sorted(path.iterdir()) if path.is_dir() else []
    if any(
        entry.is_dir() or entry.suffix.lower() in SUFFIXES
        for entry in entries
        if not entry.name.startswith(".")
    ):
        return []
    return [entry for entry in entries if entry.suffix.lower() == ".tar" and entry.is_file()]


def recognises(path: Path) -> bool:
    """Whether ``path`` names shards."""
    try:
        return bool(shards_of(path))
    except OSError:
        return False


def index(path: Path, fit: Fit) -> Listed:
    """The images of the shards at ``path`` before any is decoded; InputError for damaged shards."""
    report, shards = ReadReport(), shards_of(path)
    note_unused_option(fit.class_folders, report, "labels of shards come from their KEY.cls and KEY.json")
    for entry in sorted(path.iterdir()) if path.is_dir() else []:
        if entry not in shards:
            report.leave_out(entry.name, HIDDEN if is_hidden(entry.name) else "not a tar shard")
    samples = read_samples(shards, report)
    has_splits = any(sample.split == "train" for sample in samples)
    if not has_splits and len(shards) > 1 and (alike := [s.name for s in shards if is_like_split(s.name)]):
        report.remark(
            f"shards named like splits ({named(alike)}) are read as any other shard, not as splits: the names"
            " of those begin with train, val or test, and train is one of them"
        )
    if has_splits:
        for sample in (sample for sample in samples if sample.split is None):
            report.leave_out(sample.path, "in shards not called train, val or test")
    found = [sample.label for sample in samples]
    paths = [sample.path for sample in samples]
    stems = [posixpath.basename(path) for path in paths]
    labels, classes = None, None
    if fit.labels_from == "name":
        labels, classes = labels_by_name(stems, paths, report, source=str(path))
    elif fit.labels_from == "none":
        pass
    elif any(label is not None for label in found):
        labels, classes = labels_of_all(found, paths, source=str(path))
    else:
        places = [sample.path.partition("/")[2].removeprefix("/") for sample in samples]
        folders = sorted({class_of(place) for place in below(places, common_folder(places))})
        if len(folders) > 1 and all(folders):
            report.remark(
                f"no labels: folders inside shards ({named(folders)}) are no class folders, labels of shards"
                " come from KEY.cls and KEY.json beside KEY.png; unpack the shards to have the folders as"
                " classes"
            )
    captions = tuple(sample.caption for sample in samples)
    if fit.captions_from == "name":
        captions = captions_by_name(stems, paths, captions, report)
    has_captions = fit.captions_from != "none" and any(captions)
    return Listed(
        [sample.place for sample in samples],
        paths,
        [sample.split for sample in samples] if has_splits else None,
        labels,
        classes,
        captions if has_captions else None,
        report,
    )


def read_samples(shards: list[Path], report: ReadReport) -> list[Sample]:
    """All images of the shards, in their order; the report counts the other members.

    InputError for damaged shards and annotations.
    """
    found = list[Sample]()
    for shard in shards:
        match = _SPLIT.match(shard.name)
        split = None if match is None else _NAMES.get(match[1].lower(), match[1].lower())
        images, beside = _scanned(shard, report)
        for key, place in images.items():
            label, caption = _annotations(beside.pop(key, {}), place.name)
            found.append(Sample(place, f"{shard.name}/{key}", split, label, caption))
        for key, files in beside.items():
            for suffix in files:
                report.leave_out(
                    f"{shard.name}/{key.removeprefix('/')}{suffix}", "without an image of their name"
                )
    return found


Members = dict[str, dict[str, bytes]]
"""Small files by the key of their sample and their suffix."""


def _scanned(shard: Path, report: ReadReport) -> tuple[dict[str, FileLocation], Members]:
    """Where the images of a shard are, and the small files beside them by suffix; by keys.

    InputError for a damaged shard.
    """
    images: dict[str, FileLocation] = {}
    beside: Members = {}
    dotted = list[tuple[tarfile.TarInfo, str]]()  # members whose suffix after the first dot is unknown
    try:
        with tarfile.open(shard, "r:") as archive:
            for member in _members(archive, shard):
                if member.isdir():
                    continue
                if any(is_hidden(part) for part in member.name.split("/") if part not in (".", "..")):
                    report.leave_out(f"{shard.name}/{member.name}", HIDDEN)
                    continue
                key, suffix = _first_dot(member.name)
                if suffix in KNOWN:
                    _enter(archive, member, key, suffix, shard, images, beside)
                else:
                    dotted.append((member, key))
            whole = set(images)
            for member, key in dotted:
                if (reason := _reason(archive, member, is_part=key in whole)) is not None:
                    report.leave_out(f"{shard.name}/{member.name}", reason)
                    continue
                stem, suffix = posixpath.splitext(member.name)
                _enter(archive, member, _key(stem), suffix.lower(), shard, images, beside)
    except tarfile.TarError as error:
        raise InputError(
            f"{shard}: expected an uncompressed tar file, found: {' '.join(str(error).split())}"
        ) from None
    except OSError as error:
        raise InputError(f"{shard}: cannot be read ({error.strerror})") from None
    if not images:
        raise InputError(f"{shard}: expected PNG, JPEG or WEBP images, found none")
    return images, beside


def _key(path: str) -> str:
    """The key of a member without its suffix: folder/stem."""
    folder, _, stem = path.rpartition("/")
    return f"{folder}/{stem}"


def _first_dot(name: str) -> tuple[str, str]:
    """Key and suffix of a member's name as webdataset divides it: at the first dot."""
    folder, _, last = name.rpartition("/")
    stem, dot, suffix = last.partition(".")
    return f"{folder}/{stem}", f"{dot}{suffix}".lower()


def _reason(archive: tarfile.TarFile, member: tarfile.TarInfo, *, is_part: bool) -> str | None:
    """Why a member without a known suffix is not used, or None; ``is_part``: of a sample with an image."""
    base = posixpath.basename(member.name)
    if is_part:
        return "beside the image of their sample"
    suffix = posixpath.splitext(base)[1].lower()
    if suffix in KNOWN:
        return None
    file = archive.extractfile(member) if member.isreg() and not member.issparse() else None
    found = None if file is None else format_of(file.read(HEAD_BYTES))
    if found in FORMATS:
        return None
    return f"unsupported format {found}" if found else f"not an image ({suffix or 'without a suffix'})"


def _enter(
    archive: tarfile.TarFile,
    member: tarfile.TarInfo,
    key: str,
    suffix: str,
    shard: Path,
    images: dict[str, FileLocation],
    beside: Members,
) -> None:
    """Enter a member as an image or a small file beside one; InputError unless it is sound and new."""
    _check(member, MAX_TEXT if suffix in BESIDE else MAX_FILE_BYTES, shard)
    if suffix in BESIDE:
        file = archive.extractfile(member)
        beside.setdefault(key, {})[suffix] = b"" if file is None else file.read()
        return
    if key in images:
        raise InputError(f"{shard}: expected one image called {shown(key.removeprefix('/'))}, found two")
    images[key] = FileLocation(shard, f"{shard}/{member.name}", member.offset_data, member.size)


def _check(member: tarfile.TarInfo, most: int, shard: Path) -> None:
    """InputError unless it is a plain file of a sensible size that is there as a whole."""
    if not member.isreg() or member.issparse():
        raise InputError(
            f"{shard}: {shown(member.name)} is a link or has holes, expected a file (tar --dereference"
            " --hard-dereference)"
        )
    if member.offset_data + member.size > shard.stat().st_size:
        raise InputError(f"{shard}: truncated, {shown(member.name)} ends beyond the file")
    if member.size > most:
        raise InputError(f"{shard}: {shown(member.name)} has {member.size} bytes, expected at most {most}")


def _members(archive: tarfile.TarFile, shard: Path) -> Iterator[tarfile.TarInfo]:
    """All of an archive. InputError where it is damaged: tarfile ends there silently, or never."""
    position = -1
    for member in archive:
        if member.size < 0 or member.offset_data <= position:
            raise InputError(f"{shard}: damaged, {shown(member.name)} says that it has {member.size} bytes")
        if not member.name:
            raise InputError(f"{shard}: damaged, expected a name for the file at byte {member.offset_data}")
        position = member.offset_data
        yield member
    with shard.open("rb") as file:
        file.seek(archive.offset)
        if len(end := file.read(tarfile.BLOCKSIZE)) < tarfile.BLOCKSIZE:
            raise InputError(
                f"{shard}: truncated, expected the mark of a tar file's end at byte {archive.offset}"
            )
        if any(end):
            raise InputError(f"{shard}: damaged, expected the name of a file at byte {archive.offset}")
        while rest := file.read(2**20):
            if any(rest):
                raise InputError(
                    f"{shard}: damaged or several in one, expected nothing after its end at {archive.offset}"
                )


def _annotations(files: dict[str, bytes], where: str) -> tuple[int | str | None, str]:
    """Label and caption: of NAME.json, else of NAME.cls and NAME.txt."""
    where = f"{shown(where)}: beside it"
    caption, label = None, None
    if ".json" in files:
        caption, label = text_and_label(parse_entry(files[".json"], where), where, other="cls")
    if label is None and ".cls" in files:
        text = _text(files[".cls"], where)
        label = int(text) if re.fullmatch(r"-?[0-9]{1,18}", text) else text
    return label, " ".join((caption or _text(files.get(".txt", b""), where)).split())


def _text(data: bytes, where: str) -> str:
    try:
        return data.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: expected UTF-8 text, found {error.reason}") from None
