"""The settings of an SN."""

from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from services.runtime.settings import MAX_PORT, MemberSettings


class SNSettings(MemberSettings):
    """Port 0 means any free port. Addresses are names or IP addresses."""

    sentinel: bool = Field(
        False,
        validation_alias="SN_I_AM_SENTINEL",
        description="This is the first SN: it makes the chain and the contracts. After a loss of all its data it joins "
        "another SN instead, as its swarm goes on without it.",
    )
    sentinel_ip: str | None = Field(
        None,
        validation_alias="SENTINEL_NODE_IP",
        validate_default=True,
        description="HOST or HOST:PORT of the SN to join through: the sentinel or any other one that runs.",
    )
    sentinel_api_port: int = Field(
        30304,
        ge=1,
        le=MAX_PORT,
        validation_alias="SENTINEL_API_SERVER_PORT",
        description="Port of that SN's API, where --sentinel-ip names none. The default is the one of every SN.",
    )
    host: str = Field(
        "0.0.0.0",  # noqa: S104
        validation_alias="SN_BIND_HOST",
        description="Address to listen on. Every one by default, as peers are on other hosts.",
    )
    sn_api_port: int = Field(
        30304,
        ge=0,
        le=MAX_PORT,
        validation_alias="SN_API_SERVER_PORT",
        description="Port of the API. The default is the one that users of such systems know.",
    )
    sn_p2p_port: int = Field(
        30303,
        ge=0,
        le=MAX_PORT,
        validation_alias="SN_ETH_PORT_EXT",
        description="Port of the chain between SNs. The default is Ethereum's own.",
    )
    chain: Literal["auto", "geth", "embedded"] = Field(
        "auto",
        validation_alias="SN_CHAIN",
        description="Which chain to run. auto: geth where it is found, as it alone can serve more than one SN.",
    )
    data_dir: Path = Field(
        Path("/platform/swarm/SMLNODE"),
        validation_alias="SWARM_DATA_DIR",
        description="Where the chain and all state live. The default is where containers mount their volume.",
    )
    lost_after_s: float = Field(
        15.0,
        gt=0,
        le=3600,
        validation_alias="SN_LOST_AFTER_SECONDS",
        description="Seconds without a connection after which a participant counts as lost and the others go on; a "
        "leader, for whom everybody waits, after 2 s. Longer than the 10 s in which a dead connection is noticed and "
        "made again.",
    )
    metrics_port: int | None = Field(
        None,
        ge=0,
        le=MAX_PORT,
        validation_alias="SN_METRICS_PORT",
        description="Port of the Prometheus metrics. Off by default: who measures says where.",
    )
    metrics_host: str = Field(
        "127.0.0.1",
        validation_alias="SN_METRICS_HOST",
        description="Address of the metrics. This host only by default; on any other address they are served under "
        "mutual TLS, never in the clear.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO",
        validation_alias="SWARM_LOG_LEVEL",
        description="INFO by default: each step and each round is worth a line.",
    )

    @property
    def join_address(self) -> str:
        """``host:port`` of the SN to join through."""
        where = self.sentinel_ip or ""
        has_port = "]:" in where if where.startswith("[") else where.count(":") == 1
        return where if has_port else f"{where}:{self.sentinel_api_port}"

    @field_validator("sentinel_ip")
    @classmethod
    def _one_way_in(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value and info.data.get("sentinel"):
            raise ValueError("--sentinel makes a new swarm, --sentinel-ip joins one; give one of them")
        if not value and not info.data.get("sentinel"):
            raise ValueError("give --sentinel for the first SN of a swarm, --sentinel-ip HOST[:PORT] to join one")
        return value
