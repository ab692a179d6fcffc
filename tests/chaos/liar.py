"""A peer that lies: its file server changes a byte of what it sends while a file is there that says so."""

import json
import os
from pathlib import Path
from typing import Any

VARIABLE = "CHAOS_LIE"
TOLD = ".told"


def become() -> None:
    """Called in an SL before it starts. The file holds how many streams it still sends unchanged."""
    from services.sl import bulk, file_server

    file = Path(os.environ.pop(VARIABLE))
    honest, honest_in_bulk = file_server._read, bulk._read

    def read(source: Any, start: int, stop: int) -> bytes:
        data: bytes = honest(source, start, stop)
        return bytes([*data[:-1], data[-1] ^ 1]) if lies() else data

    def read_in_bulk(source: int, view: memoryview, position: int) -> int:
        count = honest_in_bulk(source, view, position)
        if lies():
            view[count - 1] ^= 1
        return count

    def lies() -> bool:
        if not file.exists():
            return False
        left = int(json.loads(file.read_text()))
        if left > 0:
            file.write_text(str(left - 1))
            return False
        file.with_suffix(TOLD).touch()
        return True

    file_server._read = read
    bulk._read = read_in_bulk
