"""The options of data: which images, their size and channels, labels, augmentation, streaming."""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator

from latentdiff.config.base import Config, setting


def _size(text: str) -> str:
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(
        re.fullmatch(r"[0-9]{1,4}", part) and 1 <= int(part) <= 4096 for part in parts
    ):
        raise ValueError(f"expected pixels like 32 or HEIGHTxWIDTH like 32x48 (1..4096), got {text!r}")
    return text


class DataOptions(Config):
    """Which images, and how they are brought to one shape."""

    option_group: ClassVar[str] = "Data"

    data: str = setting(
        "mnist5k",
        "name of a data set or folder of images; `latentdiff datasets` lists all types of data, denoisers"
        " also take encoded latents",
        min_length=1,
    )
    data_root: str | None = setting(
        None,
        "folder of downloaded data sets (default: $LATENTDIFF_DATA or ~/.cache/latentdiff/data)",
        advanced=True,
    )
    size: Annotated[str, AfterValidator(_size)] | None = setting(
        None, "resize images to 32 or HEIGHTxWIDTH pixels (default: as the images are)"
    )
    channels: Literal[1, 3] | None = setting(None, "1 for grey, 3 for RGB (default: as the images are)")
    resize: Literal["crop", "stretch", "pad"] = setting(
        "crop", "how images of another aspect ratio are brought to --size", advanced=True
    )
    class_folders: Literal["auto", "only", "ignore"] = setting(
        "auto",
        "labels from the class folders of an image folder; auto: where every image is in one, only: leave"
        " out images that are in none, ignore: no labels",
        advanced=True,
    )
    flip: bool = setting(False, "mirror training images at random", advanced=True)
    random_shift: int = setting(
        0, "shift training images at random by up to this many pixels", ge=0, le=64, was="crop", advanced=True
    )

    def reading(self) -> dict[str, Any]:
        """The arguments of a reader of images: size, channels, resize and class_folders."""
        rest = {name: getattr(self, name) for name in ("channels", "resize", "class_folders")}
        return {"size": self.sides(), **rest}

    def sides(self) -> tuple[int, int] | None:
        """--size as (height, width)."""
        if self.size is None:
            return None
        parts = [int(part) for part in self.size.lower().split("x")]
        return parts[0], parts[-1]


class StreamOptions(Config):
    """Where the pixels stay."""

    stream: bool = setting(
        False,
        "read images from disk as they are needed, not all into memory; for folders of images, with --size"
        " (tar shards always are)",
        group="Data",
        advanced=True,
    )
