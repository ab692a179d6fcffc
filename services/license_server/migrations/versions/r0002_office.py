"""Signed licenses, pools, people, history, the audit log. Leases and the community license are kept."""

import json
import secrets
import time
from datetime import datetime

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

OLD = ("licenses", "leases", "counters")
LEASE_S = 30.0


def upgrade() -> None:
    for table in OLD:
        op.rename_table(table, f"old_{table}")
    _use()
    _users()
    _people()
    _guards()
    _rows()
    for table in ("seats", *(f"old_{table}" for table in reversed(OLD))):
        op.drop_table(table)


def _use() -> None:
    op.create_table(
        "issuers",
        sa.Column("key_id", sa.String(64), primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("public_key", sa.Text, nullable=False),
        sa.Column("added_at", sa.Double, nullable=False),
        sa.Column("added_by", sa.Text, nullable=False),
    )
    op.create_table(
        "licenses",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("issuer", sa.Text, nullable=False),
        sa.Column("key_id", sa.String(64), nullable=False),
        sa.Column("licensee", sa.Text, nullable=False),
        sa.Column("issued_at", sa.Double, nullable=False),
        sa.Column("lock_code", sa.Text),
        sa.Column("document", sa.Text, nullable=False),
        sa.Column("installed_at", sa.Double, nullable=False),
        sa.Column("installed_by", sa.Text, nullable=False),
    )
    op.create_table(
        "grants",
        sa.Column("license", sa.String(64), sa.ForeignKey("licenses.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("feature", sa.String(16), nullable=False),
        sa.Column("capacity", sa.Integer, nullable=False),
        sa.Column("valid_from", sa.Double, nullable=False),
        sa.Column("valid_until", sa.Double),
    )
    op.create_table(
        "pools",
        sa.Column("feature", sa.String(16), primary_key=True),
        sa.Column("allowed", sa.Text, nullable=False),
    )
    op.create_table(
        "reservations",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("feature", sa.String(16), nullable=False),
        sa.Column("clients", sa.Text, nullable=False),
        sa.Column("seats", sa.Integer, nullable=False),
    )


def _users() -> None:
    op.create_table(
        "leases",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("token", sa.Integer, nullable=False),
        sa.Column("feature", sa.String(16), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("node", sa.Text, nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("certificate", sa.Text, nullable=False),
        sa.Column("taken_at", sa.Double, nullable=False),
        sa.Column("renewed_at", sa.Double, nullable=False),
        sa.Column("expires", sa.Double, nullable=False),
        sa.Column("reservation", sa.Integer),
        sa.Column("revoked_at", sa.Double),
        sa.Column("revoke_reason", sa.Text),
        sa.UniqueConstraint("feature", "fingerprint", name="one_lease_a_node"),
    )
    op.create_table(
        "revocations",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("feature", sa.String(16), nullable=False),
        sa.Column("node", sa.Text, nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("by", sa.Text, nullable=False),
        sa.Column("lifted_at", sa.Double),
    )
    op.create_index("ix_revocations_fingerprint", "revocations", ["fingerprint"])
    op.create_table(
        "checkouts",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("lease", sa.String(64), nullable=False),
        sa.Column("feature", sa.String(16), nullable=False),
        sa.Column("node", sa.Text, nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("taken_at", sa.Double, nullable=False),
        sa.Column("ended_at", sa.Double),
        sa.Column("how", sa.String(16)),
    )
    op.create_index("ix_checkouts_lease", "checkouts", ["lease"])
    op.create_index("ix_checkouts_taken_at", "checkouts", ["taken_at"])
    op.create_table(
        "denials",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("feature", sa.String(16), nullable=False),
        sa.Column("node", sa.Text, nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("code", sa.String(64), nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("count", sa.Integer, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("last_at", sa.Double, nullable=False),
    )
    op.create_index("ix_denials_at", "denials", ["at"])
    op.create_table(
        "usage_samples",
        sa.Column("feature", sa.String(16), primary_key=True),
        sa.Column("at", sa.Double, primary_key=True, autoincrement=False),
        sa.Column("used", sa.Integer, nullable=False),
        sa.Column("capacity", sa.Integer, nullable=False),
    )
    op.create_table(
        "counters",
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column("value", sa.Integer, nullable=False),
    )
    op.create_table(
        "clock",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("now", sa.Double, nullable=False),
        sa.Column("wall", sa.Double, nullable=False),
    )


def _people() -> None:
    op.create_table(
        "users",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(128), nullable=False, unique=True),
        sa.Column("password", sa.Text, nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("totp", sa.Text),
        sa.Column("totp_step", sa.Integer, nullable=False),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("locked_until", sa.Double, nullable=False),
        sa.Column("disabled", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("signed_in_at", sa.Double),
    )
    op.create_table(
        "sessions",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("user", sa.Integer, sa.ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
        sa.Column("csrf", sa.String(64), nullable=False),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("agent", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("seen_at", sa.Double, nullable=False),
        sa.Column("expires_at", sa.Double, nullable=False),
    )
    op.create_table(
        "api_tokens",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("user", sa.Integer, sa.ForeignKey("users.id", ondelete="CASCADE")),
        sa.Column("scopes", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("created_by", sa.Text, nullable=False),
        sa.Column("expires_at", sa.Double, nullable=False),
        sa.Column("used_at", sa.Double),
    )
    op.create_table(
        "setup_tokens",
        sa.Column("hash", sa.String(64), primary_key=True),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("expires_at", sa.Double, nullable=False),
    )
    op.create_table(
        "settings",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
    op.create_table(
        "webhook_deliveries",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("event", sa.String(64), nullable=False),
        sa.Column("payload", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("due_at", sa.Double, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("delivered_at", sa.Double),
        sa.Column("problem", sa.Text),
    )
    op.create_table(
        "audit",
        sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("target", sa.Text, nullable=False),
        sa.Column("details", sa.Text, nullable=False),
        sa.Column("previous", sa.String(64), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
    )
    op.create_index("audit_at", "audit", ["at"])


def _guards() -> None:
    """The audit log is append-only."""
    if op.get_bind().dialect.name == "sqlite":
        for verb in ("update", "delete"):
            op.execute(
                f"CREATE TRIGGER audit_no_{verb} BEFORE {verb.upper()} ON audit\n"
                "BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END"
            )
        return
    op.execute(
        "CREATE OR REPLACE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql AS\n"
        "$$ BEGIN RAISE EXCEPTION 'the audit log is append-only'; END $$"
    )
    for verb in ("update", "delete", "truncate"):
        op.execute(
            f"CREATE TRIGGER audit_no_{verb} BEFORE {verb.upper()} ON audit\n"
            "FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse()"
        )


def _rows() -> None:
    """What was there, and what must be. A lease gets a whole lease time, counted on a clock that begins now."""
    bind, now = op.get_bind(), time.time()
    bind.execute(sa.text("INSERT INTO clock (id, now, wall) VALUES (1, 0, :now)"), {"now": now})
    bind.execute(sa.text("INSERT INTO counters SELECT name, value FROM old_counters"))
    bind.execute(sa.text("INSERT INTO counters (name, value) VALUES ('changes', 0), ('term', 0)"))
    digits = secrets.token_hex(8).upper()
    code = json.dumps("-".join(digits[start : start + 4] for start in range(0, 16, 4)))
    bind.execute(sa.text("INSERT INTO settings (name, value) VALUES ('lock_code', :code)"), {"code": code})
    bind.execute(
        sa.text(
            "INSERT INTO licenses (id, issuer, key_id, licensee, issued_at, document, installed_at, installed_by)"
            " SELECT id, issuer, '', 'everyone', 0, '', :now, 'license server' FROM old_licenses"
        ),
        {"now": now},
    )
    seats = bind.execute(sa.text("SELECT license, feature, capacity FROM seats ORDER BY license, feature")).all()
    for position, (license, feature, capacity) in enumerate(seats):
        bind.execute(
            sa.text("INSERT INTO grants VALUES (:license, :position, :feature, :capacity, 0, NULL)"),
            {"license": license, "position": position, "feature": feature, "capacity": capacity},
        )
    for lease in bind.execute(
        sa.text("SELECT id, token, feature, node, fingerprint, since FROM old_leases")
    ).mappings():
        taken = {**lease, "at": datetime.fromisoformat(lease["since"]).timestamp()}
        facts = {**taken, "role": lease["feature"].lower(), "now": now, "expires": LEASE_S}
        bind.execute(
            sa.text(
                "INSERT INTO leases (id, token, feature, role, node, fingerprint, address, certificate, taken_at,"
                " renewed_at, expires) VALUES"
                " (:id, :token, :feature, :role, :node, :fingerprint, '', '', :at, :now, :expires)"
            ),
            facts,
        )
        bind.execute(
            sa.text(
                "INSERT INTO checkouts (lease, feature, node, fingerprint, taken_at)"
                " VALUES (:id, :feature, :node, :fingerprint, :at)"
            ),
            taken,
        )
