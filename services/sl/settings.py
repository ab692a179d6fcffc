"""The settings of an SL."""

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from services.identity.spiffe import name_in_slot
from services.runtime.addresses import HTTPS_PORT, MAX_PORT, join_address, split_address
from services.runtime.settings import MemberSettings, ServiceAddress, SNApiPort, SNApiService
from services.sl.round.settings import RoundSettings


class SLSettings(MemberSettings):
    """Port 0 means any free port. Addresses are names or IP addresses."""

    slot: str = Field(
        "",
        validation_alias="SL_SLOT",
        description="If several SLs share one certificate: the slot of this one, 1 to 32 letters, digits, '.', '-' or "
        "'_'. An SL with the certificate sl-1 and the slot 0 is called sl-1/0. None by default: then its name is "
        "that in the certificate.",
    )
    host: str = Field(
        "0.0.0.0",  # noqa: S104
        validation_alias="SL_BIND_HOST",
        description="Address to listen on. All addresses by default, as peers are on other hosts.",
    )
    sl_fs_port: int = Field(
        30305,
        ge=0,
        le=MAX_PORT,
        validation_alias="SL_FS_PORT",
        description="Port at which peers reach the file server. The default is the one that users of such systems "
        "know.",
    )
    bind_port: int | None = Field(
        None,
        ge=0,
        le=MAX_PORT,
        validation_alias="SL_BIND_PORT",
        description="Port to listen on, if it differs from that one, for example behind a port mapping. By default the "
        "same.",
    )
    sl_fs_service: ServiceAddress | None = Field(
        None,
        validation_alias="SL_FS_SERVICE",
        description="FQDN[:PORT] at which peers reach the file server through a reverse proxy, instead of this node's "
        "address. The port is 443 if none is given.",
    )
    sn_api_service: SNApiService = None
    sn_ip: str = Field(
        "127.0.0.1",
        validation_alias="SN_NODE_IP",
        description="Address of this node's SN. This host by default, as a small swarm runs it there.",
    )
    sn_api_port: SNApiPort = 30304
    sn_patience_s: float = Field(
        300.0,
        ge=0,
        le=86_400,
        validation_alias="SL_SN_PATIENCE_SECONDS",
        description="Seconds for which a training waits for what it cannot continue without: any SN, or any node that "
        "holds the last merged model. Time in which the program trains does not count, as nothing is needed then. "
        "Five minutes by default: a restart takes less, and after a longer wait it is better to end with an "
        "error.",
    )
    data_dir: Path = Field(
        Path("/platform/swarm/SMLNODE"),
        validation_alias="SWARM_DATA_DIR",
        description="Directory of parameters and pipes. The default is where containers mount their volume.",
    )
    request_channel: Path | None = Field(
        None,
        validation_alias="SL_REQUEST_CHANNEL",
        description="Pipe from the ML program. By default request.channel in the data directory.",
    )
    response_channel: Path | None = Field(
        None,
        validation_alias="SL_RESPONSE_CHANNEL",
        description="Pipe to the ML program. By default response.channel in the data directory.",
    )
    may_lead: bool = Field(
        True,
        validation_alias="SL_MAKE_ME_ADMIN",
        description="Whether this node may lead a round. Every node may by default, so that leaders take turns.",
    )
    quorum_wait_s: float = Field(
        30.0,
        ge=0,
        le=86_400,
        validation_alias="SL_WAIT_FOR_FULL_QUORUM_SECONDS",
        description="Seconds that a round waits for the remaining nodes once minPeers have checked in; the first node "
        "to enrol decides. The default is long enough for nodes of similar speed.",
    )
    leader_timeout_s: float = Field(
        60.0,
        gt=0,
        le=604_800,
        validation_alias="SL_LEADER_FAILURE_BASE_TIMEOUT",
        description="Seconds without any progress after which a leader is voted out. One that makes progress has "
        "SL_LONGEST_MERGE_SECONDS, and one whose connection broke is deposed at once. A minute is longer than a "
        "connection on the internet may hang (about ten seconds), and than the 20 s after which a leader gives up "
        "on a stalled peer.",
    )
    longest_merge_s: float | None = Field(
        None,
        gt=0,
        le=31_536_000,
        validation_alias="SL_LONGEST_MERGE_SECONDS",
        description="Seconds after which a leader is voted out even if it says that it makes progress: it may lie. A "
        "node whose parameters take more than half of that is left out. By default ten times "
        "SL_LEADER_FAILURE_BASE_TIMEOUT, and a second more for each 64 KiB that the leader has to read and hand out. "
        "Set it if your links are slower than that.",
    )
    keep_serving_s: float = Field(
        60.0,
        ge=0,
        le=86_400,
        validation_alias="SL_KEEP_SERVING_SECONDS",
        description="Seconds for which the final model is served to nodes that do not have it yet. They fetch it as "
        "soon as the training is complete, so a minute is plenty.",
    )
    keep_congestion_control: bool = Field(
        False,
        validation_alias="SL_KEEP_CONGESTION_CONTROL",
        description="Whether connections that carry parameters keep BBR if the host uses it. By default they use CUBIC "
        "instead: with BBR, the many connections of a swarm crowd each other out on a full link. Keep BBR on "
        "links that lose packets without being full.",
    )
    metrics_port: int | None = Field(
        None,
        ge=0,
        le=MAX_PORT,
        validation_alias="SL_METRICS_PORT",
        description="Port of the Prometheus metrics. Off by default.",
    )
    metrics_host: str = Field(
        "127.0.0.1",
        validation_alias="SL_METRICS_HOST",
        description="Address of the metrics. Only this host by default; on any other address they are served under "
        "mutual TLS, never without.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO",
        validation_alias="SL_LOG_LEVEL",
        description="INFO by default: a line for each step and each round.",
    )

    @field_validator("slot")
    @classmethod
    def _a_slot(cls, value: str) -> str:
        if value:
            name_in_slot("sl", "", value)
        return value

    @property
    def named_by_service(self) -> bool:
        return self.sl_fs_service is not None

    @property
    def sn_address(self) -> str:
        """``host:port`` of the first SN."""
        if self.sn_api_service is not None:
            return join_address(*split_address(self.sn_api_service, HTTPS_PORT))
        return join_address(self.sn_ip, self.sn_api_port)

    @property
    def listens_on(self) -> int:
        """The port to bind; 0 is any free one."""
        return self.sl_fs_port if self.bind_port is None else self.bind_port

    def announced(self, bound: int) -> tuple[str, int]:
        """Where peers reach the file server that got port ``bound``."""
        if self.sl_fs_service is not None:
            return split_address(self.sl_fs_service, HTTPS_PORT)
        return self.host_ip, self.sl_fs_port or bound

    @property
    def channels(self) -> tuple[Path, Path]:
        """The request and the response pipe."""
        request = self.request_channel or self.data_dir / "request.channel"
        return request, self.response_channel or self.data_dir / "response.channel"

    @property
    def round_settings(self) -> RoundSettings:
        return RoundSettings(
            may_lead=self.may_lead,
            quorum_wait_s=self.quorum_wait_s,
            leader_timeout_s=self.leader_timeout_s,
            longest_merge_s=self.longest_merge_s,
            sn_patience_s=self.sn_patience_s,
            keep_serving_s=self.keep_serving_s,
        )
