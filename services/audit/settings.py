"""Settings of `swarm audit`: which SN to ask, and as whom."""

from pydantic import Field

from services.runtime.settings import IdentitySettings, SNApiPort


class AuditSettings(IdentitySettings):
    """Without an SN, the local swarm of a directory is asked, as its administrator."""

    sn_ip: str | None = Field(
        None,
        validation_alias="SN_NODE_IP",
        description="Address of any SN of the swarm. If not given: the SN of the local swarm in --dir.",
    )
    sn_api_port: SNApiPort = 30304
