"""`swarm chain`: what an operator does with the chain of an SN that does not run."""

import asyncio
import time
from pathlib import Path
from typing import Annotated

import typer

TELL_EVERY_S = 5.0


def add_to(app: typer.Typer) -> None:
    """Registers the commands."""
    commands = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Repair the chain of a stopped SN.")
    commands.callback()(_nothing)
    commands.command("recover")(recover)
    app.add_typer(commands, name="chain")


def _nothing() -> None:
    """Work on the chain of a stopped SN."""


def recover(
    *,
    data_dir: Annotated[
        Path, typer.Option("--data-dir", help="Data directory of a stopped SN of the swarm, or a copy of it.")
    ],
    signers_are_lost: Annotated[
        bool,
        typer.Option(
            "--signers-are-lost", help="Confirm that the SNs that sealed will never come back with their data."
        ),
    ] = False,
) -> None:
    """Found a swarm's chain anew from one SN's copy, with its whole history, where those who sealed it are lost."""
    from services.chain.recovery import recover as recover_chain
    from services.errors import SettingsError
    from services.sn.state import SNState, claimed

    command = "chain recover"
    if not signers_are_lost:
        problem = "say so if they are: an SN that has the old chain cannot come back to the new one with it"
        raise SettingsError(name="--signers-are-lost", problem=problem, command=command)
    if not data_dir.is_dir() or (state := SNState.load(data_dir)) is None or state.chain != "geth":
        problem = f"{data_dir} is no data directory of an SN with a chain on geth"
        raise SettingsError(name="--data-dir", problem=problem, command=command)
    told_at = time.monotonic()

    def told(block: int) -> None:
        nonlocal told_at
        if time.monotonic() - told_at > TELL_EVERY_S:
            told_at = time.monotonic()
            print(f"block {block}", flush=True)

    with claimed(data_dir):
        done = asyncio.run(recover_chain(data_dir.absolute(), state.network, told))
        state.peers, state.joined_at = [], 0
        state.save(data_dir)
    print(f"{done.blocks} blocks are made anew, as they were; {done.account} seals them now.")
    print(f"Start this SN with --sentinel. The chain before is in {done.kept}.")
    print("Every other SN: keep account.key alone of its data directory, and start it with --sentinel-ip.")
