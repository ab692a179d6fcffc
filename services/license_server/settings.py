"""The settings with which a license server starts."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import NoDecode

from services.licensing.features import FEATURES
from services.runtime.addresses import MAX_PORT
from services.runtime.settings import IdentitySettings


@dataclass(frozen=True)
class PartnerAddress:
    """``NAME@HOST:PORT``, with the name in the partner's certificate."""

    name: str
    address: str

    @classmethod
    def parse(cls, text: str) -> "PartnerAddress":
        """Raises ValueError."""
        name, at, address = text.partition("@")
        _, colon, port = address.rpartition(":")
        if not (name and at and colon and port.isdecimal()):
            raise ValueError(f"'{text}' is not like license-2@host:5814")
        return cls(name, address)


COMMUNITY_SEATS = {"SN": 16, "SL": 256, "SWOP": 64, "SWCI": 16}


class LicenseServerSettings(IdentitySettings):
    """Flags and environment of `swarm license-server`."""

    data_dir: Path = Field(
        default=Path("/platform/swarm/SMLNODE"),
        validation_alias="SWARM_LICENSE_DATA_DIR",
        description="Directory of its database. The default is where containers mount their volume.",
    )
    host: str = Field(
        default="0.0.0.0",  # noqa: S104
        validation_alias="SWARM_LICENSE_HOST",
        description="Address to listen on. All addresses by default, as nodes on other hosts must reach it.",
    )
    port: int = Field(
        default=5814,
        ge=0,
        le=MAX_PORT,
        validation_alias="SWARM_LICENSE_PORT",
        description="Port to listen on; by default the one that nodes expect. 0: any free port.",
    )
    database: str = Field(
        default="",
        validation_alias="SWARM_LICENSE_DATABASE",
        description="URL of a database that several servers can share, such as postgresql://user@host/swarm. By "
        "default an SQLite file in the data directory.",
    )
    partner: str = Field(
        default="",
        validation_alias="SWARM_LICENSE_PARTNER",
        description="The other server of a pair, as NAME@HOST:PORT with the name in its certificate. One of them "
        "grants seats; the other follows it and takes over. None by default, as one server is enough for most.",
    )
    standby: bool = Field(
        default=False,
        validation_alias="SWARM_LICENSE_STANDBY",
        description="Follow the partner from the first start on, instead of granting seats.",
    )
    seats: Annotated[dict[str, int] | None, NoDecode] = Field(
        default=None,
        validation_alias="SWARM_LICENSE_SEATS",
        description="Seats of the community license, such as 'SN=1,SL=2'. If not given: as installed, initially "
        + ", ".join(f"{feature}={count}" for feature, count in COMMUNITY_SEATS.items())
        + ", enough for any trial.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", validation_alias="SWARM_LOG_LEVEL", description="The least important events to log."
    )

    @field_validator("partner")
    @classmethod
    def _parse_partner(cls, value: str) -> str:
        if value:
            PartnerAddress.parse(value)
        return value

    @model_validator(mode="after")
    def _pair(self) -> Self:
        if self.standby and not self.partner:
            raise ValueError("--standby needs --partner: the server to follow")
        return self

    @field_validator("seats", mode="before")
    @classmethod
    def _parse_seats(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        pairs = [part.strip().partition("=") for part in value.split(",")]
        for feature, _, count in pairs:
            if feature not in FEATURES or not count.isdecimal():
                raise ValueError(f"'{value}' is not like SN=1,SL=2 with features of {', '.join(FEATURES)}")
        return {feature: int(count) for feature, _, count in pairs}
