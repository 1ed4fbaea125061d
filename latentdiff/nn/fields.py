"""Numbers with their ranges that several networks' configurations share, and the strict base model.

Imports no torch.
"""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

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
