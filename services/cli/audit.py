"""`swarm audit`: the record of a training, read from any SN, and whether model files are what it says."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from services.cli.asking import whom_to_ask
from services.cli.nodes import CACert, CAPath, Cert, Key, SNPort, Trust

DEFAULT_CONTRACT = "defaultbb.cqdb.sml.hpe"
PIPE_WIDTH = 200  # of a table that goes to a file or another program


def add_to(app: typer.Typer) -> None:
    """Registers the command."""
    app.command("audit")(audit)


def audit(
    *,
    contract: Annotated[str, typer.Argument(metavar="CONTRACT", help="Training contract.")] = DEFAULT_CONTRACT,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    verify: Annotated[
        Path | None, typer.Option("--verify", help="Directory whose *.safetensors files are held against the record.")
    ] = None,
    directory: Annotated[
        Path | None, typer.Option("--dir", help="Directory of a local swarm, instead of --sn-ip. [default: .swarm]")
    ] = None,
    sn_ip: Annotated[str | None, typer.Option("--sn-ip", help="Address of any SN of the swarm.")] = None,
    sn_api_port: SNPort = None,
    cert: Cert = None,
    key: Key = None,
    cacert: CACert = None,
    capath: CAPath = None,
    trust: Trust = None,
) -> None:
    """Show the record of a training as it stands on the chain, and whether model files are what it says."""
    from services.audit.data import EventFile, json_text, record_data
    from services.audit.models import require_same
    from services.audit.models import verify as verify_models
    from services.audit.reading import read_record, require_sound
    from services.audit.table import record_view

    asked = {
        "sn_ip": sn_ip,
        "sn_api_port": sn_api_port,
        "cert": cert,
        "key": key,
        "cacert": cacert,
        "capath": capath,
        "trust": trust,
    }
    address, identity = whom_to_ask("audit", directory, asked)
    with EventFile() as events:
        keep = events.add if as_json else lambda _: None
        record = asyncio.run(read_record(address, identity, contract, keep))
        files = verify_models(record, verify) if verify is not None else []
        if as_json:
            found = {"sn": address, **record_data(record)}
            facts = found if verify is None else {**found, "files": [it.as_data() for it in files]}
            for piece in json_text(facts, events):
                print(piece, end="")
            print()
        else:
            from rich.console import Console

            console = Console()
            (console if console.is_terminal else Console(width=PIPE_WIDTH)).print(record_view(record, files))
    require_sound(record)
    if verify is not None:
        require_same(files, record, verify)
