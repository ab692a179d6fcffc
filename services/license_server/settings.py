"""What a license server is told at start."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from services.licensing.features import FEATURES
from services.runtime.settings import MAX_PORT, IdentitySettings

COMMUNITY_SEATS = {"SN": 16, "SL": 256, "SWOP": 64, "SWCI": 16}


class LicenseServerSettings(IdentitySettings):
    """Flags and environment of `swarm license-server`."""

    data_dir: Path = Field(
        default=Path("/platform/swarm/SMLNODE"),
        validation_alias="SWARM_LICENSE_DATA_DIR",
        description="Directory of its database: the one volume that every image of a node mounts.",
    )
    host: str = Field(
        default="0.0.0.0",  # noqa: S104
        validation_alias="SWARM_LICENSE_HOST",
        description="Address to listen on: every one, since nodes of other hosts must reach it.",
    )
    port: int = Field(
        default=5814,
        ge=0,
        le=MAX_PORT,
        validation_alias="SWARM_LICENSE_PORT",
        description="Port to listen on, by default the one that nodes expect; 0: any free one.",
    )
    database: str = Field(
        default="",
        validation_alias="SWARM_LICENSE_DATABASE",
        description="URL of a database that several servers may share, such as postgresql://user@host/swarm; "
        "not given: an SQLite file in the data directory, which needs nothing else.",
    )
    seats: Annotated[dict[str, int] | None, NoDecode] = Field(
        default=None,
        validation_alias="SWARM_LICENSE_SEATS",
        description="Seats of the community licence, such as 'SN=1,SL=2'; not given: as installed, at first "
        + ", ".join(f"{feature}={count}" for feature, count in COMMUNITY_SEATS.items())
        + ", enough for any trial.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", validation_alias="SWARM_LOG_LEVEL", description="The least important events to log."
    )

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
