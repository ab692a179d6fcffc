"""The tables of a license server. Times at which something happened are seconds since 1970 (UTC)."""

from sqlalchemy import (
    DDL,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
    event,
)

# The newest migration in `migrations/versions`; a test compares the two.
REVISION = "0006"

metadata = MetaData()

version = Table(
    "alembic_version",
    metadata,
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)

# --- what may be used ---------------------------------------------------------------------------------------------

issuers = Table(
    "issuers",
    metadata,
    Column("key_id", String(64), primary_key=True),  # hex SHA-256 of the raw public key
    Column("name", Text, nullable=False),
    Column("public_key", Text, nullable=False),  # PEM
    Column("added_at", Double, nullable=False),
    Column("added_by", Text, nullable=False),
)

licenses = Table(
    "licenses",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("issuer", Text, nullable=False),
    Column("key_id", String(64), nullable=False),  # '' for the built-in community license
    Column("licensee", Text, nullable=False),
    Column("issued_at", Double, nullable=False),
    Column("lock_code", Text),
    Column("document", Text, nullable=False),  # the signed file as installed; '' for the community license
    Column("installed_at", Double, nullable=False),
    Column("installed_by", Text, nullable=False),
)

grants = Table(
    "grants",
    metadata,
    Column("license", ForeignKey("licenses.id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("feature", String(16), nullable=False),
    Column("capacity", Integer, nullable=False),
    Column("valid_from", Double, nullable=False),
    Column("valid_until", Double),  # NULL: no end
)

pools = Table(
    "pools",
    metadata,
    Column("feature", String(16), primary_key=True),
    Column("allowed", Text, nullable=False),  # JSON list of patterns over the nodes; []: every node
)

reservations = Table(
    "reservations",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("feature", String(16), nullable=False),
    Column("clients", Text, nullable=False),  # a pattern over the nodes
    Column("seats", Integer, nullable=False),
)

# --- who uses it --------------------------------------------------------------------------------------------------

leases = Table(
    "leases",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("token", Integer, nullable=False),
    Column("feature", String(16), nullable=False),
    Column("role", String(16), nullable=False),
    Column("node", Text, nullable=False),
    Column("fingerprint", String(64), nullable=False),
    Column("address", Text, nullable=False),
    Column("certificate", Text, nullable=False),  # PEM, '' if none was shown
    Column("taken_at", Double, nullable=False),
    Column("renewed_at", Double, nullable=False),
    Column("expires", Double, nullable=False),  # in seconds of the lease clock, not of a wall clock
    Column("reservation", Integer),
    Column("revoked_at", Double),
    Column("revoke_reason", Text),
    Column("organization", Text, nullable=False, server_default=""),  # '' without a trust file
    UniqueConstraint("feature", "fingerprint", "node", name="one_lease_a_node"),  # a certificate may have slots
)

revocations = Table(
    "revocations",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("feature", String(16), nullable=False),
    Column("node", Text, nullable=False),
    Column("fingerprint", String(64), nullable=False, index=True),
    Column("reason", Text, nullable=False),
    Column("at", Double, nullable=False),
    Column("by", Text, nullable=False),
    Column("lifted_at", Double),
    Column("certificate", Text, nullable=False, server_default=""),  # PEM, '' if unknown
)

expulsions = Table(
    "expulsions",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("organization", Text, nullable=False),  # of the member; '' if of any
    Column("role", String(16), nullable=False),
    Column("name", Text, nullable=False),  # in the certificate, which covers all its slots
    Column("said_by", Text, nullable=False),  # name of the SN
    Column("at", Double, nullable=False),
    Column("lifted_at", Double),
    UniqueConstraint("organization", "role", "name", name="one_expulsion_a_member"),
)

checkouts = Table(
    "checkouts",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("lease", String(64), nullable=False, index=True),
    Column("feature", String(16), nullable=False),
    Column("node", Text, nullable=False),
    Column("fingerprint", String(64), nullable=False),
    Column("taken_at", Double, nullable=False, index=True),
    Column("ended_at", Double),
    Column("how", String(16)),  # released, stale, revoked, expelled
)

denials = Table(
    "denials",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("feature", String(16), nullable=False),
    Column("node", Text, nullable=False),
    Column("fingerprint", String(64), nullable=False),
    Column("address", Text, nullable=False),
    Column("code", String(64), nullable=False),
    Column("message", Text, nullable=False),
    Column("count", Integer, nullable=False),  # how often it was repeated, each time within a minute
    Column("at", Double, nullable=False, index=True),
    Column("last_at", Double, nullable=False),
)

usage_samples = Table(
    "usage_samples",
    metadata,
    Column("feature", String(16), primary_key=True),
    Column("at", Double, primary_key=True, autoincrement=False),
    Column("used", Integer, nullable=False),  # the maximum since the previous sample
    Column("capacity", Integer, nullable=False),
)

# --- time and counting --------------------------------------------------------------------------------------------

counters = Table(
    "counters",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("value", Integer, nullable=False),
)

clock = Table(
    "clock",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("now", Double, nullable=False),  # seconds during which any server ran
    Column("wall", Double, nullable=False),  # the latest wall-clock time seen
)

# --- people -------------------------------------------------------------------------------------------------------

users = Table(
    "users",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(128), nullable=False, unique=True),
    Column("password", Text, nullable=False),  # argon2id
    Column("role", String(16), nullable=False),
    Column("totp", Text),  # base32 secret; NULL: off
    Column("totp_step", Integer, nullable=False),  # of the last accepted code, so that none is accepted twice
    Column("failures", Integer, nullable=False),
    Column("locked_until", Double, nullable=False),
    Column("disabled", Boolean, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("signed_in_at", Double),
)

sign_in_locks = Table(
    "sign_in_locks",
    metadata,
    Column("user", ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    Column("address", String(64), primary_key=True),
    Column("failures", Integer, nullable=False),
    Column("locked_until", Double, nullable=False),
)

sessions = Table(
    "sessions",
    metadata,
    Column("id", String(64), primary_key=True),  # hex SHA-256 of the cookie's content
    Column("user", ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    Column("csrf", String(64), nullable=False),
    Column("address", Text, nullable=False),
    Column("agent", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("seen_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False),
)

api_tokens = Table(
    "api_tokens",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("hash", String(64), nullable=False),
    Column("name", Text, nullable=False),
    Column("user", ForeignKey("users.id", ondelete="CASCADE")),  # NULL: made by an administrator's certificate
    Column("scopes", Text, nullable=False),  # JSON list
    Column("created_at", Double, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("expires_at", Double, nullable=False),
    Column("used_at", Double),
)

setup_tokens = Table(
    "setup_tokens",
    metadata,
    Column("hash", String(64), primary_key=True),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False),
)

settings = Table(
    "settings",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", Text, nullable=False),  # JSON
)

webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("event", String(64), nullable=False),
    Column("payload", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("due_at", Double, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("delivered_at", Double),
    Column("problem", Text),
)

audit = Table(
    "audit",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("at", Double, nullable=False),
    Column("kind", String(16), nullable=False),  # user, token, certificate, system
    Column("actor", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("action", String(64), nullable=False),
    Column("target", Text, nullable=False),
    Column("details", Text, nullable=False),  # JSON object
    Column("previous", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
    Index("audit_at", "at"),
)

_REFUSE_SQLITE = """CREATE TRIGGER audit_no_{lower} BEFORE {upper} ON audit
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END"""
_FUNCTION_POSTGRESQL = """CREATE OR REPLACE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'the audit log is append-only'; END $$"""
_REFUSE_POSTGRESQL = """CREATE TRIGGER audit_no_{lower} BEFORE {upper} ON audit
FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse()"""


def audit_guards(dialect: str) -> list[str]:
    """Statements that make the audit log append-only; run again after they were lifted."""
    verbs = ("update", "delete")
    if dialect == "sqlite":
        return [_REFUSE_SQLITE.format(lower=verb, upper=verb.upper()) for verb in verbs]
    made = [_REFUSE_POSTGRESQL.format(lower=verb, upper=verb.upper()) for verb in (*verbs, "truncate")]
    return [_FUNCTION_POSTGRESQL, *made]


def lifted(dialect: str) -> list[str]:
    """Statements that remove these guards, while the audit log is replaced."""
    if dialect == "sqlite":
        return [f"DROP TRIGGER audit_no_{verb}" for verb in ("update", "delete")]
    return [f"DROP TRIGGER audit_no_{verb} ON audit" for verb in ("update", "delete", "truncate")]


for _dialect in ("sqlite", "postgresql"):
    for _statement in audit_guards(_dialect):
        event.listen(audit, "after_create", DDL(_statement.replace("%", "%%")).execute_if(dialect=_dialect))  # type: ignore[no-untyped-call]
