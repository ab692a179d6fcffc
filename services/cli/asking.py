"""For commands that ask an SN: which one, and as whom."""

import inspect
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli.options import DEFAULT_DIR, CACert, CAPath, Cert, Key, LocalSwarm, SNPort, Trust

if TYPE_CHECKING:
    from services.identity.identity import Identity


@dataclass(frozen=True, kw_only=True)
class Whom:
    """What the options say. They are those of a command that ``asks_an_sn``."""

    directory: LocalSwarm = None
    sn_ip: Annotated[
        str | None, typer.Option("--sn-ip", help="Address of any SN; to vote, of an SN of your own organization.")
    ] = None
    sn_api_port: SNPort = None
    cert: Cert = None
    key: Key = None
    cacert: CACert = None
    capath: CAPath = None
    trust: Trust = None

    def found(self, command: str) -> "tuple[str, Identity]":
        """Address and identity: of the local swarm in ``directory``, unless an SN is named."""
        from services.audit.settings import AuditSettings
        from services.identity.renewed_files import IdentityFiles
        from services.local.access import sn_of
        from services.runtime import logs
        from services.runtime.addresses import join_address

        logs.configure_command()
        flags = asdict(self)
        directory = flags.pop("directory")
        settings = AuditSettings.load(command, flags)
        if directory is not None or settings.sn_ip is None:
            return sn_of((directory or DEFAULT_DIR).absolute())
        return join_address(settings.sn_ip, settings.sn_api_port), IdentityFiles.of(settings).load()


def asks_an_sn(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the options of ``Whom`` besides its own; what they say reaches it as the argument ``whom``."""
    shared = inspect.signature(Whom).parameters
    own = [parameter for name, parameter in inspect.signature(command).parameters.items() if name != "whom"]

    @wraps(command)
    def with_options(**given: Any) -> None:
        whom = Whom(**{name: given.pop(name) for name in shared})
        command(**given, whom=whom)

    both = [*own, *shared.values()]
    with_options.__signature__ = inspect.Signature(both)  # type: ignore[attr-defined]  # what typer reads
    with_options.__annotations__ = {parameter.name: parameter.annotation for parameter in both}
    return with_options
