"""Keeps which members were expelled from their swarm, and the organization of each lease's node."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "expulsions",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("organization", sa.Text, nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("said_by", sa.Text, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("lifted_at", sa.Double),
        sa.UniqueConstraint("organization", "role", "name", name="one_expulsion_a_member"),
    )
    with op.batch_alter_table("leases") as table:
        table.add_column(sa.Column("organization", sa.Text, nullable=False, server_default=""))
