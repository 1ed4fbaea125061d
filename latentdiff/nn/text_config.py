"""Configuration of a text encoder. Imports no torch."""

from typing import Self

from pydantic import Field, model_validator

from latentdiff.nn.fields import Numbers, Width


class TextConfig(Numbers):
    """Transformer over word pieces, which a UNet listens to."""

    vocabulary: int = Field(ge=4, le=65_536, description="number of word pieces")
    length: int = Field(default=32, ge=3, le=1024, description="pieces of a text, with its start and its end")
    width: Width = Field(default=128, description="size of a token of the encoded text")
    depth: int = Field(default=2, ge=1, le=24, description="layers")
    heads: int = Field(default=4, ge=1, le=64, description="attention heads")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"heads: expected a divisor of width {self.width}, got {self.heads}")
        return self
