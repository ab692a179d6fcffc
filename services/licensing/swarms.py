"""The swarms that lease from one license server: two sentinels that never meet both ask there."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, Field, ValidationError

from services.errors import LicenseError

if TYPE_CHECKING:
    from services.licensing.servers import Servers  # aiohttp, which a license server does not need

SAID_EVERY_S = 20.0
NAMED_SNS = 3  # of each swarm, in a message

_Text = Annotated[str, Field(max_length=300)]


class LeasingSN(BaseModel):
    """An SN and its address, as the SN itself gives it."""

    name: _Text
    address: _Text


class LeasingSwarm(BaseModel):
    """``network``: address of its directory contract. ``sns``: its SNs that lease from this server."""

    network: _Text
    sns: Annotated[list[LeasingSN], Field(min_length=1, max_length=1024)]

    @property
    def shown(self) -> str:
        """For people: its SNs and where they are."""
        more = f" and {len(self.sns) - NAMED_SNS} more" if len(self.sns) > NAMED_SNS else ""
        return ", ".join(f"{sn.name} at {sn.address}" for sn in self.sns[:NAMED_SNS]) + more


class LeasingSwarms(BaseModel):
    """The swarms that lease from a license server; none if the server is of an older release."""

    swarms: Annotated[list[LeasingSwarm], Field(max_length=1024)] = []


async def told(servers: "Servers", feature: str, network: str, address: str) -> Sequence[LeasingSwarm]:
    """Reports that the SN at ``address`` belongs to the swarm ``network``; returns the other swarms that lease there.

    Raises LicenseError, and the errors of Servers.request.
    """
    answer = await servers.request(
        "POST", "/v1/swarms", feature, {"network": network, "address": address}, explain=False
    )
    try:
        swarms = LeasingSwarms.model_validate(answer).swarms
    except ValidationError:
        problem = "it answered something else than the swarms that it knows"
        raise LicenseError(feature=feature, problem=problem, address=servers.address) from None
    return [swarm for swarm in swarms if swarm.network != network]
