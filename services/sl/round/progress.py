"""How far a merge is, as its leader tells it to whoever asks."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Self, cast

from pydantic import ConfigDict, Field, TypeAdapter

_Count = Annotated[int, Field(ge=0, lt=2**63)]


@dataclass(frozen=True)
class MergeProgress:
    """``idle_s`` since anything moved."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(strict=True, extra="forbid")

    round: _Count
    term: _Count
    idle_s: Annotated[float, Field(ge=0, allow_inf_nan=False)]

    @classmethod
    def read(cls, text: bytes) -> Self:
        """Of JSON, typed to its leaves. Raises ValueError."""
        return cast(Self, _READER.validate_json(text))


_READER = TypeAdapter(MergeProgress)
