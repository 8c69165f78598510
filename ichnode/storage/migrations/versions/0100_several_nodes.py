"""Several nodes: who they are, and which of them has claimed what.

Revision ID: 0100
Revises: 0011
"""

import sqlalchemy as sa
from alembic import op

from ichnode.storage.dialect import Whole

revision = "0100"
down_revision = "0011"


def upgrade() -> None:
    """Claims carry the name of a node and a number that grows with each claim."""
    op.create_table(
        "nodes",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("roles", sa.Text(), nullable=False),
        sa.Column("beat_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.add_column("associations", sa.Column("node", sa.Text()))
    for table in ("jobs", "deliveries"):
        op.add_column(table, sa.Column("claimed_by", sa.Text()))
        op.add_column(table, sa.Column("claim", Whole, nullable=False, server_default="0"))


def downgrade() -> None:
    """One node."""
    for table in ("deliveries", "jobs"):
        op.drop_column(table, "claim")  # in place: other tables name these rows
        op.drop_column(table, "claimed_by")
    op.drop_column("associations", "node")
    op.drop_table("nodes")
