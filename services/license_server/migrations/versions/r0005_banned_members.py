"""Keeps the certificate of a node whose seat was revoked, so that a new key does not evade the revocation."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    with op.batch_alter_table("revocations") as table:
        table.add_column(sa.Column("certificate", sa.Text, nullable=False, server_default=""))
