"""A seat for each node that shares a certificate: each acts in a slot of it, under a name of its own."""

from alembic import op

revision = "0003"
down_revision = "0002"

RULE = "one_lease_a_node"


def upgrade() -> None:
    with op.batch_alter_table("leases") as table:
        table.drop_constraint(RULE, type_="unique")
        table.create_unique_constraint(RULE, ["feature", "fingerprint", "node"])
