"""Settings of `swarm preflight`: those that the node will have, and what it must reach."""

from pathlib import Path

from pydantic import Field, field_validator

from services.runtime.addresses import MAX_PORT, split_address
from services.runtime.settings import LicensedSettings, SNApiPort

PEER_ROLES = ("sn", "sl", "license", "swci", "p2p")


class PreflightSettings(LicensedSettings):
    """Names are those of the nodes, so that one environment serves both."""

    apls_ip: str = Field(
        "",
        validation_alias="SWARM_LICENSE_AUTOPASSJ_SERVER_PRIMARY_IP",
        description="Address of the license server. If not given, seats are not checked.",
    )
    host_ip: str = Field(
        "",
        validation_alias="THIS_NODE_IP",
        description="Address at which peers will reach this node. If not given, this is not checked.",
    )
    port: int | None = Field(
        None,
        ge=1,
        le=MAX_PORT,
        description="Port at which they will reach it. By default that of the certificate's role.",
    )
    bind_port: int | None = Field(
        None, ge=1, le=MAX_PORT, description="Port at which the node will listen, if it differs from that one."
    )
    sn_ip: str | None = Field(
        None,
        validation_alias="SN_NODE_IP",
        description="HOST[:PORT] of any SN, which tells all other nodes. If not given, only --peer is checked.",
    )
    sn_api_port: SNApiPort = 30304
    peers: list[str] = Field(
        [], description="ROLE@HOST:PORT of further nodes to check; p2p@HOST:PORT is the chain of an SN."
    )
    data_dir: Path = Field(
        Path("/platform/swarm/SMLNODE"),
        validation_alias="SWARM_DATA_DIR",
        description="Directory in which the node will keep its data and pipes. The default is where containers mount "
        "their volume.",
    )
    engine: str = Field("auto", description="docker, podman, none, or auto: whichever is installed; a SWOP needs one.")
    gpu: bool = Field(False, description="Whether training needs a GPU on this host. Not by default.")
    min_free_gb: float = Field(
        10.0, gt=0, description="Free disk space that is required, in GB. The default has room for some large models."
    )

    @field_validator("peers")
    @classmethod
    def _peers(cls, value: list[str]) -> list[str]:
        for text in value:
            role, at, address = text.partition("@")
            if not at or role not in PEER_ROLES:
                raise ValueError(f"'{text}' is not ROLE@HOST:PORT with one of the roles {', '.join(PEER_ROLES)}")
            if split_address(address, 0)[1] == 0:
                raise ValueError(f"'{text}' names no port")
        return value

    @field_validator("engine")
    @classmethod
    def _engine(cls, value: str) -> str:
        if value not in ("auto", "docker", "podman", "none"):
            raise ValueError(f"'{value}' is none of auto, docker, podman, none")
        return value

    @property
    def sn(self) -> tuple[str, int] | None:
        """Host and port of the SN, if one is given."""
        return None if self.sn_ip is None else split_address(self.sn_ip, self.sn_api_port)
