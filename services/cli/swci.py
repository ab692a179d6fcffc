"""`swarm swci`: commands for a swarm, from a shell, a script or a program."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.cli.options import (
    CACert,
    CAPath,
    Cert,
    DataDir,
    Host,
    Key,
    LicenseIP,
    LicensePort,
    LogFormat,
    LogLevel,
    RenewedFiles,
    SecondaryIP,
    SecondaryPort,
    SNPort,
    SocketPath,
    Trust,
)

if TYPE_CHECKING:
    from services.runtime.ready import ReadySocket


def add_to(app: typer.Typer) -> None:
    """Registers the command."""
    app.command("swci")(swci)


def swci(
    *,
    usr_dir: Annotated[
        Path | None, typer.Option("--usr-dir", help="Directory of scripts and tasks; /platform/swarm/usr in commands.")
    ] = None,
    init_script_name: Annotated[
        str | None, typer.Option("--init-script-name", help="File in it whose commands are run first.")
    ] = None,
    sn_ip: Annotated[
        str | None, typer.Option("--sn-ip", help="Address of an SN, for which a context is created.")
    ] = None,
    sn_api_port: SNPort = None,
    sn_api_service: Annotated[
        str | None, typer.Option("--sn-api-service", help="FQDN[:PORT] of its API behind a reverse proxy.")
    ] = None,
    mode: Annotated[str | None, typer.Option("--mode", help="CLI for a shell, WEB for the REST API.")] = None,
    web_port: Annotated[int | None, typer.Option("--web-port", help="Port of the REST API; 30306 by default.")] = None,
    host: Host = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per command.")] = False,
    apls_ip: LicenseIP = None,
    apls_port: LicensePort = None,
    secondary_apls_ip: SecondaryIP = None,
    secondary_apls_port: SecondaryPort = None,
    cert: Cert = None,
    key: Key = None,
    cacert: CACert = None,
    capath: CAPath = None,
    trust: Trust = None,
    socket_path: SocketPath = None,
    renewed_files: RenewedFiles = None,
    data_dir: DataDir = None,
    log_format: LogFormat = None,
    log_level: LogLevel = None,
) -> None:
    """Command a swarm: a shell, an init script, or a REST API for programs."""
    flags = {name: value for name, value in locals().items() if name not in ("as_json", "init_script_name")}
    from services.runtime.process import run_node
    from services.runtime.ready import settings_told_late
    from services.swci.main import main
    from services.swci.settings import SWCISettings

    flags["init_script"] = init_script_name
    settings = SWCISettings.load("swci", flags | settings_told_late())
    exit_code = 0

    async def run(stop: asyncio.Event, ready: "ReadySocket") -> None:
        nonlocal exit_code
        exit_code = await main(settings, stop, ready, as_json=as_json)

    raise typer.Exit(run_node(run) or exit_code)
