"""The progress of a merge, as its leader reports it on request."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Self, cast

from pydantic import ConfigDict, Field, TypeAdapter

_Count = Annotated[int, Field(ge=0, lt=2**63)]


@dataclass(frozen=True)
class MergeProgress:
    """``idle_s``: seconds since the last progress."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(strict=True, extra="forbid")

    round: _Count
    term: _Count
    idle_s: Annotated[float, Field(ge=0, allow_inf_nan=False)]

    @classmethod
    def read(cls, text: bytes) -> Self:
        """Reads JSON, with every field checked. Raises ValueError."""
        return cast(Self, _READER.validate_json(text))


_READER = TypeAdapter(MergeProgress)
