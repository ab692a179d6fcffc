"""All functions of a license server, over one database; APIs, browser UI and command line call nothing else."""

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version
from typing import Literal

from services.license_server.accounts import Accounts
from services.license_server.api_tokens import ApiTokens
from services.license_server.audit_log import AuditLog
from services.license_server.backup import Backup
from services.license_server.database import Database
from services.license_server.expulsions import ReportedExpulsions
from services.license_server.lease_admin import Leases
from services.license_server.lease_allocator import LeaseAllocator
from services.license_server.licenses import Licenses
from services.license_server.pools import Pools
from services.license_server.server_settings import ServerSettings
from services.license_server.tls import Tls
from services.license_server.usage import Usage
from services.license_server.webhooks import Webhooks

DISTRIBUTION = "swarm-learning"


@dataclass(frozen=True)
class ServerHealth:
    """``clock_turned_back_s``: how far the system clock is behind the latest time seen."""

    state: Literal["active", "standby"]
    version: str
    since: datetime
    database: str
    clock_turned_back_s: float


class Services:
    """Every method of every part opens its own transaction; all are thread-safe.

    ``active``: whether nodes should ask this server.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self.active = True
        self.term = 0  # of its pair; 0 if it is alone
        self._since = datetime.now(UTC)

    def health(self) -> ServerHealth:
        """Raises StorageError if the database does not answer."""
        self.database.version()
        return ServerHealth(
            "active" if self.active else "standby",
            version(DISTRIBUTION),
            self._since,
            "sqlite" if self.database.is_sqlite else "postgresql",
            self.database.clock_turned_back_s,
        )

    @cached_property
    def allocator(self) -> LeaseAllocator:
        return LeaseAllocator(self.database)

    @cached_property
    def licenses(self) -> Licenses:
        return Licenses(self.database)

    @cached_property
    def pools(self) -> Pools:
        return Pools(self.database)

    @cached_property
    def leases(self) -> Leases:
        return Leases(self.database)

    @cached_property
    def expulsions(self) -> ReportedExpulsions:
        return ReportedExpulsions(self.database)

    @cached_property
    def usage(self) -> Usage:
        return Usage(self.database)

    @cached_property
    def accounts(self) -> Accounts:
        return Accounts(self.database)

    @cached_property
    def tokens(self) -> ApiTokens:
        return ApiTokens(self.database)

    @cached_property
    def audit(self) -> AuditLog:
        return AuditLog(self.database)

    @cached_property
    def settings(self) -> ServerSettings:
        return ServerSettings(self.database)

    @cached_property
    def backup(self) -> Backup:
        return Backup(self.database)

    @cached_property
    def tls(self) -> Tls:
        return Tls(self.database)

    @cached_property
    def webhooks(self) -> Webhooks:
        return Webhooks(self.database)
