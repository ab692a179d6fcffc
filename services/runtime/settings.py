"""What the settings classes of all nodes share: environment names, and words for what is wrong with a value."""

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, AliasChoices, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from services.errors import SettingsError, UnknownSetting
from services.runtime.addresses import HTTPS_PORT, MAX_PORT, join_address, split_address

# Variables with these prefixes are ours; an unknown one is a typing mistake.
PREFIXES = ("SWARM_", "SN_", "SL_", "SWOP_", "SWCI_")

# Also ours, but read elsewhere: by the ML side, by the starter of processes, by SWOP for the SLs that it starts.
KNOWN_ELSEWHERE = frozenset(
    {
        "SWARM_LOOPBACK", "SWARM_NODE_INDEX", "SWARM_NODE_COUNT", "SWARM_READY_FD",
        "SWARM_START_HELD", "SWARM_HEALTH_FILE",
        "SL_CNT_NAME", "SL_SWOP_TRNAME", "SL_SWOP_UID", "SL_SWOP_IDX", "SL_SWOP_OPID",
        "SL_RAM_INTENSIVE", "SL_MODEL_PARAMS_COMPRESSION_THRESHOLD_MB", "SL_LEADER_FAILURE_BASE_TIMEOUT",
        "SL_LONGEST_MERGE_SECONDS",
        "SL_WAIT_FOR_FULL_QUORUM_SECONDS", "SL_MAKE_ME_ADMIN", "SL_REQUEST_CHANNEL", "SL_RESPONSE_CHANNEL",
        "SL_LOG_LEVEL", "SL_SN_PATIENCE_SECONDS", "SL_KEEP_SERVING_SECONDS", "SL_BIND_HOST",
        "SL_KEEP_CONGESTION_CONTROL",
        "SL_SLOT", "SL_FS_PORT", "SL_FS_SERVICE", "SL_BIND_PORT", "SN_BIND_PORT", "SN_P2P_BIND_PORT",
        "SN_API_SERVER_PORT", "SN_API_SERVICE", "SN_NODE_IP", "SN_ETH_PORT_EXT", "SN_ETH_P2P_SERVICE",
        "SN_I_AM_SENTINEL", "SN_FOUND_WITH", "SN_START_MINING", "SN_BIND_HOST", "SN_CHAIN", "SN_LOST_AFTER_SECONDS",
        "SN_JOIN_PATIENCE_SECONDS",
        "SN_METRICS_PORT", "SN_METRICS_HOST", "SL_METRICS_PORT", "SL_METRICS_HOST",
        "SWARM_ID_CACERT", "SWARM_ID_CAPATH", "SWARM_ID_CERT", "SWARM_ID_KEY", "SWARM_ID_RENEWED_FILES",
        "SWARM_ID_KEY_PASSPHRASE_FILE",
        "SWARM_ID_TRUST",
        "SWARM_SPIFFE_WORKLOAD_API_SOCKET_PATH", "SWARM_LOG_LEVEL", "SWARM_LOG_FORMAT", "SWARM_DATA_DIR",
        "SWARM_LICENSE_DATA_DIR", "SWARM_LICENSE_HOST", "SWARM_LICENSE_PORT", "SWARM_LICENSE_SEATS",
        "SWARM_LICENSE_DATABASE", "SWARM_LICENSE_PARTNER", "SWARM_LICENSE_STANDBY", "SWARM_LICENSE_TOKEN",
        "SWARM_LICENSE_SERVER",
        "SWARM_LICENSE_AUTOPASSJ_SERVER_PRIMARY_IP", "SWARM_LICENSE_AUTOPASSJ_SERVER_PRIMARY_PORT",
        "SWARM_LICENSE_AUTOPASSJ_SERVER_SECONDARY_IP", "SWARM_LICENSE_AUTOPASSJ_SERVER_SECONDARY_PORT",
        "SWCI_RUN_TASK_MAX_WAIT_TIME", "SWCI_GENERIC_TASK_MAX_WAIT_TIME", "SWCI_MODE", "SWCI_STARTUP_SCRIPT",
        "SWCI_WEB_PORT", "SWCI_BIND_HOST", "SWOP_SL_IMAGE", "SWOP_FINISH_GRACE_SECONDS", "USR_DIR",
        "SWOP_PROFILE", "SWOP_KEEP_CONTAINERS", "SWOP_UID", "SWOP_GID", "SWOP_DOCKER_GID",
    }
)  # fmt: skip


