"""Configuration of a text encoder. Imports no torch."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from latentdiff.nn.fields import LineWidth, Numbers


class TextConfig(Numbers):
    """Transformer over word pieces, which a denoiser listens to; without a vocabulary, texts come encoded
    from elsewhere.
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


Listening = Annotated[TextConfig | None, Field(description="what it listens to instead of classes")]


def check_told(text: TextConfig | None, num_classes: int) -> None:
    """ValueError for a network of both classes and texts."""
    if text is not None and num_classes:
        raise ValueError(f"num_classes: expected 0 for a network that listens to texts, got {num_classes}")
