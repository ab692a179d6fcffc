"""The progress of a merge, as its leader reports it on request, and for how long that is believed."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Self, cast

from pydantic import ConfigDict, Field, TypeAdapter

from services.merge.engine import passes_of
from services.sl.view import View

# What a leader may need even for a small model, in failure timeouts: it waits for some peers, and then for others.
TIMEOUTS = 10

# An honest leader whose links are slower needs another limit.
SLOWEST_BYTES_PER_S = 64 * 1024

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


def longest_merge_s(view: View, size: int, timeout_s: float) -> float:
    """Seconds that the leader of ``view`` may take. ``size``: bytes of one node's parameters, as this node knows them;
    others may announce anything.

    Each byte is fetched, and read as often as the method needs it; the result is then handed to another node.
    """
    readings = (1 + passes_of(view.config.merge_method)) * len(view.check_ins) + 1
    return TIMEOUTS * timeout_s + readings * size / SLOWEST_BYTES_PER_S


_READER = TypeAdapter(MergeProgress)
