"""Reads a training's events from geth itself, past the SN: what the SN's record is compared with."""

import os
from pathlib import Path
from typing import Any

from services.chain.abi import checksummed
from services.chain.events import training_event
from services.chain.ipc import IpcConnection
from services.chain.receipts import Log, Position
from services.sn.record import entry
from tests.chaos.history import Event


async def signers_of(geth_pid: int) -> list[str]:
    """Who may seal the next block, by the newest one."""
    return sorted(await _ask(geth_pid, "clique_getSigners", "latest"))


async def events_on_chain(geth_pid: int, location: str) -> list[Event]:
    """All events of the contract at ``location``, in the order of the chain."""
    rows = await _ask(geth_pid, "eth_getLogs", {"address": location, "fromBlock": "0x0", "toBlock": "latest"})
    logs = [
        Log(
            checksummed(row["address"]),
            tuple(bytes.fromhex(topic[2:]) for topic in row["topics"]),
            bytes.fromhex(row["data"][2:]),
            Position(int(row["blockNumber"], 16), int(row["logIndex"], 16)),
            row["transactionHash"],
        )
        for row in rows
    ]
    return [Event.of(entry(training_event(log))) for log in logs]


async def _ask(geth_pid: int, method: str, *parameters: Any) -> Any:
    connection = await IpcConnection.open(_socket_of(geth_pid), lambda _: None)
    try:
        return await connection.request(method, *parameters)
    finally:
        await connection.close()


def _socket_of(pid: int) -> Path:
    arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return Path(os.fsdecode(arguments[arguments.index(b"--ipcpath") + 1]))
