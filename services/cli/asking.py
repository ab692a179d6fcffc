"""For commands that ask an SN: which one, and as whom."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from services.identity.identity import Identity

DEFAULT_DIR = Path(".swarm")


def whom_to_ask(command: str, directory: Path | None, asked: dict[str, Any]) -> "tuple[str, Identity]":
    """Address and identity: of the local swarm in ``directory``, unless ``asked`` names an SN."""
    from services.audit.settings import AuditSettings
    from services.identity.renewed_files import IdentityFiles
    from services.local.access import sn_of
    from services.runtime.addresses import join_address

    settings = AuditSettings.load(command, asked)
    if directory is not None or settings.sn_ip is None:
        return sn_of((directory or DEFAULT_DIR).absolute())
    return join_address(settings.sn_ip, settings.sn_api_port), IdentityFiles.of(settings).load()
