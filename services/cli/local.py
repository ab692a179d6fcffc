"""Commands for a whole swarm on this machine: `swarm up`, `swarm status`, `swarm down`."""

import asyncio
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.cli.options import DEFAULT_DIR, AsJson
from services.runtime.interrupts import INTERRUPTED

if TYPE_CHECKING:
    from services.local.view import SwarmView

Directory = Annotated[Path, typer.Option("--dir", help="Directory of the swarm's certificates, data and logs.")]


def add_to(app: typer.Typer) -> None:
    """Registers the commands."""
    app.command("up")(up)
    app.command("status")(status)
    app.command("down")(down)


def up(
    *,
    sl: Annotated[int, typer.Option("--sl", help="How many SLs, each with a training program.")],
    sn: Annotated[int, typer.Option("--sn", help="How many SNs; the SLs are distributed among them.")] = 1,
    swop: Annotated[
        int, typer.Option("--swop", help="How many SWOPs; they start the SLs and programs according to tasks.")
    ] = 0,
    image: Annotated[
        list[str] | None,
        typer.Option("--image", help="Image name in tasks for which this Python is used; may be repeated."),
    ] = None,
    chain: Annotated[str, typer.Option("--chain", help="auto, geth or embedded.")] = "auto",
    directory: Directory = DEFAULT_DIR,
    exit_when_done: Annotated[
        bool | None,
        typer.Option("--exit-when-done/--stay", help="End with the training. [default: with CMD]", show_default=False),
    ] = None,
    apls_port: Annotated[int, typer.Option("--apls-port", help="Port of the license server; 0: a free one.")] = 0,
    sn_api_port: Annotated[
        int,
        typer.Option("--sn-api-port", help="API port of the first SN; the others use the next ports. 0: free ports."),
    ] = 0,
    sn_p2p_port: Annotated[
        int,
        typer.Option("--sn-p2p-port", help="Chain port of the first SN; the others use the next ports. 0: free ports."),
    ] = 0,
    sl_fs_port: Annotated[
        int,
        typer.Option(
            "--sl-fs-port", help="File server port of the first SL; the others use the next ports. 0: free ports."
        ),
    ] = 0,
    command: Annotated[
        list[str] | None,
        typer.Argument(metavar="CMD", help="Training program, after --; started once per SL.", show_default=False),
    ] = None,
) -> None:
    """Start a whole swarm as processes on this machine, and CMD once for each SL."""
    from services.local.plan import Ports, SwarmPlan
    from services.local.swarm import leave, stay
    from services.local.swarm import up as run_swarm
    from services.runtime import logs
    from services.runtime.process import run_node
    from services.runtime.ready import ReadySocket

    logs.configure_command()
    ports = Ports(license_server=apls_port, sn_api=sn_api_port, sn_p2p=sn_p2p_port, sl_fs=sl_fs_port)
    plan = SwarmPlan(
        directory.absolute(), sl, chain, tuple(command or ()), ports,
        sn_count=sn, swop_count=swop, images=tuple(image or ("user-env",)),
    )  # fmt: skip
    plan.check()
    leaves = bool(command) if exit_when_done is None else exit_when_done
    finished = False

    async def run(stop: asyncio.Event, ready: ReadySocket) -> None:
        nonlocal finished
        finished = await run_swarm(plan, _view(), stop, leave if leaves else stay, ready)

    exit_code = run_node(run)
    if exit_code == 0 and command and not finished:
        print("Stopped before the training was over.", file=sys.stderr)
        exit_code = INTERRUPTED
    raise typer.Exit(exit_code)


def status(
    directory: Directory = DEFAULT_DIR,
    as_json: AsJson = False,
) -> None:
    """Show which processes of a local swarm run, and how its training stands."""
    from services.local.status import as_text, local_status
    from services.runtime import logs

    logs.configure_command()
    found = asyncio.run(local_status(directory.absolute()))
    print(json.dumps(found) if as_json else as_text(found))


def down(directory: Directory = DEFAULT_DIR) -> None:
    """Stop the local swarm of a directory, in order."""
    from services.local.down import down as stop_swarm

    stopped = stop_swarm(directory.absolute())
    print(f"Stopped {', '.join(stopped)}." if stopped else "Nothing of it was running any more.")


def _view() -> "SwarmView":
    from services.local.view import Lines

    if not sys.stdout.isatty():
        return Lines()
    from services.local.table import LiveTable

    return LiveTable()
