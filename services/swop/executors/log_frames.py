"""The log of a container as the engine sends it: frames of stdout and stderr, or the raw bytes of a terminal."""

import struct

_HEADER = struct.Struct(">BxxxL")
_STREAMS = (0, 1, 2)


class LogEnd:
    """Takes a log in pieces and keeps its last bytes, with both streams in order."""

    def __init__(self, limit_bytes: int) -> None:
        self.output = bytearray()
        self._limit_bytes = limit_bytes
        self._pending = bytearray()
        self._missing = 0
        self._framed = True

    def feed(self, piece: bytes) -> None:
        self._pending += piece
        while self._pending:
            if not self._framed:
                self._keep(len(self._pending))
            elif self._missing:
                self._keep(min(self._missing, len(self._pending)))
            elif not self._header():
                return

    def _header(self) -> bool:
        """Reads the next frame's header. False if it has not fully arrived."""
        if len(self._pending) < _HEADER.size:
            return False
        stream, size = _HEADER.unpack_from(self._pending)
        if stream not in _STREAMS or self._pending[1:4] != b"\0\0\0":
            self._framed = False
            return True
        self._missing = size
        del self._pending[: _HEADER.size]
        return True

    def _keep(self, count: int) -> None:
        self.output += self._pending[:count]
        del self._pending[:count]
        del self.output[: -self._limit_bytes]
        self._missing = max(0, self._missing - count)
