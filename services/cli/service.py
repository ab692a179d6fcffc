"""`swarm install-service`: a node as a service of systemd."""

from pathlib import Path
from typing import Annotated

import typer

NODES = ("sn", "swop", "license-server")


def add_to(app: typer.Typer) -> None:
    """Registers the command."""
    app.command("install-service")(install_service)


def install_service(
    node: Annotated[str, typer.Argument(metavar="NODE", help=f"One of {', '.join(NODES)}.")],
    *,
    settings: Annotated[Path, typer.Option("--settings", help="File of its variables, NAME=VALUE in each line.")],
    user: Annotated[str, typer.Option("--user", help="Who runs it. [default: a user that systemd makes]")] = "",
    docker: Annotated[bool, typer.Option("--docker", help="Let it use Docker, as a SWOP does.")] = False,
    root: Annotated[Path, typer.Option("--root", help="Root of the file system to write to.")] = Path("/"),
) -> None:
    """Write a hardened unit for a node that runs without containers, and is started again when it fails."""
    from services.errors import SettingsError
    from services.license_server.settings import LicenseServerSettings
    from services.sn.settings import SNSettings
    from services.swop.settings import SwopSettings
    from services.units.installing import COMMAND, UnitKind, install

    kinds = (
        UnitKind("sn", "sn", "SN", SNSettings, "SWARM_DATA_DIR"),
        UnitKind("swop", "swop", "SWOP", SwopSettings, "SWARM_DATA_DIR", starts_programs=True),
        UnitKind("license-server", "license", "license server", LicenseServerSettings, "SWARM_LICENSE_DATA_DIR"),
    )
    kind = next((kind for kind in kinds if kind.command == node), None)
    if kind is None:
        raise SettingsError(name="NODE", problem=f"'{node}' is none of {', '.join(NODES)}", command=COMMAND)
    done = install(kind, settings, user=user, docker=docker, root=root)
    print(f"{done.unit} and {done.settings} are written; data will be in {done.data}.")
    print(f"Start it: systemctl daemon-reload && systemctl enable --now {done.service}")
