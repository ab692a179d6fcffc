"""The settings of a SWOP."""

import os
from pathlib import Path
from typing import Literal

from pydantic import Field

from services.runtime.addresses import HTTPS_PORT, join_address, split_address
from services.runtime.settings import LicensedSettings, SNApiPort, SNApiService


class SwopSettings(LicensedSettings):
    """What the profile says wins over these where both name an SN or a license server."""

    usr_dir: Path = Field(
        Path("/platform/swarm/usr"),
        validation_alias="USR_DIR",
        description="Directory of the profile, and of files that tasks may mount without a policy. The default is "
        "where containers mount it.",
    )
    profile_file_name: str = Field(
        "swop_profile.yaml",
        validation_alias="SWOP_PROFILE",
        description="The profile: a file in that directory.",
    )
    sn_ip: str = Field(
        "127.0.0.1",
        validation_alias="SN_NODE_IP",
        description="Address of this node's SN, if the profile names none. This host by default.",
    )
    sn_api_port: SNApiPort = 30304
    sn_api_service: SNApiService = None
    data_dir: Path = Field(
        Path("/platform/swarm/SMLNODE"),
        validation_alias="SWARM_DATA_DIR",
        description="Where the SWOP keeps its own files. The default is where containers mount their volume.",
    )
    uid: int = Field(
        default_factory=os.getuid,
        ge=0,
        validation_alias="SWOP_UID",
        description="User that runs the programs that the SWOP starts, so that their files belong to whoever started "
        "the SWOP. By default the SWOP's own user.",
    )
    gid: int = Field(
        default_factory=os.getgid,
        ge=0,
        validation_alias="SWOP_GID",
        description="Group of these programs. By default the SWOP's own group.",
    )
    sl_image: str = Field(
        "swarm-learning/sl:latest",
        validation_alias="SWOP_SL_IMAGE",
        description="Image of the SLs that the SWOP starts. The executor PROCESS runs the installed code instead.",
    )
    keep_containers: bool = Field(
        False,
        validation_alias="SWOP_KEEP_CONTAINERS",
        description="Whether finished programs are kept after a reset, for inspection. Not by default: the next task "
        "needs their names and ports.",
    )
    finish_grace_s: float = Field(
        600.0,
        ge=0,
        le=86_400,
        validation_alias="SWOP_FINISH_GRACE_SECONDS",
        description="Seconds for which a reset waits for a program that is still running after its training, as it may "
        "be saving its model.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO",
        validation_alias="SWARM_LOG_LEVEL",
        description="INFO by default: a line for each step of a task.",
    )

    @property
    def sn_address(self) -> str:
        """``host:port`` of the SN if the profile names none."""
        if self.sn_api_service is not None:
            return join_address(*split_address(self.sn_api_service, HTTPS_PORT))
        return join_address(self.sn_ip, self.sn_api_port)
