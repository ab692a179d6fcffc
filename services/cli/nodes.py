"""Commands that are one node in the foreground: `swarm sn`, `swarm sl`, `swarm license-server`."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli.options import (
    BindPort,
    CACert,
    CAPath,
    Cert,
    DataDir,
    Host,
    HostIP,
    Key,
    LicenseIP,
    LicensePort,
    LogFormat,
    LogLevel,
    MetricsHost,
    MetricsPort,
    RenewedFiles,
    SecondaryIP,
    SecondaryPort,
    SNPort,
    SocketPath,
    Trust,
)

if TYPE_CHECKING:
    from services.swop.approvals import Approvals

REASON_CHARACTERS = 400


def add_to(app: typer.Typer) -> None:
    """Registers the commands."""
    app.command("license-server")(license_server)
    app.command("sn")(sn)
    app.command("sl")(sl)
    operators = typer.Typer(rich_markup_mode=None)
    operators.callback(invoke_without_command=True)(swop)
    operators.command("approve")(approve)
    operators.command("refuse")(refuse)
    app.add_typer(operators, name="swop")


def license_server(
    *,
    data_dir: DataDir = None,
    port: Annotated[int | None, typer.Option("--port", help="Port to listen on; 0 is any free one.")] = None,
    host: Host = None,
    cert: Cert = None,
    key: Key = None,
    cacert: CACert = None,
    capath: CAPath = None,
    trust: Trust = None,
    seats: Annotated[str | None, typer.Option("--seats", help="Seats of the license, such as SN=1,SL=2.")] = None,
    database: Annotated[
        str | None, typer.Option("--database", help="URL of a database instead of a file, such as postgresql://...")
    ] = None,
    partner: Annotated[str | None, typer.Option("--partner", help="The other one of a pair, NAME@HOST:PORT.")] = None,
    standby: Annotated[bool | None, typer.Option("--standby", help="Follow the partner, and take over.")] = None,
    log_format: LogFormat = None,
    log_level: LogLevel = None,
) -> None:
    """Run a license server: it lends every node the license it needs."""
    flags = _given(locals())
    from services.license_server.main import main
    from services.license_server.settings import LicenseServerSettings

    settings = LicenseServerSettings.load("license-server", flags | _told_late())
    _run(main, settings)


def sn(
    *,
    sentinel: Annotated[bool | None, typer.Option("--sentinel", help="Be the first SN: create the chain.")] = None,
    found_with: Annotated[
        str | None,
        typer.Option(
            "--found-with",
            help="Organizations with which the sentinel begins: own, or trust-file for all in that file.",
        ),
    ] = None,
    sentinel_ip: Annotated[str | None, typer.Option("--sentinel-ip", help="HOST[:PORT] of an SN to join.")] = None,
    sentinel_api_port: Annotated[
        int | None, typer.Option("--sentinel-api-port", help="Its API port; 30304 by default.")
    ] = None,
    sentinel_api_service: Annotated[
        str | None, typer.Option("--sentinel-api-service", help="FQDN[:PORT] of its API behind a reverse proxy.")
    ] = None,
    host_ip: HostIP = None,
    host: Host = None,
    sn_api_port: SNPort = None,
    bind_port: BindPort = None,
    sn_api_service: Annotated[
        str | None, typer.Option("--sn-api-service", help="FQDN[:PORT] of this API behind a reverse proxy.")
    ] = None,
    sn_p2p_port: Annotated[int | None, typer.Option("--sn-p2p-port", help="Port of the chain between SNs.")] = None,
    p2p_bind_port: Annotated[
        int | None, typer.Option("--p2p-bind-port", help="Port to listen on for the chain, if it differs.")
    ] = None,
    sn_p2p_service: Annotated[
        str | None, typer.Option("--sn-p2p-service", help="FQDN[:PORT] at which other SNs reach the chain.")
    ] = None,
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
    chain: Annotated[str | None, typer.Option("--chain", help="auto, geth or embedded.")] = None,
    data_dir: DataDir = None,
    metrics_port: MetricsPort = None,
    metrics_host: MetricsHost = None,
    log_format: LogFormat = None,
    log_level: LogLevel = None,
) -> None:
    """Run an SN: it holds the chain and coordinates the rounds."""
    flags = _given(locals())
    with _chain_libraries():
        from services.sn.main import main
    from services.sn.settings import SNSettings

    settings = SNSettings.load("sn", flags | _told_late())
    _run(main, settings)


def sl(
    *,
    slot: Annotated[
        str | None, typer.Option("--slot", help="If several SLs share a certificate: the slot of this one.")
    ] = None,
    host_ip: HostIP = None,
    host: Host = None,
    sn_ip: Annotated[str | None, typer.Option("--sn-ip", help="Address of the SN.")] = None,
    sn_api_port: SNPort = None,
    sn_api_service: Annotated[
        str | None, typer.Option("--sn-api-service", help="FQDN[:PORT] of the SN's API behind a reverse proxy.")
    ] = None,
    sl_fs_port: Annotated[int | None, typer.Option("--sl-fs-port", help="Port of the file server.")] = None,
    bind_port: BindPort = None,
    sl_fs_service: Annotated[
        str | None, typer.Option("--sl-fs-service", help="FQDN[:PORT] of this node behind a reverse proxy.")
    ] = None,
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
    metrics_port: MetricsPort = None,
    metrics_host: MetricsHost = None,
    log_format: LogFormat = None,
    log_level: LogLevel = None,
) -> None:
    """Run an SL: the sidecar of one training program."""
    flags = _given(locals())
    from services.sl.main import main
    from services.sl.settings import SLSettings

    settings = SLSettings.load("sl", flags | _told_late())
    _run(main, settings)


def swop(
    *,
    context: typer.Context,
    usr_dir: Annotated[Path | None, typer.Option("--usr-dir", help="Directory of the profile.")] = None,
    profile_file_name: Annotated[
        str | None, typer.Option("--profile-file-name", help="The profile, a file in that directory.")
    ] = None,
    sn_ip: Annotated[str | None, typer.Option("--sn-ip", help="Address of the SN; the profile wins.")] = None,
    sn_api_port: SNPort = None,
    sn_api_service: Annotated[
        str | None, typer.Option("--sn-api-service", help="FQDN[:PORT] of the SN's API behind a reverse proxy.")
    ] = None,
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
    swop_uid: Annotated[int | None, typer.Option("--swop-uid", help="User of the programs that it starts.")] = None,
    swop_gid: Annotated[int | None, typer.Option("--swop-gid", help="Their group.")] = None,
    keep_containers: Annotated[
        bool | None, typer.Option("--keep-containers", help="Keep ended programs, for inspection.")
    ] = None,
    log_format: LogFormat = None,
    log_level: LogLevel = None,
) -> None:
    """Run a SWOP: it carries out tasks on this host, as far as the owner of the host allows."""
    flags = _given(locals())
    if flags.pop("context").invoked_subcommand is not None:
        return
    for name in ("uid", "gid"):
        if f"swop_{name}" in flags:
            flags[name] = flags.pop(f"swop_{name}")
    with _chain_libraries():
        from services.swop.main import main
    from services.swop.settings import SwopSettings

    settings = SwopSettings.load("swop", flags | _told_late())
    _run(main, settings)


def approve(
    content_hash: Annotated[
        str, typer.Argument(help="Beginning of the digest that is shown above a task.", metavar="[HASH]")
    ] = "",
    data_dir: DataDir = None,
) -> None:
    """Show the tasks that wait for the owner of this host; with a HASH, let that one run."""
    from services.runtime import escaping

    approvals = _approvals("swop approve", data_dir)
    if content_hash:
        print(f"Approved: {escaping.replaced(approvals.approve(content_hash)['task'])}")
        return
    waiting = approvals.waiting()
    for known, description in waiting.items():
        print(f"{known[:16]}\n{escaping.as_json(description, indent=1)}\n")
    print(f"{len(waiting)} tasks wait; `swarm swop approve HASH` lets one run, `swarm swop refuse HASH` does not.")


def refuse(
    content_hash: Annotated[
        str, typer.Argument(help="Beginning of the digest that is shown above a task.", metavar="HASH")
    ],
    reason: Annotated[
        str, typer.Option("--reason", help="For those who assigned it; recorded on the chain for ever.")
    ] = "",
    data_dir: DataDir = None,
) -> None:
    """Refuse a task that waits for the owner of this host, or that was approved and does not run yet."""
    from services.runtime import escaping

    approvals = _approvals("swop refuse", data_dir)
    said = escaping.replaced(" ".join(reason.split()))[:REASON_CHARACTERS]
    print(f"Refused: {escaping.replaced(approvals.refuse(content_hash, said)['task'])}")


def _approvals(command: str, data_dir: Path | None) -> "Approvals":
    from services.swop.approvals import Approvals
    from services.swop.main import APPROVALS
    from services.swop.settings import SwopSettings

    settings = SwopSettings.load(command, {"data_dir": data_dir})
    return Approvals(settings.data_dir / APPROVALS)


def _given(flags: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in flags.items() if value is not None}


def _told_late() -> dict[str, Any]:
    """Called when all code is loaded: a starter may hold the node back until then."""
    from services.runtime.ready import settings_told_late

    return settings_told_late()


@contextmanager
def _chain_libraries() -> Iterator[None]:
    """Around imports of the chain, which an installation may be without."""
    from services.errors import ChainLibraryMissing

    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").startswith(("services", "contracts")):
            raise
        raise ChainLibraryMissing(library=error.name) from None


def _run(main: Any, settings: Any) -> None:
    from services.runtime.process import run_node

    raise typer.Exit(run_node(lambda stop, ready: main(settings, stop, ready)))
