"""The first database: licenses, their seats, leases. It was made without Alembic."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "licenses", sa.Column("id", sa.String, primary_key=True), sa.Column("issuer", sa.String, nullable=False)
    )
    op.create_table(
        "seats",
        sa.Column("license", sa.String, sa.ForeignKey("licenses.id"), primary_key=True),
        sa.Column("feature", sa.String, primary_key=True),
        sa.Column("capacity", sa.Integer, nullable=False),
    )
    op.create_table(
        "leases",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("token", sa.Integer, nullable=False),
        sa.Column("feature", sa.String, nullable=False),
        sa.Column("node", sa.String, nullable=False),
        sa.Column("fingerprint", sa.String, nullable=False),
        sa.Column("since", sa.String, nullable=False),
    )
    op.create_table(
        "counters", sa.Column("name", sa.String, primary_key=True), sa.Column("value", sa.Integer, nullable=False)
    )
    op.execute("INSERT INTO counters (name, value) VALUES ('token', 0)")
