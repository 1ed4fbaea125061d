"""The bases of the networks' configurations: ranges, texts, presets, facts about other libraries' networks.

Imports no torch.
"""

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from latentdiff.errors import InputError, explain

LEAST_SIDE = 4  # of a grid, for networks of convolutions or patches
SMALL_GRID = 16  # pixels a side up to which width and attention cost little
Numbers = Mapping[str, Any]
Presets = Mapping[str, Numbers]
PeakLR = Mapping[str, float]  # by preset
Width = Annotated[int, Field(ge=8, le=1024, multiple_of=8)]
LineWidth = Annotated[int, Field(ge=8, le=8192, multiple_of=8)]
Classes = Annotated[int, Field(ge=0, le=100_000, description="number of class labels; 0 is unconditional")]
OutFactor = Annotated[int, Field(ge=1, le=2, description="1, or 2 when the network also learns the variance")]
Side = Annotated[int, Field(ge=8, le=1024)]
GridSide = Annotated[int, Field(ge=4, le=1024)]
# strict=False on tuples admits the lists of JSON and YAML; their numbers stay strict
GridShape = Annotated[
    tuple[Annotated[int, Field(ge=1, le=4096)], GridSide, GridSide],
    Field(strict=False, description="channels, height and width of what is denoised, sides 4 to 1024"),
]
Multipliers = Annotated[
    tuple[Annotated[int, Field(ge=1, le=16)], ...],
    Field(strict=False, min_length=1, max_length=7, description="channels of each resolution, in widths"),
]


class StrictModel(BaseModel):
    """Frozen, without unknown keys, without conversion of types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def cross(*sizes: int) -> str:
    """Sizes as they are written: "4x7x7"."""
    return "x".join(map(str, sizes))


class TextConfig(StrictModel):
    """Transformer over word pieces; without a vocabulary, texts come encoded by a frozen encoder."""

    vocabulary: int = Field(
        ge=0, le=65_536, description="number of word pieces; 0: a frozen encoder reads the texts"
    )
    length: int = Field(default=32, ge=3, le=1024, description="pieces of a text, with its start and its end")
    width: LineWidth = Field(default=128, description="size of a token of the encoded text")
    depth: int = Field(default=2, ge=1, le=24, description="layers")
    heads: int = Field(default=4, ge=1, le=64, description="attention heads")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if 0 < self.vocabulary < 4:
            raise ValueError(f"`vocabulary`: expected 0, or 4 and more, got {self.vocabulary}")
        if self.width % self.heads:
            raise ValueError(f"`heads`: expected a divisor of width {self.width}, got {self.heads}")
        return self


Guided = Annotated[bool, Field(description="takes the guidance scale as an input, as students do")]
TextOption = Annotated[TextConfig | None, Field(description="conditioning on texts instead of classes")]


def text_of(config: BaseModel) -> TextConfig | None:
    """The texts of a network's configuration; None of a network of classes or of none."""
    return getattr(config, "text", None)


class NetworkConfig(StrictModel):
    """A row of the table of networks (`latentdiff.nn.networks`): numbers, and facts about the class.

    network: "module:class", imported when the network is built; presets: numbers by size; difference: the
    first one from the nearest network of diffusers, which is why it cannot be exported.
    """

    network: ClassVar[str]
    presets: ClassVar[Presets]
    difference: ClassVar[str]

    @classmethod
    def class_name(cls) -> str:
        """The name of the class in files."""
        return cls.network.rpartition(":")[2]

    @classmethod
    def of_preset(cls, preset: str, **numbers: Any) -> Self:
        """A preset ("small", "base", "large"), overridden by the numbers that are not None.

        InputError for an unknown preset and for numbers that do not fit.
        """
        if preset not in cls.presets:
            raise InputError(f"`preset`: expected one of {', '.join(cls.presets)}, got {preset!r}")
        given = {name: value for name, value in numbers.items() if value is not None}
        try:
            return cls.model_validate(cls.completed(preset, given))
        except ValidationError as error:
            raise InputError(explain(error, arguments=True)) from error

    @classmethod
    def completed(cls, preset: str, given: Numbers) -> Numbers:
        """The numbers given, completed by those of a preset."""
        return {**cls.presets[preset], **given}


