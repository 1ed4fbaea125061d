"""The options of data: which images, their size and channels, labels, augmentation, streaming."""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator

from latentdiff.config.base import Config, setting


def _size(text: str) -> str:
    """HEIGHTxWIDTH, of one side too: 32 is 32x32."""
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(
        re.fullmatch(r"[0-9]{1,4}", part) and 1 <= int(part) <= 4096 for part in parts
    ):
        raise ValueError(f"expected pixels like 32 or HEIGHTxWIDTH like 32x48 (1..4096), got {text!r}")
    return f"{int(parts[0])}x{int(parts[-1])}"


def _color(text: str) -> str:
    """A colour as #rrggbb; ValueError for a text that is none."""
    from PIL import ImageColor

    try:
        found: tuple[int, ...] = ImageColor.getrgb(text.strip())
    except ValueError:
        found = ()
    if len(found) != 3:
        raise ValueError(f"expected the name of a colour (white, black, red, ...) or #rrggbb, got {text!r}")
    return "#{:02x}{:02x}{:02x}".format(*found)


FITTING = ("fit", "resize", "background")
"""The options by which images are brought to one shape, beside its size and channels."""
LABELLING = ("class_folders", "labels_from", "captions_from")
"""The options by which images get labels and captions."""


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
    fit: Literal["crop", "smart", "pad", "edge", "stretch"] = setting(
        "crop",
        "how images of another aspect ratio are brought to --size; crop: the middle, smart: the part with the"
        " most edges, pad: the whole image on --background, edge: the whole image, its border repeated"
        " outwards, stretch: the whole image, distorted",
        advanced=True,
    )
    resize: Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"] = setting(
        "bicubic",
        "filter that resizes images; nearest keeps the pixels of pixel art as they are",
        moved={"crop": ("fit", "crop"), "stretch": ("fit", "stretch"), "pad": ("fit", "edge")},
        advanced=True,
    )
    background: Annotated[str, AfterValidator(_color)] | None = setting(
        None,
        "colour under transparent pixels and around images with --fit pad, a name or #rrggbb (default: white,"
        " and the colour of each image's border around it)",
        advanced=True,
    )
    class_folders: Literal["auto", "only", "ignore"] = setting(
        "auto",
        "labels from the class folders of an image folder; auto: where every image is in one, only: leave"
        " out images that are in none, ignore: no labels",
        advanced=True,
    )
    labels_from: Literal["folder", "name", "none"] = setting(
        "folder",
        "classes of images; folder: metadata, else class folders, name: file names, as cat_001.png, none: no"
        " labels, whatever the data has",
        advanced=True,
    )
    captions_from: Literal["text", "name", "none"] = setting(
        "text",
        "captions of images; text: files beside them, name: else the words of file names, as red-hat 03.jpg,"
        " none: no captions, whatever the data has",
        advanced=True,
    )
    image_cache: str | None = setting(
        None,
        "folder where the decoded images of large folders are kept, or off (default: $LATENTDIFF_IMAGE_CACHE"
        " or ~/.cache/latentdiff/images; `latentdiff datasets --cached` lists it)",
        min_length=1,
        advanced=True,
    )
    flip: bool = setting(False, "mirror training images at random", advanced=True)
    random_shift: int = setting(
        0, "shift training images at random by up to this many pixels", ge=0, le=64, was="crop", advanced=True
    )

    def reading(self) -> dict[str, Any]:
        """The arguments of a reader of images: all of :class:`latentdiff.data.resize.Fit`."""
        rest = {name: getattr(self, name) for name in ("channels", *FITTING, *LABELLING, "image_cache")}
        return {"size": self.sides(), **rest}

    def sides(self) -> tuple[int, int] | None:
        """--size as (height, width)."""
        if self.size is None:
            return None
        height, width = map(int, self.size.split("x"))
        return height, width


class StreamOptions(Config):
    """Where the pixels stay."""

    stream: bool = setting(
        False,
        "read images from disk as they are needed, not all into memory; for folders of images, with --size"
        " (tar shards always are)",
        group="Data",
        advanced=True,
    )
