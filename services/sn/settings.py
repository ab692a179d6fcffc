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
        description="This is the first SN: it creates the chain and the contracts. If it has lost all its data it must "
        "join another SN instead, as its swarm continues without it.",
    )
    found_with: FoundWith = Field(
        "own",
        validation_alias="SN_FOUND_WITH",
        description="Organizations of its trust file with which the sentinel begins the swarm. own: its own, so that "
        "every other one is voted in; trust-file: all of them, if they have agreed on the file before.",
    )
    sentinel_ip: ServiceAddress | None = Field(
        None,
        validation_alias="SENTINEL_NODE_IP",
        description="HOST or HOST:PORT of the SN to join through: the sentinel or any other running SN.",
    )
    sentinel_api_port: int = Field(
        30304,
        ge=1,
        le=MAX_PORT,
        validation_alias="SENTINEL_API_SERVER_PORT",
        description="Port of that SN's API, if --sentinel-ip names none. The default is that of every SN.",
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
        description="Address to listen on. All addresses by default, as peers are on other hosts.",
    )
    sn_api_port: int = Field(
        30304,
        ge=0,
        le=MAX_PORT,
        validation_alias="SN_API_SERVER_PORT",
        description="Port at which others reach the API. The default is the one that users of such systems know.",
    )
    bind_port: int | None = Field(
        None,
        ge=0,
        le=MAX_PORT,
        validation_alias="SN_BIND_PORT",
        description="Port to listen on, if it differs from that one, for example behind a port mapping. By default the "
        "same.",
    )
    sn_api_service: ServiceAddress | None = Field(
        None,
        validation_alias="SN_API_SERVICE",
        description="FQDN[:PORT] at which others reach the API through a reverse proxy, instead of this node's "
        "address. The port is 443 if none is given.",
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
        description="Port to listen on for the chain, if it differs from that one. By default the same.",
    )
    sn_p2p_service: ServiceAddress | None = Field(
        None,
        validation_alias="SN_ETH_P2P_SERVICE",
        description="FQDN[:PORT] at which other SNs reach the chain of this one, instead of this node's address. The "
        "port is 30303 if none is given; it can be that of a reverse proxy that routes by name.",
    )
    chain: Literal["auto", "geth", "embedded"] = Field(
        "auto",
        validation_alias="SN_CHAIN",
        description="Which chain to run. auto: geth if it is installed, as only geth can serve more than one SN.",
    )
    data_dir: Path = Field(
        Path("/platform/swarm/SMLNODE"),
        validation_alias="SWARM_DATA_DIR",
        description="Directory of the chain and all state. The default is where containers mount their volume.",
    )
    join_patience_s: float = Field(
        120.0,
        ge=0,
        le=86_400,
        validation_alias="SN_JOIN_PATIENCE_SECONDS",
        description="Seconds for which a new SN keeps trying to reach the SN that it joins. A sentinel started at the "
        "same time is ready well before that.",
    )
    lost_after_s: float = Field(
        15.0,
        gt=0,
        le=3600,
        validation_alias="SN_LOST_AFTER_SECONDS",
        description="Seconds without a connection after which a participant counts as lost and the others continue; a "
        "leader, for which all others wait, counts as lost after 2 s. Longer than the 10 s in which a dead "
        "connection is noticed and replaced.",
    )
    metrics_port: int | None = Field(
        None,
        ge=0,
        le=MAX_PORT,
        validation_alias="SN_METRICS_PORT",
        description="Port of the Prometheus metrics. Off by default.",
    )
    metrics_host: str = Field(
        "127.0.0.1",
        validation_alias="SN_METRICS_HOST",
        description="Address of the metrics. Only this host by default; on any other address they are served under "
        "mutual TLS, never without.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO",
        validation_alias="SWARM_LOG_LEVEL",
        description="INFO by default: a line for each step and each round.",
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
