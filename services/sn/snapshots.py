"""Snapshots of trainings, kept beside the chain: an SN that restarts reads only what has happened since.

A snapshot is the view after a block, with the block's hash. If it is not of this chain, or cannot be read, it is
ignored: the history is read from its beginning.
"""

import asyncio
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from services.chain.backend import ChainBackend
from services.chain.events import CheckedIn, LeftOut, TrainingConfig
from services.chain.receipts import Position
from services.errors import SwarmError
from services.rpc.swarm_pb2 import RoundState
from services.runtime import logs
from services.sn.training import Participant, Result, TrainingView

DIRECTORY = "views"

# Of the file's format and of how a view folds events: a snapshot of another version is not read.
VERSION = 1

# An SN reads so many events in a fraction of a second.
EVERY_EVENTS = 5000

SAVE_WITHIN_S = 5.0  # geth may be away when a node is stopped

_log = logs.get("sn")


class Snapshots:
    """The snapshots of all trainings of one SN, one file each in its data directory."""

    def __init__(self, data_dir: Path, chain: ChainBackend) -> None:
        self._directory = data_dir / DIRECTORY
        self._chain = chain

    async def load(self, contract: str, location: str) -> TrainingView | None:
        """The view in the snapshot; None if no snapshot can be used."""
        path = self._path(location)
        try:
            found = json.loads(await asyncio.to_thread(path.read_text))
            view = _decoded(found["view"]) if found["version"] == VERSION else None
            if view is None or (view.contract, view.location) != (contract, location):
                return None
            there = await self._chain.block_hash(view.position.block)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, SwarmError) as error:
            _log.warning("a snapshot cannot be used; reading the whole history", path=str(path), reason=repr(error))
            return None
        return view if there and there == found["block_hash"] else None

    async def save(self, view: TrainingView) -> None:
        """Saves the view as it is now. A failure is logged and the previous file stays: that costs only time."""
        path, encoded = self._path(view.location), asdict(view)
        try:
            async with asyncio.timeout(SAVE_WITHIN_S):
                block_hash = await self._chain.block_hash(view.position.block)
            text = json.dumps({"version": VERSION, "block_hash": block_hash, "view": encoded}, default=bytes.hex)
            await asyncio.to_thread(_write, path, text)
        except (OSError, SwarmError) as error:
            _log.warning("no snapshot was written", path=str(path), reason=str(error))

    def _path(self, location: str) -> Path:
        return self._directory / f"{location}.json"


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    with draft.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def _decoded(found: Mapping[str, Any]) -> TrainingView:
    """Raises ValueError, KeyError, TypeError, AttributeError for what was not written by ``save``."""
    people = {name: Participant(**_octets(who, "fingerprint")) for name, who in found["participants"].items()}
    check_ins = {name: CheckedIn(**_placed(_octets(entry, "digest"))) for name, entry in found["check_ins"].items()}
    return TrainingView(
        **{
            **_octets(found, "layout"),
            "state": RoundState.ValueType(found["state"]),
            "config": None if found["config"] is None else TrainingConfig(**found["config"]),
            "participants": people,
            "check_ins": check_ins,
            "left_out": [LeftOut(**_placed(entry)) for entry in found["left_out"]],
            "last_result": None if found["last_result"] is None else _result(found["last_result"]),
            "progress": None,  # not on the chain, and outdated by now
            "ticks": 0,
            "position": Position(*found["position"]),
        }
    )


def _result(found: Mapping[str, Any]) -> Result:
    left_out = tuple(LeftOut(**_placed(entry)) for entry in found["left_out"])
    return Result(**{**_octets(found, "digest"), "merged": tuple(found["merged"]), "left_out": left_out})


def _placed(found: Mapping[str, Any]) -> dict[str, Any]:
    return {**found, "position": Position(*found["position"])}


def _octets(found: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {**found, name: bytes.fromhex(found[name])}
