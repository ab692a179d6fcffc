"""A backup of everything, consistent even while others write, and its restore into any database.

Gzipped lines: a header with format and revision, one line per row, and at the end the SHA-256 of all lines before.
"""

import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Table, delete, func, insert, select, text, update

from services.errors import BackupUnusable
from services.license_server import schema
from services.license_server.actor import Actor
from services.license_server.audit_log import FIRST, hash_of, record
from services.license_server.database import Database, Transaction
from services.license_server.server_settings import read_values

FORMAT = "swarm-license-backup/1"
MAX_BYTES = 2 << 30  # unpacked
BATCH = 500

# Ordered so that each row comes after those it refers to. Sessions, sign-in locks and setup links are not included.
STATE = (
    schema.issuers,
    schema.licenses,
    schema.grants,
    schema.pools,
    schema.reservations,
    schema.leases,
    schema.revocations,
    schema.expulsions,
    schema.users,
    schema.api_tokens,
    schema.settings,
)
HISTORY = (schema.checkouts, schema.denials, schema.usage_samples)


class Backup:
    def __init__(self, database: Database) -> None:
        self._database = database

    def name(self) -> str:
        """A name for the file."""
        return f"swarm-license-{datetime.now(UTC):%Y%m%d-%H%M%S}.backup.gz"

    def make(self, actor: Actor) -> bytes:
        """The file: a snapshot, taken while nodes go on. It holds password hashes and second factors: keep it safe."""
        actor.require("backup:read")
        with self._database.write() as transaction:
            record(transaction, actor, "backup made")
        out = io.BytesIO()
        digest = hashlib.sha256()
        with self._database.read() as transaction, gzip.GzipFile(fileobj=out, mode="wb", mtime=0) as file:
            for line in _lines(transaction):
                file.write(line)
                digest.update(line)
            file.write(json.dumps({"sha256": digest.hexdigest()}).encode() + b"\n")
        return out.getvalue()

    def restore(self, actor: Actor, file: bytes) -> None:
        """Restores everything in one transaction. Everybody is signed out. Leases get a full lease time.

        The audit log is append-only: the backup's log replaces it only if it continues the log here, or if nobody has
        acted here yet. Raises BackupUnusable; then nothing is changed.
        """
        actor.require("backup:write")
        rows = _read(file)
        with self._database.write() as transaction:
            replace_state(transaction, rows)
            kept = self._restore_audit(transaction, rows.get("audit", []))
            _raise_counters(transaction, rows.get("counters", []))
            record(transaction, actor, "backup restored", "", {"audit": "kept" if kept else "from the backup"})

    def _restore_audit(self, transaction: Transaction, theirs: list[dict[str, Any]]) -> bool:
        """Returns whether the existing log was kept."""
        ours = transaction.rows(select(schema.audit).order_by(schema.audit.c.seq))
        goes_on = len(theirs) >= len(ours) and all(a["hash"] == b["hash"] for a, b in zip(ours, theirs, strict=False))
        if not goes_on and any(entry["kind"] != "system" for entry in ours):
            return True
        with self._database.unguarded_audit(transaction):
            transaction.write(delete(schema.audit))
            _insert(transaction, schema.audit, theirs)
        return False


def replace_state(
    transaction: Transaction, rows: Mapping[str, list[dict[str, Any]]], *, keep_history: bool = False
) -> None:
    """Replaces licenses, leases, users, settings and, unless it is kept, history by ``rows`` (by table)."""
    tables = STATE if keep_history else (*STATE, *HISTORY)
    transaction.write(delete(schema.sessions))
    transaction.write(delete(schema.setup_tokens))
    for table in reversed(tables):
        transaction.write(delete(table))
    for table in tables:
        _insert(transaction, table, rows.get(table.name, []))
    transaction.write(update(schema.leases).values(expires=transaction.now + read_values(transaction).lease_s))
    _continue_sequences(transaction)


def rows_of(transaction: Transaction, table: Table) -> Iterator[dict[str, Any]]:
    order = tuple(table.primary_key.columns)
    for row in transaction.connection.execute(select(table).order_by(*order)).mappings():
        yield dict(row)


