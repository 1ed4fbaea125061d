"""Configuration of a text encoder. Imports no torch."""

from typing import Annotated, Self

from pydantic import BaseModel, Field, model_validator

from latentdiff.nn.fields import LineWidth, StrictModel


class TextConfig(StrictModel):
    """Transformer over word pieces that conditions a denoiser; without a vocabulary, texts come encoded by
    a frozen encoder.
    """

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
            raise ValueError(f"vocabulary: expected 0, or 4 and more, got {self.vocabulary}")
        if self.width % self.heads:
            raise ValueError(f"heads: expected a divisor of width {self.width}, got {self.heads}")
        return self


TextOption = Annotated[TextConfig | None, Field(description="conditioning on texts instead of classes")]


def text_of(config: BaseModel) -> TextConfig | None:
    """The texts of a network's configuration; None of a network of classes or of none."""
    return getattr(config, "text", None)
