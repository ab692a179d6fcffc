"""How an SN tells its license servers which members the swarm has expelled."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from services.licensing.servers import Servers  # aiohttp, which a license server does not need

AT_ONCE = 256  # members in one request


class ExpelledMember(BaseModel):
    """``name``: that in the certificate, without a slot."""

    model_config = ConfigDict(extra="forbid", strict=True)

    role: Literal["sn", "sl", "swop", "swci"]
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")


class ExpulsionsRequest(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    members: Annotated[list[ExpelledMember], Field(min_length=1, max_length=AT_ONCE)]


async def report(servers: "Servers", feature: str, members: Sequence[tuple[str, str]]) -> None:
    """Reports expelled members, by role and name. Raises the errors of Servers.request."""
    for start in range(0, len(members), AT_ONCE):
        some = [{"role": role, "name": name} for role, name in members[start : start + AT_ONCE]]
        await servers.request("POST", "/v1/expulsions", feature, {"members": some}, explain=False)
