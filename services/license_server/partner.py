"""Two servers with separate databases: one grants seats, the other follows it and takes over if it is gone.

The active server has a term. At least once a second, the follower asks it for all changes; if it hears nothing for
TAKEOVER_S, it becomes active itself, with the next term. If both are active, the one with the lower term becomes the
follower as soon as it hears of the other. Two servers cut off from each other may both be active; each then grants at
most its capacity. So at most twice the capacity is granted, and only until they hear of each other.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
from sqlalchemy import insert, select, update

from services.errors import BackupUnusable, SwarmError, WrongRole
from services.identity.identity import Identity, PeerIdentity
from services.identity.peers import Expected
from services.license_server import schema
from services.license_server.actor import SYSTEM
from services.license_server.audit_log import record
from services.license_server.backup import HISTORY, STATE, Backup, replace_state, rows_of
from services.license_server.database import Transaction
from services.license_server.server_settings import read_values
from services.license_server.services import Services
from services.license_server.settings import PartnerAddress
from services.runtime import logs

POLL_S = 1.0  # the follower hears from the active server at least this often
TAKEOVER_S = 2.0
RETRY_S = 0.2
HISTORY_EVERY_S = 60.0
CONFIRM_S = 0.5  # how long a new lease waits until the follower knows it
TOKENS_A_TERM = 1_000_000  # so that no fencing token is given in two terms
ROLE = "license"

_log = logs.get("license-server")


class Partner:
    """This server's part in a pair. ``run`` plays it; ``changes`` answers the other server."""

    def __init__(
        self, services: Services, identity: Identity, partner: PartnerAddress, *, standby: bool, copies: Path
    ) -> None:
        self.name = f"{partner.name} at {partner.address}"
        self._services = services
        self._identity = identity
        self._partner = partner
        self._prefers_standby = standby
        self._copies = copies
        self._seen = -1  # the version of the other server's data that this one has
        self._history_at = float("-inf")
        self._audit_from = 0
        self._confirmed, self._heard_at = -1, float("-inf")  # the version that the follower has, and when it last asked
        self._stirred = asyncio.Condition()
        self._session: aiohttp.ClientSession | None = None

    # --- what the other one asks ---

    def admit(self, peer: PeerIdentity) -> None:
        """Raises WrongRole for anybody but the partner: the data includes password hashes."""
        if peer.role != ROLE or peer.name != self._partner.name:
            needed = f"the role {ROLE} and the name {self._partner.name}"
            raise WrongRole(name=peer.name, role=peer.role, action="following this server", needed=needed)

    async def changes(self, seen: int, term: int, history: bool, audit: int) -> dict[str, Any]:
        """The data of this server: at once if it differs from ``seen``, otherwise after a second.

        ``audit``: the first entry of the audit log to send.
        """
        if term and seen >= 0:  # a follower; a server that is active itself only asks for our state
            self._heard_at, self._confirmed = time.monotonic(), seen if term == self._services.term else -1
        async with self._stirred:
            self._stirred.notify_all()
            if self._services.active and term == self._services.term and seen >= 0 and not history:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(POLL_S):
                        await self._stirred.wait_for(lambda: self._services.database.last_version > seen)
        return await asyncio.to_thread(
            self._snapshot, seen if term == self._services.term else -1, term, history, audit
        )

    async def confirm(self) -> None:
        """Returns when the follower, if any, has all that is written now, but after CONFIRM_S at the latest."""
        if time.monotonic() - self._heard_at > 2 * POLL_S:
            return
        version = self._services.database.last_version
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CONFIRM_S), self._stirred:
                await self._stirred.wait_for(lambda: self._confirmed >= version)

    def _snapshot(self, seen: int, term: int, history: bool, audit: int) -> dict[str, Any]:
        told: dict[str, Any] = {"active": self._services.active, "term": self._services.term}
        if not self._services.active:
            return told
        with self._services.database.read() as transaction:
            version = transaction.connection.scalar(
                select(schema.counters.c.value).where(schema.counters.c.name == "changes")
            )
            told["version"] = version
            if (version != seen and term) or history:
                tables = (*STATE, schema.counters, *(HISTORY if history else ()))
                told["rows"] = {table.name: list(rows_of(transaction, table)) for table in tables}
                newer = select(schema.audit).where(schema.audit.c.seq >= audit).order_by(schema.audit.c.seq)
                told["rows"]["audit"] = transaction.rows(newer)
        return told

    # --- what this one does ---

    async def run(self) -> None:
        """Runs until cancelled."""
        loop = asyncio.get_running_loop()
        self._services.database.on_change = partial(_later, loop, self._stir)
        try:
            while True:
                if self._services.active:
                    await self._watch()
                else:
                    await self._follow()
        finally:
            if self._session is not None:
                await self._session.close()

    async def begin(self) -> None:
        """Decides whether this server is active, from its earlier state and the other server's answer."""
        was_active, term = await asyncio.to_thread(self._standing)
        self._services.term, self._services.active = term, False
        other = None
        with contextlib.suppress(aiohttp.ClientError, OSError, SwarmError):
            other = await self._ask(history=False)
        if other is not None and other["active"] and other["term"] >= term:
            _log.info("on standby", active=self._partner.name, term=other["term"])
        elif was_active or (term == 0 and not self._prefers_standby):
            await asyncio.to_thread(self._become_active, "began")
        else:
            _log.info("on standby until the other license server answers", partner=self._partner.name)

    async def _follow(self) -> None:
        """Follows while the other server is active and answers."""
        heard_at = time.monotonic()
        while not self._services.active:
            history = time.monotonic() - self._history_at > HISTORY_EVERY_S
            try:
                told = await self._ask(history=history)
                if told["active"]:
                    await asyncio.to_thread(self._take, told, history)
                    heard_at = time.monotonic()
                elif self._seen < 0 and told["term"] <= self._services.term and not self._prefers_standby:
                    await asyncio.to_thread(self._become_active, "neither was active")
                    return
            except (aiohttp.ClientError, OSError) as error:
                why = str(error) or type(error).__name__
                if self._services.term and time.monotonic() - heard_at > TAKEOVER_S:
                    await asyncio.to_thread(self._become_active, why)
                    return
            except SwarmError as error:
                _log.error("cannot follow", partner=self._partner.name, why=str(error))
            else:
                if told["active"]:
                    continue
            await asyncio.sleep(RETRY_S)

    async def _watch(self) -> None:
        """While active, checks whether the other server is active too and has precedence; then stops being active."""
        await asyncio.sleep(POLL_S)
        with contextlib.suppress(aiohttp.ClientError, OSError, SwarmError):
            other = await self._ask(history=False)
            mine = self._services.term
            if other["active"] and (other["term"] > mine or (other["term"] == mine and self._prefers_standby)):
                await asyncio.to_thread(self._yield, other["term"])

    async def _ask(self, history: bool) -> dict[str, Any]:
        if self._session is None:
            expected = Expected(ROLE, self._partner.name)
            connector = aiohttp.TCPConnector(ssl=self._identity.client_context(expected), keepalive_timeout=POLL_S * 10)
            timeout = aiohttp.ClientTimeout(total=POLL_S * 2, sock_connect=1.0)
            self._session = aiohttp.ClientSession(connector=connector, timeout=timeout)
        seen, term = (self._seen, self._services.term) if not self._services.active else (-1, 0)
        query = {"seen": str(seen), "term": str(term), "history": str(int(history))}
        query["audit"] = str(self._audit_from)
        url = f"https://{self._partner.address}/v1/partner"
        async with self._session.get(url, params=query) as response:
            told: dict[str, Any] = await response.json()
            if response.status != 200:
                raise BackupUnusable(problem=f"{self._partner.name} answers: {told.get('message')}")
            return told

    def _standing(self) -> tuple[bool, int]:
        with self._services.database.read() as transaction:
            term = transaction.connection.scalar(
                select(schema.counters.c.value).where(schema.counters.c.name == "term")
            )
            found = transaction.connection.scalar(select(schema.settings.c.value).where(_ACTIVE))
        return found is not None and bool(json.loads(found)), int(term or 0)

    def _become_active(self, why: str) -> None:
        """Begins a new term. Every lease gets a full lease time, as nodes could not renew meanwhile."""
        with self._services.database.write() as transaction:
            term = transaction.next("term")
            counters = schema.counters
            if term > 1:
                jump = update(counters).where(counters.c.name == "token").values(value=counters.c.value + TOKENS_A_TERM)
                transaction.write(jump)
            _mark(transaction, active=True)
            until = transaction.now + read_values(transaction).lease_s
            transaction.write(update(schema.leases).values(expires=until))
            record(transaction, SYSTEM, "became active", self._identity.name, {"term": term, "why": why})
        self._services.term, self._services.active = term, True
        _log.warning("this license server is active now", term=term, why=why)

    def _yield(self, term: int) -> None:
        """Goes on standby. Saves a copy of the data; nodes with seats from here turn to the other server, if it has
        seats.
        """
        copy = self._copies / f"before-term-{term}.backup.gz"
        with contextlib.suppress(OSError):
            copy.touch(mode=0o600)
            copy.write_bytes(Backup(self._services.database).make(SYSTEM))
        with self._services.database.write() as transaction:
            _mark(transaction, active=False)
        self._services.active, self._seen, self._audit_from = False, -1, 0
        self._history_at = float("-inf")
        _log.warning(
            "the other license server has a higher term; this one is on standby now", term=term, copy=str(copy)
        )

    def _take(self, told: Mapping[str, Any], history: bool) -> None:
        rows = told.get("rows")
        if rows is not None:
            with self._services.database.write() as transaction:
                replace_state(transaction, rows, keep_history=not history)
                with self._services.database.unguarded_audit(transaction):
                    self._audit_from = _replace_audit(transaction, rows["audit"])
                for row in rows["counters"]:
                    if row["name"] != "changes":
                        mine = update(schema.counters).where(schema.counters.c.name == row["name"])
                        transaction.write(mine.values(value=row["value"]))
                _mark(transaction, active=False)
            if history:
                self._history_at = time.monotonic()
        if self._seen < 0 and rows is not None:
            _log.info(
                "following the active license server",
                active=self._partner.name,
                term=told["term"],
                leases=len(rows["leases"]),
            )
        self._seen, self._services.term = told["version"], told["term"]

    def _stir(self) -> None:
        async def notify() -> None:
            async with self._stirred:
                self._stirred.notify_all()

        task = asyncio.ensure_future(notify())
        self._stirring = task  # keeps it from being garbage-collected before it is done


_ACTIVE = schema.settings.c.name == "active"


def _mark(transaction: Transaction, *, active: bool) -> None:
    transaction.write(schema.settings.delete().where(_ACTIVE))
    transaction.write(insert(schema.settings).values(name="active", value=json.dumps(active)))


def _replace_audit(transaction: Transaction, theirs: list[dict[str, Any]]) -> int:
    """Adds new entries and returns the entry to ask from next: the newest, to check that both logs are the same.

    If they are not, the other server's log replaces ours once all of it is here.
    """
    ours = transaction.row(select(schema.audit).order_by(schema.audit.c.seq.desc()).limit(1))
    first = theirs[0]["seq"] if theirs else 0
    if ours and any(entry["hash"] == ours["hash"] for entry in theirs):
        theirs = [entry for entry in theirs if entry["seq"] > ours["seq"]]
    elif first == 1:
        transaction.write(schema.audit.delete())
    else:
        return 0
    if theirs:
        transaction.write(insert(schema.audit), theirs)
    return int(theirs[-1]["seq"] if theirs else ours["seq"] if ours else 0)


def _later(loop: asyncio.AbstractEventLoop, what: Callable[[], None]) -> None:
    loop.call_soon_threadsafe(what)
