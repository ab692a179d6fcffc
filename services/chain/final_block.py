"""The newest block that is final, remembered across restarts: at a start the others have not been heard yet."""

import contextlib
import json
import time
from pathlib import Path

SAVE_EVERY_S = 1.0  # what is forgotten by a crash is looked at again


class FinalBlock:
    """``number`` and ``hash``; block 0 is final for everybody. ``remembered``: the newest one that several signers had
    settled, which this node has perhaps told others of.
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
            pass  # none yet, or cut short: it is found anew
        self.remembered = self.number

    def move(self, number: int, block_hash: str, *, remember: bool) -> None:
        """``remember``: it could not be told from the chain alone after a restart."""
        self.number, self.hash, self._dirty = number, block_hash, remember
        if remember:
            self.remembered = max(self.remembered, number)
        if remember and time.monotonic() - self._saved_at > SAVE_EVERY_S:
            self.save()

    def save(self) -> None:
        """A crash leaves the old file or the new one, and so does a full disk."""
        if not self._dirty:
            return
        draft = self._path.with_suffix(".new")
        with contextlib.suppress(OSError):
            draft.write_text(json.dumps({"number": self.number, "hash": self.hash}))
            draft.replace(self._path)
        self._saved_at, self._dirty = time.monotonic(), False
