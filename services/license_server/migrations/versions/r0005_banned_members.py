"""A node whose seat was revoked is known by its certificate too: a new key is no way around it."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    with op.batch_alter_table("revocations") as table:
        table.add_column(sa.Column("certificate", sa.Text, nullable=False, server_default=""))