# Kubernetes sets such variables in each container for every service of its namespace, Docker for every link. For a
# service sl-fs: SL_FS_SERVICE_HOST, SL_FS_SERVICE_PORT_HTTPS, SL_FS_PORT_30305_TCP_ADDR, SL_FS_NAME, and SL_FS_PORT,
# which is also a setting of ours but then holds an address like tcp://10.0.0.1:30305.
_INJECTED = re.compile(
    r"\w+(_SERVICE_HOST|_SERVICE_PORT(_\w+)?|_PORT_\d+_(TCP|UDP|SCTP)(_START|_END)?(_PROTO|_PORT|_ADDR)?|_ENV_\w+)"
)
_ADDRESS = re.compile(r"(tcp|udp|sctp)://.*")
_LINK_NAME = re.compile(r"/[\w.-]+/[\w.-]+")


def _with_port(value: str) -> str:
    split_address(value, HTTPS_PORT)
    return value


ServiceAddress = Annotated[str, AfterValidator(_with_port)]
"""``HOST`` or ``HOST:PORT``."""

SNApiPort = Annotated[
    int,
    Field(
        ge=1,
        le=MAX_PORT,
        validation_alias="SN_API_SERVER_PORT",
        description="Port of the SN's API. The default is the SN's own.",
    ),
]
SNApiService = Annotated[
    ServiceAddress | None,
    Field(
        validation_alias="SN_API_SERVICE",
        description="FQDN[:PORT] of the SN's API behind a reverse proxy, instead of its address. The port is 443 "
        "unless one is given.",
    ),
]


def is_injected(name: str, value: str) -> bool:
    """Whether a container runtime has set this variable for another service, so that it is not a setting of ours."""
    if name.endswith("_PORT") and _ADDRESS.fullmatch(value):
        return True
    if name.endswith("_NAME") and _LINK_NAME.fullmatch(value):
        return True
    return _INJECTED.fullmatch(name) is not None


class NodeSettings(BaseSettings):
    """Base of each node's one settings class. Values come from flags, then from the environment."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", populate_by_name=True, env_ignore_empty=True, case_sensitive=True
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Reads only flags and our own variables: otherwise PORT or KEY of some other program would be taken."""
        if isinstance(env_settings, EnvSettingsSource):
            ours = cls.variables()
            env_settings.env_vars = {
                name: value
                for name, value in env_settings.env_vars.items()
                if name in ours and not is_injected(name, value or "")
            }
        return init_settings, env_settings

    @classmethod
    def load(cls, command: str, flags: Mapping[str, Any]) -> Self:
        """Settings from the flags that were given (None: not given) and the environment.

        Raises SettingsError naming the setting, and UnknownSetting for a mistyped variable.
        """
        cls._refuse_unknown_variables()
        given = {name: value for name, value in flags.items() if value is not None}
        try:
            return cls(**given)
        except ValidationError as error:
            first = error.errors()[0]
            name = first.get("ctx", {}).get("setting") or ".".join(str(part) for part in first["loc"]) or command
            problem = str(first["msg"]).removeprefix("Value error, ")
            raise SettingsError(name=name, problem=problem, command=command) from None

    @classmethod
    def variables(cls) -> set[str]:
        """The environment variables this class reads."""
        names: set[str] = set()
        for field in cls.model_fields.values():
            alias = field.validation_alias
            if isinstance(alias, str):
                names.add(alias)
            elif isinstance(alias, AliasChoices):
                names.update(choice for choice in alias.choices if isinstance(choice, str))
        return names

    @classmethod
    def _refuse_unknown_variables(cls) -> None:
        known = cls.variables() | KNOWN_ELSEWHERE
        for name, value in os.environ.items():
            if name.startswith(PREFIXES) and name not in known and not is_injected(name, value):
                nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
                raise UnknownSetting(name=name, nearest=nearest[0] if nearest else "none")


