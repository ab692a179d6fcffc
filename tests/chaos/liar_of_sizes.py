"""A peer that lies about how large its parameters are: in words to the SN, in bytes, in the manifest that it serves."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

TOO_BIG = 2**40
ENDLESS = "endless"
PIECE = b" " * 65_536


def become(file: Path, told: Path) -> None:
    """Called in an SL before it starts. ``file`` holds {kind of lie: how}; once there, ``told`` says that it was told.

    Announced and published sizes are told once: the file goes with the word. ``told`` holds the digest that was
    announced.
    """
    from services.sl.round.runner import Runner
    from services.sl.transfer.file_server import FileServer

    def lie(kind: str, *, once: bool) -> Any:
        try:
            how = json.loads(file.read_text())
        except FileNotFoundError:
            return None
        if not isinstance(how, dict) or kind not in how:
            return None
        if kind != "announced":
            told.touch()
        if once:
            file.unlink()
        return how[kind]

    check_in, perform, segments = Runner._check_in, Runner._perform, FileServer._segments

    async def lying_check_in(runner: Any, action: Any) -> None:
        how = lie("announced", once=True)
        if how is not None:
            action = dataclasses.replace(action, model=another(runner._store, action.model, how))
            _write(told, action.model.digest)
        await check_in(runner, action)

    def lying_perform(runner: Any, action: Any) -> None:
        if type(action).__name__ == "Publish" and (how := lie("published", once=True)) is not None:
            model = dataclasses.replace(action.model, size=how)
            action = dataclasses.replace(action, model=model)
        perform(runner, action)

    async def lying_segments(server: Any, request: Any) -> Any:
        how = lie("manifest", once=False)
        if how is None:
            return await segments(server, request)
        return await (endless(request) if how == ENDLESS else described_as(server, request, how))

    Runner._check_in = lying_check_in  # type: ignore[method-assign]
    Runner._perform = lying_perform  # type: ignore[method-assign]
    FileServer._segments = lying_segments  # type: ignore[method-assign]


def another(store: Any, model: Any, how: int) -> Any:
    """A few bytes more or less are really there, under a digest of their own; more than that is only said."""
    if how >= TOO_BIG:
        return dataclasses.replace(model, size=how)
    from services.sl.transfer.store import Stored
    from swarm_callback.digest import SEGMENT_BYTES, combine

    stored = store.get(model.digest)
    data = stored.path.read_bytes()
    data = data[:how] if how < 0 else data + bytes(how)
    body = data[stored.header_size :]
    hashes = [hashlib.sha256(body[at : at + SEGMENT_BYTES]).digest() for at in range(0, len(body), SEGMENT_BYTES)]
    found = combine(bytes.fromhex(model.layout), hashes).hex()
    path = stored.path.with_name(f"{found}.safetensors")
    path.write_bytes(data)
    lied = dataclasses.replace(model, digest=found, size=len(data))
    store._index[found] = Stored(lied, path, stored.header_size, tuple(hashes))
    return lied


def _write(told: Path, digest: str) -> None:
    """Whole, or not there."""
    part = told.with_suffix(".part")
    part.write_text(digest)
    part.rename(told)


async def endless(request: Any) -> Any:
    """A manifest that never ends, as long as somebody reads it."""
    from aiohttp import web

    from tests.pacing import pause

    response = web.StreamResponse()
    await response.prepare(request)
    while not request.transport.is_closing():
        await response.write(PIECE)
        await pause(0.001)  # the liar lives on
    return response


async def described_as(server: Any, request: Any, how: int) -> Any:
    """A manifest of so many bytes more or less."""
    from aiohttp import web

    described = server._found(request).manifest.described()
    return web.json_response({**described, "size": described["size"] + how})
