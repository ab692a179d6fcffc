"""The JSON messages between nodes and the license server."""

from pydantic import BaseModel, ConfigDict, Field

from services.licensing.swarms import LeasingSwarm


class AcquireRequest(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    feature: str = Field(max_length=64, examples=["SL"])


class RenewRequest(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    token: int = Field(ge=-(2**63), lt=2**63)


class LeaseReply(BaseModel):
    """``grace_s``: how long the node may keep running if no license server answers."""

    lease: str
    token: int
    expires_in_s: float
    capacity: int
    grace_s: float


class SwarmRequest(BaseModel):
    """``network``: address of the swarm's directory contract. ``address``: HOST:PORT of the SN's API."""

    model_config = ConfigDict(extra="forbid", strict=True)

    network: str = Field(pattern="^0x[0-9a-fA-F]{40}$")
    address: str = Field(pattern="^[!-~]{1,300}$")  # others show it to people


class FeatureStatus(BaseModel):
    capacity: int
    in_use: int
    holders: list[str]


class StatusReply(BaseModel):
    features: dict[str, FeatureStatus]
    swarms: list[LeasingSwarm]


class ErrorReply(BaseModel):
    """An error: its stable code, its message, and the facts in the message."""

    code: str
    message: str
    facts: dict[str, str | int | float | bool | None]