def _lines(transaction: Transaction) -> Iterator[bytes]:
    header = {"format": FORMAT, "revision": schema.REVISION, "at": transaction.wall}
    yield json.dumps(header).encode() + b"\n"
    for table in (*STATE, *HISTORY, schema.counters, schema.audit):
        for row in rows_of(transaction, table):
            yield json.dumps({"table": table.name, "row": row}).encode() + b"\n"


def _read(file: bytes) -> dict[str, list[dict[str, Any]]]:
    """The rows by table. Raises BackupUnusable."""
    lines = _unpacked(file).splitlines(keepends=True)
    try:
        header, *rows, last = (json.loads(line) for line in lines)
        said = last["sha256"]
    except (ValueError, KeyError, TypeError):
        raise BackupUnusable(problem="it is not a backup, or its end is missing") from None
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise BackupUnusable(problem=f"its format is not {FORMAT}")
    if header.get("revision") != schema.REVISION:
        problem = f"it is of another release (format {header.get('revision')}, not {schema.REVISION})"
        raise BackupUnusable(problem=problem)
    if hashlib.sha256(b"".join(lines[:-1])).hexdigest() != said:
        raise BackupUnusable(problem="it was changed or damaged")
    found: dict[str, list[dict[str, Any]]] = {}
    known = {table.name: set(table.c.keys()) for table in (*STATE, *HISTORY, schema.counters, schema.audit)}
    for entry in rows:
        name, row = entry.get("table"), entry.get("row")
        if name not in known or not isinstance(row, dict) or set(row) != known[name]:
            raise BackupUnusable(problem=f"a row of {str(name)[:40]} is not one of this release")
        found.setdefault(name, []).append(row)
    _require_chain(found.get("audit", []))
    return found


def _unpacked(file: bytes) -> bytes:
    """Unpacks in pieces, so that a small file that unpacks to a huge one is refused in time."""
    unpacker, out = zlib.decompressobj(wbits=31), bytearray()
    try:
        data = unpacker.decompress(file, 1 << 20)
        while data:
            out += data
            if len(out) > MAX_BYTES:
                raise BackupUnusable(problem="it is too large")
            data = unpacker.decompress(unpacker.unconsumed_tail, 1 << 20)
    except zlib.error:
        raise BackupUnusable(problem="it is not a gzip file, or it is damaged") from None
    if not unpacker.eof:
        raise BackupUnusable(problem="its end is missing")
    return bytes(out)


def _require_chain(entries: Iterable[Mapping[str, Any]]) -> None:
    previous = FIRST
    for number, entry in enumerate(entries, start=1):
        if entry["seq"] != number or entry["previous"] != previous or entry["hash"] != hash_of(entry):
            raise BackupUnusable(problem=f"its audit log does not verify at entry {number}")
        previous = entry["hash"]


def _insert(transaction: Transaction, table: Table, rows: list[dict[str, Any]]) -> None:
    for start in range(0, len(rows), BATCH):
        transaction.write(insert(table), rows[start : start + BATCH])


def _raise_counters(transaction: Transaction, rows: Iterable[Mapping[str, Any]]) -> None:
    """Ensures that no fencing token is given twice, not even by a server that was restored to an earlier state."""
    for row in rows:
        now = transaction.connection.scalar(
            select(schema.counters.c.value).where(schema.counters.c.name == row["name"])
        )
        if now is not None and row["value"] > now:
            where = schema.counters.c.name == row["name"]
            transaction.connection.execute(schema.counters.update().where(where).values(value=row["value"]))


def _continue_sequences(transaction: Transaction) -> None:
    """Sets PostgreSQL's sequences behind the highest restored id: they do not follow rows inserted with an id."""
    if transaction.connection.dialect.name == "sqlite":
        return
    for table in (
        schema.reservations,
        schema.revocations,
        schema.expulsions,
        schema.users,
        schema.checkouts,
        schema.denials,
    ):
        most = transaction.connection.scalar(select(func.max(table.c.id))) or 0
        statement = text("SELECT setval(pg_get_serial_sequence(:name, 'id'), :next, false)")
        transaction.connection.execute(statement, {"name": table.name, "next": most + 1})
