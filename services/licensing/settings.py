"""Settings of `swarm license`: which license server to ask, and as whom."""

from pydantic import Field, SecretStr, field_validator

from services.runtime.settings import IdentitySettings

DEFAULT_PORT = 5814


class LicenseAdminSettings(IdentitySettings):
    """Without a server, that of the local swarm of a directory is asked, as its administrator."""

    server: str = Field(
        "",
        validation_alias="SWARM_LICENSE_SERVER",
        description="HOST or HOST:PORT of the license server. If not given: that of the local swarm in --dir.",
    )
    token: SecretStr = Field(
        SecretStr(""),
        validation_alias="SWARM_LICENSE_TOKEN",
        description="An API token. If not given, an administrator's certificate is used. There is no flag for it, as "
        "other users of the machine can see flags.",
    )

    @field_validator("server")
    @classmethod
    def _with_port(cls, value: str) -> str:
        value = value.removeprefix("https://").rstrip("/")
        if not value or value.rpartition(":")[2].isdecimal():
            return value
        return f"{value}:{DEFAULT_PORT}"
