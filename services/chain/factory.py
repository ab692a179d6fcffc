"""Opens the chain that a node asks for, and decides what `auto` means."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from services.chain.backend import ChainBackend
from services.chain.binary import find_geth
from services.chain.paths import has_embedded_chain, has_geth_chain
from services.runtime import logs as log_setup

Choice = Literal["auto", "geth", "embedded"]
Kind = Literal["geth", "embedded"]


async def open_chain(
    choice: Choice,
    data_dir: Path,
    *,
    genesis: Mapping[str, Any] | None = None,
    has_others: bool = False,
) -> ChainBackend:
    """The chain in ``data_dir``, started; a new one if there is none. Close it when done.

    ``genesis``: of a chain to join. ``has_others``: other SNs share it. Raises GethNotFound, GethFailed, StorageError.
    """
    is_geth = decide(choice, data_dir) == "geth"
    chain = _geth(data_dir, genesis, has_others) if is_geth else _embedded(data_dir)
    try:
        await chain.start()
    except BaseException:
        await chain.close()
        raise
    return chain


def decide(choice: Choice, data_dir: Path) -> Kind:
    """`auto` keeps the chain that the data directory contains; a new one runs on geth if geth is found."""
    log = log_setup.get("chain")
    if choice != "auto":
        return choice
    if has_geth_chain(data_dir):
        log.info("chain: geth, as the data directory holds its chain", data_dir=str(data_dir))
        return "geth"
    if has_embedded_chain(data_dir):
        log.info("chain: embedded, as the data directory holds its chain", data_dir=str(data_dir))
        return "embedded"
    binary = find_geth()
    if binary is None:
        log.info("chain: embedded, as geth is not found; it serves one SN")
        return "embedded"
    log.info("chain: geth, as it is installed", geth=str(binary))
    return "geth"


# Imports inside these functions: each loads libraries that the other does not need, which delays the start.


def _geth(data_dir: Path, genesis: Mapping[str, Any] | None, has_others: bool) -> ChainBackend:
    from services.chain.geth import GethChain  # noqa: PLC0415

    return GethChain(data_dir, genesis=genesis, has_others=has_others)


def _embedded(data_dir: Path) -> ChainBackend:
    from services.chain.embedded import EmbeddedChain  # noqa: PLC0415

    return EmbeddedChain(data_dir)
