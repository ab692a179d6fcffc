"""The settings of an SN."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from services.runtime.addresses import HTTPS_PORT, MAX_PORT, join_address, split_address
from services.runtime.settings import MemberSettings, ServiceAddress, refused
from services.sn.founding import FoundWith

P2P_PORT = 30303


class SNSettings(MemberSettings):
    """Port 0 means any free port. Addresses are names or IP addresses."""

    sentinel: bool = Field(
        False,
        validation_alias="SN_I_AM_SENTINEL",
        description="This is the first SN: it makes the chain and the contracts. After a loss of all its data it joins "
        "another SN instead, as its swarm goes on without it.",
    )
    found_with: FoundWith = Field(
        "own",
        validation_alias="SN_FOUND_WITH",
        description="Which organizations of its trust file the sentinel begins the swarm with. own: its own, so that "
        "each further one is voted in; trust-file: all of them, where they have agreed on it before.",
    )
    sentinel_ip: ServiceAddress | None = Field(
        None,
        validation_alias="SENTINEL_NODE_IP",
        description="HOST or HOST:PORT of the SN to join through: the sentinel or any other one that runs.",
    )
    sentinel_api_port: int = Field(
        30304,
        ge=1,
        le=MAX_PORT,
        validation_alias="SENTINEL_API_SERVER_PORT",
        description="Port of that SN's API, where --sentinel-ip names none. The default is the one of every SN.",
    )
    sentinel_api_service: ServiceAddress | None = Field(
        None,
        validation_alias="SENTINEL_API_SERVICE",
        description="FQDN[:PORT] of that SN's API behind a reverse proxy, instead of its address. The port is 443 "
        "unless one is given.",
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
        description="Port of the API, as others reach it. The default is the one that users of such systems know.",
    )
    bind_port: int | None = Field(
        None,
        ge=0,
        le=MAX_PORT,
        validation_alias="SN_BIND_PORT",
        description="Port to listen on where it is another one, as behind a port mapping. By default the same.",
    )
    sn_api_service: ServiceAddress | None = Field(
        None,
        validation_alias="SN_API_SERVICE",
        description="FQDN[:PORT] by which others reach the API through a reverse proxy, instead of the address of "
        "this node. The port of a proxy is 443 unless one is given.",
    )
    sn_p2p_port: int = Field(
        P2P_PORT,
        ge=0,
        le=MAX_PORT,
        validation_alias="SN_ETH_PORT_EXT",
        description="Port of the chain between SNs (mutual TLS), as they reach it. The default is Ethereum's own.",
    )
    p2p_bind_port: int | None = Field(
        None,
        ge=0,
        le=MAX_PORT,
        validation_alias="SN_P2P_BIND_PORT",
        description="Port to listen on for the chain where it is another one. By default the same.",
    )
    sn_p2p_service: ServiceAddress | None = Field(
        None,
        validation_alias="SN_ETH_P2P_SERVICE",
        description="FQDN[:PORT] by which other SNs reach the chain of this one, instead of the address of this node. "
        "The port is 30303 unless one is given; it may be the one of a reverse proxy, which routes by name.",
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
    join_patience_s: float = Field(
        120.0,
        ge=0,
        le=86_400,
        validation_alias="SN_JOIN_PATIENCE_SECONDS",
        description="Seconds for which a new SN asks the one to join again, where it cannot be reached. A sentinel "
        "that is started with it is ready well before.",
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
    def through(self) -> str:
        """``host:port`` of the SN to join through; empty for the sentinel."""
        if self.sentinel_api_service is not None:
            return join_address(*split_address(self.sentinel_api_service, HTTPS_PORT))
        if self.sentinel_ip is not None:
            return join_address(*split_address(self.sentinel_ip, self.sentinel_api_port))
        return ""

    @property
    def named_by_service(self) -> bool:
        return self.sn_api_service is not None and self.sn_p2p_service is not None

    @property
    def listens_on(self) -> int:
        """The port of the API to bind; 0 is any free one."""
        return self.sn_api_port if self.bind_port is None else self.bind_port

    @property
    def p2p_listens_on(self) -> int:
        """The port of the chain to bind; 0 is any free one."""
        return self.sn_p2p_port if self.p2p_bind_port is None else self.p2p_bind_port

    @property
    def api(self) -> tuple[str, int]:
        """Where others reach the API; port 0: the one that was bound."""
        if self.sn_api_service is not None:
            return split_address(self.sn_api_service, HTTPS_PORT)
        return self.host_ip, self.sn_api_port

    @property
    def p2p(self) -> tuple[str, int]:
        """Where other SNs reach the chain of this one; port 0: the one that was bound."""
        if self.sn_p2p_service is not None:
            return split_address(self.sn_p2p_service, P2P_PORT)
        return self.host_ip, self.sn_p2p_port

    @model_validator(mode="after")
    def _one_way_in(self) -> Self:
        if self.sentinel and self.through:
            raise refused(
                "sentinel_ip",
                "--sentinel makes a new swarm, --sentinel-ip joins one; give one of them",
            )
        if not self.sentinel and not self.through:
            raise refused(
                "sentinel_ip", "give --sentinel for the first SN of a swarm, --sentinel-ip HOST[:PORT] to join one"
            )
        return self

    @model_validator(mode="after")
    def _organizations_to_begin_with(self) -> Self:
        if self.sentinel and self.found_with == "trust-file" and self.trust is None:
            raise refused("found_with", "give --trust too: without that file the swarm has one organization for ever")
        return self
