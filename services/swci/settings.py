"""The settings of an SWCI."""

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from services.runtime.addresses import HTTPS_PORT, MAX_PORT, join_address, split_address
from services.runtime.settings import LicensedSettings, ServiceAddress, SNApiPort, SNApiService
from services.swci.contexts import SnContext
from services.swci.session import WaitLimits
from services.swci.usr_dir import ROOT

STARTUP_SCRIPT = "swci-init"
FIRST_CONTEXT = "default"
WEEK_MIN = 7 * 24 * 60


class SWCISettings(LicensedSettings):
    """Addresses are names or IP addresses."""

    usr_dir: Path | None = Field(
        None,
        validation_alias="USR_DIR",
        description="Directory of scripts and task definitions, which commands call /platform/swarm/usr. By default "
        "that directory if it exists, as in a container, otherwise the current one.",
    )
    init_script: str = Field(
        STARTUP_SCRIPT,
        min_length=1,
        validation_alias="SWCI_STARTUP_SCRIPT",
        description="File in the usr-dir whose commands are run first. The default one may be absent; a file that you "
        "name must exist.",
    )
    mode: Literal["CLI", "WEB"] = Field(
        "CLI",
        validation_alias="SWCI_MODE",
        description="CLI: a shell. WEB: the REST API. A shell by default.",
    )
    web_port: int = Field(
        30306,
        ge=0,
        le=MAX_PORT,
        validation_alias="SWCI_WEB_PORT",
        description="Port of the REST API; 0 is any free one. The default is the one that users of such systems know.",
    )
    host: str = Field(
        "0.0.0.0",  # noqa: S104
        validation_alias="SWCI_BIND_HOST",
        description="Address that the REST API listens on. All addresses by default, as programs are on other hosts.",
    )
    run_task_wait_min: float = Field(
        120.0,
        gt=0,
        le=WEEK_MIN,
        validation_alias="SWCI_RUN_TASK_MAX_WAIT_TIME",
        description="Minutes that WAIT FOR TASKRUNNER waits for a task of type RUN_SWARM. Two hours by default, as in "
        "similar systems.",
    )
    generic_task_wait_min: float = Field(
        120.0,
        gt=0,
        le=WEEK_MIN,
        validation_alias="SWCI_GENERIC_TASK_MAX_WAIT_TIME",
        description="The same for tasks of the other types.",
    )
    sn_ip: ServiceAddress | None = Field(
        None,
        validation_alias="SN_NODE_IP",
        description="Address of an SN: sessions begin with the context `default` for it. None by default: CREATE "
        "CONTEXT makes contexts.",
    )
    sn_api_port: SNApiPort = 30304
    sn_api_service: SNApiService = None
    data_dir: Path | None = Field(
        None,
        validation_alias="SWARM_DATA_DIR",
        description="Where the history of the shell is kept. The usr-dir by default.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] | None = Field(
        None,
        validation_alias="SWARM_LOG_LEVEL",
        description="By default WARNING for the shell, to keep its screen free, and INFO for the REST API.",
    )

    @field_validator("mode", mode="before")
    @classmethod
    def _in_any_case(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @field_validator("usr_dir")
    @classmethod
    def _a_directory(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_dir():
            raise ValueError(f"'{value}' is not a directory")
        return value

    @property
    def files(self) -> Path:
        """The host's directory that serves as the usr-dir."""
        if self.usr_dir is not None:
            return self.usr_dir
        documented = Path(ROOT)
        return documented if documented.is_dir() else Path.cwd()

    @property
    def history(self) -> Path:
        return (self.data_dir or self.files) / ".swci-history"

    @property
    def names_init_script(self) -> bool:
        """Whether an init script was named explicitly."""
        return "init_script" in self.model_fields_set

    @property
    def limits(self) -> WaitLimits:
        return WaitLimits(self.run_task_wait_min, self.generic_task_wait_min)

    @property
    def first_context(self) -> SnContext | None:
        """The context that sessions begin with, if any; its SN is not contacted before it is needed."""
        if self.sn_api_service is not None:
            host, port = split_address(self.sn_api_service, HTTPS_PORT)
            address = join_address(host, port)
            return SnContext(FIRST_CONTEXT, host, port, address, address)
        if self.sn_ip is None:
            return None
        host, port = split_address(self.sn_ip, self.sn_api_port)
        return SnContext(FIRST_CONTEXT, host, port, "", join_address(host, port))
