"""A peer that lies: its file server changes a byte of what it sends while a file is there that says so."""

import json
import os
from pathlib import Path
from typing import Any

VARIABLE = "CHAOS_LIE"
TOLD = ".told"


def become() -> None:
    """Called in an SL before it starts. The file holds how many streams it still sends unchanged."""
    from services.sl import file_server

    file = Path(os.environ.pop(VARIABLE))
    honest = file_server._read

    def read(source: Any, count: int) -> bytes:
        data: bytes = honest(source, count)
        if not file.exists():
            return data
        left = int(json.loads(file.read_text()))
        if left > 0:
            file.write_text(str(left - 1))
            return data
        file.with_suffix(TOLD).touch()
        return bytes([*data[:-1], data[-1] ^ 1])

    file_server._read = read