class DenoiserConfig(NetworkConfig):
    """A denoiser of what has ``shape``: (L,) or (C, H, W).

    about: one line for ``--network``; small_grid_presets: those of grids of at most 16 pixels a side, where
    others; vectors: whether it takes shapes (L,) and grids of any size; words: whether it attends to the
    single tokens of a text; steps, batch, peak_lr (by preset): defaults of training.
    """

    about: ClassVar[str]
    small_grid_presets: ClassVar[Presets] = {}
    vectors: ClassVar[bool] = False
    words: ClassVar[bool] = False
    steps: ClassVar[int] = 3000
    batch: ClassVar[int] = 128
    peak_lr: ClassVar[PeakLR] = {"small": 2e-3, "base": 1e-3, "large": 5e-4}  # docs/quality.md

    kind: str
    shape: tuple[int, ...]
    num_classes: Classes = 0
    out_factor: OutFactor = 1

    @classmethod
    def completed(cls, preset: str, given: Numbers) -> Numbers:
        """The numbers given, completed by those of a preset for a grid of that size."""
        presets = cls.small_grid_presets if is_small(given["shape"]) else {}
        return {**presets.get(preset, cls.presets[preset]), **given}

    @classmethod
    def takes(cls, shape: tuple[int, ...]) -> bool:
        """Whether it can denoise what has a shape."""
        return cls.vectors or (len(shape) == 3 and min(shape[1:]) >= LEAST_SIDE)

    @property
    def activations(self) -> int:
        """Numbers in the widest layer for one sample: memory of sampling is a multiple of it."""
        raise NotImplementedError

    @model_validator(mode="after")
    def _one_condition(self) -> Self:
        if getattr(self, "text", None) is not None and self.num_classes:
            raise ValueError(
                f"`num_classes`: expected 0 for a network conditioned on texts, got {self.num_classes}"
            )
        return self


class PatchedConfig(DenoiserConfig):
    """A denoiser of grids (C, H, W) that reads squares of ``patch`` pixels a side as channels."""

    shape: GridShape
    patch: int = Field(
        default=1, ge=1, le=16, description="pixels a side that become channels of one, before all else"
    )

    @model_validator(mode="after")
    def _patches_fit(self) -> Self:
        if any(side % self.patch for side in self.shape[1:]):
            raise ValueError(
                f"`patch`: expected a divisor of {cross(*self.shape[1:])} pixels, got {self.patch}"
            )
        return self

    @property
    def grid(self) -> tuple[int, int]:
        """Height and width after the patches."""
        return self.shape[1] // self.patch, self.shape[2] // self.patch


class PyramidConfig(PatchedConfig):
    """A denoiser of several resolutions: patches, then a halving between the entries of ``mult``."""

    mult: Multipliers = (1, 2, 4)

    @model_validator(mode="after")
    def _halves(self) -> Self:
        levels = len(self.mult)
        if 2 ** (levels - 1) > min(self.grid):
            most, size = min(self.grid).bit_length(), cross(self.shape[0], *self.grid)
            raise ValueError(f"`mult`: {size} is too small for {levels} resolutions, expected at most {most}")
        return self


class ForeignConfig(StrictModel):
    """A denoiser of another library: what it denoises, and its channels at the full resolution.

    steps, batch, peak_lr (by preset): defaults of fine-tuning, those of diffusers' training script.
    """

    steps: ClassVar[int] = 3000
    batch: ClassVar[int] = 16
    peak_lr: ClassVar[PeakLR] = {"small": 1e-4, "base": 1e-4, "large": 1e-4}

    shape: GridShape
    width: int = Field(ge=1, description="channels at the full resolution")
    num_classes: Classes = 0

    @property
    def activations(self) -> int:
        """Numbers in the widest layer for one sample."""
        return self.width * math.prod(self.shape[1:])


class ForeignVAEConfig(StrictModel):
    """An autoencoder of another library: its images and its latents, both [C, H, W].

    batch, peak_lr, beta (of the KL term, Rombach et al. 2022): defaults of fine-tuning.
    """

    batch: ClassVar[int] = 16
    peak_lr: ClassVar[float] = 1e-4
    beta: ClassVar[float] = 1e-6

    image: GridShape
    latent: tuple[int, int, int]


def is_small(shape: tuple[int, ...]) -> bool:
    """Whether a shape is that of a grid of at most 16 pixels a side."""
    return len(shape) == 3 and max(shape[1:]) <= SMALL_GRID
