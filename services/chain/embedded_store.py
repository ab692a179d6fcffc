"""Storage of the embedded chain: one SQLite file, one database transaction per block."""

import json
import sqlite3
from collections.abc import Iterable
from pathlib import Path

from eth.db.backends.base import BaseDB

from services.chain.receipts import Log, Position
from services.errors import StorageError

CACHED_ENTRIES = 100_000

SCHEMA = """
CREATE TABLE IF NOT EXISTS entries (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS logs (
    address TEXT, block INTEGER, log_index INTEGER, topics TEXT, data BLOB, tx TEXT,
    PRIMARY KEY (address, block, log_index)
) WITHOUT ROWID;
"""


class EmbeddedStore(BaseDB):
    """The key-value store that py-evm needs, and the logs of all blocks. For one thread.

    Writes since the last ``commit`` are only in memory: after a crash, the chain is as it was after its last whole
    block. ``path`` None keeps everything in memory.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._cache: dict[bytes, bytes] = {}
        self._unwritten: dict[bytes, bytes | None] = {}
        try:
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._sql = sqlite3.connect(path or ":memory:")
            self._sql.execute("PRAGMA journal_mode = WAL")
            self._sql.execute("PRAGMA synchronous = FULL")
            self._sql.executescript(SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise StorageError(path=path, problem=str(error)) from None

    # --- py-evm's side ------------------------------------------------------------------------------

    def __getitem__(self, key: bytes) -> bytes:
        if key in self._unwritten:
            value = self._unwritten[key]
            if value is None:
                raise KeyError(key)
            return value
        if key not in self._cache:
            row = self._sql.execute("SELECT value FROM entries WHERE key = ?", (key,)).fetchone()
            if row is None:
                raise KeyError(key)
            self._cache[key] = row[0]
        return self._cache[key]

    def __setitem__(self, key: bytes, value: bytes) -> None:
        self._unwritten[key] = value

    def __delitem__(self, key: bytes) -> None:
        self[key]
        self._unwritten[key] = None

    def _exists(self, key: bytes) -> bool:
        try:
            self[key]
        except KeyError:
            return False
        return True

    # --- ours ---------------------------------------------------------------------------------------

    def commit(self, logs: Iterable[Log]) -> None:
        """Makes a block's entries and logs durable together. If that fails, forgets them and raises StorageError."""
        writes = [(key, value) for key, value in self._unwritten.items() if value is not None]
        deletes = [(key,) for key, value in self._unwritten.items() if value is None]
        self._unwritten = {}
        try:
            with self._sql:
                self._sql.executemany("INSERT OR REPLACE INTO entries VALUES (?, ?)", writes)
                self._sql.executemany("DELETE FROM entries WHERE key = ?", deletes)
                self._sql.executemany("INSERT OR REPLACE INTO logs VALUES (?, ?, ?, ?, ?, ?)", map(_row, logs))
        except sqlite3.Error as error:
            raise StorageError(path=self._path, problem=str(error)) from None
        if len(self._cache) > CACHED_ENTRIES:
            self._cache.clear()
        self._cache.update(writes)
        for (key,) in deletes:
            self._cache.pop(key, None)

    def logs(self, address: str, after: Position, to_block: int, count: int) -> list[Log]:
        """Up to ``count`` logs of a contract after a place on the chain and up to a block, in order."""
        rows = self._sql.execute(
            "SELECT * FROM logs WHERE address = ? AND (block, log_index) > (?, ?) AND block <= ?"
            " ORDER BY block, log_index LIMIT ?",
            (address, *after, to_block, count),
        )
        return [_log(row) for row in rows]

    def close(self) -> None:
        self._sql.close()


def _row(log: Log) -> tuple[str, int, int, str, bytes, str]:
    topics = json.dumps([topic.hex() for topic in log.topics])
    return (log.address, log.position.block, log.position.log_index, topics, log.data, log.transaction)


def _log(row: tuple[str, int, int, str, bytes, str]) -> Log:
    emitter, block, index, topics, data, transaction = row
    return Log(emitter, tuple(map(bytes.fromhex, json.loads(topics))), data, Position(block, index), transaction)
