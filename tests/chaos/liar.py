"""A peer that lies while a file is there that says so: its file server changes a byte of what it sends.

For other lies see tests.chaos.liar_of_sizes, liar_of_lines and liar_of_results.
"""

import json
import os
from pathlib import Path
from typing import Any

from tests.chaos import liar_of_lines, liar_of_results, liar_of_sizes

VARIABLE = "CHAOS_LIE"
TOLD = ".told"


def become() -> None:
    """Called in an SL before it starts. The file holds how many streams it still sends unchanged, or another lie."""
    from services.sl.transfer import bulk, file_server

    file = Path(os.environ.pop(VARIABLE))
    liar_of_sizes.become(file, file.with_suffix(TOLD))
    liar_of_lines.become(file, file.with_suffix(TOLD))
    liar_of_results.become(file, file.with_suffix(TOLD))
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
        try:
            left = json.loads(file.read_text())
        except FileNotFoundError:
            return False
        if not isinstance(left, int):
            return False
        if left > 0:
            file.write_text(str(left - 1))
            return False
        file.with_suffix(TOLD).touch()
        return True

    file_server._read = read
    bulk._read = read_in_bulk
