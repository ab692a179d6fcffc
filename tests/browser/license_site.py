"""A license server over real HTTPS in a thread of its own, and a day of life for it to show."""

import asyncio
import random
import socket
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import delete, insert, select, update

from services.errors import LicenseError
from services.identity.identity import Identity
from services.license_server import schema
from services.license_server.actor import SYSTEM
from services.license_server.clock import LeaseClock
from services.license_server.database import Database
from services.license_server.lease_allocator import LeaseAllocator
from services.license_server.leases import LeaseHolder
from services.license_server.main import serve
from services.license_server.services import Services
from services.licensing import license_file
from services.licensing.features import FEATURE_OF_ROLE

DEADLINE_S = 30
PASSWORD = "correct horse battery"  # noqa: S105  # of nobody
LONG_S = 3600.0  # the nodes of these tests do not renew
DAY_S = 86_400.0
SEATS = {"SN": 4, "SL": 16, "SWOP": 4, "SWCI": 2}


class Site:
    """``skip`` moves its clock; ``address`` is what a browser is given."""

    def __init__(self, pki: Any, data_dir: Path, files: Any) -> None:
        self._pki, self._data_dir, self._files, self._ahead_s = pki, data_dir, files, 0.0
        clock = LeaseClock(lambda: time.monotonic() + self._ahead_s, max_step_s=0.0)  # leases stand still
        self.services = Services(Database.in_directory(data_dir, clock))
        self.services.allocator = LeaseAllocator(self.services.database, LONG_S)
        self.services.licenses.install_community(SEATS, None)
        self.issuer = Ed25519PrivateKey.generate()
        self.port = 0

    @property
    def address(self) -> str:
        return f"https://localhost:{self.port}"

    def start(self) -> None:
        started = threading.Event()
        listening = socket.create_server(("127.0.0.1", self.port))
        self.port = listening.getsockname()[1]
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(listening, started)), daemon=True)
        self._thread.start()
        assert started.wait(DEADLINE_S), "the license server did not start"

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive(), "the license server did not stop"

    def close(self) -> None:
        self.services.database.close()

    def skip(self, seconds: float) -> None:
        self._ahead_s += seconds

    async def _serve(self, listening: socket.socket, started: threading.Event) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        files = self._files
        self.services.tls.serve(self._data_dir, files.cert, lambda _: None, cacert=files.cacert, capath=None)
        identity = Identity.load(cert=files.cert, key=files.key, cacert=files.cacert)
        with listening:
            await serve(self.services, identity, listening, self._stop, started.set)

    # --- what stands in it ---

    def with_admin(self, name: str = "ada") -> None:
        accounts = self.services.accounts
        accounts.set_up(accounts.setup_secret(), name, PASSWORD, "127.0.0.1")

    def with_user(self, name: str, role: str) -> None:
        self.services.accounts.create(SYSTEM, name, PASSWORD, role)

    def holder(self, name: str, role: str = "sl", address: str = "10.20.0.7") -> LeaseHolder:
        certificate = x509.load_pem_x509_certificate(self._pki.issue(role, name).cert.read_bytes())
        pem = certificate.public_bytes(Encoding.PEM).decode()
        return LeaseHolder(role, name, certificate.fingerprint(hashes.SHA256()).hex(), address, pem)

    def with_node(self, name: str, role: str = "sl", address: str = "10.20.0.7") -> LeaseHolder:
        holder = self.holder(name, role, address)
        self.services.allocator.acquire(holder, FEATURE_OF_ROLE[role])
        return holder

    def license(self, name: str = "consortium-2026", days: int = 365, *, key: Any = None, **seats: int) -> bytes:
        now = datetime.now(UTC).replace(microsecond=0)
        grants = tuple(
            license_file.Grant(feature, count, now - timedelta(days=1), now + timedelta(days=days))
            for feature, count in (seats or {"SN": 8, "SL": 64}).items()
        )
        license = license_file.License(name, "Cardio consortium", "University hospital", now, None, grants)
        return license_file.issue(license, key or self.issuer)

    @property
    def issuer_pem(self) -> bytes:
        return license_file.public_pem(self.issuer.public_key()).encode()

    def with_issuer(self) -> None:
        self.services.licenses.trust(SYSTEM, "Cardio consortium", self.issuer_pem)

    def with_life(self) -> None:
        """Nodes of several hospitals, a month of use, refusals, and everything that can be set."""
        services = self.services
        self.with_issuer()
        services.licenses.install(SYSTEM, self.license(SN=8, SL=64))
        services.licenses.install(SYSTEM, self.license("trial-imaging", 12, SL=8, SWOP=2))
        services.pools.restrict(SYSTEM, "SN", ["hospital-*", "university-*"])
        services.pools.reserve(SYSTEM, "SL", "university-*", 6)
        services.settings.change(SYSTEM, webhook_url="https://alerts.hospital.example/swarm", webhook_secret="a" * 24)
        self.with_user("grace", "operator")
        self.with_user("linus", "viewer")
        self._with_history()
        for site, count in (("university", 5), ("hospital-a", 7), ("hospital-b", 4), ("clinic-north", 2)):
            for number in range(1, count + 1):
                self.with_node(f"{site}-sl-{number}", "sl", f"10.{20 + count}.0.{number}")
        for number in range(1, 4):
            self.with_node(f"hospital-{'abc'[number - 1]}-sn", "sn", f"10.4{number}.0.2")
        for name in ("university-swop", "hospital-a-swop"):
            self.with_node(name, "swop", "10.25.0.9")
        for name, role in (("clinic-south-sn", "sn"), ("laptop-7", "sn")):
            try:
                services.allocator.acquire(self.holder(name, role, "10.99.3.1"), "SN")
            except LicenseError:
                continue
        by_name = {lease.node: lease.id for lease in services.leases.all(SYSTEM)}
        services.leases.revoke(SYSTEM, by_name["clinic-north-sl-2"], "Left the study on Monday")
        services.usage.sample()
        self._set_back(chance=random.Random(3))
        services.tokens.create(SYSTEM, "Monitoring", ["licenses:read", "pools:read", "leases:read", "usage:read"], 90)

    def _set_back(self, chance: random.Random) -> None:
        """As if the nodes had come at different times of the day."""
        with self.services.database.write() as transaction:
            for lease_id in transaction.connection.scalars(select(schema.leases.c.id)).all():
                taken_at = time.time() - chance.uniform(0.3, 9) * 3600
                lease = update(schema.leases).where(schema.leases.c.id == lease_id)
                transaction.write(lease.values(taken_at=taken_at, renewed_at=time.time() - chance.randint(0, 9)))
                seat = update(schema.checkouts).where(schema.checkouts.c.lease == lease_id)
                transaction.write(seat.values(taken_at=taken_at))

    def _with_history(self) -> None:
        """Nodes that work by day more than by night, over the last month."""
        chance, now = random.Random(7), time.time()
        rows: list[dict[str, Any]] = []
        for day in range(1, 33):
            for feature, most in (("SL", 26), ("SN", 3), ("SWOP", 2), ("SWCI", 1)):
                for number in range(chance.randint(most // 2, most)):
                    begin = now - day * DAY_S + chance.gauss(11, 3) * 3600
                    end = begin + abs(chance.gauss(5, 3)) * 3600 + 600
                    if end < now - 300:
                        name = f"hospital-{'abc'[number % 3]}-{feature.lower()}-{number // 3 + 1}"
                        how = chance.choices(["released", "stale", "revoked"], [20, 2, 0.3])[0]
                        rows.append({"node": name, "feature": feature, "taken_at": begin, "ended_at": end, "how": how})
        for number, row in enumerate(sorted(rows, key=lambda row: row["taken_at"])):
            row.update(lease=f"{number:032x}", fingerprint=f"{number:064x}")
        denied = [
            {
                "feature": "SL",
                "node": "hospital-c-sl-9",
                "fingerprint": "ab" * 32,
                "address": "10.23.0.9",
                "code": "no-seat-left",
                "message": "All 16 seats for SL are in use (by hospital-a-sl-1, hospital-a-sl-2 and 14 more). "
                "Stop a node that is not needed, or install a license with more seats.",
                "count": count,
                "at": now - ago_s,
                "last_at": now - ago_s + 40,
            }
            for ago_s, count in ((3.2 * DAY_S, 3), (3.1 * DAY_S, 1), (9 * DAY_S, 2), (0.4 * DAY_S, 2))
        ]
        with self.services.database.write() as transaction:
            transaction.write(insert(schema.checkouts), rows)
            transaction.write(insert(schema.denials), denied)
            samples = [
                {"feature": feature, "at": now - 40 * DAY_S, "used": 0, "capacity": seats}
                for feature, seats in (("SN", 4), ("SL", 16), ("SWOP", 4), ("SWCI", 2))
            ]
            samples += [
                {"feature": feature, "at": now - 6 * DAY_S, "used": 0, "capacity": seats}
                for feature, seats in (("SN", 12), ("SL", 88), ("SWOP", 6))
            ]
            transaction.write(delete(schema.usage_samples))
            transaction.write(insert(schema.usage_samples), samples)
