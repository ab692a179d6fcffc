"""`swarm audit`: the record of a training, read from any SN, and whether model files are what it says."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from services.cli.asking import Whom, asks_an_sn
from services.cli.options import AsJson

DEFAULT_CONTRACT = "defaultbb.cqdb.sml.hpe"
PIPE_WIDTH = 200  # of a table that goes to a file or another program


def add_to(app: typer.Typer) -> None:
    """Registers the command."""
    app.command("audit")(audit)


@asks_an_sn
def audit(
    *,
    contract: Annotated[str, typer.Argument(metavar="CONTRACT", help="Training contract.")] = DEFAULT_CONTRACT,
    as_json: AsJson = False,
    verify: Annotated[
        Path | None,
        typer.Option("--verify", help="Directory whose *.safetensors files are checked against the record."),
    ] = None,
    whom: Whom,
) -> None:
    """Show the record of a training as it stands on the chain, and whether model files are what it says."""
    from services.audit.data import EventFile, json_text, record_data
    from services.audit.models import require_same
    from services.audit.models import verify as verify_models
    from services.audit.reading import read_record, require_sound
    from services.audit.table import record_view

    address, identity = whom.found("audit")
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
