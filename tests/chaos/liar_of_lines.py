"""A peer that lies on the line of a shared merge, or whose line breaks: what it says to its leader, or as a leader."""

import asyncio
import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

LINE = "line"

BREAKS = "breaks once its segments are served"
SILENT = "serves and never says so"
ACCUSES = "says of all others that their values are not finite"
UNUSABLE = "says of another that its parameters cannot be used"
FALSE_HASHES = "tells other hashes than those of what it serves"

# How long a word is held back before the line breaks: segments of a few MB are served by then.
SERVED_S = 0.3

HASH = "ab" * 32

# What stands in a field instead, by the kind of message. The first ones of a merger, the others of a leader.
ODD_ANSWERS: Mapping[str, list[dict[str, Any]]] = {
    "MergedSegments": [
        {"hashes": [5]}, {"hashes": ["00"]}, {"hashes": None}, {"start": 2**70}, {"start": 10**6}, {"start": -1},
        {"attempt": "1"}, {"attempt": 7}, {"more": {}}, {"kind": "Merged or not"}, {"kind": "Serves"},
    ],
}  # fmt: skip
ODD_ORDERS: Mapping[str, list[dict[str, Any]]] = {
    "Serves": [{"hashes": [5]}, {"start": 10**6}, {"by": 7}, {"by": "nobody"}],
    "Deal": [{"runs": [[0, 10**12]]}, {"runs": [[5, 2]]}, {"runs": "all"}],
    "Settled": [{"shares": ["no number"]}, {"shares": ["0x1p+0"] * 9}],
    "BeginAttempt": [{"names": ["nobody"]}, {"names": 5}, {"attempt": -1}],
}


def become(file: Path, told: Path) -> None:
    """Called in an SL before it starts. ``file`` holds {"line": how}, where ``how`` is one of the lies above, or
    [kind of message, {field: what stands there}], which is said once; ``told`` is there once it was told.
    """
    from services.sl.sharding import leader, messages
    from services.sl.sharding.follower import ShardFollower
    from tests.pacing import pause

    encode = messages.encode

    def how() -> Any:
        try:
            said = json.loads(file.read_text())
        except FileNotFoundError:
            return None
        return said.get(LINE) if isinstance(said, dict) else None

    def tell(*, once: bool) -> None:
        told.touch()
        if once:
            file.unlink(missing_ok=True)

    def odd(message: Any) -> str:
        """The message, or once what stands in the file instead."""
        text, lie = encode(message), how()
        if not isinstance(lie, list) or lie[0] != type(message).__name__:
            return text
        tell(once=True)
        return json.dumps({**json.loads(text), **lie[1]})

    async def answer(following: Any, answers: "asyncio.Queue[Any]", line: Any) -> None:
        """As an honest node's, until a lie is in the file."""
        view = following._view()
        others = [entry.name for entry in view.check_ins if entry.name != following._place.name]
        with contextlib.suppress(ConnectionError):
            while True:
                message = await answers.get()
                lie, merged = how(), isinstance(message, messages.MergedSegments)
                if lie == BREAKS and merged:
                    tell(once=True)
                    await pause(SERVED_S)
                    return
                if isinstance(lie, str) and merged:
                    tell(once=False)
                    for said in _instead(lie, message, others):
                        await line.send_str(encode(said))
                else:
                    await line.send_str(odd(message))

    ShardFollower._answer = answer  # type: ignore[method-assign]
    leader.encode = odd


def _instead(lie: str, merged: Any, others: list[str]) -> list[Any]:
    from services.sl.sharding import messages

    if lie == SILENT:
        return [messages.Moves(1, True)]
    if lie == ACCUSES:
        return [messages.FoundNonFinite(merged.attempt, name, merged.start) for name in others]
    if lie == UNUSABLE:
        return [messages.Unusable(others[0], "they are cut short", merged.start)]
    return [messages.MergedSegments(merged.attempt, merged.start, (HASH,) * len(merged.hashes))]
