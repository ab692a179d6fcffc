"""The newest final block, remembered across restarts: after a start, the other SNs have not said anything yet."""

import contextlib
import json
import time
from pathlib import Path

SAVE_EVERY_S = 1.0  # what a crash loses is processed again


class FinalBlock:
    """``number`` and ``hash`` of the block; block 0 is always final. ``remembered``: the newest block that became final
    among several signers, which this node may have shown to others.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._saved_at = 0.0
        self._dirty = False
        self.number, self.hash = 0, ""
        try:
            found = json.loads(path.read_text())
            self.number, self.hash = int(found["number"]), str(found["hash"])
        except (OSError, ValueError, KeyError, TypeError):
            pass  # none yet, or truncated: it is determined again
        self.remembered = self.number

    def move(self, number: int, block_hash: str, *, remember: bool) -> None:
        """``remember``: after a restart, the chain alone would not show that the block is final."""
        if not remember:
            self.save()  # what has been waiting for that, which would be forgotten
        self.number, self.hash, self._dirty = number, block_hash, remember
        if remember:
            self.remembered = max(self.remembered, number)
        if remember and time.monotonic() - self._saved_at > SAVE_EVERY_S:
            self.save()

    def save(self) -> None:
        """A crash or a full disk leaves either the old file or the new one."""
        if not self._dirty:
            return
        draft = self._path.with_suffix(".new")
        with contextlib.suppress(OSError):
            draft.write_text(json.dumps({"number": self.number, "hash": self.hash}))
            draft.replace(self._path)
        self._saved_at, self._dirty = time.monotonic(), False