class IdentitySettings(NodeSettings):
    """Of everyone who shows a certificate."""

    cert: Path | None = Field(None, validation_alias="SWARM_ID_CERT", description="Certificate of this node.")
    key: Path | None = Field(None, validation_alias="SWARM_ID_KEY", description="Its private key.")
    key_passphrase_file: Path | None = Field(
        None,
        validation_alias="SWARM_ID_KEY_PASSPHRASE_FILE",
        description="File with the passphrase of the private key, on one line. None by default: the key has none.",
    )
    cacert: Path | None = Field(None, validation_alias="SWARM_ID_CACERT", description="File of the CAs to trust.")
    capath: Path | None = Field(None, validation_alias="SWARM_ID_CAPATH", description="Directory of the CAs to trust.")
    trust: Path | None = Field(
        None,
        validation_alias="SWARM_ID_TRUST",
        description="Trust file: the organizations to trust, with their CAs and what these may issue, instead of "
        "cacert and capath. None by default: then all CAs are equal and may issue anything.",
    )
    log_format: Literal["human", "json"] = Field(
        "human",
        validation_alias="SWARM_LOG_FORMAT",
        description="human or json: lines for people, or one JSON object per line. human by default.",
    )

    @model_validator(mode="after")
    def _one_trust(self) -> Self:
        if self.trust is not None and (self.cacert is not None or self.capath is not None):
            raise refused("trust", "it takes the place of --cacert and --capath: give it, or them")
        return self


class LicensedSettings(IdentitySettings):
    """Of a node that holds a license."""

    socket_path: Path | None = Field(
        None,
        validation_alias="SWARM_SPIFFE_WORKLOAD_API_SOCKET_PATH",
        description="Socket of a SPIFFE Workload API that delivers certificate, key and CAs instead of files, also new "
        "ones while the node runs. CAs from files are trusted too. None by default: files are used.",
    )
    renewed_files: bool = Field(
        False,
        validation_alias="SWARM_ID_RENEWED_FILES",
        description="Whether something replaces this node's key file without a handover from the old key. Others then "
        "know the node by its SPIFFE ID instead of by its key. Off by default: then a name is bound to its key.",
    )
    apls_ip: str = Field(
        "127.0.0.1",
        validation_alias="SWARM_LICENSE_AUTOPASSJ_SERVER_PRIMARY_IP",
        description="Address of the license server. This host by default, as a small swarm runs it there.",
    )
    apls_port: int = Field(
        5814,
        ge=1,
        le=MAX_PORT,
        validation_alias="SWARM_LICENSE_AUTOPASSJ_SERVER_PRIMARY_PORT",
        description="Port of the license server. The default is its own.",
    )
    secondary_apls_ip: str = Field(
        "",
        validation_alias="SWARM_LICENSE_AUTOPASSJ_SERVER_SECONDARY_IP",
        description="Address of the license server that takes over if the first one is gone. None by default.",
    )
    secondary_apls_port: int | None = Field(
        None,
        ge=1,
        le=MAX_PORT,
        validation_alias="SWARM_LICENSE_AUTOPASSJ_SERVER_SECONDARY_PORT",
        description="Its port. By default that of the first.",
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.socket_path is not None and (self.cert is not None or self.key is not None or self.renewed_files):
            problem = (
                "certificate and key come from --socket-path or from files: give no --cert, --key, --renewed-files"
            )
            raise refused("socket_path", problem)
        if self.socket_path is not None and self.trust is not None:
            raise refused("trust", "with --socket-path the Workload API gives the CAs: give no trust file")
        return self

    @property
    def license_servers(self) -> list[str]:
        """Addresses (host:port), the primary one first."""
        first = join_address(self.apls_ip, self.apls_port)
        if not self.secondary_apls_ip:
            return [first]
        return [first, join_address(self.secondary_apls_ip, self.secondary_apls_port or self.apls_port)]


class MemberSettings(LicensedSettings):
    """Of a node that holds a license and that peers reach."""

    host_ip: str = Field(
        "",
        validation_alias="THIS_NODE_IP",
        description="Address at which peers reach this node. Required if no service name is given, as no default would "
        "be right on every host.",
    )

    @property
    def named_by_service(self) -> bool:
        """Whether peers reach this node by service names of a reverse proxy alone."""
        return False

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if not self.host_ip and not self.named_by_service:
            raise refused("host_ip", "give --host-ip, the address by which peers reach this node")
        return self


def refused(setting: str, problem: str) -> PydanticCustomError:
    """What a validator of several settings raises, so that the message names the setting to correct."""
    return PydanticCustomError("setting", "{problem}", {"setting": setting, "problem": problem})
