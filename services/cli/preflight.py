"""`swarm preflight`: looks at this host before a node runs on it."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from services.cli.options import (
    AsJson,
    CACert,
    CAPath,
    Cert,
    HostIP,
    Key,
    LicenseIP,
    LicensePort,
    SecondaryIP,
    SecondaryPort,
    SocketPath,
    Trust,
)

PIPE_WIDTH = 200  # of a table that goes to a file or another program


def add_to(app: typer.Typer) -> None:
    """Registers the command."""
    app.command("preflight")(preflight)


def preflight(
    *,
    role: Annotated[str | None, typer.Option("--role", help="Role that the certificate must have.")] = None,
    cert: Cert = None,
    key: Key = None,
    cacert: CACert = None,
    capath: CAPath = None,
    trust: Trust = None,
    socket_path: SocketPath = None,
    host_ip: HostIP = None,
    port: Annotated[int | None, typer.Option("--port", help="Port at which they do. [default: by the role]")] = None,
    bind_port: Annotated[int | None, typer.Option("--bind-port", help="Port to listen on, if it differs.")] = None,
    sn_ip: Annotated[str | None, typer.Option("--sn-ip", help="HOST[:PORT] of any SN; it knows all nodes.")] = None,
    sn_api_port: Annotated[int | None, typer.Option("--sn-api-port", help="Port of its API; 30304 by default.")] = None,
    peer: Annotated[
        list[str] | None, typer.Option("--peer", help="ROLE@HOST:PORT or p2p@HOST:PORT to check too; may be repeated.")
    ] = None,
    apls_ip: LicenseIP = None,
    apls_port: LicensePort = None,
    secondary_apls_ip: SecondaryIP = None,
    secondary_apls_port: SecondaryPort = None,
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help="Directory in which the node will keep its data.")
    ] = None,
    engine: Annotated[str | None, typer.Option("--engine", help="docker, podman, none or auto.")] = None,
    gpu: Annotated[bool | None, typer.Option("--gpu", help="Training needs a GPU here.")] = None,
    min_free_gb: Annotated[
        float | None, typer.Option("--min-free-gb", help="Free disk space that is required.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Look at this host before a node runs on it: what would fail, and what to do about it."""
    flags = {name: value for name, value in locals().items() if name not in ("role", "as_json")}
    flags["peers"] = flags.pop("peer") or None
    from rich.console import Console

    from services.errors import HostNotReady, SettingsError
    from services.identity.spiffe import ROLES
    from services.preflight import host, identity, network
    from services.preflight.report import as_data, as_table, failed
    from services.preflight.settings import PreflightSettings
    from services.runtime import escaping, logs

    logs.configure_command()
    settings = PreflightSettings.load("preflight", flags)
    if role is not None and role not in ROLES:
        problem = f"'{role}' is not a role (one of {', '.join(ROLES)})"
        raise SettingsError(name="--role", problem=problem, command="preflight")
    who, finding = identity.load(settings, role)
    findings, peers = [finding], list(network.peers_of(settings))
    if who is not None:
        findings += identity.look(settings, who)
        said, peers = asyncio.run(network.look(settings, who))
        findings += said
    findings += host.look(settings, role or (who.role if who else ""), network.hosts_of(settings, peers))
    if as_json:
        print(escaping.as_json(as_data(findings), indent=1))
    else:
        console = Console()
        Console(width=max(console.width, PIPE_WIDTH) if not console.is_terminal else None).print(as_table(findings))
        print(f"{failed(findings)} of {len(findings)} checks failed.")
    if failed(findings):
        raise typer.Exit(HostNotReady.exit_code)
